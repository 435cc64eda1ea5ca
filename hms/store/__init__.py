"""What is on disk: files and their commit, journals, folders, manifests, packages, garbage.

Nothing here knows what a stage computes or how.
"""

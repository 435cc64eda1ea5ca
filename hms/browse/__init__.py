"""The viewer: a local page to look at every recording of a finished run and to judge it.

Reads runs and recordings, and writes nothing but the csv of marks that the user named.
"""

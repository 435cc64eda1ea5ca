"""Configurations: composed from YAML, checked, and turned into an identity.

What belongs here turns text into typed settings and settings into text; nothing here reads a
recording or a table.
"""

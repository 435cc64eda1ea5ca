"""Carrying out a configuration: plan, pass over recordings, tables, the run's folder, checks.

What belongs here decides what is due and has it made; it knows stages by what they say of
themselves, none by name.
"""

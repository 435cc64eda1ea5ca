"""The page of a run: cards, sheets, drawings and templates, made from tables and arrays.

Nothing here opens a run or plans one.
"""

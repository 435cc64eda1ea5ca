"""From a votes table to items, soft labels, confidence weights and folds: pure functions on tables.

May import: signal, config and below.
"""

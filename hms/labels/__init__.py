"""From a votes table to items, soft labels, confidence weights and folds: pure functions on tables."""

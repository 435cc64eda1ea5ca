"""The report of a run: one self-contained HTML page with pictures, a table and what made it."""

"""Where a pass runs: one module for each kind of pool of workers.

A pool takes chunks of tasks and gives their results as they come.
"""

"""Quality control: measures of one recording, grades over the data set, summaries: arrays and tables.

No stage and no run is known here.
"""

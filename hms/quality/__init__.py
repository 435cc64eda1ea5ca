"""Quality control: measures of one recording, grades over the data set, summaries."""

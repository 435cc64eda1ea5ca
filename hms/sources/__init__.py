"""Sources: where windows, votes and recordings come from.

A source is opened from the ``data`` section by its registered function and gives a table of votes, the place
of each recording, and a way to open one. The stages do not know which source it is. To add one, write one
file with an `open_...` function registered in the group ``data`` and one YAML.
"""

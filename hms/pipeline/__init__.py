"""What a stage is: settings and reads, keys, the view of tables that it gets, the choice of stages.

No stage is here, and nothing is carried out.
"""

"""Signals: pure functions on arrays, from gaps to scaled wavelet power, and the arrays that stages hand on.

No file is opened here and nothing is logged.
"""

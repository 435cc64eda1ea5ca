"""Signals: pure functions on arrays, from gaps to scaled wavelet power."""

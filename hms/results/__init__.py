"""A finished run to act on: evaluate, draw, compare, hand to other libraries.

What belongs here starts from a `hms.store.package.Package`.
"""

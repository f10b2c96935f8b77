"""Foreign formats parsed to columns of points.

Parsers know neither HTTP nor storage: a decoded document or bytes go in, columns come out, and
what is wrong with the input is raised as `gnocchi.errors.Invalid`.
"""

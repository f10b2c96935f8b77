"""Arithmetic on series: numpy arrays in, arrays out.

Nothing in this package opens a file, logs, reads a clock or knows the configuration. Times are
int64 nanoseconds since 1970 UTC, values are float64, and a bucket is named by its start. All
functions work on many metrics at once and none loops over metrics or points in Python.
"""

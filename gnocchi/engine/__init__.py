"""The use cases: take measures in, process them, merge segments, read, clean up.

The engine sees the storage and incoming interfaces and the indexer's functions; never a driver, a
connection or SQL.
"""

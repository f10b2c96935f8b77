"""The indexer: every SQL statement of the program, and nothing else.

``database`` knows connections and transactions, ``tables`` the schema, ``alembic`` how a schema
came about; ``policies``, ``metrics`` and ``catalog`` are functions over a ``Database``, one
module a subject. Callers see values of ``model`` and ``archive_policy`` and errors of
``errors``, never a row or an exception of the database driver.
"""

"""The indexer: every SQL statement of the program, and nothing else.

``database`` knows connections and transactions, ``tables`` the schema, ``alembic`` how a schema
came about; ``policies``, ``metrics``, ``resource_types``, ``resources``, ``links`` and ``catalog``
are functions over a ``Database``, one module a subject. Callers see values of ``model``,
``archive_policy`` and ``resource_type`` and errors of ``errors``, never a row or an exception of
the database driver.

A filter of resources becomes SQL in ``query``, its fields in ``fields``; rows become resources in
``versions``, and pages of them come from ``resource_listing``.
"""

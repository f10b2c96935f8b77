"""The HTTP interface: requests become calls of the engine, results become bodies.

Nothing below this package knows status codes, JSON or WSGI, and nothing in it knows a storage
driver, a lock or SQL. The way of a request: ``app`` (WSGI) -> ``routing`` (which node, which
method) -> negotiation -> ``auth`` -> the node's ``load`` -> its handler; every failure on that
way leaves through the table in ``errors``.
"""

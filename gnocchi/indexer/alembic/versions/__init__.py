"""One module a schema version. A published one is never changed again."""

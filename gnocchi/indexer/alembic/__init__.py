"""The migrations of the indexer's schema, run by ``Database.upgrade``."""

"""The indexer on real databases."""

"""Coordination through real servers of every kind."""

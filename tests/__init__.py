"""Tests. Each folder can be run alone; ``conftest`` holds what they share."""

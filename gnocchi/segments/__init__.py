"""Bytes at rest: incoming objects, segments, and the merging of segments."""

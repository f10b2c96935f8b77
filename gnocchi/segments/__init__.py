"""Bytes at rest: incoming objects, segments, and the merging of segments."""

import os

# Arrow's own allocators keep what they once had: tens of megabytes a process, which are of no use
# to it most of the time. Parquet's C++ code asks for the default one whatever the Python side
# says, and Arrow looks at this when it is loaded, so it has to stand before any import of it.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

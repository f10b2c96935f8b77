"""One module a backend, each with its `Storage` and its `Incoming`. They never see each other."""

"""Unmodified clients, and the requests that others send, against the installed commands."""

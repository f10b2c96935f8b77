"""``gnocchi.wsgi.api:application``, the name for servers that load the API as a module."""

from gnocchi.wsgi import application

__all__ = ["application"]

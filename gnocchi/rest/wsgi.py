"""``gnocchi.rest.wsgi:application``, for configurations of WSGI servers that name it."""

from gnocchi.wsgi import application

__all__ = ["application"]

"""The API as a script file, for WSGIScriptAlias of mod_wsgi and wsgi-file of uWSGI."""

from gnocchi.wsgi import application  # noqa: F401

"""How the API is put together: PasteDeploy's pipelines, the default ones or an operator's.

The application is the composite ``gnocchi+<auth_mode>`` of the paste file. Files of older
releases are accepted, with a warning: those that have no such composite but ``main`` or
``gnocchi+auth``, and those that name factories of other packages for what is done here. The
factories of this module work for the one application that is being put together by `load`, and
give the middleware this program's configuration object; a middleware that read the configuration
files for itself would miss ``--config-file``.

Invariant: a path is matched by its segments, so that no spelling of it (double slashes) reaches
an application around the pipeline in front of it.
"""

from __future__ import annotations

import contextvars
import importlib.util
import logging
import os
import pathlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import webob
from oslo_config import cfg
from oslo_middleware import healthcheck as oslo_healthcheck
from paste.deploy import loadwsgi

from gnocchi import errors
from gnocchi.rest import auth, negotiation
from gnocchi.rest.errors import Refused, render

if TYPE_CHECKING:
    import configparser
    from collections.abc import Callable, Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from gnocchi.config import Configuration
    from gnocchi.rest.routing import Api

LOG = logging.getLogger(__name__)

DEFAULT_FILE = pathlib.Path(__file__).parent / "api-paste.ini"
FILE_NAME = "api-paste.ini"

VERSIONS = "versions"
VERSION_1 = "v1"
EVERYTHING = "everything"

#: What an application may be the root of, by the names that paste files use.
ROOTS = {
    None: EVERYTHING,
    "gnocchi.rest.api.VersionsController": VERSIONS,
    "gnocchi.rest.VersionsController": VERSIONS,
    "gnocchi.rest.api.V1Controller": VERSION_1,
    "gnocchi.rest.V1Controller": VERSION_1,
}

_AUTH_SECTION = "keystone_authtoken"


@dataclass(frozen=True, slots=True)
class Assembly:
    """The application that is being put together."""

    api: Api
    mode: auth.Mode

    @property
    def conf(self) -> Configuration:
        """The configuration of the program."""
        return self.api.services.conf


_CURRENT: contextvars.ContextVar[Assembly] = contextvars.ContextVar("assembly")


def current() -> Assembly:
    """Return what is being put together; factories of paste files may ask, nobody else."""
    return _CURRENT.get()


def load(api: Api) -> WSGIApplication:
    """Put together what the paste file says.

    Raises:
        Misconfigured: the file cannot be used, or names something that is not there.
    """
    conf = api.services.conf
    auth.mode(conf.api.auth_mode)  # before the file is asked for it
    path = _find(conf)
    try:
        loader = loadwsgi.ConfigLoader(str(path))
        _modernize(loader.parser, conf, str(path))
        name, mode = _choose(loader.parser, conf, str(path))
        token = _CURRENT.set(Assembly(api, auth.mode(mode)))
        try:
            application: WSGIApplication = loader.get_app(name)
            return application
        finally:
            _CURRENT.reset(token)
    except errors.Misconfigured:
        raise
    except Exception as error:  # factories may be anybody's, and raise anything
        raise errors.Misconfigured(f"{path}: {error}") from error


def auth_mode(conf: Configuration) -> str:
    """Return the mode of authentication of what `load` has put together with this configuration."""
    path = _find(conf)
    return _choose(loadwsgi.ConfigLoader(str(path)).parser, conf, str(path))[1]


# ------------------------------------------------------------------ the file


def _find(conf: Configuration) -> pathlib.Path:
    """Return the operator's file, else the one that comes with the program."""
    wanted = conf.api.get("paste_config")
    found = conf.find_file(wanted or FILE_NAME)
    if found is not None:
        return pathlib.Path(found)
    if wanted and _is_set(conf, "paste_config"):
        if os.path.exists(wanted):
            return pathlib.Path(wanted)
        conf.warn(LOG, f"[api] paste_config: there is no {wanted}, using {DEFAULT_FILE}")
    return DEFAULT_FILE


# Factories of other packages, and what they stand for here.
_COMPOSITES = {"egg:Paste#urlmap"}
_KEYSTONE = {
    "egg:keystonemiddleware#auth_token",
    "keystonemiddleware.auth_token:filter_factory",
    "keystoneclient.middleware.auth_token:filter_factory",
}
_HEALTHCHECKS = {
    "egg:oslo.middleware#healthcheck",
    "oslo_middleware:Healthcheck.app_factory",
    "oslo_middleware.healthcheck:Healthcheck.app_factory",
}
# Wrapped around the application anyway, so that a second one would do everything twice.
_WRAPPED = {
    "egg:oslo.middleware#http_proxy_to_wsgi",
    "egg:oslo.middleware#cors",
    "oslo_middleware:HTTPProxyToWSGI.factory",
    "oslo_middleware.http_proxy_to_wsgi:HTTPProxyToWSGI.factory",
    "oslo_middleware.cors:filter_factory",
    "oslo_middleware:CORS.factory",
}
_REPLACED = (
    (("composite:", "composit:"), _COMPOSITES, "paste.composite_factory", "url_map"),
    (("filter:",), _KEYSTONE, "paste.filter_factory", "keystone"),
    (("filter:",), _WRAPPED, "paste.filter_factory", "pass_through"),
    (("app:", "application:"), _HEALTHCHECKS, "paste.app_factory", "healthcheck"),
)


def _modernize(parser: configparser.ConfigParser, conf: Configuration, path: str) -> None:
    """Let sections that name other packages' factories use those of this module."""
    outdated = []
    for section in parser.sections():
        for prefixes, factories, protocol, function in _REPLACED:
            if not section.startswith(prefixes):
                continue
            for option in ("use", protocol):
                if parser.get(section, option, fallback=None) in factories:
                    parser.remove_option(section, option)
                    parser.set(section, protocol, f"{__name__}:{function}")
                    outdated.append(section)
    if outdated:
        conf.warn(LOG, f"{path}: outdated sections are replaced: {', '.join(outdated)}")


def _choose(parser: configparser.ConfigParser, conf: Configuration, path: str) -> tuple[str, str]:
    """Return which application of the file is served, and the mode of authentication."""
    mode = str(conf.api.auth_mode)
    named = _applications(parser)
    if f"gnocchi+{mode}" in named:
        return f"gnocchi+{mode}", mode
    conf.warn(LOG, f"{path} has no composite gnocchi+{mode}; please replace it by a newer one")
    if _is_set(conf, "auth_mode"):
        older = "gnocchi+auth" if mode == "keystone" else "gnocchi+noauth"
        if older in named:
            return older, mode
    elif "main" in named and named["main"] & {"gnocchi+auth", "gnocchi+keystone"}:
        conf.warn(LOG, f"{path} asks for Keystone; please set [api] auth_mode = keystone")
        mode = "keystone"
    if "main" not in named:
        raise errors.Misconfigured(f"{path}: there is neither gnocchi+{mode} nor main")
    return "main", mode


def _applications(parser: configparser.ConfigParser) -> dict[str, set[str]]:
    """Return the applications of a file, with the names that their pipelines consist of."""
    named: dict[str, set[str]] = {}
    for section in parser.sections():
        kind, _, name = section.partition(":")
        if kind in ("app", "application", "composite", "composit", "pipeline", "filter-app"):
            parts = parser.get(section, "pipeline", fallback="")
            parts = parts or parser.get(section, "use", fallback="")
            named[name.strip() or "main"] = set(parts.split())
    return named


def _is_set(conf: cfg.ConfigOpts, option: str) -> bool:
    location = conf.get_location(option, "api")
    return location is not None and location.location not in (
        cfg.Locations.opt_default,
        cfg.Locations.set_default,
    )


# ------------------------------------------------------------------ factories


def url_map(loader: Any, global_conf: Mapping[str, Any], **paths: str) -> UrlMap:
    """Serve an application below each path."""
    applications: dict[str, WSGIApplication] = {}
    for path, name in paths.items():
        if not path.startswith("/"):
            raise LookupError(f"{path!r} is not a path that can be mapped")
        applications[path] = loader.get_app(name, global_conf=global_conf)
    applications.setdefault("/healthcheck", healthcheck(global_conf))
    return UrlMap(applications)


class UrlMap:
    """Serves applications, each mounted below a path."""

    def __init__(self, applications: Mapping[str, WSGIApplication]) -> None:
        split = [(_segments(path), application) for path, application in applications.items()]
        self._mounted = sorted(split, key=lambda mounted: -len(mounted[0]))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass on to the application with the longest path, which moves to its mount point."""
        segments = _segments(environ["PATH_INFO"])
        for prefix, application in self._mounted:
            if segments[: len(prefix)] != prefix:
                continue
            if prefix:
                rest = environ["PATH_INFO"]
                for segment in prefix:
                    rest = rest[rest.index(segment) + len(segment) :]
                environ["SCRIPT_NAME"] = "/".join([environ["SCRIPT_NAME"], *prefix])
                environ["PATH_INFO"] = rest
            return application(environ, start_response)
        raise LookupError("There is no application for /")


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]


def healthcheck(global_conf: Mapping[str, Any], **_options: str) -> WSGIApplication:
    """Tell whether the server is up, without authentication."""
    return Healthcheck(current().conf)


class Healthcheck:
    """The checks of oslo.middleware, for reading and at one address only.

    Proxies ask with ``OPTIONS`` too, unless told otherwise.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        # What it passes on are callers that the options exclude.
        self._checks = oslo_healthcheck.Healthcheck(_refuse(Refused(404)), conf)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer; all methods like ``GET``, which WebOb cuts the body from for ``HEAD``."""
        if _segments(environ["PATH_INFO"]):
            return _refuse(Refused(404))(environ, start_response)
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD", "OPTIONS"):
            refused = Refused(405, headers={"Allow": "GET, HEAD, OPTIONS"})
            return _refuse(refused)(environ, start_response)
        request = webob.Request({**environ, "REQUEST_METHOD": "GET"})
        response: WSGIApplication = request.get_response(self._checks)
        return response(environ, start_response)


def _refuse(refused: Refused) -> WSGIApplication:
    """Return an application that gives everybody the same answer."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        accepted = negotiation.accepted(environ.get("HTTP_ACCEPT"))
        response: WSGIApplication = render(refused, accepted)
        return response(environ, start_response)

    return application


def pass_through(
    global_conf: Mapping[str, Any], **_options: str
) -> Callable[[WSGIApplication], WSGIApplication]:
    """Stand for a filter that is not needed."""
    return lambda application: application


def keystone(
    global_conf: Mapping[str, Any], **options: str
) -> Callable[[WSGIApplication], WSGIApplication]:
    """Validate tokens with keystonemiddleware, as ``[keystone_authtoken]`` says.

    Raises:
        Misconfigured: the middleware is not installed, or cannot work with its options.
    """
    try:
        from keystonemiddleware import auth_token
    except ImportError as error:
        raise errors.Misconfigured(
            f"auth_mode keystone needs keystonemiddleware, which is not installed ({error})"
        ) from error
    conf = current().conf
    # Which configuration to read is settled; everything else may be overridden by the paste file.
    chosen: dict[str, Any] = {
        name: value for name, value in options.items() if not name.startswith("oslo_config_")
    }
    conf.register_opt(cfg.StrOpt("auth_uri"), group=_AUTH_SECTION)
    for group, listed in auth_token.list_opts():
        conf.register_opts(listed, group=group)
    section = conf[_AUTH_SECTION]
    if not any(chosen.get(name) or section[name] for name in ("auth_type", "auth_section")):
        # The middleware would start, and fail at every request.
        raise errors.Misconfigured("[keystone_authtoken] auth_type is not set")
    if section.auth_uri and not section.www_authenticate_uri:
        conf.warn(LOG, "[keystone_authtoken] auth_uri is now called www_authenticate_uri")
        chosen.setdefault("www_authenticate_uri", section.auth_uri)
    if _cannot_cache(section):
        conf.warn(
            LOG,
            "[keystone_authtoken] memcached_servers needs python-memcached, which is not "
            "installed: each process caches tokens for itself",
        )
        chosen["memcached_servers"] = []
    chosen["oslo_config_config"] = conf

    def wrap(application: WSGIApplication) -> WSGIApplication:
        try:
            protected: WSGIApplication = auth_token.AuthProtocol(application, dict(chosen))
            return protected
        except Exception as error:  # of the plug-in that the options name
            raise errors.Misconfigured(f"[keystone_authtoken]: {error}") from error

    return wrap


def _cannot_cache(section: Any) -> bool:
    """Tell whether the library is missing that reaches memcached.

    The middleware would start without, and fail at every request.
    """
    plain = not (section.memcache_sasl_enabled or section.memcache_tls_enabled)
    return bool(plain and section.memcached_servers) and not importlib.util.find_spec("memcache")

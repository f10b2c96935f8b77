"""How the configuration of a program is put together; `gnocchi.options` holds the options.

Invariants: what :func:`prepare` returns has been
read and converted completely, so that a wrong value is found at the start and not at first use;
everything worth telling the operator about it (deprecated names, fall-backs) is in
``Configuration.notices``, because at this point no logging is set up yet.

This module does not connect to anything, does not create directories, and does not look at
whether a driver of a given name exists.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
from typing import TYPE_CHECKING, Any

from oslo_config import cfg, iniparser

import gnocchi
from gnocchi import errors
from gnocchi.options import INDEXER_FILE, LOGGING_OPTIONS, OPTIONS, REMOVED
from gnocchi.options.drivers import ENVIRONMENT, INCOMING_OPTIONS, SYSTEM_DATA_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PROJECT = "gnocchi"

#: Request headers a browser may send across origins, see [cors] allow_headers.
CORS_HEADERS = [
    "Authorization",
    "X-Auth-Token",
    "X-Subject-Token",
    "X-User-Id",
    "X-Domain-Id",
    "X-Project-Id",
    "X-Roles",
]
CORS_METHODS = ["OPTIONS", "GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "PATCH"]


class Configuration(cfg.ConfigOpts):
    """The options of one program, and what there is to say about where they came from."""

    def __init__(self) -> None:
        super().__init__()
        self.notices: list[str] = []

    def warn(self, log: logging.Logger, text: str) -> None:
        """Log a warning about the configuration, unless that has been done already.

        A program whose master process has warned is silent in the processes that it forks, which
        put the same things together again.
        """
        if text not in self.notices:
            self.notices.append(text)
            log.warning("%s", text)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return every option by group, for oslo.config's sample generator."""
    return OPTIONS


def set_defaults() -> None:
    """Set this program's defaults for options of libraries, for oslo.config's generator too."""
    from oslo_middleware import cors

    cors.set_defaults(allow_headers=CORS_HEADERS, allow_methods=CORS_METHODS)


# ------------------------------------------------------------------ putting it together


def data_directory() -> pathlib.Path:
    """Return the directory used while [storage] file_basepath is not set.

    The system's one belongs to installations; a user without rights on it gets one of their own,
    so that everything runs without any preparation.
    """
    system = pathlib.Path(SYSTEM_DATA_DIRECTORY)
    if os.geteuid() == 0 or os.access(system, os.W_OK):
        return system
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return pathlib.Path(home) / PROJECT


def prepare(
    args: Sequence[str] | None = None,
    prog: str | None = None,
    *,
    files: Sequence[str] | None = None,
    options: Iterable[cfg.Opt] = (),
    middleware: bool = True,
) -> Configuration:
    """Read the configuration of one program.

    Args:
        args: the command line without the program's name; none by default.
        prog: the program's name, which also selects ``<prog>.conf``.
        files: the configuration files; by default those found in the usual places unless ``args``
            names others.
        options: command line options that only this program has.
        middleware: whether the program serves HTTP, and so needs the options of what its API is
            wrapped in. They come with a library that takes a fifth of a second to load.

    Raises:
        Misconfigured: a file is missing or cannot be parsed, or an option has no valid value.
        SystemExit: usage error, ``--help`` or ``--version``.
    """
    conf = Configuration()
    conf.register_cli_opts(LOGGING_OPTIONS)
    conf.register_cli_opts(options)
    registered = [*OPTIONS, *_removed(), *(_libraries() if middleware else [])]
    for group, listed in registered:
        named = [option for option in listed if option not in LOGGING_OPTIONS]
        conf.register_opts(named, group=None if group == "DEFAULT" else group)
    with _heard(conf.notices):
        try:
            conf(
                list(args or ()),
                project=PROJECT,
                prog=prog or PROJECT,
                version=gnocchi.__version__,
                default_config_files=None if files is None else list(files),
                default_config_dirs=None if files is None else [],
            )
            _read_all(conf, registered)
            _fill_in(conf)
        except (cfg.Error, ValueError) as error:
            raise errors.Misconfigured(f"Configuration: {_told(error)}") from error
        except SystemExit as error:
            # oslo.config ends with 1 after a wrong value of an argument, with 2 after any other
            # wrong usage. It has said what is wrong.
            raise SystemExit(2 if error.code else 0) from None
    return conf


class _Listener(logging.Handler):
    """Keeps warnings as text."""

    def __init__(self, notices: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notices = notices

    def emit(self, record: logging.LogRecord) -> None:
        self._notices.append(_one_line(record.getMessage()))


@contextlib.contextmanager
def _heard(notices: list[str]) -> Iterator[None]:
    """Keep the warnings of oslo.config until there is a log to write them to."""
    source = logging.getLogger("oslo_config.cfg")
    listener = _Listener(notices)
    propagate, source.propagate = source.propagate, False
    source.addHandler(listener)
    # Where oslo.log is installed, oslo.config reports through it, which tells each thing once in
    # the life of a process, whatever configuration it was about.
    reporter = getattr(cfg, "oslo_log", None)
    cfg.__dict__["oslo_log"] = None
    try:
        yield
    finally:
        cfg.__dict__["oslo_log"] = reporter
        source.removeHandler(listener)
        source.propagate = propagate


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _told(error: Exception) -> str:
    """What to say of a failure. The words of the parser would show the line, and so a secret."""
    syntax = error.__context__
    if isinstance(error, cfg.ConfigFileParseError) and isinstance(syntax, iniparser.ParseError):
        return f"{error.config_file}, line {syntax.lineno}: {_one_line(syntax.msg)}"
    return _one_line(error)


def _removed() -> list[tuple[str, list[cfg.Opt]]]:
    return [
        (
            group,
            [
                cfg.StrOpt(name, deprecated_for_removal=True, deprecated_reason=reason)
                for name, reason in names.items()
            ],
        )
        for group, names in REMOVED.items()
    ]


def _libraries() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options of the middleware the API is wrapped in."""
    from oslo_middleware import opts as middleware_opts

    set_defaults()
    return [
        *((group, list(listed)) for group, listed in middleware_opts.list_opts_cors()),
        *((group, list(listed)) for group, listed in middleware_opts.list_opts_healthcheck()),
    ]


def _read_all(conf: Configuration, registered: Iterable[tuple[str, Iterable[cfg.Opt]]]) -> None:
    """Look at every option once: converts it, and lets oslo.config report deprecated names.

    ``<None>`` is how a sample file spells an option that is not set; somebody who removes the
    comment signs of all lines of one still means that.
    """
    for group, listed in registered:
        section: Any = conf if group == "DEFAULT" else conf[group]
        for option in listed:
            try:
                value = section[option.dest]
            except (cfg.NoSuchOptError, cfg.NoSuchGroupError, cfg.TemplateSubstitutionError):
                # The words of oslo.config would show what follows the $, which may be a password.
                raise ValueError(
                    f"[{group}] {option.name}: what follows a $ in it is the name of no option; "
                    "write $$ for a $"
                ) from None
            if value in ("<None>", ["<None>"]):
                where = None if group == "DEFAULT" else group
                conf.set_override(option.dest, None, group=where)


def is_set(conf: cfg.ConfigOpts, name: str, group: str | None = None) -> bool:
    """Tell whether an operator gave the option, in a file, the environment or the arguments."""
    location = conf.get_location(name, group)
    return location is not None and location.location.is_user_controlled


def from_arguments(conf: cfg.ConfigOpts, name: str) -> Any:
    """Return the value of an option if the command line gave it, else None.

    An argument without a group could also be set in [DEFAULT] of a file, which is not meant for
    it: ``host`` there belongs to other programs.
    """
    location = conf.get_location(name)
    given = location is not None and location.location == cfg.Locations.command_line
    return conf[name] if given else None


def _fill_in(conf: Configuration) -> None:
    """Give the options whose default depends on others or on the machine their value."""
    if conf.storage.file_basepath is None:
        conf.set_default("file_basepath", str(data_directory()), group="storage")
    for name, variable in ENVIRONMENT.items():
        if conf.storage[name] is None and variable in os.environ:
            conf.set_default(name, _verbatim(os.environ[variable]), group="storage")
    for option in INCOMING_OPTIONS:
        # Not by substitution in the default: that would make text of numbers and of unset ones.
        if conf.incoming[option.dest] is None:
            value = _verbatim(conf.storage[option.dest])
            conf.set_default(option.dest, value, group="incoming")
    if conf.indexer.url is None:
        conf.set_default("url", _verbatim(_indexer_url(conf)), group="indexer")


def _verbatim(default: Any) -> Any:
    """Keep oslo.config from taking a $ in a default for the beginning of an option's name."""
    return default.replace("$", "$$") if isinstance(default, str) else default


def _indexer_url(conf: Configuration) -> str:
    url = os.environ.get("GNOCCHI_INDEXER_URL")
    if url:
        return url
    if conf.database.connection:
        conf.notices.append(
            "[indexer] url is not set: [database] connection is used instead. "
            "Please rename the option."
        )
        return str(conf.database.connection)
    path = pathlib.Path(conf.storage.file_basepath).absolute() / INDEXER_FILE
    return f"sqlite:///{path}"

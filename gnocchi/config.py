"""Every option, once, and how the configuration of a program is put together.

Invariants: an option is registered here and nowhere else; what :func:`prepare` returns has been
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

from oslo_config import cfg, types

import gnocchi
from gnocchi import archive_policy, errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PROJECT = "gnocchi"
SYSTEM_DATA_DIRECTORY = "/var/lib/gnocchi"
INDEXER_FILE = "indexer.sqlite"

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

_CPUS = os.cpu_count() or 1


class Configuration(cfg.ConfigOpts):
    """The options of one program, and what there is to say about where they came from."""

    def __init__(self) -> None:
        super().__init__()
        self.notices: list[str] = []


# ------------------------------------------------------------------ the options

LOGGING_OPTIONS: list[cfg.Opt] = [
    cfg.BoolOpt("debug", short="d", default=False, help="Log everything, values of options too."),
    cfg.BoolOpt("verbose", short="v", default=True, help="Log informative messages."),
    cfg.StrOpt("log-dir", help="Directory of the log file, named after the program."),
    cfg.StrOpt("log-file", help="Log file; relative to log_dir when that is given."),
]

DEFAULT_OPTIONS: list[cfg.Opt] = [
    cfg.BoolOpt("use_syslog", default=False, help="Log to syslog too."),
    cfg.StrOpt("syslog_log_facility", default="user", help="Facility used with use_syslog."),
    cfg.BoolOpt("use_journal", default=False, help="Log to the systemd journal too."),
    cfg.StrOpt(
        "coordination_url",
        secret=True,
        deprecated_group="storage",
        help="Where the workers find one another and take their locks (a tooz URL). By default a "
        "directory below [storage] file_basepath with the file driver, else the database of the "
        "indexer.",
    ),
    cfg.IntOpt(
        "parallel_operations",
        default=_CPUS,
        min=1,
        deprecated_opts=[cfg.DeprecatedOpt("aggregation_workers_number", group="storage")],
        help="Threads that one storage operation may use.",
    ),
    cfg.BoolOpt("log_options", default=True, help="metricd logs all options at start."),
    cfg.IntOpt(
        "graceful_shutdown_timeout",
        default=60,
        min=0,
        help="Seconds a daemon may take to finish its work when stopped; 0 means no limit.",
    ),
]

API_OPTIONS: list[cfg.Opt] = [
    cfg.StrOpt(
        "auth_mode",
        default="basic",
        help="How requests are authenticated: basic, remoteuser, or keystone, which takes its "
        "options from [keystone_authtoken]. Basic does not check passwords: anybody who reaches "
        "the port may be administrator.",
    ),
    cfg.StrOpt(
        "paste_config",
        default="api-paste.ini",
        help="PasteDeploy file that says how the API is put together, searched for where "
        "configuration files are; one that comes with the program is used when there is none.",
    ),
    cfg.StrOpt(
        "host",
        default="0.0.0.0",  # noqa: S104 - see the help
        help="Address gnocchi-api listens on. While this option is not set and auth_mode is "
        "basic, it listens on 127.0.0.1 only.",
    ),
    cfg.PortOpt("port", default=8041, help="Port gnocchi-api listens on."),
    cfg.IntOpt(
        "processes",
        default=_CPUS,
        min=1,
        deprecated_name="workers",
        help="Processes of gnocchi-api.",
    ),
    cfg.IntOpt("threads", default=8, min=1, help="Threads in each process of gnocchi-api."),
    cfg.IntOpt("max_limit", default=1000, min=1, help="Default and highest limit of listings."),
    cfg.IntOpt(
        "max_body_size",
        default=100 * 2**20,
        min=1024,
        help="Largest accepted request body, in bytes.",
    ),
    cfg.StrOpt(
        "max_future",
        default="",
        help="Refuse measures further in the future than this timespan; empty means no limit.",
    ),
    cfg.IntOpt(
        "operation_timeout",
        default=10,
        min=0,
        deprecated_name="refresh_timeout",
        help="Seconds a request may wait for metrics that are being processed.",
    ),
    cfg.IntOpt(
        "max_aggregate_depth",
        default=50,
        min=1,
        max=90,
        help="Levels that operations on metrics may be nested.",
    ),
    cfg.IntOpt(
        "max_aggregate_references",
        default=10_000,
        min=1,
        help="Series that one request may aggregate.",
    ),
    cfg.IntOpt(
        "max_aggregate_cells",
        default=20_000_000,
        min=1,
        help="Values that one request may aggregate: series times timestamps. Each takes some 24 "
        "bytes of memory while the request is being answered.",
    ),
    cfg.BoolOpt(
        "enable_proxy_headers_parsing",
        default=False,
        deprecated_group="oslo_middleware",
        help="Honour the Forwarded and X-Forwarded-* headers of a proxy.",
    ),
]

ARCHIVE_POLICY_OPTIONS: list[cfg.Opt] = [
    cfg.ListOpt(
        "default_aggregation_methods",
        item_type=types.String(choices=sorted(archive_policy.METHODS)),
        default=list(archive_policy.DEFAULT_AGGREGATION_METHODS),
        help="Aggregation methods of archive policies that do not name any.",
    ),
]

METRICD_OPTIONS: list[cfg.Opt] = [
    cfg.IntOpt(
        "workers",
        default=_CPUS,
        min=1,
        help="Processing workers; read again on SIGHUP.",
    ),
    cfg.IntOpt(
        "metric_processing_delay",
        default=60,
        min=1,
        deprecated_group="storage",
        help="Seconds between two looks for new measures when greedy is off.",
    ),
    cfg.BoolOpt("greedy", default=True, help="Process new measures as soon as they arrive."),
    cfg.IntOpt(
        "metric_reporting_delay",
        default=120,
        min=-1,
        deprecated_group="storage",
        help="Seconds between two reports of the backlog in the log; -1 turns them off.",
    ),
    cfg.IntOpt(
        "metric_cleanup_delay",
        default=300,
        min=1,
        deprecated_group="storage",
        help="Seconds between two runs of the janitor.",
    ),
    cfg.IntOpt(
        "processing_replicas",
        default=3,
        min=1,
        help="Workers that stand by for one sack.",
    ),
    cfg.IntOpt(
        "cleanup_batch_size",
        default=10000,
        min=1,
        help="Deleted metrics that one run of the janitor expunges.",
    ),
    cfg.IntOpt(
        "max_points_per_round",
        default=300_000,
        min=1,
        help="Measures that are processed together; bounds the memory of a worker.",
    ),
    cfg.IntOpt(
        "compaction_fan_in",
        default=8,
        min=2,
        help="Neighbouring segments of similar size that are merged into one.",
    ),
]

INDEXER_OPTIONS: list[cfg.Opt] = [
    cfg.StrOpt(
        "url",
        secret=True,
        sample_default=f"sqlite:////var/lib/gnocchi/{INDEXER_FILE}",
        help="SQLAlchemy URL of the indexer's database. By default the environment variable "
        "GNOCCHI_INDEXER_URL, else an SQLite file below [storage] file_basepath.",
    ),
]

#: Read for the sake of older files; the pool of the indexer honours what it can.
DATABASE_OPTIONS: list[cfg.Opt] = [
    cfg.StrOpt("connection", secret=True, help="Used when [indexer] url is not set."),
    cfg.StrOpt("backend", default="sqlalchemy", help="Accepted, without effect."),
    cfg.IntOpt("max_pool_size", default=5, min=0, help="Connections kept open by a process."),
    cfg.IntOpt("max_overflow", default=50, min=0, help="Connections beyond max_pool_size."),
    cfg.IntOpt(
        "connection_recycle_time",
        default=3600,
        min=-1,
        help="Seconds after which a connection is replaced.",
    ),
]


def _storage_options() -> list[cfg.Opt]:
    """Return the options that [storage] and [incoming] have in common, newly made."""
    return [
        cfg.StrOpt("driver", default="file", help="Storage driver: file, or memory for tests."),
        cfg.StrOpt(
            "file_basepath",
            sample_default=SYSTEM_DATA_DIRECTORY,
            help="Directory of the file driver. By default /var/lib/gnocchi when it may be "
            "written, else gnocchi in the user's data directory.",
        ),
        cfg.BoolOpt(
            "file_sync",
            default=True,
            help="Wait until the device has the data before acknowledging it. Without, a power "
            "failure may lose acknowledged measures.",
        ),
    ]


def _like_storage(options: list[cfg.Opt]) -> list[cfg.Opt]:
    """Make unset options take the value of [storage]: _fill_in does, this says so."""
    for option in options:
        option.default = None
        option.sample_default = f"${{storage.{option.name}}}"
        option.help = f"Like the option of the same name in [storage]. {option.help}"
    return options


STORAGE_OPTIONS: list[cfg.Opt] = [
    *_storage_options(),
    cfg.IntOpt("cache_size", default=64, min=0, help="Read cache of one process, in MiB."),
]

INCOMING_OPTIONS: list[cfg.Opt] = _like_storage(_storage_options())

OPTIONS: list[tuple[str, list[cfg.Opt]]] = [
    ("DEFAULT", [*LOGGING_OPTIONS, *DEFAULT_OPTIONS]),
    ("api", API_OPTIONS),
    ("archive_policy", ARCHIVE_POLICY_OPTIONS),
    ("metricd", METRICD_OPTIONS),
    ("indexer", INDEXER_OPTIONS),
    ("storage", STORAGE_OPTIONS),
    ("incoming", INCOMING_OPTIONS),
    ("database", DATABASE_OPTIONS),
]

#: Options of older releases that are accepted, reported and otherwise ignored.
REMOVED: dict[str, dict[str, str]] = {
    "api": {
        "uwsgi_path": "gnocchi-api serves HTTP by itself",
        "uwsgi_mode": "gnocchi-api serves HTTP by itself",
        "pecan_debug": "it exposed internals to clients",
        "middlewares": "the paste file says how the API is put together",
    },
    "metricd": {"worker_sync_rate": "workers look at their group by themselves"},
    "storage": {
        "file_basepath_tmp": "temporary files lie beside their final place",
        "file_subdir_len": "files are not kept per metric",
    },
    "incoming": {
        "file_basepath_tmp": "temporary files lie beside their final place",
        "file_subdir_len": "files are not kept per metric",
    },
}


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
            raise errors.Misconfigured(f"Configuration: {_one_line(error)}") from error
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
            if section[option.dest] in ("<None>", ["<None>"]):
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
    for option in INCOMING_OPTIONS:
        # Not by substitution in the default: that would make text of numbers and of unset ones.
        if conf.incoming[option.dest] is None:
            conf.set_default(option.dest, conf.storage[option.dest], group="incoming")
    if conf.indexer.url is None:
        conf.set_default("url", _indexer_url(conf), group="indexer")


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

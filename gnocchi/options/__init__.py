"""Every option, once.

How they are read, and what options that are not set stand for, is the matter of `gnocchi.config`.
"""

from __future__ import annotations

import os

from oslo_config import cfg, types

from gnocchi import archive_policy
from gnocchi.options.drivers import INCOMING_OPTIONS, STORAGE_OPTIONS

INDEXER_FILE = "indexer.sqlite"

_CPUS = os.cpu_count() or 1

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
        help="Seconds a request may wait for a backend (the indexer's database, the storage, the "
        "incoming measures) to answer, even if options of a driver allow for more, and for metrics "
        "that are being processed.",
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
        min=0,
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
        min=0,
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

"""The options of the drivers: every one exists in [storage] and in [incoming].

One that is not set in [incoming] has the value of [storage], so one section is enough.
"""

from __future__ import annotations

from oslo_config import cfg, types

#: [storage] file_basepath of installations.
SYSTEM_DATA_DIRECTORY = "/var/lib/gnocchi"

#: Where options of [storage] come from that are not set. Not their defaults: samples of the
#: configuration show those.
ENVIRONMENT = {
    "s3_region_name": "AWS_DEFAULT_REGION",
    "s3_access_key_id": "AWS_ACCESS_KEY_ID",
    "s3_secret_access_key": "AWS_SECRET_ACCESS_KEY",
}


def _file_options() -> list[cfg.Opt]:
    return [
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


def _redis_options() -> list[cfg.Opt]:
    return [
        cfg.StrOpt(
            "redis_url",
            secret=True,
            default="redis://localhost:6379/",
            help="redis://[user:password@]host[:port][/][?option=value&...], or rediss:// for TLS, "
            "or redis:///path for a Unix socket. Options: db, encoding, socket_timeout, "
            "health_check_interval, retry_on_timeout, socket_keepalive; ssl, ssl_certfile, "
            "ssl_keyfile, ssl_ca_certs; sentinel=<master> when host is a sentinel, "
            "sentinel_fallback=<host>:<port> (repeatable), sentinel_username, sentinel_password, "
            "sentinel_ssl; cluster=true for a Redis Cluster.",
        ),
    ]


def _ceph_options() -> list[cfg.Opt]:
    return [
        cfg.StrOpt("ceph_pool", default="gnocchi", help="Ceph pool, which must exist."),
        cfg.StrOpt("ceph_username", help="Ceph user, without the prefix 'client.'."),
        cfg.StrOpt("ceph_secret", secret=True, help="Key of the Ceph user."),
        cfg.StrOpt("ceph_keyring", help="Keyring file of the Ceph user."),
        cfg.IntOpt("ceph_timeout", default=30, min=1, help="Seconds Ceph may take to answer."),
        cfg.StrOpt(
            "ceph_conffile",
            default="/etc/ceph/ceph.conf",
            help="Configuration file of the Ceph cluster.",
        ),
    ]


def _swift_options() -> list[cfg.Opt]:
    return [
        cfg.StrOpt(
            "swift_auth_version", default="1", help="Version of the authentication: 1, 2 or 3."
        ),
        cfg.BoolOpt(
            "swift_auth_insecure",
            default=False,
            help="Do not verify the server's certificate.",
        ),
        cfg.StrOpt(
            "swift_url",
            deprecated_name="swift_preauthurl",
            help="Storage URL; by default the authentication service names it.",
        ),
        cfg.StrOpt(
            "swift_authurl",
            default="http://localhost:8080/auth/v1.0",
            help="URL of the authentication service.",
        ),
        cfg.StrOpt("swift_preauthtoken", secret=True, help="Token to use instead of a password."),
        cfg.StrOpt("swift_cacert", help="File of the certificate authority to trust."),
        cfg.StrOpt("swift_region", help="Region."),
        cfg.StrOpt("swift_user", default="admin:admin", help="User."),
        cfg.StrOpt("swift_user_domain_name", default="Default", help="Domain of the user."),
        cfg.StrOpt("swift_key", secret=True, default="admin", help="Password."),
        cfg.StrOpt(
            "swift_project_name",
            deprecated_name="swift_tenant_name",
            help="Project; for authentication versions 2 and 3.",
        ),
        cfg.StrOpt("swift_project_domain_name", default="Default", help="Domain of the project."),
        cfg.StrOpt("swift_container_prefix", default="gnocchi", help="Prefix of containers."),
        cfg.BoolOpt(
            "swift_container_prefix_all",
            default=False,
            help="Give the containers of incoming measures the prefix too, so that several "
            "deployments may share an account. To be decided once.",
        ),
        cfg.StrOpt("swift_storage_policy", help="Storage policy of new containers."),
        cfg.StrOpt(
            "swift_endpoint_type",
            default="publicURL",
            choices=["publicURL", "internalURL", "adminURL"],
            help="Interface to take from the service catalogue.",
        ),
        cfg.StrOpt(
            "swift_service_type",
            default="object-store",
            help="Service type to take from the service catalogue.",
        ),
        cfg.IntOpt("swift_timeout", default=300, min=1, help="Seconds Swift may take to answer."),
    ]


def _s3_options() -> list[cfg.Opt]:
    return [
        cfg.StrOpt("s3_endpoint_url", help="URL of the S3 service; AWS by default."),
        cfg.StrOpt(
            "s3_region_name",
            help="Region; by default the environment variable AWS_DEFAULT_REGION.",
        ),
        cfg.StrOpt(
            "s3_access_key_id",
            secret=True,
            help="Access key; by default the environment variable AWS_ACCESS_KEY_ID.",
        ),
        cfg.StrOpt(
            "s3_secret_access_key",
            secret=True,
            help="Secret key; by default the environment variable AWS_SECRET_ACCESS_KEY.",
        ),
        cfg.Opt(
            "s3_bucket_prefix",
            default="gnocchi",
            type=types.String(max_length=26),
            help="Prefix of buckets.",
        ),
        cfg.FloatOpt(
            "s3_check_consistency_timeout",
            default=0,
            min=0,
            help="Seconds to wait for a written object to become visible; 0 for stores that are "
            "consistent, as nearly all are.",
        ),
        cfg.IntOpt(
            "s3_max_pool_connections",
            default=50,
            min=1,
            help="Connections one process may keep to the S3 service.",
        ),
    ]


def _driver_options() -> list[cfg.Opt]:
    """Return the options that [storage] and [incoming] have in common, newly made."""
    return [
        cfg.StrOpt(
            "driver",
            default="file",
            help="Where to store: file, ceph, swift, s3 or redis; memory is for tests.",
        ),
        *_file_options(),
        *_ceph_options(),
        *_swift_options(),
        *_s3_options(),
        *_redis_options(),
    ]


def _like_storage(options: list[cfg.Opt]) -> list[cfg.Opt]:
    """Make unset options take the value of [storage]: the configuration does, this says so."""
    for option in options:
        option.default = None
        option.sample_default = f"${{storage.{option.name}}}"
        option.help = f"Like the option of the same name in [storage]. {option.help}"
    return options


STORAGE_OPTIONS: list[cfg.Opt] = [
    *_driver_options(),
    cfg.IntOpt("cache_size", default=64, min=0, help="Read cache of one process, in MiB."),
]

INCOMING_OPTIONS: list[cfg.Opt] = _like_storage(_driver_options())

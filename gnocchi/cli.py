"""The commands. Each function is one installed command and returns its exit status.

Invariant: a command does nothing but read its options and call what does the work; all of them
go through `gnocchi.startup`, which decides what a failure looks like.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from typing import TYPE_CHECKING

from oslo_config import cfg

from gnocchi import __version__, startup

if TYPE_CHECKING:
    from collections.abc import Sequence

LOG = logging.getLogger(__name__)

#: How often the administration commands try to reach a server, which takes a few seconds.
ATTEMPTS = 4

API_OPTIONS = [
    cfg.StrOpt("host", help="Address to listen on instead of [api] host."),
    cfg.PortOpt("port", help="Port to listen on instead of [api] port."),
    cfg.StrOpt("uwsgi-mode", help="Accepted, without effect."),
]

METRICD_OPTIONS = [
    cfg.IntOpt(
        "stop-after-processing-metrics",
        default=0,
        min=0,
        help="Process in the foreground until so many metrics were done, then end.",
    ),
]

UPGRADE_OPTIONS = [
    cfg.BoolOpt("skip-index", default=False, help="Leave the indexer alone."),
    cfg.BoolOpt("skip-storage", default=False, help="Leave the storage alone."),
    cfg.BoolOpt("skip-incoming", default=False, help="Leave the incoming storage alone."),
    cfg.BoolOpt(
        "skip-archive-policies-creation",
        default=False,
        help="Do not create archive policies and a rule where there are none.",
    ),
    cfg.BoolOpt(
        "create-legacy-resource-types",
        default=False,
        help="Create the resource types that OpenStack's services expected of old releases.",
    ),
    cfg.IntOpt(
        "sacks-number",
        default=16,
        min=1,
        max=65535,
        help="Sacks to create where there are none yet.",
    ),
]

CHANGE_SACK_SIZE_OPTIONS = [
    cfg.IntOpt("sacks-number", min=1, max=65535, help="How many sacks there shall be."),
    cfg.IntOpt(
        "number",
        positional=True,
        required=False,
        min=1,
        max=65535,
        metavar="NUMBER",
        help="The same, without naming it.",
    ),
]


def api(args: Sequence[str] | None = None) -> int:
    """Serve the HTTP API."""
    prog = "gnocchi-api"
    given = list(sys.argv[1:] if args is None else args)
    kept = [arg for arg in given if arg != "--"]

    def command() -> int:
        conf = startup.configure(prog, kept, options=API_OPTIONS, middleware=True)
        if kept != given:
            LOG.warning("A lone -- among the arguments has no meaning here and is ignored")
        if conf.uwsgi_mode:
            LOG.warning("--uwsgi-mode has no effect: gnocchi-api serves HTTP by itself")
        from gnocchi import api_server

        return api_server.serve(conf)

    return startup.run(prog, command)


def metricd(args: Sequence[str] | None = None) -> int:
    """Process measures until told to stop."""
    prog = "gnocchi-metricd"

    def command() -> int:
        conf = startup.configure(prog, args, options=METRICD_OPTIONS)
        from gnocchi import metricd as daemon

        daemon.check(conf)
        if conf.stop_after_processing_metrics:
            daemon.process_here(conf, conf.stop_after_processing_metrics)
        else:
            startup.share_memory()
            daemon.Manager(conf).run()
        return 0

    return startup.run(prog, command)


def upgrade(args: Sequence[str] | None = None) -> int:
    """Create or upgrade everything that is stored."""
    prog = "gnocchi-upgrade"

    def command() -> int:
        conf = startup.configure(prog, args, options=UPGRADE_OPTIONS, to_stderr=True)
        from gnocchi import upgrade as steps

        steps.run(conf, attempts=ATTEMPTS)
        return 0

    return startup.run(prog, command)


def change_sack_size(args: Sequence[str] | None = None) -> int:
    """Change the number of sacks that waiting measures are divided into."""
    prog = "gnocchi-change-sack-size"

    def command() -> int:
        conf = startup.configure(prog, args, options=CHANGE_SACK_SIZE_OPTIONS, to_stderr=True)
        number = conf.sacks_number or conf.number
        if number is None:
            print(f"{prog}: the number of sacks is missing: --sacks-number N", file=sys.stderr)
            return 2
        from gnocchi import service
        from gnocchi.engine import division

        services = startup.until_available(lambda: service.connect(conf), attempts=ATTEMPTS)
        before = services.sacks
        startup.until_available(lambda: division.change(services, number), attempts=ATTEMPTS)
        LOG.info("Incoming measures are divided into %d sacks; before it were %d", number, before)
        return 0

    return startup.run(prog, command)


def config_generator(args: Sequence[str] | None = None) -> int:
    """Print a sample configuration file with every option."""
    given = list(sys.argv[1:] if args is None else args)
    if "--version" in given:
        print(__version__)
        return 0
    from oslo_config import generator as config_sample

    namespaces = ["gnocchi", "oslo.middleware.cors", "oslo.middleware.healthcheck", "oslo.policy"]
    if importlib.util.find_spec("keystonemiddleware"):
        namespaces.append("keystonemiddleware.auth_token")
    chosen = [f"--namespace={name}" for name in namespaces]
    if any(arg.startswith(("--namespace", "--config-file")) for arg in given):
        chosen = []
    config_sample.main([*chosen, *given])
    return 0


def policy_generator(args: Sequence[str] | None = None) -> int:
    """Print a sample policy file with every rule and its default."""
    given = list(sys.argv[1:] if args is None else args)
    if "--version" in given:
        print(__version__)
        return 0
    from oslo_policy import generator as policy_sample

    chosen = [] if any(arg.startswith("--namespace") for arg in given) else ["--namespace=gnocchi"]
    policy_sample.generate_sample([*chosen, *given])
    return 0

"""Where log lines go, as the options say.

Invariant: a program calls :func:`setup` once, before it does anything worth logging. Secrets are
masked by oslo.config where options are logged; everything else passes URLs through
:func:`hide_credentials` first.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING

import daiquiri
import daiquiri.output

import gnocchi
from gnocchi import errors

if TYPE_CHECKING:
    from gnocchi.config import Configuration

LOG = logging.getLogger(__name__)

FORMAT = "%(asctime)s [%(process)d] %(levelname)-8s %(name)s: %(message)s"

#: Libraries that tell about every step on INFO, and what they may say instead.
_QUIET = {
    "alembic": logging.WARNING,
    "cotyledon": logging.WARNING,
    "futurist": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "stevedore": logging.WARNING,
    "tooz": logging.WARNING,
}


def setup(conf: Configuration, prog: str, *, to_stderr: bool = False) -> None:
    """Direct the log to the outputs of the configuration and log what is to say about it.

    Args:
        prog: names the file when only a directory is configured.
        to_stderr: ignore ``log_file`` and ``log_dir``, as the administration commands do.

    Raises:
        Misconfigured: a log file cannot be opened, or an output does not exist here.
    """
    try:
        outputs = _outputs(conf, prog, to_stderr)
    except (OSError, RuntimeError, TypeError) as error:
        raise errors.Misconfigured(f"Logging cannot be set up: {error}") from error
    # The excepthook of daiquiri would print a traceback twice.
    daiquiri.setup(level=logging.WARNING, outputs=outputs, program_name=prog, set_excepthook=False)
    logging.getLogger("gnocchi").setLevel(_level(conf))
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(logging.DEBUG if conf.debug else level)
    LOG.info("Gnocchi %s: %s", gnocchi.__version__, prog)
    for notice in conf.notices:
        LOG.warning("%s", notice)
    if conf.log_options:
        conf.log_opt_values(LOG, logging.DEBUG)


def _outputs(conf: Configuration, prog: str, to_stderr: bool) -> list[daiquiri.output.Output]:
    formatter = logging.Formatter(FORMAT)
    outputs: list[daiquiri.output.Output] = []
    if not to_stderr and (conf.log_file or conf.log_dir):
        filename = os.path.join(conf.log_dir or "", conf.log_file or f"{prog}.log")
        outputs.append(daiquiri.output.File(filename, formatter=formatter))
    else:
        outputs.append(daiquiri.output.Stream(formatter=formatter))
    if conf.use_syslog:
        facility = conf.syslog_log_facility
        outputs.append(daiquiri.output.Syslog(prog, facility, formatter=formatter))
    if conf.use_journal:
        outputs.append(daiquiri.output.Journal(prog))
    return outputs


def _level(conf: Configuration) -> int:
    if conf.debug:
        return logging.DEBUG
    return logging.INFO if conf.verbose else logging.WARNING


def hide_credentials(url: str) -> str:
    """Return a URL without its password, and without values of its query, to be logged.

    >>> hide_credentials("mysql+pymysql://me:secret@db/gnocchi?ssl_ca=/x")
    'mysql+pymysql://me:***@db/gnocchi?***'
    """
    # Whatever is between the first colon and the last @, for it may not be encoded as it should.
    hidden = re.sub(r"^((?!sqlite)[^:/?#]+://)([^:@]*):.*@", r"\1\2:***@", url, flags=re.DOTALL)
    return re.sub(r"\?.*$", "?***", hidden, flags=re.DOTALL)

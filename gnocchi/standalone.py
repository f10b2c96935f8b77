"""Run the API and metricd of one directory together in the foreground, as ``make run`` does.

Everything lies in that directory: the data, and a configuration file that is made empty at the
first start and never touched again. When one of the two programs ends, or on Ctrl-C, the other is
stopped too. This is for trying things out and for small machines; a service manager does it
better.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

STOP_S = 70  # a little more than graceful_shutdown_timeout
PR_SET_PDEATHSIG = 1

CONFIGURATION = """\
# Options for `make run`; gnocchi-config-generator prints all there are.
"""

BANNER = """
Gnocchi is ready at {url}
  data            {directory}
  authentication  basic: user "admin" is administrator; any password will do
Try:
  curl -u admin:admin {url}/v1/archive_policy
  curl -u admin:admin {url}/v1/metric -H 'Content-Type: application/json' \\
       -d '{{"archive_policy_name": "low", "name": "cpu"}}'
Ctrl-C stops it.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Upgrade what is stored, then run both programs until one ends."""
    parser = argparse.ArgumentParser(prog="python -m gnocchi.standalone", description=__doc__)
    parser.add_argument("--data", default="data", help="directory of everything that is kept")
    parser.add_argument("--host", default="127.0.0.1", help="address of the API")
    parser.add_argument("--port", type=int, default=8041, help="port of the API")
    options = parser.parse_args(args)

    directory = pathlib.Path(options.data).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    configuration = directory / "gnocchi.conf"
    if not configuration.exists():
        configuration.write_text(CONFIGURATION, encoding="utf-8")
    environment = os.environ | {
        "OS_STORAGE__FILE_BASEPATH": str(directory),
        # where stevedore remembers entry points; in the home directory otherwise
        "XDG_CACHE_HOME": str(directory / "cache"),
    }
    common = ["--config-file", str(configuration)]

    status = subprocess.call([_script("gnocchi-upgrade"), *common], env=environment)
    if status:
        return status
    commands = [
        [_script("gnocchi-metricd"), *common],
        [_script("gnocchi-api"), *common, "--host", options.host, "--port", str(options.port)],
    ]
    signal.signal(signal.SIGTERM, _interrupt)
    children: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            # A session each: Ctrl-C reaches this process alone, which then stops them in order.
            children.append(
                subprocess.Popen(
                    command, env=environment, start_new_session=True, preexec_fn=_die_with_parent
                )
            )
        if _wait_until_served(options.host, options.port, children):
            url = f"http://{options.host}:{options.port}"
            print(BANNER.format(url=url, directory=directory), flush=True)
        return _wait_for_first(children)
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(children)


def _script(name: str) -> str:
    return os.path.join(sysconfig.get_path("scripts"), name)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _die_with_parent() -> None:
    # Should this process be killed, nobody else would stop its children.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_until_served(host: str, port: int, children: Sequence[subprocess.Popen[bytes]]) -> bool:
    while all(child.poll() is None for child in children):
        try:
            with socket.create_connection((host, port), timeout=1):
                return True
        except OSError:
            time.sleep(0.1)
    return False


def _wait_for_first(children: Sequence[subprocess.Popen[bytes]]) -> int:
    while True:
        for child in children:
            status = child.poll()
            if status is not None:
                print(f"{child.args!r} has ended with status {status}", file=sys.stderr)
                return status or 1
        time.sleep(0.5)


def _stop(children: Sequence[subprocess.Popen[bytes]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for child in children:
        if child.poll() is None:
            child.terminate()
    for child in children:
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


if __name__ == "__main__":
    sys.exit(main())

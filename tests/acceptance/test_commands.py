"""Every installed command: help, version, normal use, refusals, wrong configuration."""

from __future__ import annotations

import os
import pathlib
import signal
import sqlite3
import textwrap
from typing import TYPE_CHECKING

import pytest

import gnocchi
from tests.acceptance.site import COMMANDS, PYTHON, SCRIPTS, TIMEOUT_S, Site, request, until
from tests.faults.commands import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
DAEMONS = ("gnocchi-api", "gnocchi-metricd")
CONFIGURED = (*DAEMONS, "gnocchi-upgrade")


def assert_refused(done: object, name: str, *words: str) -> None:
    """The command ended with 1 and one line that holds the words, and without a traceback."""
    stderr = done.stderr  # type: ignore[attr-defined]
    assert done.returncode == 1, stderr  # type: ignore[attr-defined]
    assert "Traceback" not in stderr
    last = stderr.strip().splitlines()[-1]
    assert last.startswith(f"{name}: ")
    for word in words:
        assert word in last


# ------------------------------------------------------------------ all commands


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_the_options(site: Site, name: str) -> None:
    done = site.execute([str(SCRIPTS / name), "--help"])
    assert done.returncode == 0
    assert "--config-file" in done.stdout or "--namespace" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_version_is_that_of_the_package(site: Site, name: str) -> None:
    done = site.execute([str(SCRIPTS / name), "--version"])
    assert done.returncode == 0
    assert done.stdout.strip() == gnocchi.__version__


@pytest.mark.parametrize("name", COMMANDS)
def test_unknown_argument_is_a_usage_error(site: Site, name: str) -> None:
    if name in FUNCTIONS:
        done = site.execute_forked(name, "--no-such-argument")
    else:
        done = site.execute([str(SCRIPTS / name), "--no-such-argument"])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------ wrong configuration


@pytest.mark.parametrize("name", CONFIGURED)
@pytest.mark.parametrize(
    ("group", "option", "value"),
    [
        ("storage", "driver", "fiel"),
        ("incoming", "driver", "fiel"),
        ("indexer", "url", "oracle://host/name"),
        ("indexer", "url", "no url"),
        ("metricd", "workers", "many"),
        ("metricd", "workers", "0"),
        ("archive_policy", "default_aggregation_methods", "mean,meen"),
    ],
)
def test_wrong_option_is_refused_in_one_line(
    site: Site, name: str, group: str, option: str, value: str
) -> None:
    """At once; a daemon that tried again would have no status."""
    site.upgrade()
    site.options = {group: {option: value}}
    assert_refused(site.run_forked(name), name)


@pytest.mark.parametrize("name", DAEMONS)
def test_log_file_that_cannot_be_opened_is_refused(site: Site, name: str) -> None:
    site.options = {"DEFAULT": {"log_file": "/no/such/directory/file.log"}}
    assert_refused(site.run(name), name, "/no/such/directory/file.log")


def test_upgrade_logs_to_standard_error_whatever_the_log_file(site: Site) -> None:
    site.options = {"DEFAULT": {"log_file": "/no/such/directory/file.log"}}
    done = site.run("gnocchi-upgrade")
    assert done.returncode == 0
    assert "Upgrading storage" in done.stderr


@pytest.mark.parametrize("name", DAEMONS)
def test_reason_for_the_end_is_in_the_log_file_too(site: Site, name: str) -> None:
    path = site.directory / "daemon.log"
    done = site.run(name, "--log-file", str(path))
    assert_refused(done, name, "gnocchi-upgrade")
    assert "run gnocchi-upgrade" in path.read_text()


@pytest.mark.parametrize("name", CONFIGURED)
def test_missing_configuration_file_is_named(site: Site, name: str) -> None:
    done = site.execute_forked(name, "--config-file", "/no/such/file.conf")
    assert_refused(done, name, "/no/such/file.conf")


@pytest.mark.parametrize("name", CONFIGURED)
def test_file_that_cannot_be_parsed_is_named(site: Site, name: str) -> None:
    site.configuration.write_text("this is no configuration\n")
    done = site.execute_forked(name, "--config-file", str(site.configuration))
    assert_refused(done, name, str(site.configuration))


@pytest.mark.parametrize("name", DAEMONS)
def test_daemons_refuse_to_start_before_the_upgrade(site: Site, name: str) -> None:
    assert_refused(site.run_forked(name), name, "gnocchi-upgrade")
    assert not site.data.exists()


def test_unknown_auth_mode_is_refused(site: Site) -> None:
    site.upgrade()
    site.options = {"api": {"auth_mode": "trust-me"}}
    assert_refused(site.run_forked("gnocchi-api"), "gnocchi-api", "trust-me")


def test_unknown_coordination_driver_is_refused(site: Site) -> None:
    site.upgrade()
    site.options = {"DEFAULT": {"coordination_url": "carrier-pigeon://roof"}}
    assert_refused(site.run_forked("gnocchi-metricd"), "gnocchi-metricd", "carrier-pigeon")


def test_unreachable_server_ends_the_upgrade_without_showing_the_password(site: Site) -> None:
    site.options = {"indexer": {"url": "postgresql://me:SeCrEt@127.0.0.1:1/gnocchi"}}
    done = site.run_forked("gnocchi-upgrade")
    assert_refused(done, "gnocchi-upgrade")
    assert "Upgrading indexer postgresql://me:***@127.0.0.1:1/gnocchi" in done.stderr
    assert "SeCrEt" not in done.stderr + done.stdout


def test_daemon_waits_for_a_server_that_does_not_answer(site: Site) -> None:
    site.options = {"indexer": {"url": "postgresql://me:SeCrEt@127.0.0.1:1/gnocchi"}}
    site.data.mkdir()
    with site.start("gnocchi-metricd") as metricd:
        until(lambda: metricd.text.count("Next attempt in") >= 2, "two attempts")
        assert metricd.popen.poll() is None
        assert "SeCrEt" not in metricd.text


# ------------------------------------------------------------------ gnocchi-upgrade


def test_upgrade_says_what_it_upgrades_and_may_be_repeated(site: Site) -> None:
    first = site.run("gnocchi-upgrade")
    second = site.run("gnocchi-upgrade")
    for done in first, second:
        assert done.returncode == 0
        assert f"Upgrading indexer sqlite:///{site.data}" in done.stderr
        assert f"Upgrading storage file {site.data}" in done.stderr
        assert f"Upgrading incoming storage file {site.data}" in done.stderr
    assert "Created archive policies" in first.stderr
    assert "Created archive policies" not in second.stderr


def test_upgrade_twice_at_once(site: Site) -> None:
    with site.start("gnocchi-upgrade") as one, site.start("gnocchi-upgrade") as other:
        assert one.popen.wait(60) == 0
        assert other.popen.wait(60) == 0


def test_skipped_steps_are_left_out(site: Site) -> None:
    done = site.run_forked("gnocchi-upgrade", "--skip-storage", "--skip-archive-policies-creation")
    assert done.returncode == 0
    assert "Upgrading storage" not in done.stderr
    assert "Created" not in done.stderr
    assert site.run_forked("gnocchi-upgrade", "--skip-index", "--skip-incoming").returncode == 0


def test_skipping_the_indexer_needs_one(site: Site) -> None:
    done = site.run_forked("gnocchi-upgrade", "--skip-index", "--skip-storage")
    assert_refused(done, "gnocchi-upgrade")


@pytest.mark.parametrize("number", ["0", "65536", "x"])
def test_impossible_number_of_sacks_is_a_usage_error(site: Site, number: str) -> None:
    done = site.run_forked("gnocchi-upgrade", "--sacks-number", number)
    assert done.returncode == 2
    assert not site.data.exists()


def test_number_of_sacks_stays_that_of_the_first_upgrade(site: Site) -> None:
    assert site.run_forked("gnocchi-upgrade", "--sacks-number", "5").returncode == 0
    done = site.run_forked("gnocchi-upgrade", "--sacks-number", "7")
    assert done.returncode == 0
    assert "There are 5 sacks already" in done.stderr


def test_database_of_another_program_is_refused_and_left_alone(site: Site) -> None:
    path = site.directory / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE metric (id TEXT)")
    connection.close()
    site.options = {"indexer": {"url": f"sqlite:///{path}"}}
    assert_refused(site.run_forked("gnocchi-upgrade"), "gnocchi-upgrade", "metric")
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert tables == [("metric",)]


# ------------------------------------------------------------------ generators


def test_sample_configuration_with_every_line_in_force_is_accepted(site: Site, port: int) -> None:
    done = site.execute([str(SCRIPTS / "gnocchi-config-generator")])
    assert done.returncode == 0
    lines = [line.removeprefix("#") for line in done.stdout.splitlines() if line[:2] != "# "]
    text = "\n".join(lines).replace("/var/lib/gnocchi", str(site.data))
    site.configuration.write_text(text)
    upgraded = site.execute_forked("gnocchi-upgrade", "--config-file", str(site.configuration))
    assert upgraded.returncode == 0, upgraded.stderr
    assert (site.data / "indexer.sqlite").exists()
    listen = ("--host", "127.0.0.1", "--port", str(port))
    with (
        site.spawn(site.arguments("gnocchi-api", *listen), "api") as api,
        site.spawn(site.arguments("gnocchi-metricd"), "metricd") as metricd,
    ):
        until(lambda: request(f"http://127.0.0.1:{port}/v1/metric") == [], "API")
        until(lambda: "wait to be processed" in metricd.text, "metricd")
        assert (metricd.stop(), api.stop()) == (0, 0)
        assert "Traceback" not in api.text + metricd.text


def test_policy_generator_prints_every_rule(site: Site) -> None:
    done = site.execute([str(SCRIPTS / "gnocchi-policy-generator")])
    assert done.returncode == 0
    assert '#"create metric": ""' in done.stdout


# ------------------------------------------------------------------ the daemons at work


@pytest.fixture
def address(site: Site, port: int) -> Iterator[str]:
    """The URL of a running API on an upgraded site; the API ends with 0 when told to stop."""
    site.upgrade()
    with site.start("gnocchi-api", "--port", str(port), "--") as api:
        url = f"http://127.0.0.1:{port}"
        until(lambda: api.popen.poll() is not None or request(f"{url}/v1/metric") == [], "API")
        assert "A lone -- among the arguments" in api.text
        assert "listening on 127.0.0.1 only" in api.text
        yield url
        assert api.stop() == 0, api.text
        assert "Traceback" not in api.text


def post(url: str, *values: float) -> str:
    """Create a metric with some measures; return the URL of its measures."""
    metric = request(f"{url}/v1/metric", {"archive_policy_name": "low"})["id"]
    body = [
        {"timestamp": 1_700_000_000 + position, "value": value}
        for position, value in enumerate(values)
    ]
    request(f"{url}/v1/metric/{metric}/measures", body)
    return f"{url}/v1/metric/{metric}/measures"


def test_posted_measures_are_processed_and_daemons_stop_on_request(
    site: Site, address: str
) -> None:
    with site.start("gnocchi-metricd") as metricd:
        measures = post(address, 1, 2, 6)
        found = until(lambda: request(f"{measures}?aggregation=mean"), "aggregates")
        assert found == [["2023-11-14T22:10:00+00:00", 300.0, 3.0]]
        assert request(f"{address}/v1/status")["metricd"]["processors"]
        titles = set(metricd.children().values())
        assert titles == {
            "gnocchi-metricd: processing worker(0)",
            "gnocchi-metricd: janitor worker(0)",
            "gnocchi-metricd: reporting worker(0)",
        }
        assert metricd.stop() == 0
        assert "Traceback" not in metricd.text


def test_killed_daemon_leaves_no_children_and_loses_nothing(site: Site, address: str) -> None:
    with site.start("gnocchi-metricd") as metricd:
        children = until(lambda: len(c := metricd.children()) == 3 and c, "children")
        metricd.stop(signal.SIGKILL)
        until(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in children), "end")
    measures = post(address, 4)
    with site.start("gnocchi-metricd"):
        found = until(lambda: request(f"{measures}?aggregation=count"), "aggregates")
    assert found == [["2023-11-14T22:10:00+00:00", 300.0, 1.0]]


def test_killed_worker_is_replaced(site: Site, address: str) -> None:
    with site.start("gnocchi-metricd") as metricd:
        title = "gnocchi-metricd: processing worker(0)"
        first = until(
            lambda: [pid for pid, name in metricd.children().items() if name == title], "worker"
        )
        os.kill(first[0], signal.SIGKILL)
        until(
            lambda: any(n == title and p != first[0] for p, n in metricd.children().items()),
            "another worker",
        )
        measures = post(address, 4)
        assert until(lambda: request(f"{measures}?aggregation=count"), "aggregates")


def test_hangup_changes_the_number_of_workers(site: Site) -> None:
    site.upgrade()

    def workers() -> list[str]:
        return sorted(n for n in metricd.children().values() if "processing" in n)

    with site.start("gnocchi-metricd") as metricd:
        until(lambda: len(workers()) == 1, "one worker")
        site.options = {"metricd": {"workers": "3"}}
        site.write()
        metricd.popen.send_signal(signal.SIGHUP)
        until(lambda: len(workers()) == 3, "three workers")
        assert metricd.stop() == 0


def test_metricd_stops_after_so_many_metrics(site: Site, address: str) -> None:
    measures = [post(address, 5), post(address, 7)]
    done = site.run("gnocchi-metricd", "--stop-after-processing-metrics", "2")
    assert done.returncode == 0, done.stderr
    assert "2 metrics were processed" in done.stderr
    assert all(request(f"{url}?aggregation=sum") for url in measures)


# ------------------------------------------------------------------ other ways to serve and run

CALL = """
import runpy, sys, importlib, io
from wsgiref.util import setup_testing_defaults
for what in sys.argv[1:]:
    if ":" in what:
        module, _, name = what.partition(":")
        application = getattr(importlib.import_module(module), name)
    else:
        application = runpy.run_path(what)["application"]
    environ = {"PATH_INFO": "/"}
    setup_testing_defaults(environ)
    b"".join(application(environ, lambda status, headers, exc_info=None: print(status)))
"""


ENTRY_POINTS = (
    "gnocchi.wsgi:application",
    "gnocchi.wsgi.api:application",
    "gnocchi.rest.wsgi:application",
    str(SCRIPTS / "gnocchi-api"),
    str(pathlib.Path(gnocchi.__file__).parent / "rest" / "app.wsgi"),
)


def test_every_wsgi_entry_point_serves(site: Site) -> None:
    """The configuration is the one in the user's home directory, as no option can be given."""
    site.upgrade()
    site.write()
    done = site.execute([PYTHON, "-c", CALL, *ENTRY_POINTS])
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == [*["200 OK"] * len(ENTRY_POINTS), ""]


def test_standalone_runs_everything_in_one_directory(site: Site, port: int) -> None:
    arguments = [PYTHON, "-m", "gnocchi.standalone", "--data", "kept", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with site.spawn(arguments, "standalone") as standalone:
        until(lambda: f"Gnocchi is ready at {url}" in standalone.text, "readiness")
        measures = post(url, 2, 4)
        assert until(lambda: request(f"{measures}?aggregation=mean"), "aggregates")
        children = standalone.children()
        assert len(children) == 2
        assert standalone.stop(signal.SIGINT) == 0
        assert not any(pathlib.Path(f"/proc/{pid}").exists() for pid in children)
    with site.spawn(arguments, "standalone") as standalone:
        found = until(lambda: request(f"{measures}?aggregation=mean"), "what was kept")
        assert found == [["2023-11-14T22:10:00+00:00", 300.0, 3.0]]
        children = until(lambda: len(c := standalone.children()) == 2 and c, "children")
        standalone.stop(signal.SIGKILL)
        until(lambda: not any(pathlib.Path(f"/proc/{p}").exists() for p in children), "their end")
    outside = {path.name for path in site.directory.iterdir()}
    assert outside == {"kept", "standalone.output"}


def test_standalone_ends_with_an_error_when_one_program_cannot_run(site: Site, port: int) -> None:
    kept = site.directory / "kept"
    kept.mkdir()
    (kept / "gnocchi.conf").write_text("[api]\nauth_mode = trust-me\n")
    arguments = [PYTHON, "-m", "gnocchi.standalone", "--data", "kept", "--port", str(port)]
    done = site.execute(arguments)
    assert done.returncode == 1
    assert "trust-me" in done.stderr


# ------------------------------------------------------------------ gnocchi-change-sack-size


@pytest.mark.parametrize("arguments", [(), ("0",), ("--sacks-number", "65536"), ("many",)])
def test_number_of_sacks_must_be_given(site: Site, arguments: tuple[str, ...]) -> None:
    site.upgrade()
    done = site.run_forked("gnocchi-change-sack-size", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_number_of_sacks_stays_while_measures_wait(site: Site, port: int) -> None:
    site.upgrade()
    with site.start("gnocchi-api", "--port", str(port)):
        until(lambda: request(f"http://127.0.0.1:{port}/v1/metric") == [], "API")
        post(f"http://127.0.0.1:{port}", 2, 4)
    done = site.run("gnocchi-change-sack-size", "--sacks-number", "3")
    assert_refused(done, "gnocchi-change-sack-size", "1 measurement bundles wait", "stays 16")


def test_number_of_sacks_changes_while_everything_runs(site: Site, port: int) -> None:
    site.upgrade()
    url = f"http://127.0.0.1:{port}"
    with site.start("gnocchi-api", "--port", str(port)), site.start("gnocchi-metricd"):
        until(lambda: request(f"{url}/v1/metric") == [], "API")
        for number in ("5", "--sacks-number=300", "16"):
            measures = post(url, 2, 4)
            assert until(lambda m=measures: request(f"{m}?aggregation=mean"), "aggregates")
            until(lambda: not waiting(url), "an empty queue")
            done = site.run("gnocchi-change-sack-size", number)
            assert done.returncode == 0, done.stderr
            assert f"into {number.rpartition('=')[2]} sacks" in done.stderr
        measures = post(url, 1, 2, 6)
        assert until(lambda: request(f"{measures}?aggregation=max"), "aggregates")


def waiting(url: str) -> int:
    """How many bundles of measures wait."""
    summary = request(f"{url}/v1/status?details=false")["storage"]["summary"]
    return int(summary["measures"])


# ------------------------------------------------------------------ databases, documentation


@pytest.mark.parametrize("database_kind", ["postgresql", "mariadb"])
def test_every_server_is_upgraded_twice_at_once_and_then_used(
    site: Site, port: int, database_url: str
) -> None:
    site.options = {"indexer": {"url": database_url}}
    with site.start("gnocchi-upgrade") as one, site.start("gnocchi-upgrade") as other:
        assert (one.popen.wait(TIMEOUT_S), other.popen.wait(TIMEOUT_S)) == (0, 0)
    assert site.run("gnocchi-upgrade").returncode == 0
    url = f"http://127.0.0.1:{port}"
    with site.start("gnocchi-api", "--port", str(port)), site.start("gnocchi-metricd") as metricd:
        until(lambda: request(f"{url}/v1/metric") == [], "API")
        measures = post(url, 1, 2, 6)
        assert until(lambda: request(f"{measures}?aggregation=max"), "aggregates")
        assert request(f"{url}/v1/status")["metricd"]["processors"]
        assert metricd.stop() == 0


def test_quick_start_of_the_readme_works_as_written(site: Site, port: int) -> None:
    text = (ROOT / "README.rst").read_text()
    block = text.partition("In another terminal::\n")[2].partition("\nThe command line")[0]
    commands = textwrap.dedent(block).replace("8041", str(port))
    assert commands.count("curl") == 4
    arguments = [PYTHON, "-m", "gnocchi.standalone", "--port", str(port)]
    with site.spawn(arguments, "standalone") as standalone:
        until(lambda: "Gnocchi is ready" in standalone.text, "readiness")
        done = site.execute(["bash", "-euc", commands.replace("curl", "curl -sf")])
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(
            '[["2026-01-01T12:00:00+00:00", 3600.0, 21.0], '
            '["2026-01-01T12:00:00+00:00", 60.0, 21.0]]'
        )
        assert standalone.stop() == 0

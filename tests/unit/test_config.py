"""Options: where they come from, what old names still do, and that all of them are documented."""

from __future__ import annotations

import os
import pathlib
import re

import pytest

from gnocchi import config, errors
from tests import samples

DOCUMENT = pathlib.Path(__file__).parents[2] / "doc" / "configuration.rst"


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    for name in list(os.environ):
        if name.startswith(("OS_", "GNOCCHI_", "XDG_", "SNAP")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def written(directory: pathlib.Path, text: str, name: str = "gnocchi.conf") -> str:
    """Write a configuration file; return its path."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def read(directory: pathlib.Path, text: str) -> config.Configuration:
    """Read a configuration that consists of one file."""
    return config.prepare(["--config-file", written(directory, text)])


# ------------------------------------------------------------------ sources


def test_no_file_is_needed() -> None:
    conf = config.prepare([], files=[])
    assert conf.storage.driver == "file"
    assert conf.indexer.url == f"sqlite:///{conf.storage.file_basepath}/indexer.sqlite"
    assert conf.notices == []


def test_program_file_wins_over_common_file(tmp_path: pathlib.Path) -> None:
    written(tmp_path / ".gnocchi", "[api]\nport = 1\nmax_limit = 5\n")
    written(tmp_path / ".gnocchi", "[api]\nport = 2\n", "gnocchi-api.conf")
    conf = config.prepare([], "gnocchi-api")
    assert (conf.api.port, conf.api.max_limit) == (2, 5)
    assert config.prepare([], "gnocchi-metricd").api.port == 1


def test_first_place_with_a_file_is_the_only_one_read(tmp_path: pathlib.Path) -> None:
    written(tmp_path / ".gnocchi", "[api]\nport = 1\n")
    written(tmp_path, "[api]\nport = 2\nmax_limit = 5\n")
    conf = config.prepare([], "gnocchi-api")
    assert (conf.api.port, conf.api.max_limit) == (1, 1000)


def test_directory_is_read_in_order_of_names(tmp_path: pathlib.Path) -> None:
    written(tmp_path / ".gnocchi" / "gnocchi.conf.d", "[api]\nport = 1\n", "1.conf")
    written(tmp_path / ".gnocchi" / "gnocchi.conf.d", "[api]\nport = 2\n", "2.conf")
    assert config.prepare([], "gnocchi-api").api.port == 2


def test_later_file_of_the_command_line_wins(tmp_path: pathlib.Path) -> None:
    first = written(tmp_path, "[api]\nport = 1\n", "a.conf")
    second = written(tmp_path, "[api]\nport = 2\n", "b.conf")
    conf = config.prepare(["--config-file", first, "--config-file", second])
    assert conf.api.port == 2


def test_environment_wins_over_files(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_INDEXER__URL", "sqlite:////of/environment")
    monkeypatch.setenv("OS_DEFAULT__DEBUG", "true")
    conf = read(tmp_path, "[DEFAULT]\ndebug = false\n[indexer]\nurl = sqlite:////of/file\n")
    assert conf.indexer.url == "sqlite:////of/environment"
    assert conf.debug


def test_command_line_wins_over_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_DEFAULT__DEBUG", "true")
    assert not config.prepare(["--nodebug"], files=[]).debug


def test_value_may_refer_to_another_option(tmp_path: pathlib.Path) -> None:
    conf = read(
        tmp_path,
        "[storage]\nfile_basepath = /here\n[indexer]\nurl = sqlite:///${storage.file_basepath}/x\n",
    )
    assert conf.indexer.url == "sqlite:////here/x"


def test_unknown_groups_and_options_are_ignored_silently(tmp_path: pathlib.Path) -> None:
    conf = read(tmp_path, "[oslo_messaging_rabbit]\nrabbit_host = r\n[storage]\nceph_pool = p\n")
    assert conf.notices == []


@pytest.mark.parametrize(
    ("group", "option", "value"),
    [
        ("api", "port", "65536"),
        ("api", "max_limit", "none"),
        ("metricd", "workers", "0"),
        ("metricd", "metric_reporting_delay", "-2"),
        ("storage", "file_sync", "perhaps"),
        ("archive_policy", "default_aggregation_methods", "mean, meen"),
    ],
)
def test_wrong_value_is_refused_at_once(
    tmp_path: pathlib.Path, group: str, option: str, value: str
) -> None:
    with pytest.raises(errors.Misconfigured, match=option) as raised:
        read(tmp_path, f"[{group}]\n{option} = {value}\n")
    assert "\n" not in str(raised.value)


# ------------------------------------------------------------------ defaults that depend


def test_incoming_takes_what_is_not_set_from_storage(tmp_path: pathlib.Path) -> None:
    conf = read(
        tmp_path, "[storage]\ndriver = memory\nfile_sync = false\n[incoming]\nfile_basepath = /i\n"
    )
    assert conf.incoming.driver == "memory"
    assert conf.incoming.file_sync is False
    assert conf.incoming.file_basepath == "/i"


def test_indexer_url_of_the_environment_is_a_default(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNOCCHI_INDEXER_URL", "sqlite:////of/environment")
    assert config.prepare([], files=[]).indexer.url == "sqlite:////of/environment"
    assert read(tmp_path, "[indexer]\nurl = sqlite:////of/file").indexer.url.endswith("/of/file")


def test_database_connection_is_used_with_a_notice(tmp_path: pathlib.Path) -> None:
    conf = read(tmp_path, "[database]\nconnection = mysql://h/n\nbackend = sqlalchemy\n")
    assert conf.indexer.url == "mysql://h/n"
    assert len(conf.notices) == 1
    assert "[indexer] url" in conf.notices[0]


def test_database_connection_does_not_matter_beside_the_url(tmp_path: pathlib.Path) -> None:
    conf = read(
        tmp_path, "[database]\nconnection = mysql://h/n\n[indexer]\nurl = postgresql://h/n\n"
    )
    assert conf.indexer.url == "postgresql://h/n"
    assert conf.notices == []


def test_data_directory_of_a_user_without_rights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert config.data_directory() == tmp_path / ".local" / "share" / "gnocchi"
    monkeypatch.setenv("XDG_DATA_HOME", "/xdg")
    assert config.data_directory() == pathlib.Path("/xdg/gnocchi")


def test_data_directory_of_the_system_belongs_to_who_may_write_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) == "/var/lib/gnocchi")
    assert config.data_directory() == pathlib.Path("/var/lib/gnocchi")


def test_is_set_tells_defaults_from_choices(tmp_path: pathlib.Path) -> None:
    conf = read(tmp_path, "[api]\nhost = 0.0.0.0\n")
    assert config.is_set(conf, "host", "api")
    assert not config.is_set(conf, "port", "api")


# ------------------------------------------------------------------ old names


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("storage.coordination_url = file:///x", ("DEFAULT", "coordination_url", "file:///x")),
        ("storage.aggregation_workers_number = 3", ("DEFAULT", "parallel_operations", 3)),
        ("storage.metric_processing_delay = 4", ("metricd", "metric_processing_delay", 4)),
        ("storage.metric_reporting_delay = 5", ("metricd", "metric_reporting_delay", 5)),
        ("storage.metric_cleanup_delay = 6", ("metricd", "metric_cleanup_delay", 6)),
        ("api.refresh_timeout = 7", ("api", "operation_timeout", 7)),
        ("api.workers = 8", ("api", "processes", 8)),
        (
            "oslo_middleware.enable_proxy_headers_parsing = true",
            ("api", "enable_proxy_headers_parsing", True),
        ),
    ],
)
def test_old_name_works_and_is_reported_once(
    tmp_path: pathlib.Path, old: str, new: tuple[str, str, object]
) -> None:
    group, _, line = old.partition(".")
    conf = read(tmp_path, f"[{group}]\n{line}\n")
    assert (conf if new[0] == "DEFAULT" else conf[new[0]])[new[1]] == new[2]
    assert len(conf.notices) == 1
    assert line.split()[0] in conf.notices[0]
    assert new[1] in conf.notices[0]


@pytest.mark.parametrize(
    ("group", "option"), [(g, o) for g, names in config.REMOVED.items() for o in names]
)
def test_removed_option_is_reported_once(tmp_path: pathlib.Path, group: str, option: str) -> None:
    conf = read(tmp_path, f"[{group}]\n{option} = 1\n")
    assert len(conf.notices) == 1
    assert option in conf.notices[0]


def test_configuration_of_2017_is_accepted(tmp_path: pathlib.Path) -> None:
    """A complete file of that time, for the file driver."""
    url = "postgresql://root:p4ssw0rd@localhost/gnocchi?client_encoding=utf8"
    conf = read(tmp_path, samples.FILES.format(url=url, directory="/srv/gnocchi"))
    assert conf.api.processes == 1
    assert conf.indexer.url == url
    assert conf.coordination_url == "file:///srv/gnocchi/locks"
    assert conf.incoming.file_basepath == "/srv/gnocchi/data"
    assert conf.cors.allowed_origin == ["*"]
    assert len(conf.notices) == 2


# ------------------------------------------------------------------ documentation


@pytest.mark.parametrize("group", [group for group, _ in config.OPTIONS if group != "incoming"])
def test_every_option_is_documented(group: str) -> None:
    text = DOCUMENT.read_text()
    title = re.escape(f"[{group}]")
    section = re.search(rf"^{title}\n~+\n(.*?)(?=^\[|^\.\. _deprecated)", text, re.M | re.S)
    assert section is not None
    documented = set(re.findall(r"^   \* - ``(\w+)``", section[1], re.M))
    options = next(options for name, options in config.OPTIONS if name == group)
    assert documented == {option.dest for option in options}


def test_incoming_has_the_options_of_storage_but_its_cache() -> None:
    options = {group: {option.dest for option in listed} for group, listed in config.OPTIONS}
    assert options["incoming"] == options["storage"] - {"cache_size"}


def test_every_old_name_is_documented() -> None:
    text = DOCUMENT.read_text().partition(".. _deprecated:")[2]
    for group, options in config.OPTIONS:
        for option in options:
            for old in option.deprecated_opts:
                name = f"[{old.group or group}] {old.name or option.dest}"
                assert f"``{name}``" in text, name
    for names in config.REMOVED.values():
        for name in names:
            assert f"``{name}``" in text, name


def test_every_option_has_a_help_text() -> None:
    for group, options in config.OPTIONS:
        for option in options:
            assert option.help, f"[{group}] {option.name}"
            assert option.help.endswith("."), f"[{group}] {option.name}"

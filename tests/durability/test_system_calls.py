"""The order of the system calls that make files durable, as the kernel saw it (strace)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    import pathlib

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = """
import os, sys
from types import SimpleNamespace
import numpy as np
from gnocchi.drivers.file import FileIncoming, FileStorage
from gnocchi.segments.batch import Points

conf = SimpleNamespace(file_basepath=sys.argv[1], file_sync=sys.argv[2] == "sync")
storage, incoming = FileStorage(conf), FileIncoming(conf, 4)
storage.upgrade()
incoming.upgrade()
ids = np.frombuffer(bytes([0]) * 16 + bytes([255]) * 16, "V16")
for number in range(2):
    os.write(1, b"before add")
    incoming.add(Points(ids, np.array([1, 1]), np.arange(2), np.ones(2)))
    os.write(1, b"after add")
for name in "20261121T064452-0000000000000000.parquet", "odd-name-zz":
    os.write(1, b"before put")
    storage.put(name, b"x" * 100_000)
    os.write(1, b"after put")
os.write(1, b"before discard")
incoming.discard(incoming.take([0], 1))
incoming.discard(incoming.take([0, 3], 10))
os.write(1, b"after discard")
"""
LINE = re.compile(r"^\d+ +(?P<call>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)(?P<opened><.*>)?")


class Call(NamedTuple):
    """A system call that succeeded; ``path`` is the file it was about."""

    name: str
    path: str
    target: str = ""


def calls(trace: str, directory: pathlib.Path) -> list[Call]:
    """Calls below a directory, and the script's marks as calls of the name ``mark``."""
    found = []
    for line in trace.splitlines():
        match = LINE.match(line)
        if match is None or match["result"].startswith("-"):
            continue
        name, arguments = match["call"], match["arguments"]
        quoted = re.findall(r'"([^"]*)"', arguments)
        if name == "write" and quoted and quoted[0].startswith(("before ", "after ")):
            found.append(Call("mark", quoted[0]))
        elif name.startswith(("rename", "mkdir", "unlink")):
            found.append(Call(re.match("[a-z]+", name)[0].removesuffix("at"), *quoted[:2]))  # type: ignore[index]
        else:
            opened = match["opened"] or re.search(r"<(/[^>]*)>", arguments)
            path = (opened if isinstance(opened, str) else opened[1] if opened else "").strip("<>")
            found.append(Call("fsync" if name == "fdatasync" else name, path))
    return [c for c in found if c.name == "mark" or c.path.startswith(str(directory))]


def unavailable(reason: str) -> None:
    """Skip, or fail where servers are required."""
    if os.environ.get("TEST_REQUIRE_SERVERS"):
        pytest.fail(f"{reason} (TEST_REQUIRE_SERVERS is set)")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Call]]:
    """What the script did with and without sync."""
    if shutil.which("strace") is None:
        unavailable("not installed: strace")
    runs = {}
    for how in ("sync", "no sync"):
        base = tmp_path_factory.mktemp("traced")
        script, trace, data = base / "script.py", base / "trace", base / "data"
        script.write_text(SCRIPT)
        options = ["-f", "-y", "-s", "64", "-o", str(trace)]
        wanted = "trace=openat,write,fsync,fdatasync,rename,renameat,renameat2,mkdir,unlink"
        done = subprocess.run(
            ["strace", *options, "-e", wanted, sys.executable, str(script), str(data), how],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": ROOT, "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if "PTRACE" in done.stderr or "ptrace" in done.stderr:
            unavailable(f"strace may not trace here: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        runs[how] = calls(trace.read_text(), base)
    return runs


def between(found: list[Call], what: str) -> list[list[Call]]:
    """The calls of each stretch from ``before <what>`` to ``after <what>``."""
    stretches: list[list[Call]] = []
    inside = False
    for call in found:
        if call == Call("mark", f"before {what}"):
            stretches.append([])
            inside = True
        elif call == Call("mark", f"after {what}"):
            inside = False
        elif inside:
            stretches[-1].append(call)
    return stretches


@pytest.mark.parametrize("what", ["add", "put"])
def test_write_is_synced_before_its_rename_and_the_directory_before_it_returns(
    traced: dict[str, list[Call]], what: str
) -> None:
    for stretch in between(traced["sync"], what):
        rename = next(call for call in reversed(stretch) if call.name == "rename")
        parent = os.path.dirname(rename.target)
        steps = [
            call
            for call in stretch
            if call.path == rename.path or (call.name == "fsync" and call.path == parent)
        ]
        while steps[1].name == steps[2].name == "write":
            del steps[2]
        assert [(step.name, step.path) for step in steps] == [
            ("openat", rename.path),
            ("write", rename.path),
            ("fsync", rename.path),
            ("rename", rename.path),
            ("fsync", parent),
        ]


def test_nothing_is_renamed_that_was_not_synced_after_its_last_write(
    traced: dict[str, list[Call]],
) -> None:
    """The renames of a discard apart: what they rename was synced when it was written."""
    state: dict[str, str] = {}
    renamed = 0
    for call in traced["sync"]:
        if call.name in ("write", "fsync"):
            state[call.path] = call.name
        elif call.name == "rename":
            assert state.pop(call.path) == "fsync"
            state[call.target] = "fsync"
            renamed += 1
    assert renamed == 5


def test_new_directory_is_synced_into_its_parent_before_it_is_relied_on(
    traced: dict[str, list[Call]],
) -> None:
    pending: dict[str, str] = {}
    made = 0
    for call in traced["sync"]:
        if call.name == "mkdir":
            pending[call.path] = os.path.dirname(call.path)
            made += 1
        elif call.name == "fsync":
            pending = {path: parent for path, parent in pending.items() if parent != call.path}
        elif call.name == "mark" and call.path.startswith("after"):
            assert not pending
    assert made > 256


def test_every_add_makes_one_file_and_two_syncs(traced: dict[str, list[Call]]) -> None:
    for stretch in between(traced["sync"], "add"):
        names = [call.name for call in stretch]
        assert names.count("fsync") == 2
        assert names.count("rename") == 1


def test_nothing_is_synced_without_sync(traced: dict[str, list[Call]]) -> None:
    names = [call.name for call in traced["no sync"]]
    assert "fsync" not in names
    assert names.count("rename") == 5


def test_discard_takes_out_bits_without_writing(traced: dict[str, list[Call]]) -> None:
    (stretch,) = between(traced["sync"], "discard")
    names = [call.name for call in stretch if call.name != "openat"]
    assert names == ["rename", "unlink", "unlink"]

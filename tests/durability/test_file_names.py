"""Races for the names of waiting files, and names that are none of ours."""

from __future__ import annotations

import fcntl
import os
import pathlib
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from gnocchi import errors
from gnocchi.drivers import file
from gnocchi.drivers.file import FileIncoming, FileStorage, Name
from tests.conformance.models import EVERYTHING
from tests.conformance.points import in_sacks, values
from tests.conformance.waiting import take_all

if TYPE_CHECKING:
    from collections.abc import Callable

SACKS = 4


@pytest.fixture
def client(tmp_path: pathlib.Path) -> Callable[[], FileIncoming]:
    """Opens clients of one upgraded directory."""
    conf = SimpleNamespace(file_basepath=str(tmp_path), file_sync=False)
    FileIncoming(conf, SACKS).upgrade()
    return lambda: FileIncoming(conf, SACKS)


def group(directory: pathlib.Path) -> pathlib.Path:
    return directory / "incoming" / str(SACKS) / "0"


def while_listing(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> threading.Thread:
    """Let another client act in the middle of the next listing.

    The listing behaves as POSIX allows: what was there all the time is in it, what comes or is
    renamed meanwhile may be in it or not. Here the older half of the names is read before and the
    newer half after the act, and of the older half what has gone since is not shown.
    """
    real = os.listdir
    thread = threading.Thread(target=act)

    def listdir(path: pathlib.Path) -> list[str]:
        monkeypatch.setattr(os, "listdir", real)
        before = sorted(real(path))
        thread.start()
        thread.join(0.3)  # for as long as the listing's lock keeps it out
        after = set(real(path))
        seen = [name for name in before if name in after]
        return seen + [name for name in after if name not in before and name > before[-1]]

    monkeypatch.setattr(os, "listdir", listdir)
    return thread


def test_listing_misses_no_file_that_another_worker_renames(
    client: Callable[[], FileIncoming], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the newer of two values of one timestamp could be processed first."""
    incoming, other = client(), client()
    for number in range(4):
        incoming.add(in_sacks(SACKS, [0, 1], float(number)))
    first = other.take([1], 1)
    thread = while_listing(monkeypatch, lambda: other.discard(first))
    assert values(incoming.take([0], EVERYTHING)) == [0.0, 1.0, 2.0, 3.0]
    thread.join()
    assert values(incoming.take([1], EVERYTHING)) == [1.0, 2.0, 3.0]


def test_listing_shows_no_file_that_came_while_an_earlier_one_may_be_missing(
    client: Callable[[], FileIncoming], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests come one after the other while a directory is being listed."""
    incoming, other = client(), client()
    incoming.add(in_sacks(SACKS, [0], 0.0))
    real = os.listdir

    def listdir(path: pathlib.Path) -> list[str]:
        monkeypatch.setattr(os, "listdir", real)
        listed = real(path)
        other.add(in_sacks(SACKS, [0], 1.0))
        missed = set(real(path))
        other.add(in_sacks(SACKS, [0], 2.0))
        return listed + [name for name in real(path) if name not in missed]

    monkeypatch.setattr(os, "listdir", listdir)
    taken = incoming.take([0], EVERYTHING)
    assert values(taken) == [0.0]
    incoming.discard(taken)
    assert values(incoming.take([0], EVERYTHING)) == [1.0, 2.0]


def test_files_named_before_the_clock_was_set_back_are_not_held_up(
    client: Callable[[], FileIncoming], monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = client()
    clock = time.time_ns() + 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: clock)
    incoming.add(in_sacks(SACKS, [0], 0.0))
    monkeypatch.undo()
    incoming.add(in_sacks(SACKS, [0], 1.0))
    assert values(take_all(incoming)) == [0.0, 1.0]
    assert incoming.waiting() == {0: 0.0}


def test_bytes_of_a_damaged_file_are_kept_when_it_is_renamed_while_it_is_read(
    client: Callable[[], FileIncoming], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming, other = client(), client()
    incoming.add(in_sacks(SACKS, [0, 1], 0.0))
    (path,) = group(tmp_path).iterdir()
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1  # in the share of sack 1
    path.write_bytes(damaged)
    theirs = other.take([0], EVERYTHING)
    assert not theirs.damaged
    real = os.open

    def opened(path: object, *args: int) -> int:
        fd = real(path, *args)  # type: ignore[arg-type]
        if "incoming" in str(path) and not str(path).endswith(".lock"):
            monkeypatch.setattr(os, "open", real)
            other.discard(theirs)
        return fd

    monkeypatch.setattr(os, "open", opened)
    taken = incoming.take([1], EVERYTHING)
    assert len(taken.damaged) == 1
    incoming.discard(taken)
    assert list(group(tmp_path).iterdir()) == []
    (kept,) = (tmp_path / "damaged").iterdir()
    assert kept.read_bytes() == damaged


def test_take_finds_a_file_under_its_new_name(
    client: Callable[[], FileIncoming], monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming, other = client(), client()
    for number in range(3):
        incoming.add(in_sacks(SACKS, [0, 1, 2], float(number)))
    theirs = [other.take([1], 1), other.take([1, 2], EVERYTHING)]
    names = incoming._names

    def listed(group_: int) -> list[Name]:
        found = names(group_)
        if theirs:
            other.discard(theirs.pop(0))
        return found

    monkeypatch.setattr(incoming, "_names", listed)
    taken = incoming.take([0, 1], EVERYTHING)
    monkeypatch.undo()
    assert [v for v in values(taken) if v == 0.0] == [0.0]
    incoming.discard(taken)
    assert values(take_all(incoming, [0, 1])) == []


@pytest.mark.parametrize(
    "name",
    [
        "README",
        ".nfs000000001",
        "x.1.1.1.1",
        "18e9fd616dc2872b-ca3ed9cd",
        "18e9fd616dc2872b-ca3ed9cd.1.1.1",
        "18e9fd616dc2872b-ca3ed9cd.1.1.1.-1",
        "18e9fd616dc2872b-ca3ed9cd.1.1.1.01",
        "18e9fd616dc2872b-ca3ed9cd.1.1.1.F",
        "18e9fd616dc2872b-ca3ed9cd.1.1.1.0x1",
        "18e9fd616dc2872b-ca3ed9cd.1.1.1.1_0",
    ],
)
@pytest.mark.parametrize("directory", [False, True], ids=["file", "directory"])
def test_foreign_names_are_passed_over(
    client: Callable[[], FileIncoming], tmp_path: pathlib.Path, name: str, directory: bool
) -> None:
    incoming = client()
    foreign = group(tmp_path) / name
    if directory:
        foreign.mkdir()
    else:
        foreign.write_bytes(b"what somebody left here")
    incoming.add(in_sacks(SACKS, [0], 1.0))
    taken = take_all(incoming)
    assert values(taken) == [1.0]
    assert incoming.backlog(details=True).items == 1
    assert incoming.waiting().keys() == {0}
    incoming.discard(taken)
    assert incoming.waiting() == {}
    assert not incoming.wait(0.0)
    assert foreign.exists()


def test_foreign_files_among_segments_are_no_segments(tmp_path: pathlib.Path) -> None:
    storage = FileStorage(SimpleNamespace(file_basepath=str(tmp_path), file_sync=False))
    storage.upgrade()
    storage.put("object-00", b"x")
    (tmp_path / "segments" / "zz").write_bytes(b"")
    (tmp_path / "segments" / "00" / "lost+found").mkdir()
    assert [stored.name for stored in storage.list()] == ["object-00"]


def test_name_says_what_it_was_made_of() -> None:
    name = Name("18e9fd616dc2872b-ca3ed9cd", 5, 4, 3, 1 << 255 | 1)
    assert Name.parse(str(name)) == name
    assert name.arrival_ns == 0x18E9FD616DC2872B
    assert len(str(name)) < 255


def test_names_of_one_client_sort_by_arrival_when_the_clock_is_set_back(
    client: Callable[[], FileIncoming], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = client()
    clock = iter([5000, 4000, 3000, 9000])
    with monkeypatch.context() as context:
        context.setattr(time, "time_ns", lambda: next(clock))
        for number in range(4):
            incoming.add(in_sacks(SACKS, [0], float(number)))
    assert values(take_all(incoming)) == [0.0, 1.0, 2.0, 3.0]


def test_new_file_in_the_clock_tick_of_the_last_look_is_seen(
    client: Callable[[], FileIncoming], tmp_path: pathlib.Path
) -> None:
    """The time stamp of a directory moves in ticks; it is the same after the second change."""
    incoming = client()
    stamp = time.time_ns()
    os.utime(group(tmp_path), ns=(stamp, stamp))
    assert not incoming.wait(0.0)
    incoming.add(in_sacks(SACKS, [1], 1.0))
    os.utime(group(tmp_path), ns=(stamp, stamp))
    assert incoming.wait(0.0)


def test_unchanged_directory_is_not_listed_again(
    client: Callable[[], FileIncoming], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = client()
    long_ago = time.time_ns() - 10 * 10**9
    os.utime(group(tmp_path), ns=(long_ago, long_ago))
    assert not incoming.wait(0.0)

    def listed(_path: object) -> list[str]:
        raise AssertionError("listed again")

    monkeypatch.setattr(os, "listdir", listed)
    assert not incoming.wait(0.0)


def test_lock_that_is_never_given_back_is_an_error_and_no_hang(
    client: Callable[[], FileIncoming], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = client()
    incoming.add(in_sacks(SACKS, [0], 1.0))
    taken = take_all(incoming)
    monkeypatch.setattr(file, "LOCK_S", 0.01)
    with (tmp_path / "incoming" / str(SACKS) / "0.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        assert values(take_all(incoming)) == [1.0]
        with pytest.raises(errors.Unavailable):
            incoming.discard(taken)
        fcntl.flock(held, fcntl.LOCK_EX)
        for call in (
            lambda: incoming.take([0], 1),
            incoming.waiting,
            incoming.backlog,
            lambda: incoming.wait(0.0),
        ):
            with pytest.raises(errors.Unavailable):
                call()
        incoming.add(in_sacks(SACKS, [0], 2.0))  # needs no lock
    incoming.discard(taken)
    assert values(take_all(incoming)) == [2.0]


def test_directory_that_was_never_made_is_a_mistake_of_the_operator(tmp_path: pathlib.Path) -> None:
    incoming = FileIncoming(SimpleNamespace(file_basepath=str(tmp_path), file_sync=False), SACKS)
    with pytest.raises(errors.Misconfigured, match="gnocchi-upgrade"):
        incoming.take([0], 1)
    with pytest.raises(errors.Misconfigured, match="gnocchi-upgrade"):
        incoming.waiting()


def test_unfinished_files_are_tidied_when_they_are_old(tmp_path: pathlib.Path) -> None:
    storage = FileStorage(SimpleNamespace(file_basepath=str(tmp_path), file_sync=False))
    storage.upgrade()
    for name, age in ("old", 100.0), ("young", 0.0):
        path = tmp_path / "tmp" / name
        path.write_bytes(b"half of it")
        os.utime(path, (time.time() - age,) * 2)
    assert storage.tidy(50.0) == 1
    assert [path.name for path in (tmp_path / "tmp").iterdir()] == ["young"]


def test_removed_segment_takes_no_space_for_long(tmp_path: pathlib.Path) -> None:
    """A process that read it has it open; another one removed it."""
    conf = SimpleNamespace(file_basepath=str(tmp_path), file_sync=False)
    storage, other = FileStorage(conf), FileStorage(conf)
    storage.upgrade()
    for name in ("object-00", "object-01"):
        storage.put(name, b"x")
    storage.read("object-00", 0, 1)
    other.delete(["object-00"])
    storage.read("object-01", 0, 1)
    opened = {os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is(fd)}
    segments = tmp_path / "segments"
    assert not any(path.startswith(f"{segments}/00/object-00") for path in opened)
    assert f"{segments}/01/object-01" in opened


def _is(fd: str) -> bool:
    return pathlib.Path("/proc/self/fd", fd).is_symlink()


def test_open_files_are_bounded(tmp_path: pathlib.Path) -> None:
    storage = FileStorage(SimpleNamespace(file_basepath=str(tmp_path), file_sync=False))
    storage.upgrade()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(300):
        storage.put(f"object-{number:03x}", b"x")
        storage.read(f"object-{number:03x}", 0, 1)
    assert len(os.listdir("/proc/self/fd")) - before <= 130
    assert storage.read("object-000", 0, 1) == b"x"

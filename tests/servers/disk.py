"""A small disk that can be filled: a file system in memory, of a limited size.

Needs to be root, in an environment where root may mount.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.servers.base import ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = bytes(1 << 20)


@dataclass
class Disk:
    """A mounted file system.

    Attributes:
        directory: its root; everybody may look into it, and only root write.
    """

    directory: pathlib.Path

    @property
    def ballast(self) -> pathlib.Path:
        """The file that takes all space."""
        return self.directory / "ballast"

    def fill(self) -> None:
        """Take all space that is left, also when some was taken before."""
        with self.ballast.open("ab", buffering=0) as ballast:
            for size in (len(PIECE), 4096):
                with contextlib.suppress(OSError):
                    while ballast.write(PIECE[:size]) == size:
                        pass

    def free(self) -> None:
        """Give it back."""
        self.ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def disk(megabytes: int) -> Iterator[Disk]:
    """Mount a file system of this size, for the length of the block.

    Raises:
        ServerError: that is not possible here.
    """
    if os.geteuid() != 0:
        raise ServerError("only root can mount file systems")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="gnocchi-disk-"))
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(directory))
        try:
            yield Disk(directory)
        finally:
            # What is still open there goes with whoever has it open.
            _run("umount", "--lazy", str(directory))
    finally:
        directory.rmdir()


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ServerError(f"not installed: {command[0]}") from error
    if done.returncode:
        raise ServerError(f"{' '.join(command)}: {done.stderr.strip()}")

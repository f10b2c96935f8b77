"""Who works on which sack: the group of the workers, and locks; through tooz, but for databases.

Invariants: nothing here waits for a lock; whoever does not get one leaves the work to its holder.
Nothing rests on a lock for being right: a lock may be lost at any time (a lease that ran out, a
server that was restarted), and then commits are fenced by the generations of the sacks. Locks
and the division of the sacks only keep two workers from doing the same work.

How sacks are divided: a worker works at once on the sacks that a consistent hash ring gives to it
first. The next workers on the ring stand by for a sack and take it over when what waits in it has
become old, so that a worker that died, or that has too much to do, holds nothing up for long.
Without groups (the coordinator offers locks only) the workers of one host divide the sacks by
their numbers, and everybody stands by for all.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import tooz
from tooz import coordination, hashring

from gnocchi import coordination_url, errors, forks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from oslo_config import cfg

LOG = logging.getLogger(__name__)

GROUP = b"gnocchi-processing"
RING_PARTITIONS = 200

#: How often a worker looks who is there, and says what it has done.
MEMBERSHIP_S = 3.0
#: Age of the oldest measures of a sack at which the workers standing by take it.
STAND_BY_S = 3.0
#: Age at which any worker takes it: not even those standing by seem to be there.
ABANDONED_S = 15.0
#: A sack in which measures wait, and whose generation has not moved for so long, is processed
#: without its lock: some servers keep the locks of a host that was cut off for hours.
STUCK_S = 60.0
#: Each lock in a database is a connection to it, and a worker of each core of each host takes some.
LOCKS_OF_A_DATABASE = 4
#: How long a request waits for the list of workers.
OBSERVER_S = 3.0


def lock_name(sack: int, sacks: int) -> bytes:
    """Return the name of a sack's lock: short, because MySQL takes 64 characters."""
    name = f"gnocchi-sack-incoming{sacks}-{sack}-lock"
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest().encode()


def member_id(worker: str) -> str:
    """Return a name for one worker process that no other process has, ever."""
    return f"{socket.gethostname()}.{worker}.{uuid.uuid4()}"


class Coordinator:
    """A connection to the coordination service. Threads may share it, processes must not.

    Every method raises `errors.Unavailable` when the service does not answer.
    """

    def __init__(self, url: str, member: str, *, encoded: bool = False) -> None:
        """Prepare a connection; `start` makes it.

        Args:
            encoded: user and password are percent-encoded; in the URLs of tooz they are not.

        Raises:
            Misconfigured: there is no such driver, or its library is not installed.
        """
        self.member = member
        self._secrets = coordination_url.secrets(url)
        self.has_groups = True
        self._published: Mapping[str, Any] | None = None
        try:
            self._driver = coordination_url.driver(url, member.encode(), encoded)
        except coordination.ToozConnectionError as error:
            raise errors.Unavailable(f"Coordination: {self._told(error)}") from None
        except ValueError:  # its text would show what follows a colon, which may be a password
            raise errors.Misconfigured(
                "coordination_url cannot be read; special characters in the password must be "
                "percent-encoded, or not be used"
            ) from None
        except (tooz.ToozError, ImportError, RuntimeError) as error:
            scheme = urlsplit(url).scheme
            raise errors.Misconfigured(
                f"coordination_url: no usable driver for '{scheme}://': {self._told(error)}"
            ) from None

    def _told(self, error: BaseException) -> str:
        """What to say of an error, without secrets."""
        text = str(error) or type(error).__name__
        if text.startswith("No master found"):  # and then how the sentinels are connected to
            return "no sentinel answers that knows such a master"
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Let calls of tooz raise nothing but `errors.Unavailable` and `NotImplementedError`.

        Its drivers let out whatever the libraries behind them raise, each of them something else.
        """
        try:
            yield
        except NotImplementedError:
            raise
        except Exception as error:
            # Not chained: what a library says of itself may be anything.
            raise errors.Unavailable(f"Coordination: {self._told(error)}") from None

    def start(self) -> None:
        """Connect, and keep memberships and locks alive from now on."""
        with self._translated():
            self._driver.start(start_heart=self._driver.requires_beating)

    def stop(self) -> None:
        """Leave the group and disconnect."""
        with self._translated():
            self._driver.stop()

    # ---------------------------------------------------------------- the group

    def join(self) -> None:
        """Become a member of the group of workers; note when there are no groups."""
        with self._translated():
            try:
                self._driver.join_group_create(GROUP, {})
            except coordination.MemberAlreadyExist:
                LOG.debug("%s is a member already", self.member)
            except NotImplementedError:
                self.has_groups = False

    def members(self) -> dict[str, dict[str, Any]] | None:
        """Map every worker to its statistics; None when the coordinator has no groups."""
        with self._translated():
            try:
                names = self._driver.get_members(GROUP).get()
                return {_text(name): self._statistics(name) for name in names}
            except coordination.GroupNotCreated:
                return {}
            except NotImplementedError:
                self.has_groups = False
                return None

    def names(self) -> set[str] | None:
        """Return the names of all workers; None when the coordinator has no groups."""
        with self._translated():
            try:
                return {_text(name) for name in self._driver.get_members(GROUP).get()}
            except coordination.GroupNotCreated:
                return set()
            except NotImplementedError:
                self.has_groups = False
                return None

    def _statistics(self, name: bytes) -> dict[str, Any]:
        try:
            found = self._driver.get_member_capabilities(GROUP, name).get()
        except coordination.MemberNotJoined:
            return {}
        return dict(found) if isinstance(found, dict) else {}

    def publish(self, statistics: Mapping[str, Any]) -> None:
        """Let others see what this worker has done since its start."""
        if not self.has_groups or statistics == self._published:
            return
        with self._translated():
            try:
                self._driver.update_capabilities(GROUP, dict(statistics)).get()
            except NotImplementedError:
                # The file driver writes capabilities only on joining. In between, others may take
                # this worker for gone; that costs them a look at its sacks, whose locks it holds.
                with contextlib.suppress(coordination.MemberNotJoined):
                    self._driver.leave_group(GROUP).get()
                self._driver.join_group(GROUP, dict(statistics)).get()
            except coordination.MemberNotJoined:
                self._driver.join_group_create(GROUP, dict(statistics))
        self._published = dict(statistics)

    # ---------------------------------------------------------------- locks

    @contextlib.contextmanager
    def lock(self, name: str | bytes) -> Iterator[bool]:
        """Try to take a lock without waiting; yield whether it was free."""
        lock = self._driver.get_lock(name if isinstance(name, bytes) else name.encode())
        with self._translated():
            taken = lock.acquire(blocking=False)
        try:
            yield taken
        finally:
            if taken:
                # A lease that has run out meanwhile is no error: see the module's docstring.
                try:
                    lock.release()
                except Exception as error:
                    LOG.warning("Lock %r was lost before its release: %s", name, self._told(error))

    @contextlib.contextmanager
    def sacks(self, wanted: Iterable[int], sacks: int) -> Iterator[list[int]]:
        """Take the locks of as many of the wanted sacks as are free; yield those.

        Without groups there are databases behind, and no more than `LOCKS_OF_A_DATABASE` are
        taken at once.
        """
        most = sacks if self.has_groups else LOCKS_OF_A_DATABASE
        mine: list[int] = []
        with contextlib.ExitStack() as held:
            for sack in wanted:
                if held.enter_context(self.lock(lock_name(sack, sacks))):
                    mine.append(sack)
                    if len(mine) == most:
                        break
            yield mine


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def connect(conf: cfg.ConfigOpts, worker: str) -> Coordinator:
    """Return a started coordinator for one process, a member of no group.

    Raises:
        Misconfigured, Unavailable: as `Coordinator`.
    """
    where = coordination_url.url(conf)
    if where.startswith("file://"):
        try:
            os.makedirs(urlsplit(where).path, mode=0o750, exist_ok=True)
        except OSError as error:
            raise errors.Misconfigured(f"coordination_url: {error}") from error
    coordinator = Coordinator(where, member_id(worker), encoded=not conf.coordination_url)
    coordinator.start()
    return coordinator


class Observer:
    """Tells who processes, without being a member; connects when it is first asked.

    Some libraries take a minute to find that a server does not answer. So a thread asks, for all
    who want to know at the time; they wait no longer than `OBSERVER_S`, and than requests do.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._coordinator: Coordinator | None = None
        self._renew()
        forks.in_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, "observer")
        self._asked: Future[dict[str, dict[str, Any]] | None] | None = None

    def members(self) -> dict[str, dict[str, Any]] | None:
        """As `Coordinator.members`; None also without a usable coordinator."""
        with self._lock:
            if self._asked is None or self._asked.done():
                self._asked = self._thread.submit(self._ask)
            asked = self._asked
        try:
            return asked.result(min(OBSERVER_S, max(1, self._conf.api.operation_timeout)))
        except TimeoutError:
            raise errors.Unavailable("Coordination: the server does not answer") from None

    def _ask(self) -> dict[str, dict[str, Any]] | None:
        try:
            if self._coordinator is None:
                self._coordinator = connect(self._conf, "observer")
            return self._coordinator.members()
        except errors.Misconfigured as error:
            # metricd refuses to start with it; answering requests does not need it.
            LOG.warning("%s", error)
            return None


# ------------------------------------------------------------------ dividing the sacks


@dataclass(frozen=True, slots=True)
class Share:
    """The sacks a worker processes at once, and those it stands by for."""

    first: frozenset[int]
    stand_by: frozenset[int]

    def due(self, ages: Mapping[int, float]) -> list[int]:
        """Pick what to do from the sacks with backlog.

        Args:
            ages: by sack, how many seconds its oldest measures have been waiting.
        """
        return sorted(
            sack
            for sack, age_s in ages.items()
            if sack in self.first
            or (age_s >= STAND_BY_S and sack in self.stand_by)
            or age_s >= ABANDONED_S
        )


class Stuck:
    """Finds sacks whose lock is held by somebody who does not work.

    Processing them without the lock is as safe as with it, only that work may be done twice.
    """

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, float]] = {}

    def among(self, locked: Iterable[int], generations: Mapping[int, int]) -> list[int]:
        """Pick from the sacks that wait and cannot be locked now.

        Args:
            locked: all of them; others are forgotten.
            generations: of all sacks, at this moment.
        """
        now = time.monotonic()
        before, self._seen = self._seen, {}
        stuck = []
        for sack in locked:
            generation = generations.get(sack, -1)
            known, since = before.get(sack, (None, now))
            self._seen[sack] = (generation, since if known == generation else now)
            if known == generation and now - since >= STUCK_S:
                stuck.append(sack)
        return sorted(stuck)


def share_by_ring(member: str, members: Iterable[str], sacks: int, replicas: int) -> Share:
    """Return the share of one member of a group; all sacks when it knows of no members."""
    everything = frozenset(range(sacks))
    nodes = {name.encode() for name in members}
    if not nodes:
        return Share(everything, everything)
    ring = hashring.HashRing(nodes, partitions=RING_PARTITIONS)
    keys = {sack: f"incoming{sacks}-{sack}".encode() for sack in everything}
    me = member.encode()
    return Share(
        frozenset(sack for sack in everything if me in ring.get_nodes(keys[sack])),
        frozenset(s for s in everything if me in ring.get_nodes(keys[s], replicas=replicas)),
    )


def share_by_number(index: int, workers: int, sacks: int) -> Share:
    """Return the share of the worker ``index`` of this host when there are no groups."""
    return Share(
        frozenset(sack for sack in range(sacks) if sack % workers == index % workers),
        frozenset(range(sacks)),
    )


class Membership:
    """The share of one worker, kept up to date with the group."""

    def __init__(
        self, coordinator: Coordinator, *, index: int, workers: int, sacks: int, replicas: int
    ) -> None:
        self._coordinator = coordinator
        self._sacks = sacks
        self._replicas = replicas
        self._names: set[str] | None = None
        self._looked_at = float("-inf")
        self.share = share_by_number(index, workers, sacks)

    def refresh(self, statistics: Mapping[str, Any]) -> Share:
        """Look who is there and publish statistics, when the last time is long enough ago.

        A coordinator that does not answer is reported, and changes nothing.
        """
        now = time.monotonic()
        if now - self._looked_at < MEMBERSHIP_S or not self._coordinator.has_groups:
            return self.share
        self._looked_at = now
        me = self._coordinator.member
        try:
            self._coordinator.publish(statistics)
            names = self._coordinator.names()
            if names is not None and me not in names:
                # The group was forgotten, or took this worker for dead.
                self._coordinator.join()
                names.add(me)
        except errors.Unavailable as error:
            LOG.warning("The group of workers is not known: %s", error)
            return self.share
        if names is not None and names != self._names:
            self._names = names
            self.share = share_by_ring(me, names, self._sacks, self._replicas)
            LOG.info(
                "%d processing workers; %d of %d sacks are mine",
                len(names),
                len(self.share.first),
                self._sacks,
            )
        return self.share

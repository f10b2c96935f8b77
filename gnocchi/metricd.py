"""The daemon that turns accepted measures into aggregates and keeps the stores tidy.

A master process starts three kinds of children and starts them again when they die:

* processing workers take what waits in their sacks through `gnocchi.engine.process`;
* the janitor merges segments and removes what is no longer needed;
* the reporting worker writes the size of the backlog to the log.

Invariants: a child may be killed at any moment, since the engine's steps are safe to repeat. Told
to stop, it finishes the job at hand, within ``graceful_shutdown_timeout``. A job that fails is
reported and tried again later, with growing pauses; it never ends the child.
"""

from __future__ import annotations

import abc
import logging
import multiprocessing
import threading
import time
from typing import TYPE_CHECKING, ClassVar

import cotyledon

from gnocchi import coordination, errors, service, startup
from gnocchi.engine import compact, division, janitor, process, status
from gnocchi.indexer import catalog

if TYPE_CHECKING:
    from gnocchi.config import Configuration
    from gnocchi.service import Services

LOG = logging.getLogger(__name__)

#: Rounds begin no more often than this, so that single points arriving one after the other share
#: rounds instead of costing one each.
PACE_S = 0.5
#: How long to wait for something to do before looking again, where nobody else stands by.
LOOK_S = 2.0
#: How often the janitor looks whether segments can be merged.
COMPACTION_S = 2.0
LONGEST_PAUSE_S = 30.0
#: A job begins no further round after this time: a worker with a backlog looks up in between, for
#: orders to stop and for others that have come to share the work.
LONGEST_JOB_S = 5.0
#: Read cache of a child: rounds and merges read nearly everything once.
CACHE_BYTES = 8 << 20


class Child(cotyledon.Service, abc.ABC):
    """A process that does its job again and again until it is told to stop."""

    name: ClassVar[str | None] = None

    def __init__(self, worker_id: int, conf: Configuration) -> None:
        super().__init__(cotyledon.types.WorkerId(worker_id))
        self.conf = conf
        self.index = worker_id
        self.stop = threading.Event()
        self._working = threading.Lock()
        self._failures = 0

    def run(self) -> None:
        """Connect, then repeat the job. Runs in a thread; signals arrive in the main one."""
        try:
            startup.until_available(self.connect, stop=self.stop)
        except errors.Unavailable:
            return  # told to stop while waiting for a server
        except errors.Misconfigured as error:
            # It was not so when the master started. The master starts this child again.
            LOG.error("%s", error)
            self.stop.wait(LONGEST_PAUSE_S)
            raise SystemExit(1) from error
        while not self.stop.is_set():
            started = time.monotonic()
            with self._working:
                if not self.stop.is_set():
                    self._attempt()
            if self._failures:
                self.stop.wait(min(LONGEST_PAUSE_S, 0.5 * 2 ** min(self._failures, 10)))
            else:
                self.pause(started)

    def _attempt(self) -> None:
        try:
            self.job()
        except (errors.Unavailable, errors.Misconfigured) as error:
            self._failures += 1
            LOG.error("%s", error)
        except Exception:
            # The edge of the process: whatever it was, the next attempt may succeed.
            self._failures += 1
            LOG.exception("%s failed", self.name)
        else:
            self._failures = 0

    def terminate(self) -> None:
        """Wait for the job at hand; cotyledon ends the process after this returns."""
        self.stop.set()
        with self._working:
            self.close()

    def connect(self) -> None:
        """Connect to what the job needs."""
        self.services: Services = service.connect(self.conf, CACHE_BYTES)

    @abc.abstractmethod
    def job(self) -> None:
        """Do the work once."""

    @abc.abstractmethod
    def pause(self, started: float) -> None:
        """Wait until it is time for the job again, or until told to stop."""

    def close(self) -> None:
        """Disconnect."""


class Processing(Child):
    """Processes the sacks of its share, and those others leave waiting."""

    name = "processing"

    def __init__(self, worker_id: int, conf: Configuration) -> None:
        super().__init__(worker_id, conf)
        self._coordinator: coordination.Coordinator | None = None

    def connect(self) -> None:
        super().connect()
        coordinator = coordination.connect(self.conf, str(self.index))
        coordinator.join()
        self._coordinator = coordinator
        self._divide()

    def _divide(self) -> None:
        """Begin anew with the sacks there are."""
        assert self._coordinator is not None
        metricd = self.conf.metricd
        self.worker = process.Worker(self.services)
        self.stuck = coordination.Stuck()
        self.membership = coordination.Membership(
            self._coordinator,
            index=self.index,
            workers=metricd.workers,
            sacks=self.services.sacks,
            replicas=metricd.processing_replicas,
        )

    def job(self) -> None:
        assert self._coordinator is not None
        if self.services.follow(catalog.state(self.services.db).sacks):
            self._divide()
        share = self.membership.refresh(self.worker.statistics)
        due = share.due(self.services.incoming.waiting())
        if not due:
            return
        with self._coordinator.sacks(due, self.services.sacks) as mine:
            mine += self._stuck(set(due).difference(mine))
            if mine:
                try:
                    self.worker.work(mine, time.monotonic() + LONGEST_JOB_S)
                    startup.return_memory()
                except errors.StaleGeneration as error:
                    # A refresh, or a worker that lost its locks: what it left is done next time.
                    LOG.debug("%s", error)

    def _stuck(self, locked: set[int]) -> list[int]:
        generations = catalog.sacks(self.services.db) if locked else {}
        stuck = self.stuck.among(locked, generations)
        if stuck:
            LOG.warning("Processing sacks %s without their locks, which nobody gives back", stuck)
        return stuck

    def pause(self, started: float) -> None:
        metricd = self.conf.metricd
        if not metricd.greedy:
            delay_s = max(PACE_S, metricd.metric_processing_delay)
            self.stop.wait(max(0.0, started + delay_s - time.monotonic()))
            return
        self.stop.wait(max(0.0, started + PACE_S - time.monotonic()))
        if not self.stop.is_set():
            try:
                self.services.incoming.wait(
                    self.services.incoming.look_s, self.membership.share.first
                )
            except errors.Unavailable:
                self.stop.wait(LOOK_S)  # the job will meet it too, and report it

    def close(self) -> None:
        if self._coordinator is not None:
            try:
                self._coordinator.stop()
            except errors.Unavailable as error:
                LOG.warning("Left without saying so: %s", error)


class Janitor(Child):
    """Merges segments as they come, and cleans up every ``metric_cleanup_delay``."""

    name = "janitor"

    def __init__(self, worker_id: int, conf: Configuration) -> None:
        super().__init__(worker_id, conf)
        self._cleaned = float("-inf")

    def connect(self) -> None:
        super().connect()
        self._coordinator = coordination.connect(self.conf, f"janitor{self.index}")

    def job(self) -> None:
        self.services.follow(catalog.state(self.services.db).sacks)
        division.move_stragglers(self.services)
        # First, so that merges that fail, on a full disk for instance, do not keep it from making
        # room.
        if time.monotonic() - self._cleaned >= self.conf.metricd.metric_cleanup_delay:
            janitor.run_once(self.services)
            self._cleaned = time.monotonic()
        while compact.run_once(self.services, self._coordinator.lock) and not self.stop.is_set():
            startup.return_memory()

    def pause(self, started: float) -> None:
        self.stop.wait(COMPACTION_S)


class Reporting(Child):
    """Logs how much waits to be processed."""

    name = "reporting"

    def job(self) -> None:
        metrics, measures = status.backlog(self.services)
        LOG.info("%d measurement bundles across %d metrics wait to be processed", measures, metrics)

    def pause(self, started: float) -> None:
        self.stop.wait(self.conf.metricd.metric_reporting_delay)


class Manager(cotyledon.ServiceManager):
    """The master process."""

    def __init__(self, conf: Configuration) -> None:
        # Children share the memory of the libraries loaded so far, hence fork.
        super().__init__(
            graceful_shutdown_timeout=conf.graceful_shutdown_timeout,
            mp_context=multiprocessing.get_context("fork"),
        )
        self._conf = conf
        self._processing = self.add(Processing, workers=conf.metricd.workers, args=(conf,))
        if conf.metricd.metric_reporting_delay >= 0:
            self.add(Reporting, args=(conf,))
        self.add(Janitor, args=(conf,))
        self.register_hooks(on_reload=self._read_again)

    def _read_again(self) -> None:
        """Read the configuration anew on SIGHUP; the children are started again afterwards."""
        if self._conf.reload_config_files():
            self.reconfigure(self._processing, self._conf.metricd.workers)
        else:
            LOG.error("The configuration cannot be read; what was read before stays in force")


def check(conf: Configuration) -> None:
    """Make sure that children will be able to work; wait for servers that do not answer.

    Raises:
        Misconfigured: something must be changed first.
    """

    startup.check(conf)
    startup.until_available(lambda: coordination.connect(conf, "check").stop())


def process_here(conf: Configuration, metrics: int) -> None:
    """Process in this process, without children, until so many metrics were done."""
    services = startup.until_available(lambda: service.connect(conf))
    worker = process.Worker(services)
    coordinator = coordination.connect(conf, "foreground")
    try:
        done = 0
        while done < metrics:
            waiting = sorted(services.incoming.waiting())
            with coordinator.sacks(waiting, services.sacks) as mine:
                done += worker.work(mine) if mine else 0
            if done < metrics:
                services.incoming.wait(LOOK_S)
    finally:
        coordinator.stop()
    LOG.info("%d metrics were processed", done)

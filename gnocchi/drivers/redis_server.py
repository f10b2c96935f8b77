"""Connections to Redis: one server, the master that sentinels know, or a cluster.

Invariants: nothing is connected before the first call, and each process has connections of its
own; calls are safe for threads. A call ends within a small multiple of the time-out. What does not
work raises Unavailable with one line and without secrets, and the next call finds the server again
wherever it is by then.

A connection that turns out to be dead is replaced once and the command sent again: everything the
drivers send is safe to repeat. A server that takes too long is not asked again, unless
``retry_on_timeout`` says so.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from gnocchi import errors
from gnocchi.drivers.redis_url import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG = logging.getLogger(__name__)

OLDEST_VERSION = 5  # the first that has streams

_FAILURES = (
    exceptions.RedisError,
    exceptions.RedisClusterException,
    exceptions.ChildDeadlockedError,
    OSError,
)
#: What a node of a cluster answers when it is not, or not yet, the right one.
_REDIRECTIONS = (exceptions.AskError, exceptions.TryAgainError)

Argument = bytes | memoryview | str | int
#: Keys and arguments of a script, for one part of the data.
Part = tuple[Sequence[str], Sequence[Argument]]


def _run_together(client: Any, commands: Sequence[Sequence[Argument]]) -> list[Any]:
    """The answers of one server; some of them may be exceptions."""
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    return answers


def _run_by_node(client: Any, commands: Sequence[Sequence[Argument]]) -> list[Any]:
    """The answers of a cluster.

    The library's own pipeline would go on with every single command after a node has failed, and
    wait for each.
    """
    shares: dict[Any, list[int]] = {}
    for number, command in enumerate(commands):
        key = command[3] if command[0] == "EVAL" else command[1]
        shares.setdefault(client.get_node_from_key(key), []).append(number)
    answers: list[Any] = [None] * len(commands)
    for node, numbers in shares.items():
        connection = client.get_redis_connection(node)
        found = _run_together(connection, [commands[number] for number in numbers])
        for number, answer in zip(numbers, found, strict=True):
            if isinstance(answer, _REDIRECTIONS):
                answers[number] = client.execute_command(*commands[number])
            else:
                answers[number] = answer
    return _successful(answers)


def _successful(answers: list[Any]) -> list[Any]:
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _is_mistake(error: BaseException) -> bool:
    """Whether the server was reached and the URL does not suit it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, exceptions.AuthenticationError):
            return True
        if "Cluster mode is not enabled" in str(cause):
            return True
        cause = cause.__cause__
    return False


class Server:
    """Sends commands and scripts.

    Args:
        url: as of the option ``redis_url``.

    Raises:
        Misconfigured: the URL cannot be used.
    """

    def __init__(self, url: str) -> None:
        self.target = parse(url)
        self._clients: dict[int, Any] = {}  # by process
        self._moved = False  # the cluster's nodes have to be looked up again

    def give_up_after(self, seconds: float) -> None:
        """Bound each call of the connections that are made from now on."""
        self.target = self.target.within(seconds)

    @property
    def cluster(self) -> bool:
        """Whether keys of different slots need different commands."""
        return self.target.cluster

    # ---------------------------------------------------------------- calls

    def run(self, what: str, *command: Argument) -> Any:
        """Send one command and return its answer.

        Args:
            what: what is being done, for the error: "Unable to ...".
        """
        if self.cluster:
            return self.run_all(what, [command])[0]
        with self._client(what) as client:
            return client.execute_command(*command)

    def run_all(self, what: str, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send commands together and return their answers.

        In a cluster the first argument after the name of a command is a key, or it is EVAL; one
        node is asked after the other.

        Raises:
            Unavailable: one of them failed; others may have taken effect.
        """
        if not commands:
            return []
        with self._client(what) as client:
            if self.cluster:
                return _run_by_node(client, commands)
            return _successful(_run_together(client, commands))

    def each(
        self,
        what: str,
        script: str,
        parts: Sequence[Part],
    ) -> list[Any]:
        """Run a script on several parts of the data and return one answer for each.

        The keys of a part are in one slot of a cluster. A script gets the keys of one or more
        parts, one part after the other, and likewise their arguments; it returns as many answers.
        Other than in a cluster it runs once, on all parts, and nothing comes in between.

        Scripts are sent as text: it is less than what they are about, and the server may have
        forgotten them at any time.
        """
        if not parts:
            return []
        if not self.cluster:
            keys = [key for listed, _ in parts for key in listed]
            arguments = [argument for _, listed in parts for argument in listed]
            answer: list[Any] = self.run(what, "EVAL", script, len(keys), *keys, *arguments)
            return answer
        commands = [["EVAL", script, len(keys), *keys, *args] for keys, args in parts]
        return [one for answer in self.run_all(what, commands) for one in answer]

    @contextlib.contextmanager
    def subscribed(self, what: str, channel: str) -> Iterator[Any]:
        """Listen to a channel; the subscription is in force when the block begins."""
        with self._client(what) as client, contextlib.closing(client.pubsub()) as listener:
            listener.subscribe(channel)
            if listener.get_message(timeout=self.target.timeout_s) is None:
                raise exceptions.TimeoutError("Timeout subscribing to a channel")
            yield listener

    def disconnect(self) -> None:
        """Close this process's connections; the next call makes new ones."""
        client = self._clients.pop(os.getpid(), None)
        if client is not None:
            client.close()

    # ---------------------------------------------------------------- connections

    @contextlib.contextmanager
    def _client(self, what: str) -> Iterator[Any]:
        try:
            yield self._connected()
        except exceptions.MovedError as e:
            if self.cluster:
                self._recover(e)
                raise self._unavailable(what, e) from e
            raise errors.Misconfigured(
                f"{what}: {self.target.label} is a node of a cluster: add cluster=true to redis_url"
            ) from e
        except _FAILURES as e:
            self._recover(e)
            raise self._unavailable(what, e) from e

    def _connected(self) -> Any:
        client = self._clients.get(os.getpid())
        if client is None:
            made = self._connect()
            client = self._clients.setdefault(os.getpid(), made)
            if client is not made:  # another thread was first
                made.close()
        if self._moved:
            client.nodes_manager.initialize()
            self._moved = False
        return client

    def _recover(self, error: Exception) -> None:
        """See to it that the next call looks for the server again."""
        if self.cluster:
            self._moved = True
        elif "READONLY" in str(error) or isinstance(error, exceptions.ReadOnlyError):
            # Connected to what was the master: by address it may be another one now. Other threads
            # may be using the client, so it is left to them and not closed.
            self._clients.pop(os.getpid(), None)

    def _connect(self) -> Any:
        target = self.target
        retried: list[type[Exception]] = [exceptions.ConnectionError]
        if target.retry_on_timeout:
            retried.append(exceptions.TimeoutError)
        common: dict[str, Any] = {
            "protocol": 2,  # the drivers read answers as this version gives them
            "socket_timeout": target.timeout_s,
            "socket_connect_timeout": target.timeout_s,
        }
        once = Retry(NoBackoff(), 1, tuple(retried))
        if target.cluster:
            settings = {key: value for key, value in target.connection.items() if key != "db"}
            node = ClusterNode(target.host, target.port)  # type: ignore[no-untyped-call]
            return RedisCluster(
                startup_nodes=[node],
                retry=once,
                **common,
                **settings,
            )
        if target.sentinel is not None:
            return self._master(common, once)
        place: dict[str, Any] = {"host": target.host, "port": target.port}
        if target.path is not None:
            place = {"unix_socket_path": target.path}
        return redis.Redis(**place, retry=once, **common, **target.connection)

    def _master(self, common: dict[str, Any], once: Retry) -> Any:
        target = self.target
        # together they may take as long as the server itself
        share_s = target.timeout_s / len(target.sentinels)
        sentinel = Sentinel(  # type: ignore[no-untyped-call]
            target.sentinels,
            sentinel_kwargs={
                **common,
                **target.sentinel_connection,
                "socket_timeout": share_s,
                "socket_connect_timeout": share_s,
                "retry": Retry(NoBackoff(), 0),
            },
            retry=once,
            **common,
            **target.connection,
        )
        return sentinel.master_for(target.sentinel)  # type: ignore[no-untyped-call]

    # ---------------------------------------------------------------- errors

    def _unavailable(self, what: str, error: Exception) -> errors.Unavailable:
        return errors.Unavailable(f"{what}: {self.target.label}: {self._reason(error)}")

    def _reason(self, error: Exception) -> str:
        if isinstance(error, MasterNotFoundError):
            # its text describes the connections to the sentinels
            return "no sentinel answers that knows such a master"
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "unauthenticated" in reason:  # said of longer commands
            return "NOAUTH Authentication required."
        code = getattr(error, "status_code", None)
        if code and code != "ERR":
            reason = f"{code} {reason}"
        for secret in self.target.secrets:
            reason = reason.replace(secret, "***")
        return reason[:300]

    # ---------------------------------------------------------------- what kind of server it is

    def check(self, kept: str) -> None:
        """Make sure that the server can be used, and warn when it may lose data.

        Args:
            kept: what is stored there, for the warnings.

        Raises:
            Misconfigured: credentials are wrong, or the server is too old, or in a cluster.
        """
        what = "Unable to look at the server"
        try:
            with self._client(what) as client:
                client.ping()
        except errors.Unavailable as e:
            if _is_mistake(e):
                raise errors.Misconfigured(f"redis_url: {e}") from e
            raise
        try:
            with self._client(what) as client:
                info = client.info()
        except errors.Unavailable as e:
            if not isinstance(e.__cause__, exceptions.ResponseError):
                raise
            LOG.info("%s does not tell how it is configured", self.target.label)
            return
        self._judge(info, kept)

    def _judge(self, info: dict[str, Any], kept: str) -> None:
        label = self.target.label
        version = str(info.get("redis_version", OLDEST_VERSION))
        if int(version.partition(".")[0]) < OLDEST_VERSION:
            raise errors.Misconfigured(
                f"{label} is of version {version}: at least {OLDEST_VERSION} is needed"
            )
        if info.get("cluster_enabled") and not self.cluster:
            raise errors.Misconfigured(
                f"{label} is a node of a cluster: add cluster=true to redis_url"
            )
        # Policies that begin with "volatile" remove what has a time to live, which nothing here has
        policy = str(info.get("maxmemory_policy", ""))
        if policy.startswith("allkeys"):
            LOG.warning(
                "%s removes %s when its memory is full: set maxmemory-policy to noeviction instead "
                "of %s",
                label, kept, policy,
            )  # fmt: skip
        if info.get("aof_enabled") == 0:
            LOG.warning(
                "%s %s: %s written since are lost when it ends. Set appendonly to yes",
                label, self._snapshots(), kept,
            )  # fmt: skip

    def _snapshots(self) -> str:
        with contextlib.suppress(errors.Unavailable), self._client("") as client:
            answer = client.execute_command("CONFIG GET", "save")
            if isinstance(answer, dict) and not next(iter(answer.values())):
                return "keeps nothing on disk"
        return "keeps no more than snapshots on disk"

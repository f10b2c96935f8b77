"""What the interfaces do, as dicts beside which a driver runs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule

from gnocchi.storage import NoSuchObject
from tests.conformance.points import entries, metric_in, points, values

if TYPE_CHECKING:
    from gnocchi.incoming import Taken
    from gnocchi.storage import Storage
    from tests.conformance import storage as stores
    from tests.conformance import waiting as queues

SACKS = 4
EVERYTHING = 1 << 62  # more points than there can be
SETTINGS = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def names(storage: Storage) -> list[str]:
    """Everything that is listed, sorted."""
    return sorted(stored.name for stored in storage.list())


class Objects(RuleBasedStateMachine):
    """A storage beside a dict. Names are used once, as the interface demands."""

    def __init__(self, place: stores.Place) -> None:
        super().__init__()
        self.clients = [place.open(), place.open()]
        self.clients[0].upgrade()
        self.expected: dict[str, bytes] = {}
        self.used = 0

    clients_ = st.integers(0, 1)

    @rule(client=clients_, data=st.binary(max_size=40))
    def put(self, client: int, data: bytes) -> None:
        name = f"object-{self.used:02x}"
        self.used += 1
        self.clients[client].put(name, data)
        self.expected[name] = data

    @rule(client=clients_, number=st.integers(0, 9), at=st.integers(0, 50), n=st.integers(0, 50))
    def read(self, client: int, number: int, at: int, n: int) -> None:
        name = f"object-{number:02x}"
        if name in self.expected:
            found = self.clients[client].read(name, at, n)
            assert found == self.expected[name][at : at + n]
            return
        with pytest.raises(NoSuchObject):
            self.clients[client].read(name, at, n)

    @rule(numbers=st.sets(st.integers(0, 9), max_size=3))
    def delete(self, numbers: set[int]) -> None:
        """By both clients, so that neither has a reason to know more than the other."""
        gone = [f"object-{number:02x}" for number in numbers]
        for client in self.clients:
            client.delete(gone)
        for name in gone:
            self.expected.pop(name, None)

    @rule(client=clients_)
    def list_(self, client: int) -> None:
        assert names(self.clients[client]) == sorted(self.expected)


sacks_ = st.sets(st.integers(0, SACKS - 1), min_size=1).map(sorted)
clients_ = st.integers(0, 1)


class Queue(RuleBasedStateMachine):
    """A queue beside a dict of sack to shares, each the values of one add."""

    taken = Bundle("taken")

    def __init__(self, place: queues.Place) -> None:
        super().__init__()
        self.place = place
        self.clients = [place.open(), place.open()]
        self.clients[0].upgrade()
        self.expected: dict[int, list[list[float]]] = {sack: [] for sack in range(SACKS)}
        self.last = 0.0

    @rule(client=clients_, sacks=sacks_, count=st.integers(1, 4))
    def add(self, client: int, sacks: list[int], count: int) -> None:
        listed = []
        for sack in sacks:
            share = [self.last + 1 + number for number in range(count)]
            self.last += count
            listed.append((metric_in(sack, SACKS), share))
            self.expected[sack].append(share)
        self.clients[client].add(points(*listed))

    @rule(target=taken, client=clients_, sacks=sacks_, bound=st.integers(1, 12))
    def take(self, client: int, sacks: list[int], bound: int) -> Taken:
        taken = self.clients[client].take(sacks, bound)
        assert not taken.damaged
        found: dict[int, list[float]] = {sack: [] for sack in sacks}
        for raw, listed in entries(taken):
            found[raw[0] >> 6].extend(listed)
        whole = True
        for sack, listed in found.items():
            expected = self.expected[sack]
            prefixes = [
                list(itertools.chain(*expected[:count])) for count in range(len(expected) + 1)
            ]
            assert listed in prefixes, "not the oldest shares of the sack"
            whole = whole and listed == prefixes[-1]
        assert taken.more != whole
        assert whole or len(taken.points) >= bound
        assert bool(taken.receipt) == any(found.values())
        return taken

    @rule(client=clients_, sacks=sacks_)
    def discard(self, client: int, sacks: list[int]) -> None:
        taken = self.clients[client].take(sacks, 10)
        self.clients[client].discard(taken)
        self._forget(taken)

    @rule(client=clients_, taken=consumes(taken))
    def discard_late(self, client: int, taken: Taken) -> None:
        self.clients[client].discard(taken)
        self._forget(taken)

    @rule(client=clients_, taken=taken)
    def discard_what_will_be_discarded_again(self, client: int, taken: Taken) -> None:
        self.clients[client].discard(taken)
        self._forget(taken)

    def _forget(self, taken: Taken) -> None:
        gone = set(values(taken))
        for sack, shares in self.expected.items():
            self.expected[sack] = [share for share in shares if not gone.issuperset(share)]

    @rule(client=clients_)
    def client_is_restarted(self, client: int) -> None:
        self.clients[client] = self.place.open()

    @rule(client=clients_)
    def look(self, client: int) -> None:
        incoming = self.clients[client]
        busy = {sack for sack, shares in self.expected.items() if shares}
        assert incoming.waiting().keys() == busy
        for sack in range(SACKS):
            assert incoming.wait(0.0, [sack]) == (sack in busy)
        items = sum(len(shares) for shares in self.expected.values())
        count = sum(len(share) for shares in self.expected.values() for share in shares)
        backlog = incoming.backlog(details=True)
        assert backlog[:3] == (items, count, len(busy))
        assert backlog.per_metric == {
            metric_in(sack, SACKS): len(self.expected[sack]) for sack in busy
        }
        assert incoming.backlog()[:2] == (items, count)

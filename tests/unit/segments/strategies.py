"""Values, ids and blocks that reach the corners of the formats."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import strategies as st

from gnocchi.segments.batch import ID
from gnocchi.segments.segment import Block
from gnocchi.series.points import ABSENT, ABSENT_BITS

NAN_WITH_PAYLOAD = 0x7FF8_0000_DEAD_BEEF
SIGNALLING_NAN = 0x7FF0_0000_0000_0001
NEGATIVE_NAN = -0x0008_0000_0000_0000

#: float64 values as their int64 bits, so that every NaN is itself.
bits = st.one_of(
    st.sampled_from(
        [
            NAN_WITH_PAYLOAD,
            SIGNALLING_NAN,
            NEGATIVE_NAN,
            ABSENT_BITS + 1,
            *np.array([0.0, -0.0, 1.0, np.inf, -np.inf, 5e-324]).view(np.int64).tolist(),
        ]
    ),
    st.floats(width=64).map(lambda value: struct.unpack("<q", struct.pack("<d", value))[0]),
    st.integers(-(2**63), 2**63 - 1).filter(lambda value: value != ABSENT_BITS),
)
timestamps = st.one_of(
    st.sampled_from([0, 1, 2**63 - 1, 2**63 - 2, -(2**63) + 1, -1]),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.integers(0, 20).map(lambda number: 1_700_000_000_000_000_000 + number * 60_000_000_000),
)
raw_ids = st.one_of(
    st.integers(0, 7).map(lambda number: number.to_bytes(16, "big")),
    st.sampled_from([b"\xff" * 16, bytes(16), b"\x80" + bytes(15)]),
    st.binary(min_size=16, max_size=16),
)


def as_ids(raw: list[bytes]) -> np.ndarray:
    """``(m,)`` V16 array of raw ids."""
    return np.frombuffer(b"".join(raw), ID)


@st.composite
def blocks(draw: st.DrawFn, granularity: int, names: tuple[str, ...], most: int = 24) -> Block:
    """A block of 1 to ``most`` rows with some of the columns.

    As in the rows of a round, differences are absent together and deviations on their own.
    """
    keys = draw(
        st.lists(st.tuples(raw_ids, timestamps), min_size=1, max_size=most, unique=True).map(sorted)
    )
    ids = sorted({raw for raw, _ in keys})
    number = {raw: position for position, raw in enumerate(ids)}
    present = draw(st.sets(st.sampled_from(names), min_size=1))
    columns = {}
    for name in sorted(present):
        column = draw(st.lists(bits, min_size=len(keys), max_size=len(keys)))
        same = draw(st.booleans())  # as the columns before it, mostly
        if same and columns:
            other = next(iter(columns.values())).view(np.int64).tolist()
            column = [
                o if draw(st.integers(0, 3)) else c for o, c in zip(other, column, strict=True)
            ]
        if name in ("std", "rate:std"):
            column = [ABSENT_BITS if draw(st.booleans()) else value for value in column]
        columns[name] = np.array(column, np.int64).view(np.float64)
    if granularity and draw(st.booleans()):
        first = np.array(draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys))))
        for name in [name for name in columns if name.startswith("rate:")]:
            columns[name] = np.where(first, ABSENT, columns[name])
    return Block(
        granularity,
        as_ids(ids),
        np.array([number[raw] for raw, _ in keys]),
        np.array([at for _, at in keys], np.int64),
        columns,
    )

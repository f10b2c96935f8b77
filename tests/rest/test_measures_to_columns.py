"""Measures become the same columns whichever way they are parsed."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi.ingest import measures

NOW = 1_700_000_000 * 10**9
ID = "0d4b5a2d-8b2a-4d4a-a6e4-b1ee4a1ba0d5"

stamps = st.sampled_from(
    (0, 1.5, 1700000000, "2024-01-01T00:00:00", "2024-01-01", "12.5", "-1 minute", "now", True,
     None, "x", -1, "1960-01-01", [], 1e30)
)  # fmt: skip
numbers = st.sampled_from((0, 1.5, True, "2.5", "nan", 10**400, None, "x", [], float("inf")))
measure = (
    st.fixed_dictionaries({}, optional={"timestamp": stamps, "value": numbers})
    | st.fixed_dictionaries({"timestamp": st.just(5), "value": st.just(6)})
    | st.sampled_from(([], "", 1, None))
)
documents = st.dictionaries(
    st.sampled_from("abc"), st.lists(measure, max_size=3) | st.just({}) | st.just(""), max_size=3
)


def outcome(parse: Any, *arguments: Any) -> Any:
    """What a call returns, as lists, or the reason it gives."""
    try:
        columns = parse(*arguments, now=NOW)
    except measures.InvalidMeasures as error:
        return error.reason
    return [column.tolist() for column in (columns.counts, columns.timestamps, columns.values)]


@given(documents)
def test_many_lists_are_parsed_as_one_after_the_other(document: dict[str, Any]) -> None:
    """The fast way over the whole document changes no result and no error."""
    single = [outcome(measures.one, measures_) for measures_ in document.values()]
    refused = [result for result in single if isinstance(result, str)]
    together = outcome(measures.many, document)
    if refused:
        assert together == refused[0]
    else:
        expected = [[value for result in single for value in result[i]] for i in range(3)]
        np.testing.assert_equal(together, expected)


def test_timestamps_of_one_list_are_of_one_family_but_lists_may_differ() -> None:
    """Clients put metrics of different sources into one batch."""
    document = {
        "a": [{"timestamp": 1.5, "value": 1}],
        "b": [{"timestamp": "1970-01-01T00:00:02", "value": "2"}],
        "c": [{"timestamp": "now", "value": True}],
    }
    columns = measures.many(document, now=NOW)
    assert columns.counts.tolist() == [1, 1, 1]
    assert columns.timestamps.tolist() == [1_500_000_000, 2_000_000_000, NOW]
    assert columns.values.tolist() == [1.0, 2.0, 1.0]


def test_columns_of_nothing_are_empty() -> None:
    """An empty document and empty lists are fine."""
    for document, counts in (({}, []), ({"a": []}, [0])):
        columns = measures.many(document, now=NOW)
        assert columns.counts.tolist() == counts
        assert columns.timestamps.dtype == np.int64
        assert columns.values.dtype == np.float64
        assert len(columns.timestamps) == len(columns.values) == 0


def test_the_newest_timestamp_can_be_bounded() -> None:
    """The bound itself is accepted."""
    points = [{"timestamp": 10, "value": 1}]
    assert measures.one(points, now=NOW, latest=10 * 10**9).timestamps.tolist() == [10 * 10**9]
    with pytest.raises(measures.InvalidMeasures, match="too far in the future"):
        measures.one(points, now=NOW, latest=10 * 10**9 - 1)
    with pytest.raises(measures.InvalidMeasures) as refused:
        measures.many({"a": [], "b": points}, now=NOW, latest=0)
    assert refused.value.key == "b"


@pytest.mark.parametrize(
    "key", [ID, ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}"]
)
def test_ids_may_be_spelled_as_uuids_are(key: str) -> None:
    """All spellings mean the same metric, together or alone."""
    raw = uuid.UUID(ID).bytes
    assert measures.metric_ids([key]) == [raw]
    assert measures.metric_ids([ID, key]) == [raw, raw]


@pytest.mark.parametrize(
    "key", ["", "foo", ID[:-1], ID + "0", ID[:-2] + " 0", " " + ID, "é" * 32, "_" + ID[1:]]
)
def test_what_is_no_uuid_is_no_id(key: str) -> None:
    """The standard library would take some of these."""
    with pytest.raises(measures.InvalidKey) as refused:
        measures.metric_ids([ID, key])
    assert refused.value.key == key

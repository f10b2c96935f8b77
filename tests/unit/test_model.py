"""Identities: of creators, resources and metrics."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnocchi import model
from gnocchi.archive_policy import DEFAULT_POLICIES
from gnocchi.errors import Invalid

ID = uuid.UUID("00f1ad93-aa3f-5ce6-99eb-6e8558c61632")


@pytest.mark.parametrize(
    ("creator", "expected"),
    [
        (None, (None, None)),
        ("", ("", "")),
        ("alice", ("alice", "")),
        ("u1:p1", ("u1", "p1")),
        ("u1:", ("u1", "")),
        (":p1", ("", "p1")),
        ("u1:p1:x", ("u1", "p1:x")),
    ],
)
def test_creators_split_at_the_first_colon(
    creator: str | None, expected: tuple[str | None, str | None]
) -> None:
    assert model.split_creator(creator) == expected
    metric = model.Metric(ID, DEFAULT_POLICIES[0], creator, "cpu", "%", None)
    assert metric.created_by == expected
    assert metric.status == "active"


@pytest.mark.parametrize(
    ("creator", "expected"),
    [
        ("alice", "00f1ad93-aa3f-5ce6-99eb-6e8558c61632"),
        ("bob", "bdb4fbbb-f301-5eb0-b29f-25972ae4007b"),
        ("u1:p1", "2a72369e-9bba-5ff1-aa11-b51b81109094"),
    ],
)
def test_texts_are_combined_with_the_creator(creator: str, expected: str) -> None:
    assert model.resource_id("web-01", creator) == uuid.UUID(expected)


def test_no_creator_counts_as_one_more_nul() -> None:
    space = uuid.UUID("0a7a15ff-aa13-4ac2-897c-9bdf30ce175b")
    assert model.resource_id("web-01", None) == uuid.uuid5(space, "web-01\0\0")
    assert model.resource_id("web-01", "") == uuid.uuid5(space, "web-01\0")


def test_texts_are_case_sensitive_and_any_unicode() -> None:
    ids = {model.resource_id(text, "alice") for text in ["web", "Web", "wéb", "☃", " web", ""]}
    assert len(ids) == 6


@pytest.mark.parametrize("creator", [None, "alice"])
@pytest.mark.parametrize(
    "text",
    [
        "00f1ad93-aa3f-5ce6-99eb-6e8558c61632",
        "00F1AD93-AA3F-5CE6-99EB-6E8558C61632",
        "00f1ad93aa3f5ce699eb6e8558c61632",
        "{00f1ad93-aa3f-5ce6-99eb-6e8558c61632}",
        "urn:uuid:00f1ad93-aa3f-5ce6-99eb-6e8558c61632",
    ],
)
def test_uuids_are_used_as_they_are(text: str, creator: str | None) -> None:
    assert model.resource_id(text, creator) == ID
    assert model.parse_uuid(text) == ID


@pytest.mark.parametrize(
    "text",
    [
        "",
        "web-01",
        "00f1ad93-aa3f-5ce6-99eb-6e8558c6163",
        "00f1ad93-aa3f-5ce6-99eb-6e8558c616320",
        "00f1ad93-aa3f-5ce6-99eb-6e8558c6163g",
        "aaaa_aaaa_aaaa_aaaa_aaaa_aaaa_aa",
        "+0f1ad93aa3f5ce699eb6e8558c61632",
        " 0f1ad93aa3f5ce699eb6e8558c61632",
        "٣0f1ad93aa3f5ce699eb6e8558c61632",
    ],
)
def test_what_only_looks_like_a_uuid_is_none(text: str) -> None:
    with pytest.raises(Invalid, match=r"^badly formed hexadecimal UUID string$"):
        model.parse_uuid(text)
    assert model.resource_id(text, "alice").version == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/b", "'/' is not supported in resource id"),
        ("a" * 290, "transformable resource id >289 max allowed characters"),
        ("web-01\0", "NUL is not supported in resource id"),
        ("web\ud800", "resource id is no valid Unicode text"),
    ],
)
def test_ids_that_cannot_be_transformed_are_refused(text: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        model.resource_id(text, "alice")
    assert str(caught.value) == message


def test_the_longest_text_has_289_characters() -> None:
    assert model.resource_id("☃" * 289, "alice").version == 5


@given(st.uuids())
def test_the_hash_is_the_first_four_bytes(metric_id: uuid.UUID) -> None:
    assert model.hash_of(metric_id) == int.from_bytes(metric_id.bytes[:4], "big")

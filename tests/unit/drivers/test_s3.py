"""What the S3 driver asks for, and what it makes of answers a gateway rarely gives."""

from __future__ import annotations

import datetime
import sys
from typing import TYPE_CHECKING, Any

import pytest
from botocore.stub import Stubber

from gnocchi import errors
from gnocchi.drivers import s3_connection
from gnocchi.drivers.s3 import S3Storage
from gnocchi.drivers.s3_connection import Connection, Patience
from tests.conformance.models import names
from tests.conformance.test_s3 import configuration

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITTEN = datetime.datetime(2026, 11, 21, 12, 0, tzinfo=datetime.UTC)
LISTING = {
    "Contents": [{"Key": "segments/x", "LastModified": WRITTEN}],
    "ResponseMetadata": {"HTTPHeaders": {"date": "Sat, 21 Nov 2026 12:00:40 GMT"}},
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_connection, "PATIENCE", Patience(1.0, 1.0, 3, 0.0))


class Scripted:
    """A storage whose server gives prepared answers."""

    def __init__(self, **options: Any) -> None:
        self.storage = S3Storage(configuration("http://127.0.0.1:1", **options))
        self.bucket = self.storage._bucket.name
        self.answers = Stubber(self.storage._bucket._connection.client)
        self.answers.activate()

    def absent(self) -> None:
        """The bucket is asked for and is not there."""
        self.refuse("list_objects_v2", "NoSuchBucket", 404)

    def there(self) -> None:
        """The bucket is asked for and can be used."""
        self.answers.add_response("list_objects_v2", LISTING)

    def refuse(self, operation: str, code: str, status: int) -> None:
        """An answer other than success."""
        self.answers.add_client_error(operation, code, http_status_code=status)


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.answers.assert_no_pending_responses()


# ------------------------------------------------------------ the bucket


def test_bucket_that_can_be_used_is_not_created(scripted: Scripted) -> None:
    """Permission to create buckets is not needed then."""
    scripted.there()
    scripted.storage.upgrade()


@pytest.mark.parametrize("code", ["BucketAlreadyOwnedByYou", "BucketAlreadyExists"])
def test_bucket_that_somebody_makes_at_the_same_time_is_fine(scripted: Scripted, code: str) -> None:
    scripted.absent()
    scripted.refuse("create_bucket", code, 409)
    scripted.there()
    scripted.storage.upgrade()


def test_bucket_of_somebody_else_is_a_mistake(scripted: Scripted) -> None:
    scripted.absent()
    scripted.refuse("create_bucket", "BucketAlreadyExists", 409)
    scripted.refuse("list_objects_v2", "AccessDenied", 403)
    with pytest.raises(errors.Misconfigured, match="another s3_bucket_prefix"):
        scripted.storage.upgrade()


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_refused_credentials_stop_an_upgrade(scripted: Scripted, code: str) -> None:
    scripted.refuse("list_objects_v2", code, 403)
    with pytest.raises(errors.Misconfigured, match=code):
        scripted.storage.upgrade()


@pytest.mark.parametrize(
    ("region", "constraint"),
    [
        (None, None),
        ("", None),
        ("us-east-1", None),
        ("eu-west-1", {"LocationConstraint": "eu-west-1"}),
    ],
)
def test_region_is_named_but_for_the_first(region: str | None, constraint: Any) -> None:
    scripted = Scripted(s3_region_name=region)
    expected = {"Bucket": scripted.bucket}
    if constraint is not None:
        expected["CreateBucketConfiguration"] = constraint
    scripted.absent()
    scripted.answers.add_response("create_bucket", {}, expected)
    scripted.storage.upgrade()
    scripted.answers.assert_no_pending_responses()


def test_region_that_amazon_does_not_have_is_a_mistake() -> None:
    scripted = Scripted(s3_region_name="atlantis-1")
    scripted.storage._bucket._own_endpoint = False
    scripted.absent()
    scripted.refuse("create_bucket", "InvalidLocationConstraint", 400)
    with pytest.raises(errors.Misconfigured, match="InvalidLocationConstraint"):
        scripted.storage.upgrade()


def test_bucket_in_another_region_is_a_mistake(scripted: Scripted) -> None:
    scripted.refuse("get_object", "PermanentRedirect", 301)
    with pytest.raises(errors.Misconfigured, match="s3_region_name"):
        scripted.storage.read("x", 0, 1)


# ------------------------------------------------------------ requests


@pytest.mark.parametrize(
    ("code", "status"), [("SlowDown", 503), ("InternalError", 500), ("x", 502)]
)
def test_answer_that_may_pass_is_not_the_last(scripted: Scripted, code: str, status: int) -> None:
    scripted.refuse("list_objects_v2", code, status)
    scripted.refuse("list_objects_v2", code, status)
    scripted.there()
    assert names(scripted.storage) == ["x"]


def test_age_is_that_of_the_clock_that_gave_the_time(scripted: Scripted) -> None:
    """So a host whose clock is fast does not remove new segments as left-overs."""
    scripted.there()
    assert list(scripted.storage.list()) == [("x", 40.0)]


def test_answer_that_does_not_pass_is_unavailability(scripted: Scripted) -> None:
    for _ in range(3):
        scripted.refuse("put_object", "SlowDown", 503)
    with pytest.raises(errors.Unavailable, match=r"SlowDown \(503\)"):
        scripted.storage.put("x", b"x")


def test_key_that_is_not_removed_is_told(scripted: Scripted) -> None:
    failed = {"Errors": [{"Key": "segments/y", "Code": "AccessDenied"}]}
    scripted.answers.add_response("delete_objects", failed)
    with pytest.raises(errors.Unavailable, match="AccessDenied"):
        scripted.storage.delete(["x", "y"])


def test_key_that_is_not_removed_for_now_is_removed_again(scripted: Scripted) -> None:
    failed = {"Errors": [{"Key": "segments/y", "Code": "SlowDown"}]}
    scripted.answers.add_response("delete_objects", failed)
    scripted.answers.add_response("delete_objects", {"Errors": [{"Key": "x", "Code": "NoSuchKey"}]})
    scripted.storage.delete(["x", "y"])


def test_object_that_stays_invisible_is_unavailability() -> None:
    scripted = Scripted(s3_check_consistency_timeout=0.01)
    scripted.answers.add_response("put_object", {"ETag": "new"})
    scripted.answers.add_response("head_object", {"ETag": "old"})
    scripted.refuse("head_object", "404", 404)
    with pytest.raises(errors.Unavailable, match="not visible"):
        scripted.storage.put("x", b"x")


# ------------------------------------------------------------ the connection


def test_amazon_is_asked_unless_another_is_named() -> None:
    client = Connection(configuration("", s3_region_name="eu-west-1")).client
    assert client.meta.endpoint_url == "https://s3.eu-west-1.amazonaws.com"
    assert client.meta.config.s3["addressing_style"] == "auto"
    conf = configuration("")
    conf.s3_endpoint_url = None
    assert "amazonaws.com" in Connection(conf).client.meta.endpoint_url


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://a b/"])
def test_endpoint_that_is_no_url_is_a_mistake(url: str) -> None:
    with pytest.raises(errors.Misconfigured):
        S3Storage(configuration(url)).upgrade()


def test_prefix_that_no_bucket_may_have_is_a_mistake() -> None:
    with pytest.raises(errors.Misconfigured):
        S3Storage(configuration("http://127.0.0.1:1", s3_bucket_prefix="a b")).upgrade()


def test_missing_module_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    s3_connection._session.cache_clear()
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    storage = S3Storage(configuration("http://127.0.0.1:1"))
    with pytest.raises(errors.Misconfigured, match=r"gnocchi\[s3\]"):
        storage.upgrade()
    monkeypatch.undo()
    s3_connection._session.cache_clear()


def test_credentials_that_are_nowhere_are_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3_connection._session.cache_clear()
    conf = configuration("http://127.0.0.1:1", s3_access_key_id=None, s3_secret_access_key=None)
    with pytest.raises(errors.Misconfigured, match="s3_access_key_id"):
        S3Storage(conf).upgrade()
    s3_connection._session.cache_clear()


def test_secrets_are_not_shown() -> None:
    storage = S3Storage(configuration("http://127.0.0.1:1", s3_secret_access_key="hush-hush"))
    connection = storage._bucket._connection
    shown = f"{storage!r} {storage._bucket!r} {connection!r} {connection.client!r}"
    assert "hush" not in shown

"""Reads the examples of a page of the manual and plays them against an application.

An example is two literal blocks, ``.. code-block:: http``: a request and its answer, as they go
over the wire, except that a request leaves out what ``curl -u admin:`` sends by itself (``Host``,
``Accept: */*`` and the credentials of ``admin``), and an answer most of its headers. Examples of a
page are one session: they are played in order, and after each 202 everything is processed, as
``gnocchi-metricd`` would do it.

What the server makes up stands in the manual as it was once, and is bound to what it is now where
it is first seen: random ids (UUIDs of version 4), times of the clock, entity tags. From there on
both have to go together: one never stands for two, times keep their order, and later requests are
sent with what is bound. Everything else has to be equal, down to the type of numbers. In an answer
``"…": "…"`` stands for members that are not shown, and ``"…"`` at the end of a list for items.
Lists in `UNORDERED` members may have any order.
"""

from __future__ import annotations

import base64
import datetime
import email.utils
import json
import re
import urllib.parse
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import webtest

from gnocchi.engine.process import Worker
from gnocchi.indexer import catalog

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from gnocchi.service import Services

BLOCK = ".. code-block:: http"
HOST = "localhost:8041"
MORE = "…"
UNORDERED = {"aggregation_methods", "references"}

_REQUEST = re.compile(r"(?P<method>[A-Z]+) (?P<address>/\S*) HTTP/1\.1")
_ANSWER = re.compile(r"HTTP/1\.1 (?P<status>\d{3} .+)")


@dataclass(frozen=True)
class Message:
    """A literal block: its first line, its headers and its body."""

    line: int
    start: str
    headers: dict[str, str]
    body: str


@dataclass(frozen=True)
class Example:
    """A request and its answer."""

    method: str
    address: str
    status: str
    request: Message
    answer: Message

    @property
    def path(self) -> str:
        """The address without its query."""
        return self.address.partition("?")[0]


def read(page: pathlib.Path) -> list[Example]:
    """Return the examples of a page; every request is followed by its answer."""
    messages = list(_messages(page.read_text(encoding="utf-8").splitlines()))
    assert len(messages) % 2 == 0, f"{page.name}: a request without an answer"
    examples = []
    for request, answer in zip(messages[::2], messages[1::2], strict=True):
        where = f"{page.name}:{request.line}"
        asked, answered = _REQUEST.fullmatch(request.start), _ANSWER.fullmatch(answer.start)
        assert asked, f"{where} is no request: {request.start}"
        assert answered, f"{where} has no answer but: {answer.start}"
        examples.append(
            Example(asked["method"], asked["address"], answered["status"], request, answer)
        )
    return examples


def _messages(lines: list[str]) -> Iterator[Message]:
    for number, line in enumerate(lines):
        if line == BLOCK:
            block = []
            for text in lines[number + 2 :]:
                if text and not text.startswith("   "):
                    break
                block.append(text[3:])
            yield _message(number + 3, "\n".join(block).strip("\n").split("\n"))


def _message(line: int, block: list[str]) -> Message:
    end = block.index("") if "" in block else len(block)
    headers = (text.partition(":") for text in block[1:end])
    return Message(
        line,
        block[0],
        {name: value.strip() for name, _, value in headers},
        "\n".join(block[end + 1 :]),
    )


class Session:
    """Plays examples, and remembers what stands for what."""

    def __init__(self, services: Services, client: webtest.TestApp) -> None:
        self._services = services
        self._client = client
        self._names = Names()

    def play(self, example: Example) -> None:
        """Send the request of an example; fails unless the answer is that of the manual."""
        response = self.send(example)
        where = (
            f"line {example.request.line}: {example.method} {example.address}\n"
            f"{response.status}\n{dict(response.headers)}\n{response.text}"
        )
        assert response.status == example.status, where
        self._check_body(example.answer.body, response, where)
        for name, documented in example.answer.headers.items():
            actual = response.headers.get(name)
            assert actual is not None, f"{where}\nno {name}"
            if name == "Last-Modified":
                # Seconds of the clock: those of two answers may be the same or not.
                assert email.utils.parsedate_tz(documented), where
                assert email.utils.parsedate_tz(actual), where
                continue
            if name == "ETag":
                self._names.bind(documented, actual)
            assert actual == self._names.actual(documented), f"{where}\n{name}"

    def send(self, example: Example) -> webtest.TestResponse:
        """Send the request of an example, with what stands now for what it names."""
        path, _, query = self._names.actual(example.address).partition("?")
        user = base64.b64encode(b"admin:").decode()
        headers = {"Accept": "*/*", "Authorization": f"Basic {user}"}
        for name, value in example.request.headers.items():
            headers[name] = self._names.actual(value)
        environ = {
            "PATH_INFO": urllib.parse.unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "SCRIPT_NAME": "",
            "HTTP_HOST": HOST,
            "REQUEST_METHOD": example.method,
        }
        request = webtest.TestRequest.blank("/", environ=environ, headers=headers)
        if example.request.body:
            request.body = self._names.actual(example.request.body).encode()
        response = self._client.do_request(request, expect_errors=True)
        if response.status_int == 202:
            Worker(self._services).work(range(len(catalog.sacks(self._services.db))))
        return response

    def _check_body(self, documented: str, response: webtest.TestResponse, where: str) -> None:
        if response.content_type == "application/json" and documented:
            expected = json.loads(documented)
            problem = self._names.compare(expected, json.loads(response.body))
            assert problem is None, f"{where}\n{problem}"
        else:
            body = response.body.decode()
            assert body.strip() == self._names.actual(documented).strip(), where


class Names:
    """What the manual calls things, and what they are called now."""

    def __init__(self) -> None:
        self._actual: dict[str, str] = {}
        self._began = datetime.datetime.now(datetime.UTC)

    def actual(self, text: str) -> str:
        """Replace what is bound in a text."""
        if not self._actual:
            return text
        pattern = "|".join(re.escape(name) for name in sorted(self._actual, key=len, reverse=True))
        return re.sub(pattern, lambda found: self._actual[found[0]], text)

    def bind(self, documented: str, actual: str) -> None:
        """Let a name stand for what there is, unless one of them is taken."""
        if documented not in self._actual and actual not in self._actual.values():
            self._actual[documented] = actual

    def compare(self, documented: Any, actual: Any, at: str = "", member: str = "") -> str | None:
        """Tell how a document differs from the manual's; ``None`` when it does not."""
        if type(documented) is not type(actual):
            return f"{at}: {documented!r} in the manual, {actual!r} in fact"
        if isinstance(documented, dict):
            return self._compare_members(documented, actual, at)
        if isinstance(documented, list):
            return self._compare_items(documented, actual, at, member)
        if isinstance(documented, str):
            if self._made_up(documented, actual):
                self.bind(documented, actual)
            documented = self.actual(documented)
        same = documented == actual or (documented != documented and actual != actual)
        return None if same else f"{at}: {documented!r} in the manual, {actual!r} in fact"

    def _compare_members(self, documented: dict[str, Any], actual: Any, at: str) -> str | None:
        expected = {self.actual(name): value for name, value in documented.items()}
        more = expected.pop(MORE, None) is not None
        if missing := expected.keys() - actual.keys():
            return f"{at}: no {sorted(missing)} in fact"
        if not more and (unknown := actual.keys() - expected.keys()):
            return f"{at}: no {sorted(unknown)} in the manual"
        if more and expected.keys() == actual.keys():
            return f"{at}: there are no more members"
        problems = (
            self.compare(value, actual[name], f"{at}.{name}", name)
            for name, value in expected.items()
        )
        return next((problem for problem in problems if problem), None)

    def _compare_items(
        self, documented: list[Any], actual: list[Any], at: str, member: str
    ) -> str | None:
        if documented and documented[-1] == MORE:
            documented = documented[:-1]
            if member in UNORDERED:
                actual = [item for item in actual if item in documented] + actual[-1:]
            if len(actual) <= len(documented):
                return f"{at}: there are no more items"
            actual = actual[: len(documented)]
        if len(documented) != len(actual):
            return f"{at}: {len(documented)} items in the manual, {len(actual)} in fact"
        if member in UNORDERED:
            documented, actual = sorted(documented, key=str), sorted(actual, key=str)
        problems = (
            self.compare(one, other, f"{at}[{position}]", member)
            for position, (one, other) in enumerate(zip(documented, actual, strict=True))
        )
        return next((problem for problem in problems if problem), None)

    def _made_up(self, documented: str, actual: str) -> bool:
        if _is_random(documented):
            return _is_random(actual)
        ours, theirs = _moment(documented), _moment(actual)
        if ours is None or theirs is None or theirs < self._began:
            return False
        # The clock goes on between two requests of the manual as it does here.
        bound = [(_moment(name), _moment(value)) for name, value in self._actual.items()]
        return all(
            (name < ours) == (value < theirs)
            for name, value in bound
            if name is not None and value is not None
        )


def _is_random(text: str) -> bool:
    try:
        return uuid.UUID(text).version == 4 and len(text) == 36
    except ValueError:
        return False


def _moment(text: str) -> datetime.datetime | None:
    if len(text) < 19 or text[4:5] != "-":
        return None
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        return None

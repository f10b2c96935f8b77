"""TLS in front of a server that has none, and one that refuses everybody.

Both run in threads of the process that starts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import pathlib
import ssl
import tempfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.servers.redis import make_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Front:
    """What listens with TLS.

    Attributes:
        port: TCP port on 127.0.0.1, the only name that its certificate has.
        authority: file of the authority that has signed the certificate.
    """

    port: int
    authority: pathlib.Path


@contextlib.contextmanager
def tls_front(port: int) -> Iterator[Front]:
    """Pass what comes by TLS on to a port of this machine."""
    with tempfile.TemporaryDirectory(prefix="gnocchi-tls-") as name:
        directory = make_certificates(pathlib.Path(name))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(directory / "server.crt", directory / "server.key")
        loop = asyncio.new_event_loop()
        connections = _Connections(port)
        server = loop.run_until_complete(
            asyncio.start_server(connections.serve, "127.0.0.1", 0, ssl=context)
        )
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield Front(server.sockets[0].getsockname()[1], directory / "ca.crt")
        finally:
            asyncio.run_coroutine_threadsafe(connections.end(server), loop).result(20)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


class _Connections:
    """Those that are passed on to a port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection("127.0.0.1", self._port)
        self._open |= {writer, to_there}
        try:
            await asyncio.gather(_copy(reader, to_there), _copy(there, writer))
        finally:
            self._open -= {writer, to_there}
            for end in (writer, to_there):
                end.transport.abort()

    async def end(self, server: asyncio.Server) -> None:
        """Accept no more of them, and cut those that there are."""
        server.close()
        for writer in self._open:
            writer.transport.abort()
        for _ in range(100):
            if not self._open:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)  # sockets are closed with the next turn


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Copy until one side ends, and let the other side know."""
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
        target.close()
        await target.wait_closed()


class _Refuser(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _refuse(self) -> None:
        """Answer 403, and repeat in head and body what was sent, as the worst of servers would.

        But for the body: a service that shows passwords to those who know them shows them to
        their logs as well, and nothing else than passwords is sent so.
        """
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        lines = [f"{self.command} {self.path}", *(f"{k}: {v}" for k, v in self.headers.items())]
        text = "\n".join(lines)
        body = f"<Error><Code>InvalidAccessKeyId</Code><Message>{text}</Message></Error>".encode()
        self.send_response(403, " ".join(lines))
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _refuse  # noqa: N815 - the class wants these

    def log_message(self, *_: object) -> None:
        """Nobody wants to know."""


@contextlib.contextmanager
def refuser() -> Iterator[int]:
    """Answer every HTTP request with 403 and what was asked; yields the port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuser)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""A Hugging Face Hub on the loopback interface, for tests: `with hub.serve() as server: ...`.

The unmodified clients huggingface_hub and datasets work against `server.url` (set HF_ENDPOINT, or
pass `endpoint`). Everything is in memory. Storage by Xet is answered as absent, so that clients
use LFS. `server.faults.add(...)` makes requests fail in the ways in which the real Hub fails.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from lightadapt_data.testing.hub_answers import PATTERNS, ROUTES, Answer, Call
from lightadapt_data.testing.hub_store import RefusedError, Repo, Store

KINDS = ("rate_limit", "server_error", "lost_answer", "conflict", "drop", "call")


@dataclass
class Fault:
    """One way to fail."""

    kind: str
    route: str
    times: int
    retry_after: int
    call: Callable[[], object] | None


@dataclass
class Faults:
    """What will go wrong; every fault is used up, in the order in which they were added."""

    waiting: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self,
        kind: str,
        route: str = "commit",
        times: int = 1,
        retry_after: int = 1,
        call: Callable[[], object] | None = None,
    ) -> None:
        """Let the next requests of a route fail.

        Args:
            kind: "rate_limit" (429 with Retry-After), "server_error" (500, nothing done),
                "lost_answer" (500 after all was done), "conflict" (412), "drop" (the connection
                is cut in the middle of the body), or "call" (nothing fails; `call` is called
                before the request is worked on).
            route: one of ROUTES.
            times: number of requests that fail.
            retry_after: seconds, for "rate_limit".
            call: for "call".

        Raises:
            ValueError: no such kind or route.
        """
        if kind not in KINDS or route not in ROUTES:
            raise ValueError(f"{kind}, {route}: allowed kinds {KINDS}, allowed routes {ROUTES}")
        self.waiting.append(Fault(kind, route, times, retry_after, call))

    def take(self, route: str) -> Fault | None:
        """Return the fault that the next request of a route meets, and use it up."""
        with self._lock:
            for fault in self.waiting:
                if fault.route == route and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None


@dataclass(frozen=True)
class Request:
    """One request that came."""

    route: str
    method: str
    path: str
    status: int
    """0 where the connection was cut."""
    is_authorized: bool


@dataclass
class Server:
    """A running Hub."""

    url: str
    token: str
    """Token that writing, and reading what is private, needs; empty: anybody may do all.

    As on the Hub, the address that an LFS object is sent to is a permission by itself."""
    store: Store = field(default_factory=Store)
    faults: Faults = field(default_factory=Faults)
    requests: list[Request] = field(default_factory=list)

    def count(self, route: str) -> int:
        """Return how many requests of a route came, failed ones included."""
        return sum(request.route == route for request in self.requests)

    def repo(self, name: str, kind: str = "datasets") -> Repo:
        """Return a repository, as in `server.repo("me/set").log()`."""
        return self.store.repo(kind, name)


@contextmanager
def serve(token: str = "") -> Iterator[Server]:
    """Run a Hub on a free port of the loopback interface, and stop it at the end."""
    http = _Http(("127.0.0.1", 0), _Handler)
    http.hub = Server(f"http://127.0.0.1:{http.server_address[1]}", token)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield http.hub
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    hub: Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep stderr clean."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815  # names that http.server looks for

    def _serve(self) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        path, method = url.path, "GET" if self.command == "HEAD" else self.command
        found = (
            (name, pattern.match(path)) for name, wanted, pattern in PATTERNS if wanted == method
        )
        route, match = next(((name, m) for name, m in found if m), ("", None))
        fault = hub.faults.take(route)
        is_known = not hub.token or self.headers["Authorization"] == f"Bearer {hub.token}"
        if fault and fault.kind == "drop":
            hub.requests.append(Request(route, self.command, self.path, 0, is_known))
            self._cut()
            return
        body = self._body()
        try:
            answer = self._failed(fault) or self._answer(route, match, url.query, body, is_known)
        except RefusedError as refused:
            headers = {"X-Error-Message": refused.message, "X-Error-Code": refused.code}
            answer = Answer({"error": refused.message}, refused.status, headers)
        if fault and fault.kind == "lost_answer":
            answer = Answer({"error": "Internal Error"}, 500)
        hub.requests.append(Request(route, self.command, self.path, answer.status, is_known))
        with suppress(ConnectionError):
            self._send(answer)

    def _failed(self, fault: Fault | None) -> Answer | None:
        if fault is None:
            return None
        if fault.call is not None:
            fault.call()
        return {
            "rate_limit": Answer(
                {"error": "Too Many Requests"}, 429, {"Retry-After": str(fault.retry_after)}
            ),
            "server_error": Answer({"error": "Internal Error"}, 500),
            "conflict": Answer({"error": "A commit has happened since."}, 412),
        }.get(fault.kind)

    def _answer(
        self, route: str, match: re.Match[str] | None, query: str, body: bytes, is_known: bool
    ) -> Answer:
        if match is None:
            raise RefusedError(404, "Sorry, we can't find the page you are looking for.")
        hub = self.server.hub
        if not is_known and (self.command == "POST" or route == "whoami"):
            raise RefusedError(401, "Invalid username or password.")
        kind = self.headers["Content-Type"] or ""
        call = Call(hub.url, hub.store, query, body, kind, **match.groupdict())
        with hub.store.lock:
            if "name" in match.groupdict() and call.repo.is_private and not is_known:
                raise RefusedError(401, "Repository not found", "RepoNotFound")
            done = getattr(call, route)()
        return done if isinstance(done, Answer) else Answer(done)

    def _body(self) -> bytes:
        if self.headers["Transfer-Encoding"] != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"] or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _cut(self) -> None:
        """Read a little of the body and close the connection."""
        self.rfile.read(min(64, int(self.headers["Content-Length"] or 0) // 2))
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, answer: Answer) -> None:
        content = answer.content
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        status, headers = answer.status, answer.headers
        wanted = re.match(r"bytes=(\d+)-(\d*)$", self.headers["Range"] or "")
        if wanted and status == 200 and isinstance(content, bytes):
            first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
            headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"}
            status, data = (206, data[first : last + 1]) if first <= last else (416, b"")
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in {"Content-Type": kind, **headers}.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

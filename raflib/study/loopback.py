"""Requests to the server of a study: which are answered, which are refused, and what a browser is told to forbid.

A request is refused when its link, its `Host` or its `Origin` is not the server's own. So neither a guess nor another
web page in the rater's browser reaches a study, not even a page whose host name points to this machine.
"""

from __future__ import annotations

import re
import socketserver
import sys
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol, runtime_checkable

from raflib.errors import RafError
from raflib.study.format import Question
from raflib.study.pages import images_of

LOOPBACK = "127.0.0.1"
MOST_BYTES = 4096
"""Largest body of a request; an answer has about 200 bytes."""
PATIENCE = 10.0
"""Seconds that a connection may be silent."""
_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?")
TOKEN = re.compile("[A-Za-z0-9_-]{43}")
_PATH = re.compile(rf"/({TOKEN.pattern})/([a-z0-9./]{{0,80}})")
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "json": "application/json",
          "txt": "text/plain", "webp": "image/webp", "png": "image/png", "jpg": "image/jpeg"}  # fmt: skip
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Rater:
    """One rater: the name, the secret part of the link, and the questions in the order of asking."""

    name: str
    token: str
    questions: tuple[Question, ...]

    @cached_property
    def ids(self) -> frozenset[str]:
        return frozenset(question.id for question in self.questions)

    @cached_property
    def images(self) -> frozenset[str]:
        return frozenset(name for question in self.questions for name in images_of(question))


@runtime_checkable
class Owner(Protocol):
    """What answers the requests that are not refused."""

    def rater(self, token: str) -> Rater | None:
        """The rater of a link."""

    def file(self, rater: Rater, name: str) -> tuple[bytes, str]:
        """Content and type of a file that a rater's page asks for; raises Refused where there is none."""

    def store(self, rater: Rater, body: bytes) -> None:
        """Store an answer; raises Refused where it is none."""


class Refused(Exception):
    """A request that is not answered: the status and a sentence for the one who asked."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


class Listener(ThreadingHTTPServer):
    """The listening socket."""

    request_queue_size = 128

    def __init__(self, owner: Owner, port: int):
        self.owner = owner
        super().__init__((LOOPBACK, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking name servers for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that break."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    """One request, one connection."""

    server: Listener
    server_version, sys_version = "raflib", ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        self._reply(post=False)

    def do_POST(self) -> None:
        self._reply(post=True)

    def log_message(self, format: str, *args: object) -> None:
        """Links are secret, so nothing is logged."""

    def _reply(self, post: bool) -> None:
        try:
            rater, name = self._addressee(post)
            if post:
                self.server.owner.store(rater, self._body(name))
                content, kind = b"{}", "json"
            else:
                content, kind = self.server.owner.file(rater, name)
            self._send(200, content, kind)
        except Refused as refusal:
            self._send(refusal.status, str(refusal).encode(), "txt")
        except RafError as error:
            print(error, file=sys.stderr)
            self._send(500, b"The server cannot read or write one of its files.", "txt")

    def _addressee(self, post: bool) -> tuple[Rater, str]:
        """The rater whose link was asked, and the rest of the path; checks host, link and origin."""
        host, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(host) != 1 or not _HOST.fullmatch(host[0]):
            raise Refused(403, "This host is not served here.")
        found = _PATH.fullmatch(self.path)
        rater = self.server.owner.rater(found[1]) if found else None
        if found is None or rater is None:
            raise Refused(404, "There is no such page.")
        if origins not in ([[f"http://{host[0]}"]] if post else [[], [f"http://{host[0]}"]]):
            raise Refused(403, "Another page may not ask this.")
        return rater, found[2]

    def _body(self, name: str) -> bytes:
        """The body of a request that stores an answer."""
        lengths = self.headers.get_all("Content-Length", [])
        if name != "answers":
            raise Refused(404, "There is no such page.")
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "An answer is application/json.")
        if len(lengths) != 1 or not re.fullmatch("[0-9]{1,9}", lengths[0]) or "Transfer-Encoding" in self.headers:
            raise Refused(411, "The length of the answer is missing.")
        if int(lengths[0]) > MOST_BYTES:
            raise Refused(413, f"An answer has at most {MOST_BYTES} bytes.")
        return self.rfile.read(int(lengths[0]))

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        # Images may be kept, so that the next questions can be shown while the connection is lost.
        keep = "private, max-age=86400" if _TYPES.get(kind, "").startswith("image/") else "no-store"
        about = {"Content-Type": _TYPES[kind], "Content-Length": str(len(content)), "Cache-Control": keep}
        for name, value in (_HEADERS | about).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

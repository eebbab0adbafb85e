"""Who may ask, how much and how often; as plain ASGI, so that it costs next to nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from m6rec.serving.settings import Settings
from m6rec.store import Store

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPES = ("read", "write", "admin")  # each may do what those before it may
OPEN = ("/v1/health/", "/api/health/", "/static/", "/enter", "/language/")  # need no key
NO_PAGES = ("/v1/", "/api/", "/metrics")  # how paths begin that answer programs
LOOPBACK = ("localhost", "127.0.0.1", "::1")
COOKIE = "m6rec_key"  # where a browser keeps its key, for pages only
REMEMBERED = 5.0  # seconds for which keys are not read again
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        b"frame-ancestors 'none'",
    ),
]


def hashed(key: str) -> str:
    """Return what the store keeps of an API key; keys are long and random, so a plain hash does."""
    return hashlib.sha256(key.encode()).hexdigest()


def is_page(path: str) -> bool:
    """Whether people read what a path answers."""
    return not path.startswith(NO_PAGES)


def is_own(method: str, headers: dict[bytes, bytes]) -> bool:
    """Return whether a request comes from this machine's own pages or programs: by a name of this
    machine, and for a change from no other site."""
    host = headers.get(b"host", b"").decode("latin-1")
    if urlsplit(f"//{host}").hostname not in LOOPBACK:
        return False
    if method in ("GET", "HEAD", "OPTIONS"):
        return True
    origin = headers.get(b"origin")
    foreign = origin is not None and urlsplit(origin.decode("latin-1")).netloc != host
    return not foreign and headers.get(b"sec-fetch-site") != b"cross-site"


def cookie(headers: str, name: str) -> str:
    """Return a value of a Cookie header, "" where there is none."""
    try:
        found = SimpleCookie(headers).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


class Guard:
    """API keys, sizes, rates and headers. ``store`` is set when the worker has opened it.

    page: makes the answer of a page to whoever is refused, from a status and a sentence.
    """

    def __init__(
        self, settings: Settings, page: Callable[[HTTPConnection, int, str], Response]
    ) -> None:
        self.settings, self.page = settings, page
        self.store: Store | None = None
        self._keys: dict[str, str] = {}  # hash → scope
        self._open = True
        self._read = float("-inf")
        self._spent: dict[str, tuple[float, float]] = {}  # client → tokens left, as of

    def middleware(self, app: App) -> App:
        """Return the application behind this guard."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            headers = dict(scope["headers"])
            refusal = self._refusal(scope, headers)
            body = _Body(receive, send, scope["path"], self.settings.body)
            if refusal is not None and is_page(scope["path"]):
                status, _, message = refusal
                page = self.page(HTTPConnection(scope), status, message)
                return await page(scope, body.receive, body.send)
            if refusal is not None:
                return await _refuse(send, scope["path"], *refusal)
            await app(scope, body.receive, body.send)

        return guarded

    def needed(self, method: str, path: str, query: bytes = b"") -> str:
        """Return the scope that a request needs."""
        if path.startswith("/v1/models/") and method == "POST":
            return "admin"
        if path.startswith("/v1/answer/helped"):
            return "write"
        asks = method in ("GET", "HEAD", "OPTIONS") or path.startswith(ASKING)
        if asks and path.startswith("/api/recommend/"):
            asks = "write-back-type" not in dict(parse_qsl(query.decode("latin-1")))
        return "read" if asks else "write"

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
        path = scope["path"]
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.settings.body:
            return 413, "size", f"a request may have {self.settings.body:,} bytes"
        if path.startswith(OPEN):
            return None
        key = headers.get(b"x-api-key", b"").decode("latin-1")
        if not key and is_page(path):
            key = cookie(headers.get(b"cookie", b"").decode("latin-1"), COOKIE)
        held = self.scope_of(key)
        needed = self.needed(scope["method"], path, scope["query_string"])
        client = hashed(key) if key and held else (scope.get("client") or ("",))[0]
        if not self._may(client):
            return 429, "rate", f"more than {self.settings.rate:g} requests a second; wait"
        if held is None:
            return 401, "key", "send a valid API key as X-API-Key"
        if SCOPES.index(held) < SCOPES.index(needed):
            return 403, "scope", f'this needs a key of scope "{needed}"; yours has "{held}"'
        if self._open and not is_own(scope["method"], headers):
            return 403, "origin", "without API keys, only pages of this service may ask; make a key"
        return None

    def scope_of(self, key: str) -> str | None:
        """Return the scope of a key, None where it is not valid; admin, where the store has no
        keys at all."""
        now = time.monotonic()
        if self.store is not None and now - self._read > REMEMBERED:
            keys = self.store.keys()
            self._keys = {k.hash: k.scope for k in keys if not k.revoked}
            self._open = not keys  # not where all that there were are revoked
            self._read = now
        if self._open:
            return "admin"
        given, found = hashed(key), None
        for stored, scope in self._keys.items():  # all of them, whichever fits
            if hmac.compare_digest(stored, given):
                found = scope
        return found

    def _may(self, client: str) -> bool:
        """A bucket of one second's requests for each client."""
        rate = self.settings.rate
        if not rate:
            return True
        now = time.monotonic()
        most = max(1.0, rate)
        left, since = self._spent.get(client, (most, now))
        left = min(most, left + (now - since) * rate)
        if len(self._spent) > 10_000:
            self._spent.clear()
        self._spent[client] = (left - 1 if left >= 1 else left, now)
        return left >= 1


ASKING = (
    "/v1/recommend", "/v1/explain", "/v1/similar", "/v1/answer", "/api/session/recommend",
)  # fmt: skip


class _Body:
    """One request and its answer: a body that grows past the limit without having said so is cut
    off and answered with 413; headers are added."""

    def __init__(self, receive: Receive, send: Send, path: str, most: int) -> None:
        self._receive, self._send, self._path = receive, send, path
        self._left = most
        self._most = most
        self._refused = False

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        return message if self._left >= 0 else {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self._left < 0:
            if not self._refused:
                self._refused = True
                says = f"a request may have {self._most:,} bytes"
                await _refuse(self._send, self._path, 413, "size", says)
            return
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS]
        await self._send(message)


async def _refuse(send: Send, path: str, status: int, code: str, message: str) -> None:
    """Answer in the form of /v1, or of /api: text."""
    kind, body = b"application/json", json.dumps({"error": message, "code": code})
    if path.startswith("/api/"):
        kind, body = b"text/plain; charset=utf-8", message
    headers = [(b"content-type", kind), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body.encode()})

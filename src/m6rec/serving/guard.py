"""Who may ask, how much and how often; as plain ASGI, so that it costs next to nothing."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response

from m6rec.errors import StoreError
from m6rec.serving.rates import Rates
from m6rec.serving.settings import Settings
from m6rec.store import ApiKey, Store

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPES = ("read", "write", "admin")  # each may do what those before it may
UNCOUNTED = ("/v1/health/", "/api/health/", "/static/")  # have no limit
OPEN = (*UNCOUNTED, "/enter", "/language/")  # need no key
NO_PAGES = ("/v1/", "/api/", "/metrics")  # how paths begin that answer programs
GETS = ("GET", "HEAD", "OPTIONS")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
COOKIE = "m6rec_key"  # where a browser keeps its key, for pages only
REMEMBERED = 5.0  # seconds for which keys are not read again
log = logging.getLogger("m6rec")
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


def parts_of(url: str) -> SplitResult:
    """Return the parts of a URL, all empty where it is none."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("")


def is_own(headers: dict[bytes, bytes], gets: bool) -> bool:
    """Return whether a request comes from this machine's own pages or programs: by a name of this
    machine, and from no other site unless it only ``gets`` what no browser lets that read."""
    host = headers.get(b"host", b"").decode("latin-1")
    if parts_of(f"//{host}").hostname not in LOOPBACK:
        return False
    if gets:
        return True
    origin = headers.get(b"origin")
    foreign = origin is not None and parts_of(origin.decode("latin-1")).netloc != host
    return not foreign and headers.get(b"sec-fetch-site") != b"cross-site"


def cookie(headers: str, name: str) -> str:
    """Return a value of a Cookie header, "" where there is none."""
    try:
        found = SimpleCookie(headers).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


class Guard:
    """API keys, sizes, rates and headers; ``watch`` gives it the store of the worker.

    page: makes the answer of a page to whoever is refused, from a status and a sentence.
    """

    def __init__(
        self, settings: Settings, page: Callable[[HTTPConnection, int, str], Response]
    ) -> None:
        self.settings, self.page = settings, page
        self.rates = Rates(settings.rate, settings.rates)
        self._store: Store | None = None
        self._keys: dict[str, str] = {}  # hash → scope
        self._open = False
        self._read = time.monotonic()
        self._reading = False

    def watch(self, store: Store) -> None:
        """Read the keys of a store, and from now on again when they may have changed."""
        self._take(store.keys())
        self._store = store

    def middleware(self, app: App) -> App:
        """Return the application behind this guard."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            headers = dict(scope["headers"])
            try:
                await self._look()
                refusal = self._refusal(scope, headers)
            except StoreError as error:
                log.error("API keys cannot be read: %s", error)
                refusal = None
                if not scope["path"].startswith(UNCOUNTED):
                    refusal = 503, "store", "the store does not answer; try again later"
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
        asks = method in GETS or path.startswith(ASKING)
        if asks and path.startswith("/api/recommend/"):
            asks = "write-back-type" not in dict(parse_qsl(query.decode("latin-1")))
        return "read" if asks else "write"

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
        path = scope["path"]
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self.settings.body:
            return 413, "size", f"a request may have {self.settings.body:,} bytes"
        key = headers.get(b"x-api-key", b"").decode("latin-1")
        if not key and is_page(path):
            key = cookie(headers.get(b"cookie", b"").decode("latin-1"), COOKIE)
        held = self.scope_of(key)
        needed = self.needed(scope["method"], path, scope["query_string"])
        client = (
            hashed(key) if key and held and not self._open else (scope.get("client") or ("",))[0]
        )
        if not path.startswith(UNCOUNTED) and not self.rates.may(client):
            return 429, "rate", f"more than {self.settings.rate:g} requests a second; wait"
        if path.startswith(OPEN):
            return None
        if held is None:
            return 401, "key", "send a valid API key as X-API-Key"
        if SCOPES.index(held) < SCOPES.index(needed):
            return 403, "scope", f'this needs a key of scope "{needed}"; yours has "{held}"'
        gets = scope["method"] in GETS and needed == "read"
        if self._open and not is_own(headers, gets):
            return 403, "origin", "without API keys, only pages of this service may ask; make a key"
        return None

    def scope_of(self, key: str) -> str | None:
        """Return what a key may do, None where it is not valid; without any keys, everything."""
        if self._open:
            return "admin"
        given, found = hashed(key), None
        for stored, scope in self._keys.items():  # all of them, whichever fits
            if hmac.compare_digest(stored, given):
                found = scope
        return found

    async def _look(self) -> None:
        """Read the keys again after a while; meanwhile other requests are judged by the old."""
        if self._store is None or self._reading or time.monotonic() - self._read <= REMEMBERED:
            return
        self._reading = True
        try:
            self._take(await asyncio.to_thread(self._store.keys))
        finally:
            self._reading = False

    def _take(self, keys: Sequence[ApiKey]) -> None:
        self._keys = {k.hash: k.scope for k in keys if not k.revoked}
        self._open = not keys  # not where all that there were are revoked
        self._read = time.monotonic()


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

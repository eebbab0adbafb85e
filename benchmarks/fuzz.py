"""Bodies that nobody should send: does any crash the service, is any stored by half?

    python benchmarks/fuzz.py [--n 100000] [--seed 0]

Valid bodies of every route that takes one are spoilt: bytes changed, cut, doubled, values put in
place of others (other types, huge numbers, control characters, deep nesting), fields lost and
added; a tenth stay as they are. They go into the application itself, without a network. At the
end the store must hold exactly the events that were acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import copy
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from m6rec.serving.app import create
from m6rec.serving.settings import Settings
from m6rec.store import Store
from service import made_run

EVENT = {"user": "u1", "item": "films/i1", "type": "event", "value": 2.5,
         "time": "2026-01-02T03:04:05Z", "id": "a", "request": "r"}  # fmt: skip
ASK = {
    "user": "u1",
    "history": ["films/i1"],
    "attributes": {"age": 30},
    "text": "dragon",
    "domain": "films",
    "filter": "year > 1990 and 'g0' in group",
    "boost": [{"filter": "year < 2000", "by": 1}],
    "exclude": ["books/i21"],
    "k": 3,
    "diversity": 0.5,
    "explore": 0.1,
    "explain": True,
}
BODIES: list[tuple[str, str, Any]] = [
    ("POST", "/v1/events", EVENT),
    (
        "POST",
        "/v1/events",
        [EVENT, {**EVENT, "id": "b"}, {**EVENT, "item": "books/i25", "id": "c"}],
    ),
    ("POST", "/v1/recommend", ASK),
    ("POST", "/v1/explain", {"user": "u1", "items": ["films/i3"], "language": "zh"}),
    ("PUT", "/v1/users/u7", {"attributes": {"age": 31}}),
    ("PUT", "/v1/items/films/i5", {"title": "T", "text": "x", "attributes": {"year": 1990}}),
]
ODD: list[Any] = [
    None, True, -1, 0, 1e308, -1e308, 10**30, 2**63, "", "\0", "\ud800", "é" * 600, "a" * 70_000,
    [], {}, [[[[[[]]]]]], {"a": {"b": {"c": []}}}, "films/", "/", "films/\0", "../../etc/passwd",
    "'; DROP TABLE events; --", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "NaN",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into a JSON value."""
    found = [path]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            found += places(inner, (*path, i))
    return found


def spoilt(body: Any, rng: random.Random) -> bytes:
    """A body with something wrong, or nothing."""
    value = copy.deepcopy(body)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        *path, last = rng.choice(places(value)[1:])
        inner = value
        for step in path:
            inner = inner[step]
        how = rng.random()
        if how < 0.7:
            inner[last] = copy.deepcopy(rng.choice(ODD))
        elif how < 0.85:
            del inner[last]
        elif isinstance(inner, dict):
            inner[rng.choice(("x", "", "user", "items", "\0"))] = copy.deepcopy(rng.choice(ODD))
        if value in ({}, []):
            break
    if isinstance(value, list) and rng.random() < 0.5:
        for event in value:
            if isinstance(event, dict):
                event["id"] = None
    raw = json.dumps(value, allow_nan=True).encode("utf-8", "surrogatepass")
    how = rng.random()
    if how < 0.1:
        at = rng.randrange(len(raw))
        raw = raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :]
    elif how < 0.15:
        raw = raw[: rng.randrange(len(raw))]
    elif how < 0.2:
        raw = raw * 2
    return raw


async def call(app: Any, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    """Send one request into the application."""
    said: dict[str, Any] = {"body": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            said["status"] = message["status"]
        said["body"] += message.get("body", b"")

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    headers.append((b"content-length", b"%d" % len(body)))
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "root_path": "",
        "asgi": {"version": "3.0"},
    }
    await app(scope, receive, send)
    return said["status"], said["body"]


async def main(n: int, seed: int) -> int:
    """Send n bodies; returns how many failed."""
    rng, statuses, added, failed = random.Random(seed), collections.Counter(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/m6rec.db"
        app = create(Settings(run=str(made_run(Path(folder))), store=url))
        async with app.router.lifespan_context(app):
            before = app.state.service.store.last_event()
            began = time.time()
            for _ in range(n):
                method, path, body = rng.choice(BODIES)
                raw = spoilt(body, rng)
                try:
                    status, answer = await call(app, method, path, raw)
                except Exception as error:  # what the server would have answered with 500
                    status, answer = 500, repr(error).encode()
                statuses[status] += 1
                if status >= 500:
                    failed += 1
                    print(method, path, raw[:300], answer[:300], flush=True)
                elif path == "/v1/events" and status == 200:
                    added += json.loads(answer)["added"]
        store = Store.open(url)
        kept = len(store.events(n=1, newest=True)[0]) and store.last_event() - before
        store.close()
    print(f"{n:,} bodies in {time.time() - began:.0f} s: {dict(sorted(statuses.items()))}; "
          f"{failed} failed; {added:,} events acknowledged, {kept:,} in the store")  # fmt: skip
    return failed + (added != kept)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.exit(bool(asyncio.run(main(options.n, options.seed))))

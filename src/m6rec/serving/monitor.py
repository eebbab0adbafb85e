"""What the service does, in figures: counted here, shown on the page and at /metrics."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from m6rec.serving.logs import REQUESTS
from m6rec.store import Hits

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # folder where several workers add up their figures
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)  # seconds

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Requests of one route. buckets: requests in each of BUCKETS, and slower ones."""

    name: str
    errors: int
    buckets: tuple[int, ...]

    @property
    def n(self) -> int:
        """How many requests."""
        return sum(self.buckets)

    def quantile(self, share: float) -> float:
        """Return the seconds within which this share was answered, read off the buckets."""
        below, wanted = 0.0, share * self.n
        for (low, high), count in zip(pairwise((0.0, *BUCKETS)), self.buckets, strict=False):
            if count and below + count >= wanted:
                return low + (high - low) * (wanted - below) / count
            below += count
        return BUCKETS[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that was counted. answers, cold: lists given, and those to askers without history."""

    routes: tuple[Route, ...]
    answers: int
    cold: int
    events: int

    @property
    def requests(self) -> int:
        """How many requests of all routes."""
        return sum(route.n for route in self.routes)


class Monitor:
    """Counts requests, answers and events; of all workers where SHARED names a folder."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "m6rec_request_seconds", "Time to answer, by route and status.",
            ("route", "status"), buckets=BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._answers = Counter(
            "m6rec_answers", "Lists given; history = none: the fallback answers.",
            ("history",), registry=self.registry,
        )  # fmt: skip
        self._events = Counter("m6rec_events", "Events taken in.", registry=self.registry)

    def answered(self, history: int) -> None:
        """Count a list that was given to somebody of whom so many events count."""
        self._answers.labels("some" if history else "none").inc()

    def took(self, events: int) -> None:
        """Count events that were taken in."""
        self._events.inc(events)

    def middleware(self, app: App) -> App:
        """Return the application with its requests timed."""

        async def timed(scope: Scope, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            started, status = time.perf_counter(), 500

            async def sent(message: MutableMapping[str, Any]) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, sent)
            finally:
                seconds, route = time.perf_counter() - started, route_of(scope)
                self._seconds.labels(route, str(status)).observe(seconds)
                ms = round(1e3 * seconds, 1)
                said = {"route": route, "status": status, "ms": ms}
                REQUESTS.info("%s %d %s ms", route, status, ms, extra=said)

        return timed

    def text(self, age: float | None, hits: Iterable[Hits] = ()) -> bytes:
        """Return the figures as Prometheus reads them. age: of the model, in seconds. hits: what
        became of what was recommended of late."""
        families = list(self._families())
        names = ("domain", "arm")
        shown = GaugeMetricFamily("m6rec_shown_items", "Recommended in a day.", labels=names)
        liked = GaugeMetricFamily(
            "m6rec_hit_items", "Of these, followed by an event of a type that names their list.",
            labels=(*names, "type"),
        )  # fmt: skip
        for each in hits:
            shown.add_metric([each.domain, each.arm], each.given)
            for kind, n in each.answered.items():
                liked.add_metric([each.domain, each.arm, kind], n)
        families += [shown, liked]
        if age is not None:
            families.append(
                GaugeMetricFamily("m6rec_model_age_seconds", "Since the model was made.", age)
            )
        return generate_latest(_Fixed(families))

    def figures(self) -> Figures:
        """Return the figures for the page; routes with most requests first."""
        found = {family.name: family.samples for family in self._families()}
        answers = {
            sample.labels["history"]: int(sample.value)
            for sample in found.get("m6rec_answers", [])
            if sample.name.endswith("_total")
        }
        events = [s.value for s in found.get("m6rec_events", []) if s.name.endswith("_total")]
        return Figures(
            routes=_routes(found.get("m6rec_request_seconds", [])),
            answers=sum(answers.values()),
            cold=answers.get("none", 0),
            events=int(sum(events)),
        )

    def _families(self) -> Iterable[Metric]:
        if SHARED not in os.environ:
            return self.registry.collect()
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry.collect()


def route_of(scope: Scope) -> str:
    """The route that answered, with names in place of what varies: there are few of them."""
    path = getattr(scope.get("route"), "path", None)
    if path is None:
        return "static" if scope["path"].startswith("/static/") else "other"
    if scope["path"].startswith("/api/") and not path.startswith("/api/"):
        path = f"/api{path}"  # newer FastAPI leaves out the prefix of a router in a router
    return f"{scope['method']} {path}"


@dataclass(frozen=True)
class _Fixed:
    """What a registry would collect."""

    families: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def _routes(samples: Iterable[Any]) -> tuple[Route, ...]:
    edges = [*map(float, BUCKETS), float("inf")]
    counts: dict[str, list[float]] = {}
    errors: dict[str, int] = {}
    for sample in samples:
        name = sample.labels["route"]
        if sample.name.endswith("_bucket"):
            reached = counts.setdefault(name, [0.0] * len(edges))
            reached[edges.index(float(sample.labels["le"]))] += sample.value
        elif sample.name.endswith("_count") and sample.labels["status"].startswith("5"):
            errors[name] = errors.get(name, 0) + int(sample.value)
    routes = [
        Route(
            name=name,
            errors=errors.get(name, 0),
            buckets=tuple(int(b - a) for a, b in pairwise((0.0, *reached))),
        )
        for name, reached in counts.items()
    ]
    return tuple(sorted(routes, key=lambda route: -route.n))

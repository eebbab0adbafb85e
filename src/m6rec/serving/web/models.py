"""Models: the runs of the folder, one in detail, and two compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException

from m6rec import artifacts
from m6rec.comparison import compare_runs
from m6rec.errors import M6RecError
from m6rec.learned import Learned, learned
from m6rec.report import NOT_DOMAINS
from m6rec.results import Difference
from m6rec.serving.api_v1 import Here
from m6rec.serving.web import render
from m6rec.serving.web.charts import Mark, curves, marks
from m6rec.serving.web.texts import speaker

Name = Annotated[str, Query(max_length=200)]
router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A run in one line. metric, entry: its first metric over all rows, "" where it has none."""

    name: str
    made: str
    kind: str
    domains: tuple[str, ...]
    events: int | None
    metric: str
    entry: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Marks of a metric: a row a model, a column a slice."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Mark | None, ...]], ...]


@router.get("/models")
async def models(request: Request, here: Here) -> Response:
    """All runs, the newest first."""
    folder = here.path.parent
    names = await here.run(artifacts.runs, folder)
    runs = [await here.run(summary, folder / name) for name in names]
    return render.page(request, "models.html", runs=runs, live=list(here.engine.runs.values()))


@router.get("/models/compare")
async def compare(
    request: Request, here: Here, a: Name = "", b: Name = "", metric: Name = ""
) -> Response:
    """Two runs on the same test rows."""
    folder = here.path.parent
    names = await here.run(artifacts.runs, folder)
    for name in (a, b):
        if name and name not in names:
            raise HTTPException(404, speaker(render.language(request))("no run", key=name))
    a, b = a or (names[1] if len(names) > 1 else names[0]), b or names[0]
    differences: tuple[Difference, ...] = ()
    wrong, metrics = "", []
    if a != b:
        metrics = [m for m in told(folder / a) if m in told(folder / b)]
        metric = metric or (metrics[0] if metrics else "")
        try:
            differences = await here.run(compared, folder / a, folder / b, metric)
        except M6RecError as error:
            wrong = str(error)
    entries = [{"value": d.difference, "low": d.low, "high": d.high} for d in differences]
    known = [{n: v for n, v in entry.items() if v == v} for entry in entries]  # without NaN
    return render.page(
        request,
        "compare.html",
        names=names,
        a=a,
        b=b,
        metric=metric,
        metrics=metrics,
        wrong=wrong,
        lines=list(zip(differences, marks(known, zero=True), strict=True)),
    )


@router.get("/models/{name}")
async def model(request: Request, here: Here, name: str, metric: Name = "") -> Response:
    """A run: metrics by domain and slice, learning curves, λ and ω."""
    folder = here.path.parent
    if name not in await here.run(artifacts.runs, folder):
        raise HTTPException(404, speaker(render.language(request))("no run", key=name))
    path = folder / name
    found = await here.run(_read, path, "metrics.json")
    evaluated: dict[str, dict[str, Any]] = found.get("models", {})
    metrics = told(path)
    metric = metric if metric in metrics else (metrics[0] if metrics else "")
    first = own(found)
    slices = list(first.get("slices", {}))
    others = [each for each in slices if each.startswith(NOT_DOMAINS)]
    try:
        tables, why = await here.run(weights, path), ""
    except M6RecError as error:
        tables, why = (), str(error)
    return render.page(
        request,
        "model.html",
        summary=await here.run(summary, path),
        live=list(here.engine.runs.values()),
        metric=metric,
        metrics=metrics,
        rows=first.get("slices", {}).get("all", {}).get("rows", 0),
        protocol=first.get("protocol", ""),
        by_domain=table(evaluated, [each for each in slices if each not in others], metric),
        by_slice=table(evaluated, others, metric),
        curves=await here.run(curves, path / "log.jsonl"),
        tables=tables,
        why=why,
        manifest=await here.run(_read, path, "manifest.json"),
    )


def summary(path: Path) -> Summary:
    """Return a run in one line, from its manifest and metrics."""
    manifest, found = _read(path, "manifest.json"), _read(path, "metrics.json")
    metrics = told(path)
    return Summary(
        name=path.name,
        made=str(manifest.get("made", "")),
        kind=str(manifest.get("model", {}).get("kind", "")),
        domains=tuple(domain["name"] for domain in manifest.get("domains", [])),
        events=found.get("train_events"),
        metric=metrics[0] if metrics else "",
        entry=own(found)["slices"]["all"][metrics[0]] if metrics else {},
    )


def own(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was measured of the run's own model, the first in metrics.json."""
    found: dict[str, Any] = next(iter(metrics.get("models", {}).values()), {})
    return found


def told(path: Path) -> list[str]:
    """Return the metrics of a run's own model."""
    every = own(_read(path, "metrics.json")).get("slices", {}).get("all", {})
    return [name for name, entry in every.items() if isinstance(entry, dict)]


def table(evaluated: Mapping[str, Any], columns: Sequence[str], metric: str) -> Table:
    """Return the metric of every model in these slices; one scale a column."""
    models = {name: found["slices"] for name, found in evaluated.items()}
    found = {
        column: marks([slices.get(column, {}).get(metric, {}) for slices in models.values()])
        for column in columns
    }
    rows = tuple(
        (name, tuple(found[column][i] for column in columns)) for i, name in enumerate(models)
    )
    return Table(columns=tuple(columns), rows=rows)


@lru_cache(maxsize=32)
def compared(a: Path, b: Path, metric: str) -> tuple[Difference, ...]:
    """Return b against a in every slice; runs do not change, so it is worked out once."""
    return tuple(compare_runs([a, b], metric or None).differences[b.name])


@lru_cache(maxsize=32)
def weights(path: Path) -> tuple[Learned, ...]:
    """Return λ and ω of a run; it is loaded once for it."""
    fitted = artifacts.load(path)
    return tuple(learned(fitted.model, [domain.name for domain in fitted.dataset.domains]))


def _read(path: Path, name: str) -> dict[str, Any]:
    """A JSON file of a run, empty where it is missing or damaged."""
    try:
        found = json.loads((path / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

"""How a report of the opinion monitor is shown: to a person, and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from m6rec.cli import show
from m6rec.opinion.notice import NOTICE

if TYPE_CHECKING:
    from m6rec.opinion.watch import Report

NEWEST = 6  # windows of the series table
ALERTS = 8  # alerts that are shown in full


def show_report(report: Report, since: int = 30) -> None:
    """Print a report: series, change points, forecast, alerts."""
    series = report.series
    say_notice()
    show.heading(f"Opinion in the newest windows, to {day(int(series.ends[-1]))}")
    show.caption("From -1 to 1, by the end of the window; – where nothing was written.")
    days = [day(int(end))[5:] for end in series.ends[-NEWEST:]]  # the heading says the year
    opinion, documents = series.values["opinion"], series.values["documents"]
    rows = [
        (entity, *opinion[e, -NEWEST:].tolist(), int(documents[e, -NEWEST:].sum()))
        for e, entity in enumerate(series.entities)
    ]
    show.table(("entity", *days, "texts"), rows)
    show.heading("Forecast of the next window")
    for measure, model in report.models.items():
        told = f"λ {model.lam:.2f} of neighbours, the rest GRU" if any(model.gain) else "base alone"
        show.caption(f"{measure}: {told}; bands hold {model.options.coverage:.0%}")
    wanted = report.forecast.filter(pl.col("measure") == "opinion")
    show.frame(wanted.select("entity", "last", "forecast", "low", "high"))
    first = int(series.ends[max(-since, -len(series.ends))])
    drifts = report.drifts.filter(pl.col("time") > first)
    if drifts.height:
        show.heading("Drift of the readings")
        show.caption("From then on, what is written of an entity is known to have another tone.")
        show.frame(drifts.with_columns(pl.col("time").map_elements(day, pl.String)).tail(8))
    if report.changes.height:
        show.heading("Change points of opinion")
        show.caption("known: the first day on which the search finds it.")
        recent = report.changes.sort("known", descending=True).head(8)
        moments = [pl.col(name).map_elements(day, pl.String) for name in ("time", "known")]
        show.frame(recent.with_columns(*moments))
    show.heading(f"Alerts of the last {since} windows")
    show.caption("The newest first, each with the end of its window, when it could be known.")
    if not report.events:
        show.line("none")
    for event in report.events[:ALERTS]:
        a = event.alert
        show.line(f"{day(a.time)}  {a.severity.upper()}  {event.text()}  [{a.rule}]")
        for title, source, share in event.documents.select("title", "source", "share").rows():
            show.line(f"    {share:4.0%}  {title or '(no title)'} ({source})")
        if event.terms:
            show.line("    terms: " + ", ".join(term for term, _ in event.terms))
        if event.along:
            show.line("    moved along: " + ", ".join(name for name, _ in event.along))
        show.line(f"    {event.suggestion()}")
    if len(report.events) > ALERTS:
        show.line(f"… and {len(report.events) - ALERTS} before; --json shows all")
    for text in report.notes:
        show.note(f"note: {text}")
    say_notice()


def as_table(report: Report) -> dict[str, Any]:
    """Return a report as one JSON document."""
    return {
        "notice": NOTICE["en"],
        "series": report.series.frame().to_dicts(),
        "changes": report.changes.to_dicts(),
        "drifts": report.drifts.to_dicts(),
        "forecast": report.forecast.to_dicts(),
        "models": {n: {"lam": m.lam, "error": m.error} for n, m in report.models.items()},
        "alerts": [asdict(record) for record in report.records()],
        "notes": list(report.notes),
    }


def say_notice() -> None:
    """Print what stands on every screen."""
    show.line(NOTICE["en"])


def day(time: int | None) -> str:
    """Return the day, or the minute where it is not midnight, of a time in unix seconds."""
    if time is None:
        return ""
    moment = datetime.fromtimestamp(time, UTC)
    return f"{moment:%Y-%m-%d}" if time % 86_400 == 0 else f"{moment:%Y-%m-%d %H:%M}"

"""The verbs of ``m6rec opinion``: read, train, watch, backtest, alerts."""

from __future__ import annotations

import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import polars as pl
import typer

from m6rec.cli import show
from m6rec.cli.opinion_data import (
    moment,
    options_of,
    prices_of,
    readings_of,
    shocks_of,
    trained_reader,
    write,
)
from m6rec.cli.opinion_report import as_table, day, say_notice, show_report
from m6rec.errors import ConfigError, DataError

if TYPE_CHECKING:
    from m6rec.opinion.config import OpinionConfig
    from m6rec.opinion.watch import Report
    from m6rec.store import Store

GROUP = show.examples(
    "m6rec opinion watch finance.toml",
    "m6rec opinion backtest finance.toml --made",
)
READ = show.examples(
    "m6rec opinion read finance.toml",
    "m6rec opinion read finance.toml --data posts.jsonl --out readings.parquet",
)
TRAIN = show.examples(
    "m6rec opinion train finance.toml --out models",
    "m6rec opinion train finance.toml --labels labels.csv --out models",
)
WATCH = show.examples(
    "m6rec opinion watch finance.toml",
    "m6rec opinion watch finance.toml --store sqlite:///m6rec.db --every 300",
)
BACKTEST = show.examples(
    "m6rec opinion backtest finance.toml --made",
    "m6rec opinion backtest finance.toml --shocks shocks.csv",
)
ALERTS = show.examples(
    "m6rec opinion alerts --store sqlite:///m6rec.db --open",
    "m6rec opinion alerts --store sqlite:///m6rec.db --acknowledge 5f0c… --user ann",
)
READER, FORECASTERS = "reader.safetensors", "forecast.safetensors"

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file with [opinion].")]
Data = Annotated[
    list[Path] | None,
    typer.Option("--data", metavar="FILE", help="Documents, instead of those of CONFIG."),
]
Prices = Annotated[
    list[Path] | None,
    typer.Option("--prices", metavar="FILE", help="Prices, instead of those of CONFIG."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=VALUE", help="Override an entry of the TOML; repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
StoreUrl = Annotated[
    str | None, typer.Option("--store", metavar="URL", help="The event store to keep it in.")
]
Models = Annotated[
    Path | None,
    typer.Option("--models", metavar="DIR", help="What train wrote; fitted anew if left out."),
]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=GROUP,
    help="Watch opinions and prices: series, forecast, alerts. Information, not advice.",
)


@app.command(epilog=READ)
def read(
    config: Config,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Readings as .parquet or .csv.")
    ] = None,
    store: StoreUrl = None,
    set: Set = None,
    json: Json = False,
) -> None:
    """Read documents: language, entities, copies, sentiment."""
    options = options_of(config, set, data)
    from m6rec.store import Store

    kept = Store.open(store) if store else None
    try:
        documents, readings = readings_of(options, kept)
    finally:
        if kept is not None:
            kept.close()
    if out is not None:
        write(readings, out)
    by_entity = _by_entity(readings)
    if json:
        show.as_json(
            {"documents": documents.height, "readings": readings.height,
             "entities": by_entity.to_dicts()}
        )  # fmt: skip
        return
    say_notice()
    languages = documents["language"].value_counts(sort=True).rows()
    told = ", ".join(f"{n:,} {language}" for language, n in languages)
    show.line(f"{documents.height:,} documents ({told}); {readings.height:,} readings")
    show.heading("Entities")
    show.frame(by_entity)


@app.command(epilog=TRAIN)
def train(
    config: Config,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where models are written.")],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="CSV: text, sentiment; trains the reader."),
    ] = None,
    data: Data = None,
    prices: Prices = None,
    set: Set = None,
    json: Json = False,
) -> None:
    """Fit the forecasters, and the reader of sentiment by labels."""
    from m6rec.opinion import saved
    from m6rec.opinion.series import build
    from m6rec.opinion.watch import train as fit
    from m6rec.tracking import Run

    options = options_of(config, set, data, prices)
    out.mkdir(parents=True, exist_ok=True)
    if labels is not None:
        trained_reader(options, labels).save(out / READER)
    _, readings = readings_of(options, None, out / READER)
    series = build(readings, prices_of(options), options.windows)
    notes: list[str] = []
    models = fit(series, options, Run(bars=show.bars(json)), notes)
    saved.save(out / FORECASTERS, models, series.entities, options.windows.hours)
    rows = [
        (name, m.lam, *m.error, m.season if m.season > 1 else 0, m.base.alpha)
        for name, m in models.items()
    ]
    heads = ("measure", "λ", "base", "neighbours", "GRU", "fused", "season", "alpha")
    if json:
        show.as_json([dict(zip(heads, row, strict=True)) for row in rows])
        return
    say_notice()
    show.heading("Forecast of the next window: mean absolute error on the holdout")
    show.caption("In units of the base's error on train. λ is the share of the neighbours.")
    show.table(heads, rows)
    for text in notes:
        show.note(f"note: {text}")
    show.whole(f"{out / FORECASTERS}: written")


@app.command(epilog=WATCH)
def watch(
    config: Config,
    data: Data = None,
    prices: Prices = None,
    models: Models = None,
    until: Annotated[
        str, typer.Option("--until", metavar="DATE", help="As of then, such as 2015-06-30.")
    ] = "",
    since: Annotated[
        int, typer.Option("--since", metavar="N", help="Windows whose alerts are shown.")
    ] = 30,
    store: StoreUrl = None,
    every: Annotated[
        int, typer.Option("--every", metavar="SECONDS", help="Go on, and look again; 0 = once.")
    ] = 0,
    set: Set = None,
    json: Json = False,
) -> None:
    """Series, change points, forecast and alerts, with what drove them.

    With --store, documents, prices and alerts are kept there, and new alerts are delivered.
    """
    from m6rec.opinion.delivery import deliver
    from m6rec.store import Store

    options = options_of(config, set, data, prices)
    kept = Store.open(store) if store else None
    report: Report | None = None
    try:
        while True:
            report = _report(options, kept, models, until, since, report)
            if kept is not None:
                new = kept.alerts.add(report.records(), options.delivery.sinks)
                sent, failed = deliver(kept, options.delivery, int(clock.time()))
                show.note(f"{new} new alerts; {sent} delivered, {failed} to be tried again")
            if json:
                show.as_json(as_table(report))
            else:
                show_report(report, since)
            if not every:
                return
            clock.sleep(every)
    finally:
        if kept is not None:
            kept.close()


@app.command(epilog=BACKTEST)
def backtest(
    config: Config,
    data: Data = None,
    prices: Prices = None,
    shocks: Annotated[
        Path | None,
        typer.Option("--shocks", metavar="FILE", help="CSV: entity, time or date, direction."),
    ] = None,
    made: Annotated[
        bool, typer.Option("--made", help="On made-up series with planted shocks.")
    ] = False,
    horizon: Annotated[
        int, typer.Option("--horizon", metavar="N", help="Windows in which a shock is found.")
    ] = 8,
    seed: Annotated[int, typer.Option("--seed", help="Of the made-up series.")] = 0,
    set: Set = None,
    json: Json = False,
) -> None:
    """Precision, recall and delay of the rules on known shocks, beside CUSUM."""
    from m6rec.opinion.backtest import compare
    from m6rec.opinion.series import build
    from m6rec.opinion.shocks import World, make

    options = options_of(config, set, data, prices)
    if made == (shocks is not None):
        raise ConfigError("backtest: say either --shocks FILE or --made")
    if shocks is not None:
        _, readings = readings_of(options, None)
        series, known = build(readings, prices_of(options), options.windows), shocks_of(shocks)
    else:
        world = make(World(entities=24, sectors=4, windows=400, shocks=60, seed=seed))
        series, known = build(world.readings, world.prices, options.windows), world.shocks
    found = compare(series, options.rules, known, horizon)
    if json:
        show.as_json(found.to_dicts())
        return
    say_notice()
    show.heading(f"Backtest: {known.height} shocks, found within {horizon} windows")
    show.caption("Delay in windows; false alarms per entity and year. CUSUM has the limit at which")
    show.caption("it raises as many false alarms on made-up series without shocks.")
    show.frame(found)


@app.command(epilog=ALERTS)
def alerts(
    store: Annotated[str, typer.Option("--store", metavar="URL", help="The event store.")],
    open: Annotated[
        bool, typer.Option("--open", help="Only those that nobody has acknowledged.")
    ] = False,
    entity: Annotated[str, typer.Option("--entity", metavar="NAME", help="Of one entity.")] = "",
    acknowledge: Annotated[
        str, typer.Option("--acknowledge", metavar="KEY", help="Note that you have seen it.")
    ] = "",
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Who has.")] = "",
    n: Annotated[int, typer.Option("-n", help="At most so many.")] = 20,
    json: Json = False,
) -> None:
    """List the alerts of a store, or acknowledge one."""
    from m6rec.store import Store

    kept = Store.open(store, create=False)
    try:
        if acknowledge:
            if not user:
                raise ConfigError("alerts: say --user, who has seen it")
            if not kept.alerts.acknowledge(acknowledge, user, int(clock.time())):
                raise DataError(f'alerts: there is no alert "{acknowledge}" in {store}')
        found = kept.alerts.find(entity=entity or None, open_only=open, n=n)
    finally:
        kept.close()
    rows = [(a.key, day(a.time), a.severity, a.rule, a.text, day(a.acknowledged)) for a in found]
    heads = ("key", "time", "severity", "rule", "what", "acknowledged")
    if json:
        show.as_json([dict(zip(heads, row, strict=True)) | {"details": a.details}
                      for row, a in zip(rows, found, strict=True)])  # fmt: skip
        return
    say_notice()
    show.table(heads, rows)


def _report(
    options: OpinionConfig, kept: Store | None, models: Path | None, until: str, since: int,
    before: Report | None,
) -> Report:  # fmt: skip
    """Return what is known now. Forecasters are those in ``models``, else those of the report
    before if the entities are still the same."""
    from m6rec.opinion import saved
    from m6rec.opinion.series import build
    from m6rec.opinion.watch import watch as look
    from m6rec.tracking import Run

    reader = models / READER if models is not None else None
    documents, readings = readings_of(options, kept, reader)
    prices = prices_of(options)
    if kept is not None:
        kept.opinions.add_prices(prices)
        prices = kept.opinions.prices()
    end = moment(until) if until else int(clock.time())  # a window that goes on is no window yet
    series = build(readings, prices, options.windows, end)
    fitted = None
    if before is not None and before.series.entities == series.entities:
        fitted = before.models
    if models is not None:
        fitted = saved.load(models / FORECASTERS, series.entities, options.windows.hours)
    first = int(series.ends[-1]) - round(since * options.windows.hours * 3600)
    return look(
        readings, prices, options, documents=documents, models=fitted, since=first, until=end,
        run=Run(bars=show.bars()),
    )  # fmt: skip


def _by_entity(readings: pl.DataFrame) -> pl.DataFrame:
    said = (pl.col("sentiment") * pl.col("confidence")).sum() / pl.col("confidence").sum()
    grouped = readings.group_by("entity").agg(readings=pl.len(), opinion=said)
    return grouped.sort("readings", "entity", descending=[True, False])

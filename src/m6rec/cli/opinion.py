"""The verbs of ``m6rec opinion``: read, train, watch, backtest, alerts."""

from __future__ import annotations

import time as clock
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import polars as pl
import typer

from m6rec.cli import show
from m6rec.errors import ConfigError, DataError
from m6rec.opinion.notice import NOTICE

if TYPE_CHECKING:
    from m6rec.opinion.config import OpinionConfig
    from m6rec.opinion.sentiment import Reader
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
NEWEST = 6  # windows of the series table
READER, FORECASTERS = "reader.safetensors", "forecast.safetensors"
MOST = 1_000_000  # documents whose texts are at hand for what drove an alert

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
    options = _options(config, set, data)
    from m6rec.store import Store

    kept = Store.open(store) if store else None
    try:
        documents, readings = _read(options, kept)
    finally:
        if kept is not None:
            kept.close()
    if out is not None:
        _write(readings, out)
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

    options = _options(config, set, data, prices)
    out.mkdir(parents=True, exist_ok=True)
    if labels is not None:
        _trained_reader(options, labels).save(out / READER)
    _, readings = _read(options, None, out / READER)
    series = build(readings, _prices(options), options.windows)
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

    options = _options(config, set, data, prices)
    kept = Store.open(store) if store else None
    try:
        while True:
            report = _report(options, kept, models, until, since)
            if kept is not None:
                new = kept.alerts.add(report.records(), options.delivery.sinks)
                sent, failed = deliver(kept, options.delivery, int(clock.time()))
                show.note(f"{new} new alerts; {sent} delivered, {failed} to be tried again")
            if json:
                show.as_json(_as_table(report))
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

    options = _options(config, set, data, prices)
    if made == (shocks is not None):
        raise ConfigError("backtest: say either --shocks FILE or --made")
    if shocks is not None:
        _, readings = _read(options, None)
        series, known = build(readings, _prices(options), options.windows), _shocks(shocks)
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

    kept = Store.open(store)
    try:
        if acknowledge:
            if not user:
                raise ConfigError("alerts: say --user, who has seen it")
            if not kept.alerts.acknowledge(acknowledge, user, int(clock.time())):
                raise DataError(f'alerts: there is no alert "{acknowledge}" in {store}')
        found = kept.alerts.find(entity=entity or None, open_only=open, n=n)
    finally:
        kept.close()
    rows = [(a.key, _day(a.time), a.severity, a.rule, a.text, _day(a.acknowledged)) for a in found]
    heads = ("key", "time", "severity", "rule", "what", "acknowledged")
    if json:
        show.as_json([dict(zip(heads, row, strict=True)) | {"details": a.details}
                      for row, a in zip(rows, found, strict=True)])  # fmt: skip
        return
    say_notice()
    show.table(heads, rows)


def show_report(report: Report, since: int = 30) -> None:
    """Print a report: series, change points, forecast, alerts."""
    series = report.series
    say_notice()
    show.heading(f"Opinion in the newest windows, to {_day(int(series.ends[-1]))}")
    show.caption("From -1 to 1; – where nothing was written.")
    days = [_day(int(end)) for end in series.ends[-NEWEST:]]
    opinion, documents = series.values["opinion"], series.values["documents"]
    rows = [
        (entity, *opinion[e, -NEWEST:].tolist(), int(documents[e, -NEWEST:].sum()))
        for e, entity in enumerate(series.entities)
    ]
    show.table(("entity", *days, "documents"), rows)
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
        show.frame(drifts.with_columns(pl.col("time").map_elements(_day, pl.String)).tail(8))
    if report.changes.height:
        show.heading("Change points of opinion")
        show.caption("known: the first day on which the search finds it.")
        recent = report.changes.sort("known", descending=True).head(8)
        moments = [pl.col(name).map_elements(_day, pl.String) for name in ("time", "known")]
        show.frame(recent.with_columns(*moments))
    show.heading(f"Alerts of the last {since} windows")
    if not report.events:
        show.line("none")
    for event in report.events:
        a = event.alert
        show.line(f"{_day(a.time)}  {a.severity.upper()}  {event.text()}  [{a.rule}]")
        for title, source, share in event.documents.select("title", "source", "share").rows():
            show.line(f"    {share:4.0%}  {title or '(no title)'} ({source})")
        if event.terms:
            show.line("    terms: " + ", ".join(term for term, _ in event.terms))
        if event.along:
            show.line("    moved along: " + ", ".join(name for name, _ in event.along))
        show.line(f"    {event.suggestion()}")
    for text in report.notes:
        show.note(f"note: {text}")
    say_notice()


def _report(
    options: OpinionConfig, kept: Store | None, models: Path | None, until: str, since: int
) -> Report:
    from m6rec.opinion import saved
    from m6rec.opinion.series import build
    from m6rec.opinion.watch import watch as look
    from m6rec.tracking import Run

    reader = models / READER if models is not None else None
    documents, readings = _read(options, kept, reader)
    prices = _prices(options)
    if kept is not None:
        kept.opinions.add_prices(prices)
        prices = kept.opinions.prices()
    end = _moment(until) if until else None
    series = build(readings, prices, options.windows, end)
    fitted = None
    if models is not None:
        fitted = saved.load(models / FORECASTERS, series.entities, options.windows.hours)
    first = int(series.ends[-1]) - round(since * options.windows.hours * 3600)
    return look(
        readings, prices, options, documents=documents, models=fitted, since=first, until=end,
        run=Run(bars=show.bars()),
    )  # fmt: skip


def _options(
    path: Path, set: list[str] | None, data: list[Path] | None, prices: list[Path] | None = None
) -> OpinionConfig:
    from m6rec.opinion.config import OpinionConfig

    found = OpinionConfig.read(path, set or [])
    if data:
        found = replace(found, documents=tuple(data))
    return replace(found, prices=tuple(prices)) if prices else found


def _read(
    options: OpinionConfig, kept: Store | None, reader: Path | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return documents and readings: of the files, or with a store of all that it holds."""
    from m6rec.opinion.reading import catch_up
    from m6rec.opinion.reading import read as look

    if reader is not None and reader.exists():
        options = replace(options, reader=reader)
    documents, problems = options.read_documents()
    _problems(problems)
    entities, model = options.open_entities(), options.open_reader()
    if kept is None:
        return documents, look(documents, entities, model, options.copies).readings
    kept.opinions.add_documents(documents)
    while catch_up(kept, entities, model, options.copies):
        pass
    return kept.opinions.documents(n=MOST), kept.opinions.readings()


def _prices(options: OpinionConfig) -> pl.DataFrame:
    prices, problems = options.read_prices()
    _problems(problems)
    return prices


def _problems(problems: Sequence[object]) -> None:
    for problem in problems[:5]:
        show.note(f"left out: {problem}")
    if len(problems) > 5:
        show.note(f"left out: {len(problems) - 5:,} more rows")


def _trained_reader(options: OpinionConfig, path: Path) -> Reader:
    from m6rec.opinion.rows import records
    from m6rec.opinion.sentiment import CLASSES

    rows, problems = records(path)
    _problems(problems)
    texts, labels = [], []
    for place, row in rows:
        said = str(row.get("sentiment", "")).strip().lower()
        if said not in CLASSES or not row.get("text"):
            raise DataError(
                f"{path}, row {place}: needs text, and a sentiment of {', '.join(CLASSES)}"
            )
        texts.append(str(row["text"]))
        labels.append(CLASSES.index(said))
    return options.sentiment.fit(texts, np.array(labels))


def _shocks(path: Path) -> pl.DataFrame:
    from m6rec.opinion.rows import records, times

    rows, problems = records(path)
    _problems(problems)
    found = [(row.get("entity"), row.get("time") or row.get("date"), row.get("direction") or 0)
             for _, row in rows]  # fmt: skip
    frame = pl.DataFrame(
        {
            "entity": [str(entity or "") for entity, _, _ in found],
            "time": times(pl.Series([str(time or "") for _, time, _ in found]), "UTC"),
            "direction": pl.Series([str(way) for *_, way in found]).cast(pl.Int64, strict=False),
        }
    )
    wrong = frame.with_row_index().filter(
        (pl.col("entity") == "")
        | pl.col("time").is_null()
        | ~pl.col("direction").is_in([-1, 0, 1]).fill_null(False)
    )
    if wrong.height:
        raise DataError(
            f"{path}, row {rows[wrong['index'][0]][0]}: needs entity, a time or date, and a "
            "direction of 1, -1 or none"
        )
    return frame


def _write(readings: pl.DataFrame, out: Path) -> None:
    if out.suffix == ".parquet":
        readings.write_parquet(out)
    elif out.suffix == ".csv":
        readings.write_csv(out)
    else:
        raise ConfigError(f"--out {out}: must end in .parquet or .csv")


def _by_entity(readings: pl.DataFrame) -> pl.DataFrame:
    said = (pl.col("sentiment") * pl.col("confidence")).sum() / pl.col("confidence").sum()
    grouped = readings.group_by("entity").agg(readings=pl.len(), opinion=said)
    return grouped.sort("readings", "entity", descending=[True, False])


def _as_table(report: Report) -> dict[str, Any]:
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


def _day(time: int | None) -> str:
    """Return the day, or the minute where it is not midnight, of a time in unix seconds."""
    if time is None:
        return ""
    moment = datetime.fromtimestamp(time, UTC)
    return f"{moment:%Y-%m-%d}" if time % 86_400 == 0 else f"{moment:%Y-%m-%d %H:%M}"


def _moment(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--until {text}: write it as 2015-06-30") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())

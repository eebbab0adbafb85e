"""The demo of the finance scenario: made-up news in two languages, with shocks that are known."""

from __future__ import annotations

import shlex
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from m6rec.cli import show
from m6rec.cli.opinion_report import say_notice, show_report
from m6rec.errors import ConfigError
from m6rec.opinion.notice import NOTICE
from m6rec.opinion.shocks import World

CONFIG = "finance.toml"
WORLD = World(windows=150, documents=8, shocks=10, size=0.7, quiet=60, apart=30, seed=7)
SHOWN = 45  # newest windows whose alerts are shown


def demo(out: Path) -> None:
    """Write made-up news and prices below ``out``, read, watch and backtest them."""
    from m6rec.opinion.backtest import compare
    from m6rec.opinion.config import OpinionConfig
    from m6rec.opinion.reading import read
    from m6rec.opinion.series import build
    from m6rec.opinion.watch import watch
    from m6rec.tracking import Run

    if find_spec("ruptures") is None or find_spec("river") is None:
        raise ConfigError(
            'the scenario finance needs the extra opinion: pip install "m6rec[opinion]"'
        )
    folder = out / "finance"
    say = show.teller()
    say_notice()
    shocks = write(folder, WORLD)
    options = OpinionConfig.read(folder / CONFIG)
    documents, _ = options.read_documents()
    prices, _ = options.read_prices()
    say(f"{documents.height:,} made-up documents of {WORLD.entities} firms in {folder}")
    readings = read(documents, options.open_entities(), options.open_reader(), options.copies)
    found = readings.readings
    say(f"read: {found.height:,} readings, {documents.height - len(readings.whole):,} copies")
    last = int(build(found, prices, options.windows).ends[-1])
    since = last - SHOWN * round(options.windows.hours * 3600)
    report = watch(
        found, prices, options, documents=documents, since=since, run=Run(bars=show.bars())
    )
    say("watched")
    show_report(report, SHOWN)
    show.heading(f"Backtest on the {shocks.height} planted shocks")
    show.caption("delay: windows, 0 = on the first day. false: alarms per entity and year.")
    table = compare(report.series, options.rules, shocks, horizon=8)
    columns = {"precision": "precision", "recall": "recall", "delay_mean": "delay",
               "false_per_year": "false"}  # fmt: skip
    show.frame(table.select("rule", "limit", "alerts", **{b: a for a, b in columns.items()}))
    say("done")
    show.heading("Go on")
    config = shlex.quote(str(folder / CONFIG))
    show.whole(f"m6rec opinion watch {config}")
    show.whole(f"m6rec serve RUN --opinion {config}    # the page, beside any run")
    show.line(NOTICE["en"])


def write(folder: Path, world: World) -> pl.DataFrame:
    """Write documents, prices, aliases and configuration; return the planted shocks."""
    from m6rec.opinion import stories
    from m6rec.opinion.shocks import make

    folder.mkdir(parents=True, exist_ok=True)
    made = stories.named(make(world))
    stories.documents(made).rename({"document": "id"}).write_ndjson(folder / "documents.jsonl")
    made.prices.write_csv(folder / "prices.csv")
    stories.aliases().write_csv(folder / "entities.csv")
    toml = files("m6rec.scenarios").joinpath(CONFIG).read_text(encoding="utf-8")
    (folder / CONFIG).write_text(toml, encoding="utf-8")
    return made.shocks

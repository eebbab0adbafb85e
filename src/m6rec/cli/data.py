"""Verbs before training: fetch, init, check, prepare."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from m6rec.cli import show
from m6rec.errors import ConfigError
from m6rec.scenarios import PRESETS, preset

FETCH = show.examples("m6rec fetch ml-100k")
INIT = show.examples(
    "m6rec init --from ratings.csv --from films.csv",
    "m6rec init --from log.parquet --out shop.toml",
    "m6rec init --scenario music --from plays.csv",
)
CHECK = show.examples("m6rec check shop.toml", "m6rec check shop.toml --json > report.json")
PREPARE = show.examples(
    "m6rec prepare shop.toml --out /shared/shop",
    "m6rec prepare shop.toml --cluster 10.0.0.1:6379 --out /shared/shop",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="The TOML file of the experiment.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=VALUE", help="Override an entry of the TOML; repeatable."),
]

Machines = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help='Do it on a Ray cluster: "auto", or "ray://host:10001".',
    ),
]


def fetch(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of a public data set: ml-100k.")
    ],
    json: Json = False,
) -> None:
    """Fetch a public data set into the cache."""
    from m6rec.data import fetch as source
    from m6rec.tracking import Run

    path = source.fetch(name, run=Run(bars=show.bars(json)))
    if json:
        show.as_json({"path": str(path), "files": sorted(f.name for f in path.iterdir())})
    else:
        show.whole(str(path))


def init(
    files: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="FILE", help="A file of yours; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write.")] = Path(
        "experiment.toml"
    ),
    scenario: Annotated[
        str, typer.Option("--scenario", metavar="NAME", help=f"One of {', '.join(PRESETS)}.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Draft a commented TOML from your files.

    A scenario says how the events of a line of business count, and what fits it.
    """
    from m6rec.data.inspect import draft
    from m6rec.experiment import DEFAULT_KIND

    if not files:
        raise ConfigError("init: name your files, such as `m6rec init --from log.csv`")
    if out.exists() and not force:
        raise ConfigError(f"{out}: exists already; choose another --out, or say --force")
    base = out.absolute().parent
    if not base.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {base}; make it first")
    chosen = preset(scenario) if scenario else None
    text = draft([file.absolute() for file in files], base, chosen)
    if chosen is None:
        text += f"\n{_MODEL.format(kind=DEFAULT_KIND)}"
    out.write_text(f'name = "{out.stem}"\nseed = 0\n\n{text}', encoding="utf-8")
    show.whole(f"{out}: written; read it, then")
    for verb in ("check", "train"):
        show.whole(f"m6rec {verb} {shlex.quote(str(out))}")


_MODEL = """\
[model]
kind = "{kind}"

[[evaluate.baselines]] # what the model is compared with
kind = "popular"
"""


def check(config: Config, set: Set = None, json: Json = False) -> None:
    """Say what is in the data and what was dropped."""
    from m6rec.data.check import agree
    from m6rec.data.check import check as inspect
    from m6rec.data.prepare import prepare
    from m6rec.experiment import load

    experiment = load(config, set or [])
    run = experiment.tracking(bars=show.bars(json))
    prepared = prepare(experiment.data, Path(experiment.base), run)
    agree(prepared, experiment.split)
    report = inspect(prepared, experiment.twins)
    if json:
        show.as_json(report.to_json() | {"drops": prepared.drops.to_json()})
        return
    span = "no times"
    if report.span:
        days = [datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d") for t in report.span]
        span = f"{days[0]} to {days[1]}"
    show.line(f"{report.events:,} events of {report.users:,} users on {report.items:,} items")
    show.line(
        f"{span}; {report.dropped:,} rows dropped; {report.cold_users:,} users without events"
    )
    rows = [
        (
            *(d.name, d.feedback, d.users, d.items, d.events, f"{d.density:.3%}", d.cold_items),
            *(f"{d.with_text:.0%}", f"{d.with_attributes:.0%}"),
        )
        for d in report.domains
    ]
    heads = ("domain", "feedback", "users", "items", "events", "density", "cold", "text", "attrs")
    show.heading("Domains")
    show.caption("cold: items without events. text, attrs: how many items have any.")
    show.table(heads, rows)
    if report.overlaps:
        show.heading("Overlap")
        pairs = [
            (f"{o.first} – {o.second}", o.users, f"{o.share:.0%}", o.twins) for o in report.overlaps
        ]
        show.table(("domains", "shared users", "of the smaller", "twins"), pairs)
    if report.attributes:
        show.heading("Attributes")
        show.caption(
            "missing: of all items or users. no number: where most of a text are numbers, "
            "the first value that is none."
        )
        columns = [(a.of, a.name, a.kind, f"{a.missing:.0%}", a.odd) for a in report.attributes]
        show.table(("of", "column", "read as", "missing", "no number"), columns)
    show_drops(prepared.drops.rows())
    for text in report.notes:
        show.note(f"note: {text}")


def prepare(
    config: Config,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder to write.")],
    set: Set = None,
    cluster: Machines = "auto",
    json: Json = False,
) -> None:
    """Clean a log that is larger than memory.

    Reads the interactions in pieces on a Ray cluster, checks and cleans them, and writes them as
    Parquet with a TOML that trains on them. All machines must see the data and DIR. What was
    killed goes on where it was when it is started again.
    """
    from m6rec.cluster.prepare import prepare as prepare_there
    from m6rec.experiment import load
    from m6rec.tracking import Run

    with Run(bars=show.bars(json)).progress("prepare", 100) as advance:
        shown = 0

        def tell(done: int, of: int) -> None:
            nonlocal shown
            advance(100 * done // of - shown)
            shown = 100 * done // of

        found = load(config, set or [])
        drops = prepare_there(cluster or "auto", found, out, config.name, advance=tell)
    if json:
        show.as_json({"out": str(out / config.name), "drops": drops.to_json()})
        return
    show.line(f"{drops.kept:,} of {sum(drops.read.values()):,} events kept")
    show_drops(drops.rows())
    for text in drops.notes:
        show.note(f"note: {text}")
    show.whole(f"m6rec train {shlex.quote(str(out / config.name))}")


def show_drops(rows: list[tuple[str, str, str, int, str]]) -> None:
    """Print what cleaning left out, if anything."""
    if rows:
        show.heading("Left out")
        show.table(("step", "table", "why", "rows", "for example"), rows)

"""The verb ``demo``: MovieLens-100k from fetch to report, in one go."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from m6rec.cli import show

EXAMPLES = show.examples("m6rec demo", "m6rec demo --out /tmp/runs")
KNOWN = "405"
LIKED = ("Alien", "Blade Runner", "Star Wars")


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where the run is written.")] = Path("runs"),
) -> None:
    """Fetch MovieLens-100k, train, evaluate, report.

    Three groups of genres stand for three domains.
    """
    from m6rec import report
    from m6rec.cli.training import show_evaluations
    from m6rec.data.fetch import fetch
    from m6rec.experiment import load
    from m6rec.pipeline import Trained, save
    from m6rec.recommender import Recommender
    from m6rec.tracking import Run

    base = fetch("ml-100k", run=Run(bars=True))
    toml = files("m6rec.scenarios").joinpath("demo.toml")
    experiment = load(Path(str(toml)), [f"base={str(base)!r}"])
    asked: list[report.Section] = []

    def extras(trained: Trained, folder: Path) -> None:
        recommender = Recommender(trained.fitted)
        known = recommender.recommend(KNOWN, k=5, explain=True)
        new = recommender.recommend(history=LIKED, k=5, explain=True)
        liked = ", ".join(LIKED[:-1]) + f" and {LIKED[-1]}"
        asked.extend(
            (
                report.Section(heading=f"For user {KNOWN}", frame=_short(known)),
                report.Section(heading=f"For somebody new who likes {liked}", frame=_short(new)),
            )
        )
        report.write(trained, folder, asked)

    with show.steps() as say:
        trained = save(experiment, out, say=say, extras=extras)
    show_evaluations(trained.evaluations)
    for section in asked:
        show.heading(section.heading)
        if section.frame is not None:
            show.frame(section.frame)
    path = trained.fitted.path
    show.heading("Go on")
    show.line('m6rec recommend current --history "Toy Story, Fargo" --explain')
    show.line(f"Report: {(path or out) / report.FILE}")


def _short(found: pl.DataFrame) -> pl.DataFrame:
    return found.select("title", "domain", pl.col("because"))

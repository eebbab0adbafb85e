"""The verb ``demo``: MovieLens-100k from fetch to report, in one go."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from m6rec.cli import show

EXAMPLES = show.examples("m6rec demo", "m6rec demo --out /tmp/runs")
KNOWN = "405"
EACH = 3  # films shown of each domain
LIKED = ("Alien", "Blade Runner", "Star Wars")


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the run is written.")
    ] = Path("runs"),
) -> None:
    """Fetch MovieLens-100k, train, evaluate, report.

    Three groups of genres stand for three domains.
    """
    from m6rec import artifacts, report
    from m6rec.cli.training import show_evaluations, show_learned
    from m6rec.data.fetch import fetch
    from m6rec.experiment import load
    from m6rec.pipeline import Trained, save
    from m6rec.recommender import Recommender
    from m6rec.tracking import Run

    base = fetch("ml-100k", run=Run(bars=show.bars()))
    toml = files("m6rec.scenarios").joinpath("demo.toml")
    experiment = load(Path(str(toml)), [f"base={str(base)!r}"])
    asked: list[report.Section] = []

    def extras(trained: Trained, folder: Path) -> None:
        recommender = Recommender(trained.fitted)
        liked = ", ".join(LIKED[:-1]) + f" and {LIKED[-1]}"
        requests: dict[str, dict[str, Any]] = {
            f"For user {KNOWN}": {"user": KNOWN},
            f"For somebody new who likes {liked}": {"history": LIKED},
        }
        for heading, request in requests.items():
            lists = [
                recommender.recommend(**request, domain=domain.name, k=EACH, explain=True)
                for domain in recommender.dataset.domains
            ]
            shown = pl.concat(lists).select("domain", "title", "because")
            asked.append(report.Section(heading=heading, frame=shown))
        report.write(trained, folder, asked)

    say = show.teller()
    trained = save(experiment, out, bars=show.bars(), say=say, extras=extras)
    say("done")
    show_evaluations(trained.evaluations)
    show_learned(trained)
    for section in asked:
        show.heading(section.heading)
        if section.frame is not None:
            show.frame(section.frame)
    path = trained.fitted.path
    if path is not None:
        run = shlex.quote(artifacts.current_name(path))
        show.heading("Go on")
        show.whole(f'm6rec recommend {run} --history "Toy Story, Fargo" --explain')
        show.whole("make serve" if Path("Makefile").exists() else f"m6rec serve {run}")
        show.whole(f"Report: {path / report.FILE}")

"""The verb ``demo``: from data to report, in one go, for each line of business."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from m6rec.cli import show
from m6rec.errors import ConfigError, suggestion

EXAMPLES = show.examples("m6rec demo", "m6rec demo --scenario social", "m6rec demo --out /tmp/runs")
SCENARIOS = ("commerce", "video", "music", "social", "support", "finance")
KNOWN = "405"
EACH = 3  # films shown of each domain
LIKED = ("Alien", "Blade Runner", "Star Wars")


def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the run is written.")
    ] = Path("runs"),
    scenario: Annotated[
        str, typer.Option("--scenario", metavar="NAME", help=f"One of {', '.join(SCENARIOS)}.")
    ] = "",
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="social, music: a copy of lastfm-hetrec."),
    ] = None,
) -> None:
    """Show what there is, on data that is at hand.

    Without a scenario: fetch MovieLens-100k, train, evaluate, report. Three groups of genres
    stand for three domains. Some scenarios have no data that may be shipped: theirs is made up,
    and they say so.
    """
    if data is not None and scenario not in ("music", "social"):
        raise ConfigError("demo: --data goes with --scenario music or social")
    if not scenario:
        films(out)
    elif scenario == "support":
        from m6rec.cli.demo_support import demo as support

        support(out)
    elif scenario == "finance":
        from m6rec.cli.demo_finance import demo as finance

        finance(out)
    elif scenario in SCENARIOS:
        from m6rec.cli.demo_scenario import demo as business

        business(scenario, out, data)
    else:
        raise ConfigError(
            f'scenario "{scenario}" is unknown{suggestion(scenario, SCENARIOS)} '
            f"(known: {', '.join(SCENARIOS)})"
        )


def films(out: Path) -> None:
    """Fetch MovieLens-100k, train, evaluate, report."""
    from m6rec import report
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
    go_on(asked, trained, "Toy Story, Fargo")


def go_on(asked: list[Any], trained: Any, history: str = "") -> None:
    """Print what was recommended, and what can be done with the run."""
    from m6rec import artifacts, report

    for section in asked:
        show.heading(section.heading)
        if section.frame is not None:
            show.frame(section.frame)
    path = trained.fitted.path
    if path is not None:
        run = shlex.quote(artifacts.current_name(path))
        show.heading("Go on")
        if history:
            show.whole(f'm6rec recommend {run} --history "{history}" --explain')
            show.whole("make serve" if Path("Makefile").exists() else f"m6rec serve {run}")
        else:
            show.whole(f"m6rec serve {run}")
        show.whole(f"Report: {path / report.FILE}")

"""The demo of a preset: files → `init` → a run, its figures, and what it recommends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from m6rec.cache import cache_dir
from m6rec.cli import show
from m6rec.cli.demo import go_on
from m6rec.errors import DataError
from m6rec.scenarios import preset

if TYPE_CHECKING:
    from m6rec.recommender import Recommender

EACH = 3  # items shown of each domain
# Few and small, so that the demo is quick.
PARTS = ('{kind = "pct", dim = 32, sweeps = 4}', '{kind = "neighbours"}', '{kind = "popular"}')
LASTFM = {
    "music": ("user_artists.dat", "artists.dat"),
    "social": ("user_artists.dat", "user_friends.dat", "artists.dat"),
}


def demo(name: str, out: Path, data: Path | None) -> None:
    """Draft a TOML from the scenario's files, train, evaluate, recommend, explain, report."""
    from m6rec import report
    from m6rec.cli.training import show_evaluations, show_learned
    from m6rec.data.inspect import draft
    from m6rec.experiment import load
    from m6rec.pipeline import Trained, save
    from m6rec.recommender import Recommender

    folder = cache_dir() / "demo" / name
    folder.mkdir(parents=True, exist_ok=True)
    chosen = preset(name)
    paths = _files(name, folder, data)
    toml = folder / f"{name}.toml"
    toml.write_text(f'name = "{name}"\n' + draft(paths, folder, chosen), encoding="utf-8")
    show.whole(f"{toml}: as `m6rec init --scenario {name}` writes it, but for fewer parts")
    extra = ['{kind = "peers"}'] if name == "social" else ['{kind = "window"}']
    parts = [*PARTS, *(extra if name != "music" or data is None else [])]
    experiment = load(toml, [f"model.parts=[{', '.join(parts)}]"])
    asked: list[report.Section] = []

    def extras(trained: Trained, into: Path) -> None:
        recommender = Recommender(trained.fitted)
        user = _of_middling_activity(recommender)
        lists = [
            recommender.recommend(user, domain=domain.name, k=EACH, explain=True, explore=0.0)
            for domain in recommender.dataset.domains
        ]
        shown = pl.concat(lists).select("domain", "title", "because")
        asked.append(report.Section(heading=f"For user {user}", frame=shown))
        report.write(trained, into, asked)

    say = show.teller()
    trained = save(experiment, out, bars=show.bars(), say=say, extras=extras)
    say("done")
    show_evaluations(trained.evaluations)
    show_learned(trained)
    go_on(asked, trained)


def _files(name: str, folder: Path, data: Path | None) -> Sequence[Path]:
    """The scenario's files: fetched, the user's own, or made up."""
    if name == "video":
        from m6rec.data.fetch import fetch
        from m6rec.tracking import Run

        base = fetch("ml-100k", run=Run(bars=show.bars()))
        return [base / file for file in ("ratings.csv", "films.csv")]
    if data is not None:
        found = [data / file for file in LASTFM[name]]
        for file in found:
            if not file.is_file():
                raise DataError(f"{file}: not there; --data wants the files of lastfm-hetrec")
        return found
    from m6rec.scenarios import made_up

    show.note(f"The data of this demo is MADE UP: {getattr(made_up, name.upper())}")
    show.note("Its figures say that the parts work together, and nothing of real users.")
    return list(getattr(made_up, name)(folder))


def _of_middling_activity(recommender: Recommender) -> str:
    """The key of a user with a middling number of events."""
    data = recommender.dataset
    count = np.bincount(data.user, minlength=data.n_users)
    return str(data.users.key(int(np.argsort(count, kind="stable")[data.n_users // 2])))

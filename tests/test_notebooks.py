"""The notebooks in examples/: stored with what they showed, and their code runs.

They run on a stand-in for MovieLens-100k, of the same form, so that no network is needed;
`make notebooks` runs them on the real one and stores what they show.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import polars as pl
import pytest
from nbclient import NotebookClient

from m6rec.data.fetch import publish

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ["tour.ipynb", "transfer.ipynb"]
SIZE = 300_000  # bytes, of a stored notebook
N_USERS, N_EVENTS = 200, 9000
GENRES = ("Action|Sci-Fi", "Thriller", "Comedy", "Animation|Children's", "Drama", "Drama|Romance")
ASKED = ("Alien", "Blade Runner", "Star Wars", "The Terminator")  # films that the tour names
KNOWN = 405  # a user whom it names


def stand_in() -> dict[str, pl.DataFrame]:
    """Tables such as ``fetch`` gives, of people with one of two tastes."""
    rng = np.random.default_rng(0)
    n_films = 60 * len(GENRES)
    item = np.arange(1, n_films + 1)
    titles = [*ASKED, *(f"Film {n}" for n in item[len(ASKED) :])]
    genres = [GENRES[0]] * len(ASKED) + [GENRES[n % len(GENRES)] for n in item[len(ASKED) :]]
    films = {"item": item, "title": titles, "year": 1960 + item % 40, "genres": genres}
    people = np.arange(KNOWN, KNOWN + N_USERS)
    person = (N_USERS * rng.random(N_EVENTS) ** 2).astype(int)  # some are busy, most are not
    film = rng.integers(n_films, size=N_EVENTS)
    alike = person % 2 == film // len(GENRES) % 2
    events = {
        "user": people[person],
        "item": item[film],
        "rating": np.where(alike, rng.integers(3, 6, N_EVENTS), rng.integers(1, 5, N_EVENTS)),
        "time": 880_000_000 + rng.permutation(N_EVENTS) * 60,
    }
    users = {
        "user": people,
        "age": 20 + people % 50,
        "gender": [("F", "M")[n % 2] for n in people],
        "occupation": [("artist", "engineer", "student")[n % 3] for n in people],
        "zip": [f"{n:05}" for n in people],
    }
    ratings = pl.DataFrame(events).unique(["user", "item"], keep="first").sort("time")
    return {"ratings": ratings, "films": pl.DataFrame(films), "users": pl.DataFrame(users)}


@pytest.mark.parametrize("name", NAMES)
def test_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(stand_in(), tmp_path / "cache" / "ml-100k")
    for variable in ("M6REC_CACHE", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"):
        folder = tmp_path / ("cache" if variable == "M6REC_CACHE" else variable.lower())
        folder.mkdir(exist_ok=True)
        monkeypatch.setenv(variable, str(folder))
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_stored_as_it_ran(name: str) -> None:
    """Every cell ran once, from top to bottom, without an error or a warning."""
    assert (EXAMPLES / name).stat().st_size < SIZE
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(o.output_type != "error" and o.get("name") != "stderr" for o in outputs)
    assert any("image/png" in o.get("data", {}) for o in outputs)


def test_all_notebooks_are_run() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.ipynb")) == NAMES

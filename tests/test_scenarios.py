"""Presets: each is a valid experiment, and `init` fits it to the files of its trade."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from m6rec import config
from m6rec.data.inspect import draft
from m6rec.data.prepare import prepare
from m6rec.errors import ConfigError
from m6rec.experiment import Experiment
from m6rec.scenarios import PRESETS, made_up, preset
from m6rec.tracking import Run

T = 1_740_000_000


def drafted(name: str, folder: Path, **tables: dict[str, list[Any]]) -> tuple[Experiment, str]:
    for stem, columns in tables.items():
        pl.DataFrame(columns).write_csv(folder / f"{stem}.csv")
    files = [folder / f"{stem}.csv" for stem in tables]
    text = draft(files, folder, preset(name))
    return config.from_table(Experiment, tomllib.loads(text)), text


def shapes(experiment: Experiment, folder: Path) -> dict[str, tuple[str, float]]:
    """Event type → sign, and summed weight of its rows."""
    data = prepare(experiment.data, folder, Run()).dataset
    return {
        event.name: (event.sign, round(float(abs(data.weight[data.event == code]).sum()), 3))
        for code, event in enumerate(data.events)
    }


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_an_experiment_but_for_what_init_reads(name: str) -> None:
    found = preset(name)
    table = tomllib.loads("\n".join(t for s, t in found.sections.items() if s[:4] != "init"))
    experiment = config.from_table(Experiment, table)
    assert found.event in experiment.data.events
    assert set(found.same.values()) <= set(experiment.data.events)
    assert experiment.evaluate.baselines and experiment.evaluate.metrics
    assert found.about


def test_an_unknown_scenario_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r'"musik" is unknown; did you mean "music"'):
        preset("musik")


def test_commerce(tmp_path: Path) -> None:
    log = {
        "customer": ["a", "a", "a", "b", "b", "b"],
        "sku": [1, 1, 1, 1, 2, 2],
        "action": ["pv", "add_to_cart", "Order", "refund", "impression", "gift"],
        "qty": [1, 1, 2, 1, 1, 1],
        "time": [T + n for n in range(6)],
    }
    experiment, text = drafted("commerce", tmp_path, log=log)
    events = experiment.data.events
    assert events["Order"].half_life == 180
    assert events["pv"].cap == 3
    assert "# impression: left out" in text
    assert "impression" not in events
    assert events["gift"].weight == 1  # not of the preset, so as init always guesses
    assert experiment.split is not None and experiment.split.kind == "temporal"
    assert experiment.rank.diversity == 0.1
    found = shapes(experiment, tmp_path)
    assert found["Order"] == ("positive", 16)
    assert found["refund"] == ("negative", 1)


@pytest.mark.parametrize(
    ("column", "value", "weight"),
    [("watch_seconds", 600, 1.0), ("minutes", 10, 1.0), ("completion", 0.5, 0.5)],
)
def test_video_units(column: str, value: float, weight: float, tmp_path: Path) -> None:
    log = {"user": ["a", "b"], "video": ["x", "y"], column: [value, value], "time": [T, T + 1]}
    experiment, text = drafted("video", tmp_path, plays=log)
    assert f'value = "{column}"' in text
    assert shapes(experiment, tmp_path)["watch"] == ("positive", pytest.approx(2 * weight, 1e-2))


def test_video_ratings_count_as_liking_from_the_upper_part_on(tmp_path: Path) -> None:
    log = {"user": list("abcde"), "movie": list("xyxyx"), "rating": [1, 2, 3, 4, 5]}
    experiment, _ = drafted("video", tmp_path, ratings=log)
    assert experiment.data.feedback == "implicit"
    assert experiment.data.clean.min_value == 4
    assert experiment.split is not None and experiment.split.kind == "random"  # no times


def test_music_counts_are_capped(tmp_path: Path) -> None:
    log = {"user": ["a", "b"], "artist": ["x", "y"], "plays": [500, 3]}
    experiment, _ = drafted("music", tmp_path, plays=log)
    data = prepare(experiment.data, tmp_path, Run()).dataset
    assert sorted(data.matrix.data.tolist()) == [3, 20]


def test_social_tells_people_from_content(tmp_path: Path) -> None:
    links = {"user": ["a", "b", "a", "c"], "followee": ["b", "a", "c", "a"]}
    blocks = {"user_id": ["a"], "blocked": ["d"]}
    plays = {"user": ["a", "b"], "song": ["a", "s"], "plays": [1, 2]}
    songs = {"song": ["a", "s"], "title": ["A", "S"]}
    names = {"user": ["a", "b", "c", "d"], "name": ["Ann", "Bo", "Cy", "Di"]}
    experiment, _ = drafted(
        "social", tmp_path, links=links, blocks=blocks, plays=plays, songs=songs, users=names
    )
    domains = experiment.data.domains
    assert domains["social"].people and not domains["plays"].people
    assert experiment.data.events["follow"].mutual and experiment.data.events["block"].mutual
    ready = prepare(experiment.data, tmp_path, Run())
    title = dict(zip(ready.items["key"], ready.items["title"], strict=True))
    assert title["social/a"] == "Ann" and title["plays/a"] == "A"  # the same key, and two things


def test_followers_are_not_taken_for_friends(tmp_path: Path) -> None:
    links = {"user": ["a", "b", "c", "d"], "followee": ["b", "c", "d", "a"]}
    experiment, _ = drafted("social", tmp_path, links=links)
    assert not experiment.data.events["follow"].mutual


@pytest.mark.parametrize("name", ["commerce", "music", "social"])
def test_made_up_logs_are_what_init_expects(name: str, tmp_path: Path) -> None:
    files = getattr(made_up, name)(tmp_path)
    table = tomllib.loads(draft(files, tmp_path, preset(name)))
    ready = prepare(config.from_table(Experiment, table).data, tmp_path, Run())
    assert len(ready.dataset) > 3000
    assert not [drop for drop in ready.drops.entries if drop.step == "impossible"]

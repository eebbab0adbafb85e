"""The [data] table: what it accepts, refuses, and that it round-trips."""

from __future__ import annotations

import datetime
import tomllib
from dataclasses import replace

import pytest

from m6rec import config
from m6rec.data.schema import DataConfig, EventType
from m6rec.data.splits import SplitConfig
from m6rec.errors import ConfigError
from m6rec.models.base import Recipe
from m6rec.models.default import M6Rec
from m6rec.models.towers import Towers

FULL = """
interactions = ["a.csv", { path = "b.tsv", delimiter = "\\t", columns = { user = "who" } }]
items = "items.csv"
tz = "Asia/Shanghai"
feedback = "explicit"
[columns]
text = "title"
[domains.films]
users = "own"
items = "films.csv"
[events.buy]
weight = 3
[events.hide]
sign = "negative"
[domain_from]
column = "genres"
groups.fun = ["Comedy"]
[features.items.genres]
kind = "multi"
[clean]
core_users = 5
"""


def parse(text: str) -> DataConfig:
    return config.from_table(DataConfig, tomllib.loads(text), "data")


def test_round_trip() -> None:
    data = parse(FULL)
    assert config.from_table(DataConfig, tomllib.loads(config.dumps(data)), "data") == data
    assert [t.name for t in data.tables("interactions")] == ["a.csv", "b.tsv"]
    assert [(t.name, t.domain) for t in data.tables("items")] == [
        ("items.csv", ""),
        ("films.csv", "films"),
    ]
    assert data.domain("films").users == "own"
    assert data.domain("films").feedback == "explicit"
    assert data.event_type("buy") == EventType(name="buy", weight=3.0)
    assert data.event_type("unheard") == EventType(name="unheard")
    assert data.columns.text == ("title",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("interaction = 'x.csv'", 'did you mean "interactions"'),
        ("interactions = 3", "must be a table"),
        ("interactions = [{ pth = 'x' }]", r'interactions\[0\].pth .* did you mean "path"'),
        ("interactions = { sql = 'sqlite:///x' }", "needs query"),
        ("interactions = { path = 'x', sql = 'y', query = 'z' }", "either path, or sql"),
        ("tz = 'Asia/Shangai'", "no such time zone"),
        ("[domains.'a/b']", 'without "/"'),
        ("[domains.a]\nusers = 'onw'", 'did you mean "own"'),
        ("[events.a]\nweight = -1", 'use sign = "negative"'),
        ("[clean]\nsession_gap = 0", "above 0 minutes"),
        ("[columns]\ntext = 3", "a string or a list"),
    ],
)
def test_refusals_name_the_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text)


@pytest.mark.parametrize("changed", [{"epochs": 5}, {"average": 0.0}, {"lr": 1e-3, "patience": 5}])
def test_a_table_within_changes_the_default_of_its_field(changed: dict[str, float]) -> None:
    table = {"kind": "towers", "training": changed}
    towers = Recipe.from_table(table)
    assert isinstance(towers, Towers)
    assert towers.training == replace(Towers().training, **changed)
    assert config.to_table(towers) == table


def test_a_table_never_shows_a_password() -> None:
    data = parse("interactions = { sql = 'postgresql://me:secret@host/db', query = 'select 1' }")
    assert "secret" not in data.interactions[0].name
    assert "host/db" in data.interactions[0].name


def test_a_date_of_toml_is_a_text() -> None:
    found = config.from_table(SplitConfig, {"time": datetime.date(2035, 1, 1)}, "split")
    assert found.time == "2035-01-01"


def test_a_model_without_a_kind_is_the_default() -> None:
    assert Recipe.from_table({"deep": False}) == M6Rec(deep=False)
    with pytest.raises(ConfigError, match=r'model\.kindd .* did you mean "kind"'):
        Recipe.from_table({"kindd": "pct"})
    with pytest.raises(ConfigError, match=r"parts.* a model is a table with kind"):
        Recipe.from_table({"kind": "blend", "parts": [{"dim": 8}]})

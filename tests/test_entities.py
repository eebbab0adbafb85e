"""Entities: the longest alias, whole words, Chinese inside a run, and nothing that is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from m6rec.errors import ConfigError, DataError
from m6rec.opinion.entities import Entities

TABLE = Entities(
    {
        "Apple": ["Apple"], "Apple Inc": ["Apple"], "AAPL": ["Apple"], "苹果公司": ["Apple"],
        "Apple Hospitality": ["Hospitality"], "Visa": ["Visa"], "$V": ["Visa"],
        "贵州茅台": ["Moutai"], "茅台": ["Moutai"], "AT&T": ["AT&T"], "T": ["AT&T"],
        "Delta": ["Delta Air", "Delta Electronics"], "DAL": ["Delta Air"],
    }
)  # fmt: skip


def named(text: str) -> list[tuple[str, str]]:
    return [(m.entity, m.alias) for m in TABLE.mentions(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("apple's new phone", [("Apple", "apple")]),
        ("Pineapple and applesauce", []),
        ("Apple Hospitality REIT", [("Hospitality", "Apple Hospitality")]),
        ("Apple  Inc.", [("Apple", "Apple  Inc")]),
        ("long $AAPL, AAPL-heavy", [("Apple", "AAPL"), ("Apple", "AAPL")]),
        ("aapl", []),  # a ticker counts as it is written
        ("buy $V now", [("Visa", "V")]),
        ("V for victory", []),
        ("visa", [("Visa", "visa")]),
        ("AT&T fell", [("AT&T", "AT&T")]),
        ("昨日贵州茅台大涨", [("Moutai", "贵州茅台")]),
        ("白酒龙头茅台2024年", [("Moutai", "茅台")]),
        ("苹果公司and茅台", [("Apple", "苹果公司"), ("Moutai", "茅台")]),
        ("苹果很好吃", []),
        ("Delta cancels flights", []),
        ("Delta (DAL) cancels", [("Delta Air", "Delta"), ("Delta Air", "DAL")]),
    ],
)
def test_mentions(text: str, found: list[tuple[str, str]]) -> None:
    assert named(text) == found


def test_places_are_those_of_the_text() -> None:
    text = "Today Apple  Inc. rose"
    [mention] = TABLE.mentions(text)
    assert text[mention.start : mention.end] == mention.alias == "Apple  Inc"


def test_ambiguous_aliases_are_reported() -> None:
    assert TABLE.ambiguous == {"delta": ("Delta Air", "Delta Electronics")}


def test_of_one_entity_everything_is_said() -> None:
    assert TABLE.passages("Apple rises", "It sold more. Good.") == {
        "Apple": "Apple rises\nIt sold more.\nGood."
    }
    assert TABLE.passages("Weather", "Rain.") == {}


def test_of_several_each_has_its_clauses() -> None:
    found = TABLE.passages(
        "Apple profit rose while Visa warned of losses", "It also hired. Visa fell. Then 茅台 rose."
    )
    assert found["Apple"] == "Apple profit rose\nIt also hired."
    assert found["Visa"] == "Visa warned of losses\nIt also hired.\nVisa fell."
    assert found["Moutai"] == "Then 茅台 rose."
    chinese = TABLE.passages("", "贵州茅台净利润增长，而苹果公司营收下滑。")
    assert chinese == {"Moutai": "贵州茅台净利润增长", "Apple": "苹果公司营收下滑。"} or (
        "增长" in chinese["Moutai"] and "下滑" not in chinese["Moutai"]
    )


def test_abbreviations_end_no_sentence() -> None:
    found = TABLE.passages("", "Apple Inc. rose to U.S. highs. Visa fell.")
    assert found["Apple"] == "Apple Inc. rose to U.S. highs."


def test_tables_of_files(tmp_path: Path) -> None:
    csv = tmp_path / "e.csv"
    csv.write_text("entity,alias\nApple,AAPL\nApple,苹果公司\n\n", encoding="utf-8")
    toml = tmp_path / "e.toml"
    toml.write_text('[entities]\nApple = ["AAPL", "苹果公司"]\n', encoding="utf-8")
    for path in (csv, toml):
        table = Entities.read(path)
        assert table.names == ["Apple"] and len(table) == 1
        assert [m.alias for m in table.mentions("苹果公司 Apple $AAPL")] == [
            "苹果公司", "Apple", "AAPL",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "error", "message"),
    [
        ("e.csv", "name,alias\na,b\n", DataError, 'row 1: the columns must be "entity,alias"'),
        ("e.csv", "entity,alias\na\n", DataError, "row 2: needs an entity and an alias"),
        ("e.csv", "entity,alias\n", DataError, "names no entity"),
        ("e.csv", "entity,alias\na,!\n", DataError, "alias '!': has no letter or digit"),
        ("e.toml", "x = 1\n", ConfigError, r"needs a table \[entities\]"),
        ("e.toml", '[entities]\na = "b"\n', ConfigError, "must be a list of aliases"),
        ("e.toml", "[entities]\na = [1]\n", ConfigError, "1 is no alias"),
    ],
)
def test_wrong_tables_are_one_sentence(
    tmp_path: Path, name: str, text: str, error: type[Exception], message: str
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(error, match=message):
        Entities.read(path)

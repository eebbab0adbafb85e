"""A watch list and a reading history rank news and alerts through the recommender."""

from __future__ import annotations

import pytest

from m6rec.errors import DataError
from m6rec.opinion.personal import ALERTS, NEWS, Personal

DOCUMENTS = {
    "d/1": ("Nokia network equipment orders grow", ""),
    "d 2": ("SAP cloud revenue grows", ""),
    "d3": ("Nokia wins a network contract", ""),
    "d4": ("Moutai liquor prices fall", ""),
}
NAMES = {"Nokia": ("Nokia", "NOK 诺基亚"), "SAP": ("SAP", ""), "Moutai": ("Moutai", "茅台")}
WARNINGS = {"a1": ("SAP: opinion fell", ""), "a2": ("Nokia: opinion rose", "")}


@pytest.fixture(scope="module")
def personal() -> Personal:
    return Personal.of(DOCUMENTS, WARNINGS, NAMES, "hashed")


def keys(found: list[tuple[str, float, str]]) -> list[str]:
    return [key for key, *_ in found]


def test_a_watch_list_comes_first(personal: Personal) -> None:
    assert keys(personal.ranked(ALERTS, watched=["Nokia"])) == ["a2", "a1"]
    assert keys(personal.ranked(ALERTS, watched=["SAP"])) == ["a1", "a2"]
    assert keys(personal.ranked(NEWS, watched=["Moutai"], k=1)) == ["d4"]


def test_what_was_read_ranks_what_comes_next(personal: Personal) -> None:
    found = personal.ranked(NEWS, read=["d/1", "unknown"])
    assert keys(found)[0] == "d3" and "d/1" not in keys(found)
    assert "Nokia network equipment" in found[0][2]
    both = personal.ranked(NEWS, read=["d/1"], watched=["Moutai"])
    assert keys(both)[0] == "d4"  # what is watched weighs more than one document
    assert keys(personal.ranked(ALERTS, read=["d/1"]))[0] == "a2"
    assert "因为" in personal.ranked(NEWS, read=["d/1"], language="zh")[0][2]


def test_of_nobody_nothing_is_known(personal: Personal) -> None:
    assert personal.ranked(NEWS) == []


def test_alerts_or_documents_alone_will_do() -> None:
    alone = Personal.of({}, WARNINGS, NAMES, "hashed")
    assert keys(alone.ranked(ALERTS, watched=["SAP"])) == ["a1", "a2"]
    assert alone.ranked(NEWS, watched=["SAP"]) == []
    with pytest.raises(DataError, match="nothing to rank"):
        Personal.of({}, {}, {}, "hashed")

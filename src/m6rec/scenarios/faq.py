"""A small FAQ of our own as tables: answers, past questions and what helped, and a test."""

from __future__ import annotations

import csv
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

FILES = ("answers.csv", "questions.csv", "history.csv", "test.csv", "other.csv")


def answers() -> list[dict[str, Any]]:
    """Return the answers with the ways in which people ask for them."""
    table = tomllib.loads(files("m6rec.scenarios").joinpath("faq.toml").read_text("utf-8"))
    found: list[dict[str, Any]] = table["answer"]
    return found


def write(folder: Path) -> Path:
    """Write FILES into a folder, and return it.

    history: what helped with the questions to learn from. test: those put in a way that no other
    question has; other: those in the other language. Both are in questions.csv as well, where
    nothing says what helps them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    columns = ("key", "language", "category", "product", "title", "text")
    listed: list[list[str]] = []
    asked: list[tuple[str, str]] = []
    rows: dict[str, list[tuple[str, str]]] = {"history": [], "test": [], "other": []}
    for each in answers():
        listed.append([each[name] for name in columns])
        *known, last = each["ask"]
        ways = {
            "history": known,
            "test": [last],
            "other": [each["other"]],
        }
        for name, questions in ways.items():
            for words in questions:
                key = f"q{len(asked)}"
                asked.append((key, words))
                rows[name].append((key, each["key"]))
    _write(folder / "answers.csv", ("answer", *columns[1:]), listed)
    _write(folder / "questions.csv", ("question", "words"), asked)
    for name, pairs in rows.items():
        _write(folder / f"{name}.csv", ("question", "answer"), pairs)
    return folder


def _write(path: Path, header: tuple[str, ...], rows: Any) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])

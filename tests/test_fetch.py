"""Fetched data is verified, published at once, and the same from either source."""

from __future__ import annotations

import zipfile
from pathlib import Path

import polars as pl
import pytest

from m6rec.data import fetch as module
from m6rec.data.fetch import SETS, Source, fetch, from_archive, from_wheel, publish, verified
from m6rec.errors import DataError

RATINGS = [(196, 242, 3, 881250949), (186, 302, 3, 891717742)]
FLAGS = "0|0|0|1|1|1" + "|0" * 13
FILMS = [(1, "Toy Story (1995)", FLAGS), (267, "unknown", "1" + "|0" * 18),
         (1201, "Marlene Dietrich: Shadow and Light (1996) ", "0|0|0|0|0|0|0|1" + "|0" * 11),
         (1412, "Land Before Time III: The Time of the Great Giving (1995) (V)",
          "0|0|0|1|1" + "|0" * 14),
         (543, "Misérables, Les (1995)", "0|" * 8 + "1" + "|0" * 10)]  # fmt: skip
ATOMIC = [(1, "Toy Story", "1995", "Animation Children's Comedy"),
          (267, "unkonwn", "unkonwn", "unknown"),
          (1201, "Marlene Dietrich: Shadow and Light", "1996", "Documentary"),
          (1412, "Land Before Time III: The Time of the Great Giving (1995)", "V",
           "Animation Children's"), (543, "Misérables, Les", "1995", "Drama")]  # fmt: skip


def archive(folder: Path) -> Path:
    path = folder / "ml.zip"
    items = "".join(f"{i}|{title}|01-Jan-1995||http://x|{flags}\n" for i, title, flags in FILMS)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("ml-100k/u.data", "".join("\t".join(map(str, r)) + "\n" for r in RATINGS))
        file.writestr("ml-100k/u.item", items.encode("latin-1"))
        file.writestr("ml-100k/u.user", "1|24|M|technician|85711\n2|53|F|other|T8H1N\n")
    return path


def wheel(folder: Path) -> Path:
    path = folder / "recbole-1.2.1-py3-none-any.whl"
    inter = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    item = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    user = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
    rows = {
        "inter": inter + "".join("\t".join(map(str, r)) + "\n" for r in RATINGS),
        "item": item + "".join("\t".join(map(str, r)) + "\n" for r in ATOMIC),
        "user": user + "1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\tT8H1N\n",
    }
    with zipfile.ZipFile(path, "w") as file:
        for suffix, text in rows.items():
            file.writestr(f"recbole/dataset_example/ml-100k/ml-100k.{suffix}", text)
    return path


def test_both_sources_give_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"ml-100k\.inter is not the file that is expected"):
        from_wheel(wheel(tmp_path), tmp_path)
    monkeypatch.setattr(module, "_check", lambda path: path)
    one, two = from_archive(archive(tmp_path), tmp_path), from_wheel(wheel(tmp_path), tmp_path)
    for name in ("ratings", "films", "users"):
        assert one[name].equals(two[name]), name
    assert one["ratings"].rows() == sorted(RATINGS, key=lambda row: row[3])
    assert one["films"].rows()[0] == (1, "Toy Story", 1995, "Animation|Children's|Comedy")
    assert one["films"].filter(item=267).rows() == [(267, "unknown", None, "unknown")]


def test_articles_stand_in_front() -> None:
    titles = {
        "Godfather, The": "The Godfather",
        "Big Blue, The (Grand bleu, Le)": "The Big Blue (Grand bleu, Le)",
        "Enfer, L'": "L'Enfer",
        "Misérables, Les": "Les Misérables",
        "Paris, Texas": "Paris, Texas",
        "I, Worst of All": "I, Worst of All",
    }
    frame = pl.DataFrame({"title": list(titles)})
    found = frame.select(module.article_first(pl.col("title")))["title"]
    assert found.to_list() == list(titles.values())


def sources(*loads: object) -> dict[str, tuple[Source, ...]]:
    return {"ml-100k": tuple(Source(f"s{n}", load) for n, load in enumerate(loads))}  # type: ignore[arg-type]


def unreachable(folder: Path) -> dict[str, pl.DataFrame]:
    raise DataError("cannot be reached (no route)")


def given(folder: Path) -> dict[str, pl.DataFrame]:
    return {"ratings": pl.DataFrame({"user": [1]})}


def test_second_source_cache_and_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETS", sources(unreachable, given))
    monkeypatch.setenv("M6REC_CACHE", str(tmp_path))
    folder = fetch("ml-100k")
    assert folder == tmp_path / "ml-100k"
    assert verified(folder)
    monkeypatch.setattr(module, "SETS", sources(unreachable))
    assert fetch("ml-100k") == folder  # from the cache
    (folder / "ratings.csv").write_text("user\n2\n")
    assert not verified(folder)
    with pytest.raises(DataError, match=r"s0: cannot be reached \(no route\).*SHA256SUMS"):
        fetch("ml-100k")
    monkeypatch.setattr(module, "SETS", sources(given))
    assert verified(fetch("ml-100k"))  # fetched anew over the damaged one
    assert [p.name for p in tmp_path.iterdir()] == ["ml-100k"]


def test_a_failed_publication_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(module, "sha256", full)
    with pytest.raises(OSError, match="disk full"):
        publish(given(tmp_path), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_unknown_sets_are_refused() -> None:
    assert list(SETS) == ["ml-100k"]
    with pytest.raises(DataError, match='did you mean "ml-100k"'):
        fetch("ml-1k")

"""Arrays in the cache: made once, verified, written whole; a cache that fails is no error."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from m6rec.cache import cache_dir, forget, kept

MADE = np.arange(6, dtype=np.float32).reshape(2, 3)


class Maker:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> np.ndarray:
        self.times += 1
        return MADE


def test_made_once(tmp_path: Path) -> None:
    make, file = Maker(), tmp_path / "a" / "b"
    for _ in range(2):
        np.testing.assert_array_equal(kept(file, (2, 3), make), MADE)
    assert make.times == 1
    assert [each.name for each in file.parent.iterdir()] == ["b"]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_what_is_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    make, file = Maker(), tmp_path / "b"
    kept(file, (2, 3), make)
    whole = file.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    file.write_bytes({"flip": flipped, "cut": whole[:-4], "empty": b""}[damage])
    np.testing.assert_array_equal(kept(file, (2, 3), make), MADE)
    assert make.times == 2 and file.read_bytes() == whole


def test_another_shape_is_not_believed(tmp_path: Path) -> None:
    make, file = Maker(), tmp_path / "b"
    kept(file, (2, 3), make)
    kept(file, (3, 3), make)
    assert make.times == 2


def test_many_writers_at_once(tmp_path: Path) -> None:
    file = tmp_path / "b"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: kept(file, (2, 3), Maker()), range(64)))
    assert all((each == MADE).all() for each in found)
    assert os.listdir(tmp_path) == ["b"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    found = kept(tmp_path / "taken" / "b", (2, 3), Maker())
    np.testing.assert_array_equal(found, MADE)


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M6REC_CACHE", "/somewhere")
    assert cache_dir() == Path("/somewhere")
    monkeypatch.delenv("M6REC_CACHE")
    assert cache_dir() == Path.home() / ".cache" / "m6rec"


def test_old_files_are_removed_and_others_stay(tmp_path: Path) -> None:
    old, new, folder = tmp_path / "old", tmp_path / "new", tmp_path / "folder"
    for file in (old, new):
        file.write_text("")
    folder.mkdir()
    for each in (old, folder):
        os.utime(each, (0, 0))
    forget(tmp_path, 60)
    assert not old.exists() and new.exists() and folder.exists()
    forget(tmp_path / "missing", 60)

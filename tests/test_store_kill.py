"""An acknowledged event survives kill −9 of its writer, and is there once."""

from __future__ import annotations

from pathlib import Path

import pytest

from killing import kill
from stores import KINDS, place


@pytest.mark.parametrize("kind", KINDS)
def test_kill_loses_and_doubles_nothing(kind: str, tmp_path: Path) -> None:
    with place(kind, tmp_path) as url:
        counts = kill(url, times=10)
    assert counts.pop("acknowledged") > 10
    assert counts == {"lost": 0, "doubled": 0, "torn": 0}

"""Gorse's door: its JavaScript client works unmodified, every method."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from service import made_run, serving

SCRIPT = Path(__file__).with_name("gorsejs.mjs")
PACKAGES = ("gorsejs@0.4.8", "tslib@2.8.1")  # gorsejs needs tslib and does not say so


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with gorsejs and the script in it."""
    folder = tmp_path_factory.mktemp("gorsejs")
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("GORSEJS WAS NOT TESTED: there is no npm or node on this machine")
    command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", ".", *PACKAGES]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"GORSEJS WAS NOT TESTED: npm cannot install it: {found.stderr[-300:]}")
    shutil.copy(SCRIPT, folder)
    return folder


def test_gorsejs_works_unmodified(folder: Path, tmp_path: Path) -> None:
    with serving(made_run(tmp_path), f"sqlite:///{tmp_path / 'm6rec.db'}") as server:
        command = ["node", SCRIPT.name, server.url]
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert found.stdout == "29 methods work\n"

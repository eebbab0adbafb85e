"""Threads follow the work and the container; CSR structure leaves the matrix alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from scipy.sparse import csr_array

from m6rec import tracking
from m6rec.compiled import WORTH, structure, threads
from m6rec.cores import cores
from m6rec.tracking import Run


def test_threads_hold_inside_and_are_given_back() -> None:
    before = numba.get_num_threads()
    with threads(1):
        assert numba.get_num_threads() == 1
    assert numba.get_num_threads() == before
    with pytest.raises(RuntimeError), threads(10_000):  # more than there are: all
        raise RuntimeError
    assert numba.get_num_threads() == before


def test_structure_is_sorted_and_leaves_the_matrix_alone() -> None:
    matrix = csr_array(
        (np.ones(3), np.array([2, 0, 1]), np.array([0, 2, 3])),
        shape=(2, 3),
    )
    start, index = structure(matrix)
    assert index.tolist() == [0, 2, 1]
    assert (start.dtype, index.dtype) == (np.int64, np.int32)
    assert matrix.indices.tolist() == [2, 0, 1]


def test_little_work_is_for_one_thread() -> None:
    with threads(2):
        most = numba.get_num_threads()
        with threads(2, WORTH - 1):
            assert numba.get_num_threads() == 1
        with threads(2, WORTH):
            assert numba.get_num_threads() == most


@pytest.mark.parametrize(
    ("given", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")]
)
def test_threads_sleep_while_they_wait(given: dict[str, str], policy: str) -> None:
    others = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    code = "import m6rec.compiled, os; print(os.environ['OMP_WAIT_POLICY'])"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=others | given, check=True
    )
    assert ran.stdout.strip() == policy


def test_a_container_has_the_cores_that_it_may_use(tmp_path: Path) -> None:
    free = cores(tmp_path)
    assert 1 <= free == len(os.sched_getaffinity(0))
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores(tmp_path) == 1
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert cores(tmp_path) == free
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cores(tmp_path) == free
    (tmp_path / "cpu.max").write_text("100001 100000\n")
    assert cores(tmp_path) == min(2, free)


def test_far_progress_is_told_in_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "LINES", 0)
    with Run(bars=True).progress("options", 3) as advance:
        advance(1)
        advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "options"
    assert [line.partition(" after")[0] for line in lines[1:]] == [
        "options: 1 of 3", "options: 2 of 3",
    ]  # fmt: skip

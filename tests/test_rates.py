"""How often a client may ask: one count for all processes of a machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from m6rec.serving import rates
from m6rec.serving.rates import Rates


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(rates.time, "monotonic", lambda: now[0])
    return now


def test_a_second_has_so_many_requests_and_no_more(clock: list[float]) -> None:
    limit = Rates(5)
    assert [limit.may("ann") for _ in range(7)] == [True] * 5 + [False] * 2
    clock[0] += 0.2  # room for one
    assert [limit.may("ann") for _ in range(2)] == [True, False]
    clock[0] += 60  # an idle client saves up one second, no more
    assert sum(limit.may("ann") for _ in range(50)) == 5


def test_over_a_long_time_the_rate_holds(clock: list[float]) -> None:
    limit, let = Rates(10), 0
    for _ in range(1000):
        clock[0] += 0.01
        let += limit.may("ann")
    assert 100 <= let <= 110


def test_clients_have_their_own_and_odd_names_are_names(clock: list[float]) -> None:
    limit = Rates(1)
    assert all(limit.may(name) for name in ("ann", "bob", "", "\udcff"))
    assert not limit.may("ann")


def test_less_than_one_request_a_second(clock: list[float]) -> None:
    limit = Rates(0.5)
    assert [limit.may("ann"), limit.may("ann")] == [True, False]
    clock[0] += 2
    assert limit.may("ann")


def test_no_limit_counts_nothing() -> None:
    assert all(Rates(0).may("ann") for _ in range(1000))


def test_processes_that_share_a_file_count_together(tmp_path: Path) -> None:
    file = str(tmp_path / "rates")
    here = Rates(0.001, file)  # so slow that the test may take its time
    assert here.may("ann")
    code = (
        "import sys; from m6rec.serving.rates import Rates\n"
        "print(Rates(0.001, sys.argv[1]).may('ann'), Rates(0.001, sys.argv[1]).may('bob'))"
    )
    said = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True)
    assert said.stdout.split() == ["False", "True"], said.stderr
    assert not here.may("bob")

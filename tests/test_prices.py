"""Prices of files, and the rows that are none."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from m6rec.data.opinions import PRICE
from m6rec.opinion.prices import read_prices


def test_csv_as_others_write_it(tmp_path: Path) -> None:
    path = tmp_path / "AAPL.csv"
    path.write_text(
        "Date,Open,Close,Adj Close,Volume\n2024-01-02,1,2,1.5,\"1,000\"\n2024-01-03,1,x,1,5\n"
        "never,1,2,2,5\n2024-01-04,1,3,3,\n2024-01-05,1,3,3,lots\n"
    )  # fmt: skip
    frame, problems = read_prices(path, entity="AAPL")
    assert frame.schema == pl.Schema(PRICE)
    assert frame.rows() == [("AAPL", 1704153600, 2.0, 1000.0), ("AAPL", 1704326400, 3.0, 0.0)]
    assert [(p.row, p.reason) for p in problems] == [
        (4, "has no time that can be read"),
        (3, "has no close that is a number"),
        (6, "has a volume that is no number"),
    ]


def test_jsonl_with_entities(tmp_path: Path) -> None:
    path = tmp_path / "prices.jsonl"
    path.write_text(
        '{"symbol": "SAP", "time": 100, "price": 5}\n{"time": 100, "price": 5}\n{"symbol": 1'
    )
    frame, problems = read_prices(path)
    assert frame.rows() == [("SAP", 100, 5.0, 0.0)]
    assert [p.reason for p in problems] == ["is not JSON", "has no entity"]

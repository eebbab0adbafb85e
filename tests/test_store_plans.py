"""What a request, a page or Prometheus asks the store reads by an index, however much there is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from m6rec.store import Store, log, look, rows, shown
from stores import POSTGRES, empty_store

SPAN = {"since": 1, "until": 2, "domain": "", "run": "", "n": 5, "user": "ann", "before": 3}
ASKED: dict[str, tuple[sa.Executable, Mapping[str, Any]]] = {
    "history": (log.HISTORY, {}),
    "newest": (log.LATEST, {}),
    "of a request": (look.statement(2), {"user_0": "ann", "user_1": "bob", "limit": 9}),
    "blocked": (log.STANDING_OF, {"types": "[]"}),
    "blocked by": (log.STANDING_ON, {"item": "social/ann", "types": "[]"}),
    "linked by": (log.LATEST_ON, {"item": "social/ann", "types": "[]"}),
    "popular": (log.POPULAR, {"without": "[]"}),
    "shown": (shown.SHOWN, {}),
    "answered": (shown.ANSWERED, {}),
    "outcomes": (shown.OUTCOMES, {}),
    "scores": (shown.SCORES, {}),
    "forgotten": (shown._PORTION, {"skip": 9}),
    "user": (rows.ONE["user"], {"key": "ann"}),
    "changed items": (rows.CHANGED["item"], {"rev": 9}),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with empty_store("sqlite", tmp_path_factory.mktemp("plans")) as opened:
        yield opened


@pytest.mark.parametrize("name", ASKED)
def test_no_table_is_read_as_a_whole(store: Store, name: str) -> None:
    statement, given = ASKED[name]
    engine = store._database.engine
    compiled = statement.compile(engine)  # type: ignore[attr-defined]
    values = compiled.construct_params({**SPAN, **given})
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            f"EXPLAIN QUERY PLAN {compiled}", tuple(values[n] for n in compiled.positiontup)
        )
        plan = [row.detail for row in found]
    whole = [line for line in plan if line.startswith("SCAN m6rec_")]
    whole = [line for line in whole if line != "SCAN m6rec_revs"]  # which has two rows
    assert not [line for line in whole if name != "popular"], plan
    assert all("m6rec_events_time_id" in line for line in whole), plan  # and stops after n


@pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL")
def test_postgresql_looks_keys_up_as_an_array_and_does_not_join(tmp_path: Path) -> None:
    """Of a table that it has not analysed it takes a join to yield half of the rows."""
    with (
        empty_store("postgresql", tmp_path) as opened,
        opened._database.engine.connect() as connection,
    ):
        compiled = shown._KNOWN.compile(connection)
        given = {"requests": '["r1", "none"]'}
        found = connection.exec_driver_sql(f"EXPLAIN {compiled}", given)
        plan = "\n".join(found.scalars())
    assert "request = ANY" in plan and "Join" not in plan, plan

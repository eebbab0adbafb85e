"""`m6rec store export` and `import`: what one writes, the other reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from m6rec.cli.app import app
from m6rec.errors import ConfigError
from m6rec.store import Item, Store, User
from stores import event


def m6rec(*arguments: object) -> Result:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def url(folder: Path, name: str) -> str:
    return f"sqlite:///{folder}/{name}.db"


def everything(address: str) -> tuple[list[object], ...]:
    store = Store.open(address)
    try:
        items, _ = store.items()
        users, _ = store.users()
        return (
            [(i.key, i.title, i.attributes) for i in items],
            [(u.key, u.attributes) for u in users],
            [(e.user, e.item, e.type, e.value, e.time) for e in store.events(newest=False)[0]],
        )
    finally:
        store.close()


@pytest.fixture
def filled(tmp_path: Path) -> str:
    address = url(tmp_path, "first")
    store = Store.open(address)
    store.put_items([Item(key="films/a", title="Alien", attributes={"year": 1979})])
    store.put_users([User(key="ann", attributes={"age": 30})])
    store.add_events([event(time=1), event(user="bob", time=2, value=3.5, key="order-1")])
    store.close()
    return address


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_store_comes_back_from_its_files(filled: str, tmp_path: Path, form: str) -> None:
    folder, copy = tmp_path / "files", url(tmp_path, "copy")
    said = m6rec("store", "export", folder, "--form", form, "--store", filled).stdout
    assert f"2 events: {folder / f'events.{form}'}" in said
    said = m6rec("store", "import", folder, "--store", copy).stdout
    assert "1 items" in said
    assert "2 new events" in said
    assert everything(copy) == everything(filled)
    for address in (copy, filled):  # again, and into the store that wrote them
        assert "0 new events" in m6rec("store", "import", folder, "--store", address).stdout
        assert everything(address) == everything(filled)


def test_a_file_that_is_missing_is_left_out(filled: str, tmp_path: Path) -> None:
    m6rec("store", "export", tmp_path / "files", "--store", filled)
    (tmp_path / "files" / "events.jsonl").unlink()
    said = m6rec("store", "import", tmp_path / "files", "--store", url(tmp_path, "copy")).stdout
    assert "events" not in said


def test_a_folder_without_files_and_one_with_both_forms_are_refused(
    filled: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="has no items, users or events"):
        m6rec("store", "import", tmp_path / "nothing", "--store", filled)
    for form in ("jsonl", "parquet"):
        m6rec("store", "export", tmp_path / "files", "--form", form, "--store", filled)
    with pytest.raises(ConfigError, match="remove one"):
        m6rec("store", "import", tmp_path / "files", "--store", filled)

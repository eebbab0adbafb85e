"""`m6rec serve` as a process: it starts, ends in order, survives, and swaps runs under load."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from m6rec import artifacts
from m6rec.client import Client
from m6rec.errors import ConfigError, ServiceError
from m6rec.store import Store
from service import made_run, serving
from stores import KINDS, place
from test_cli import m6rec


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of an empty store, on each database."""
    with place(request.param, tmp_path) as found:
        yield found


def test_it_serves_and_ends_in_order(tmp_path: Path, url: str) -> None:
    with serving(made_run(tmp_path), url) as server:
        with Client(server.url) as client:
            liked = client.recommend("me", k=3)
            assert client.event("me", liked["items"][0]["item"], request=liked["request"]) == 1
            assert client.history("me")[0]["item"] == liked["items"][0]["item"]
            client.put_item("films/own", title="Own", attributes={"year": 2000})
            assert client.similar("films/own", k=3)["items"]
            client.patch_item("films/own", title="My own")
            assert client.similar("My own", k=3)["items"]
            with pytest.raises(ServiceError, match="no item") as refused:
                client.explain(["no such"], "me")
            assert (refused.value.status, refused.value.code) == (400, "request")
        assert "✓" in m6rec("doctor", "--server", server.url).stdout
        assert server.stop() in (0, -signal.SIGTERM)
    store = Store.open(url)
    assert len(store.given(liked["request"])) == 3  # written down before the end
    store.close()


def test_beyond_this_machine_it_needs_a_key(tmp_path: Path) -> None:
    run, url = str(made_run(tmp_path)), f"sqlite:///{tmp_path / 'm6rec.db'}"
    with pytest.raises(ConfigError, match="m6rec keys create"):
        m6rec("serve", run, "--store", url, "--host", "0.0.0.0")
    key = m6rec("keys", "create", "--name", "shop", "--store", url).stdout.strip()
    assert len(key) > 40 and "shop" in m6rec("keys", "list", "--store", url).stdout
    with serving(Path(run), url) as server:
        with Client(server.url, key) as client:
            assert client.recommend("me", k=1)["items"]
        with Client(server.url) as client, pytest.raises(ServiceError, match="API key"):
            client.recommend("me")
    assert "revoked" in m6rec("keys", "revoke", "--name", "shop", "--store", url).stdout


def test_what_one_worker_acknowledged_counts_in_the_next_answer_of_another(
    tmp_path: Path, url: str
) -> None:
    run = made_run(tmp_path)
    with serving(run, url) as one, serving(run, url) as other:
        with Client(one.url) as first, Client(other.url) as second:
            for u in range(20):
                shown = second.recommend(f"new{u}", domain="films", k=3, explain=False)
                first.event(f"new{u}", shown["items"][0]["item"])
                after = second.recommend(f"new{u}", domain="films", k=3, explain=False)
                assert after["history"] == 1
                assert shown["items"][0] not in after["items"]
                first.put_item(f"films/new{u}", title=f"New {u}", attributes={"year": 3000 + u})
                found = second.recommend("u1", filter=f"year == {3000 + u}", explain=False)
                assert [item["title"] for item in found["items"]] == [f"New {u}"]


def test_killed_at_random_it_loses_and_doubles_nothing(tmp_path: Path, url: str) -> None:
    """What was acknowledged is there once; what was not is there at most once."""
    rng = random.Random(1)
    sent: list[str] = []
    acknowledged: set[str] = set()

    def post(client: Client, until: threading.Event) -> None:
        while not until.is_set():
            key = f"e{len(sent)}-{threading.get_ident()}"
            sent.append(key)
            try:
                client.events([{"user": "killed", "item": "films/i1", "id": key}])
                acknowledged.add(key)
            except ServiceError:
                time.sleep(0.01)

    with serving(made_run(tmp_path), url) as server, Client(server.url, timeout=2) as client:
        for _ in range(10):
            until = threading.Event()
            workers = [threading.Thread(target=post, args=(client, until)) for _ in range(4)]
            for worker in workers:
                worker.start()
            time.sleep(rng.uniform(0.1, 0.5))
            server.kill()
            until.set()
            for worker in workers:
                worker.join()
            server.start()
    store = Store.open(url)
    kept: list[str] = []
    cursor = ""
    while True:
        events, cursor = store.events(users=["killed"], n=1000, cursor=cursor)
        kept += [str(event.key) for event in events]
        if not cursor:
            break
    store.close()
    assert len(acknowledged) > 100
    assert len(kept) == len(set(kept))
    assert acknowledged <= set(kept) <= set(sent)


def test_a_new_run_is_swapped_in_under_load(tmp_path: Path) -> None:
    current = made_run(tmp_path)
    old = artifacts.resolve(current)
    fresh = artifacts.save(artifacts.load(old), old.parent / "20300101-000000-fresh")
    answered: list[str] = []
    failed: list[Exception] = []
    with serving(current, f"sqlite:///{tmp_path / 'm6rec.db'}") as server:
        until = threading.Event()

        def ask() -> None:
            with Client(server.url) as client:
                while not until.is_set():
                    try:
                        answered.append(client.recommend("u1", k=3, explain=False)["run"])
                    except Exception as error:
                        failed.append(error)

        workers = [threading.Thread(target=ask) for _ in range(3)]
        for worker in workers:
            worker.start()
        time.sleep(0.5)
        artifacts.set_current(fresh)
        deadline = time.time() + 30
        while time.time() < deadline and (not answered or answered[-1] != fresh.name):
            time.sleep(0.1)
        until.set()
        for worker in workers:
            worker.join()
    assert not failed
    assert answered[0] == old.name and answered[-1] == fresh.name


def test_it_follows_current_back_to_where_it_began(tmp_path: Path) -> None:
    current = made_run(tmp_path)
    old = artifacts.resolve(current)
    fresh = artifacts.save(artifacts.load(old), old.parent / "20300101-000000-fresh")
    with serving(current, f"sqlite:///{tmp_path / 'm6rec.db'}") as server:
        with Client(server.url) as client:
            for wanted in (fresh, old, fresh):
                artifacts.set_current(wanted)
                deadline = time.time() + 30
                while client.ready()["run"] != wanted.name and time.time() < deadline:
                    time.sleep(0.1)
                assert client.ready()["run"] == wanted.name

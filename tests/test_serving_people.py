"""The service where items are people: links and blocks count for both from the moment they come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from m6rec import artifacts, experiment, pipeline
from m6rec.data.inspect import draft
from m6rec.recommender import Recommender
from m6rec.scenarios import made_up, preset
from m6rec.serving import engine
from m6rec.serving.app import create
from m6rec.serving.retrain import from_store
from m6rec.serving.settings import Settings
from m6rec.store import Store, digest
from service import local_client

SAME = {"origin": "http://127.0.0.1"}
ALL = 1000  # more than there are people


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    toml = folder / "social.toml"
    toml.write_text(draft(made_up.social(folder), folder, preset("social")))
    parts = 'model={kind="peers", others=1.0, rarity=0.5, size=0.5}'
    quick = [parts, f'run.out="{folder / "runs"}"', "evaluate.baselines=[]"]
    pipeline.save(experiment.load(toml, quick))
    return folder / "runs" / "current"


@pytest.fixture
def http(run: Path, tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(run=str(run), store=f"sqlite:///{tmp_path / 'm6rec.db'}")
    with local_client(create(settings)) as client:
        yield client


def people(http: TestClient, user: str, **options: object) -> list[str]:
    body = {"user": user, "domain": "social", "k": ALL, **options}
    answer = http.post("/v1/recommend", json=body)
    assert answer.status_code == 200, answer.text
    return [row["item"].removeprefix("social/") for row in answer.json()["items"]]


def tell(http: TestClient, user: str, other: str, kind: str) -> None:
    event = {"user": user, "item": f"social/{other}", "type": kind}
    assert http.post("/v1/events", json=event).status_code == 200


def test_nobody_meets_themselves_or_friends(http: TestClient, run: Path) -> None:
    data = artifacts.load(artifacts.resolve(run)).dataset
    code = data.users.code("u5")
    friends = {data.items.key(i) for i in data.positives[[code]].indices}
    found = people(http, "u5", explain=False)
    assert "u5" not in found and len(found) > 200
    assert not friends & {f"social/{key}" for key in found}
    again = people(http, "u5", seen=True, explain=False)
    assert "u5" not in again and friends & {f"social/{key}" for key in again}


def test_a_block_counts_at_once_and_for_both(http: TestClient) -> None:
    other = people(http, "u5", explain=False)[0]
    assert "u5" in people(http, other, explain=False)
    tell(http, "u5", other, "block")
    assert other not in people(http, "u5", explain=False)
    assert "u5" not in people(http, other, explain=False)
    assert "u5" not in people(http, other, explain=False, seen=True)
    liked = http.get(f"/api/user/{other}/neighbors", params={"n": 300}).json()
    assert liked and "u5" not in {row["Id"] for row in liked}
    tell(http, "u5", other, "follow")  # the newest counts: they are friends now
    assert "u5" not in people(http, other, explain=False)
    assert "u5" in people(http, other, explain=False, seen=True)


def test_a_block_counts_however_old_it_is(
    http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links that others made count as far as the newest events do, blocks always."""
    one, two, three = people(http, "u5", explain=False)[:3]
    tell(http, "u5", one, "block")
    tell(http, two, "u5", "follow")
    for other in people(http, "u5", explain=False)[-3:]:
        tell(http, other, "u5", "follow")
        tell(http, "u5", other, "follow")
    monkeypatch.setattr(engine, "EVENTS", 3)
    found = people(http, "u5", explain=False)
    assert one not in found and two in found and three in found
    assert "u5" not in people(http, one, explain=False)
    tell(http, "u5", one, "follow")
    assert one in people(http, "u5", explain=False, seen=True)


def test_a_link_counts_for_the_other_one(http: TestClient) -> None:
    other = people(http, "u5", explain=False)[0]
    asked = {"user": "u5", "k": 1, "explain": False}
    before = http.post("/v1/recommend", json=asked).json()["history"]
    tell(http, other, "u5", "follow")
    assert http.post("/v1/recommend", json=asked).json()["history"] == before + 1
    assert other not in people(http, "u5", explain=False)


def test_reasons_name_what_two_share(http: TestClient) -> None:
    body = {"user": "u5", "domain": "social", "k": 1}
    (row,) = http.post("/v1/recommend", json=body).json()["items"]
    assert "you both" in row["because"]
    (row,) = http.post("/v1/recommend", json={**body, "language": "zh"}).json()["items"]
    assert "你们都" in row["because"]


def test_a_heart_on_a_person_is_a_link(http: TestClient) -> None:
    other = people(http, "u7", explain=False)[0]
    form = {"user": "u7", "item": f"social/{other}"}
    assert http.post("/explore/like", data=form, headers=SAME).status_code == 200
    found = http.get("/v1/events", params={"user": "u7"}).json()
    assert any(e["item"] == f"social/{other}" and e["type"] == "follow" for e in found)


def test_an_erased_person_is_nobodys_recommendation(http: TestClient) -> None:
    other = people(http, "u5", explain=False)[0]
    erased = http.delete(f"/v1/users/{other}").json()["erased"]
    assert erased["users"] == 1 and erased["items"] == 1
    assert other not in people(http, "u5", explain=False)
    store: Store = http.app.state.service.store  # type: ignore[attr-defined]
    assert store.changed_items(0)[2] == [digest(f"social/{other}")]


def test_two_who_are_one_are_one_as_items_too(http: TestClient) -> None:
    tell(http, "ann", "bob at work", "follow")
    tell(http, "bob at work", "bob", "follow")
    tell(http, "bob at work", "u7", "follow")
    assert http.post("/v1/users/bob at work/merge", params={"into": "bob"}).json() == {"moved": 2}
    assert "bob at work" not in people(http, "ann", explain=False, seen=True)
    told = http.get("/v1/events", params={"user": "ann"}).json()
    assert [event["item"] for event in told] == ["social/bob"]
    own = http.get("/v1/events", params={"user": "bob"}).json()
    assert [event["item"] for event in own] == ["social/u7"]  # and not themselves


def test_the_store_says_the_same_as_the_files(http: TestClient, run: Path) -> None:
    old = Recommender.open(run)
    config = pipeline.reopened(old.fitted).data
    again = from_store(http.app.state.service.store, config, old.fitted).dataset  # type: ignore[attr-defined]
    assert len(again) == len(old.dataset)
    assert [d.people for d in again.domains] == [d.people for d in old.dataset.domains]
    assert (again.person >= 0).sum() == 300


def test_the_run_itself_keeps_to_it(run: Path) -> None:
    asked = Recommender.open(run)
    blocked = next(b for b in asked.dataset.events if b.name == "block")
    rows = asked.dataset.event == asked.dataset.events.index(blocked)
    user = asked.dataset.users.key(int(asked.dataset.user[rows][0]))
    other = asked.dataset.items.key(int(asked.dataset.item[rows][0])).removeprefix("social/")
    for one, two in ((user, other), (other, user)):
        found = asked.recommend(one, domain="social", k=ALL)["item"].to_list()
        assert f"social/{one}" not in found and f"social/{two}" not in found

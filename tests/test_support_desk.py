"""The support desk live: answers, confidence, feedback that counts at once, and its page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from fastapi.testclient import TestClient

from m6rec import experiment, pipeline
from m6rec.cli.answer import answer as answer_verb
from m6rec.models.confident import ConfidentModel
from m6rec.recommender import Recommender
from m6rec.scenarios import faq
from m6rec.serving.app import create
from m6rec.serving.retrain import from_store
from m6rec.serving.settings import Settings
from m6rec.serving.web.texts_support import SUPPORT
from m6rec.support.answers import Candidate, as_user, ask, reply
from service import at_a_port, local_client
from test_support import model_service

PRESET = Path(pipeline.__file__).with_name("scenarios") / "support.toml"
MODEL = (
    'model.part={kind="blend", parts=['
    '{kind="questions", encoder="hashed", sharpness=12.0}, {kind="text", encoder="hashed"}], '
    "weights={items=[[0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2]]}, words={items=[0.8, 0.2]}}"
)
PARCEL = "My package has not arrived"
NEW = "Do you also sell bicycles with a lumo sticker?"
CHROMIUM = which("chromium")


def trained(folder: Path, *more: str) -> Path:
    faq.write(folder)
    options = [
        "model.risk=0.4",
        f'base="{folder}"',
        f'run.out="{folder / "runs"}"',
        "evaluate.baselines=[]",
    ]
    made = experiment.load(PRESET, [*options, 'test="test.csv"', MODEL, *more])
    path = pipeline.save(made).fitted.path
    assert path is not None
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def settings(run: Path, tmp_path: Path) -> Settings:
    return Settings(run=str(run), store=f"sqlite:///{tmp_path / 'm6rec.db'}")


@pytest.fixture
def http(settings: Settings) -> Iterator[TestClient]:
    with local_client(create(settings), follow_redirects=False) as client:
        yield client


def answer(http: TestClient, question: str, **more: Any) -> dict[str, Any]:
    got = http.post("/v1/answer", json={"question": question, **more})
    assert got.status_code == 200, got.text
    found: dict[str, Any] = got.json()
    return found


def test_an_answer_has_all_that_was_promised(http: TestClient) -> None:
    found = answer(http, PARCEL, k=2)
    first = found["answers"][0]
    assert first["item"] == "items/order-where" and len(found["answers"]) == 2
    assert first["passage"] in first["text"] and first["title"] == "Where is my order?"
    assert first["about"]["category"] == "delivery" and first["because"]
    assert 0 < found["confidence"] < 1 and found["threshold"] > 0
    assert len(found["related"]) == 5 and PARCEL not in found["related"]
    assert found["draft"] is None
    assert set(found["parts"]["items"]) == {"questions", "text"}


def test_what_nobody_asked_goes_to_a_person(http: TestClient) -> None:
    known, unknown = answer(http, PARCEL), answer(http, "Quarterly dividends of bonds, zebra?")
    assert unknown["confidence"] < known["confidence"]
    assert unknown["escalate"] is (unknown["confidence"] < unknown["threshold"]) is True
    assert known["escalate"] is False


def test_feedback_counts_in_the_next_answer(http: TestClient) -> None:
    alike = "do you sell bicycles"
    before = answer(http, alike, k=44)
    item = before["answers"][20]["item"]
    told = {"question": NEW, "item": item, "user": "ann", "request": before["request"]}
    assert http.post("/v1/answer/helped", json=told).json() == {"learned": True}
    after = answer(http, NEW, k=44)
    assert after["answers"][0]["item"] == item
    places = [each["item"] for each in answer(http, alike, k=44)["answers"]]
    assert places.index(item) < 20
    assert http.get("/v1/events", params={"user": "ann"}).json()[0]["item"] == item
    for _ in range(2):
        http.post("/v1/answer/helped", json=told | {"helped": False})
    assert answer(http, NEW, k=3)["answers"][0]["item"] != item


def test_another_worker_hears_it_too(settings: Settings) -> None:
    with (
        local_client(create(settings)) as one,
        local_client(create(settings)) as other,
    ):
        answer(other, NEW)
        told = {"question": NEW, "item": "items/hub-voice"}
        one.post("/v1/answer/helped", json=told)
        assert answer(other, NEW)["answers"][0]["item"] == "items/hub-voice"


def test_what_helped_outlives_a_restart_a_new_answer_and_is_forgotten(settings: Settings) -> None:
    with local_client(create(settings)) as http:
        http.put("/v1/items/items/bikes", json={"title": "Bicycles", "text": "Sold in May."})
        http.post("/v1/answer/helped", json={"question": NEW, "item": "items/bikes"})
        assert answer(http, NEW)["answers"][0]["item"] == "items/bikes"
    with local_client(create(settings)) as http:
        assert answer(http, NEW)["answers"][0]["item"] == "items/bikes"
        http.put("/v1/items/items/bikes", json={"title": "Bikes", "text": "Sold in June."})
        assert answer(http, NEW)["answers"][0]["item"] == "items/bikes"
        http.delete("/v1/items/items/bikes")
        http.post("/v1/answer/helped", json={"question": NEW, "item": "items/hub-voice"})
        http.put("/v1/items/items/cars", json={"title": "Cars", "text": "None."})
        http.delete("/v1/items/items/cars")
        assert answer(http, NEW)["answers"][0]["item"] == "items/hub-voice"
        http.delete(f"/v1/users/{as_user(NEW)[0]}")
        assert NEW not in answer(http, f"{NEW} really")["related"]


def test_a_new_training_learns_from_it(settings: Settings, run: Path) -> None:
    app = create(settings)
    with local_client(app) as http:
        http.post("/v1/answer/helped", json={"question": NEW, "item": "items/hub-voice"})
        before = Recommender.open(run).fitted
        config = before.prepared.config
        store = app.state.service.store
        prepared = from_store(store, config, before)
    assert NEW in prepared.users["words"].to_list()


def test_personal_data_is_not_kept(http: TestClient) -> None:
    question = "Bill of ann@example.org is wrong"
    http.post("/v1/answer/helped", json={"question": question, "item": "items/bill-high"})
    related = answer(http, "the bill of somebody is wrong")["related"]
    assert "Bill of [email] is wrong" in related


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/answer", {"question": "  "}, 400),
        ("/v1/answer", {"question": "a", "domain": "nowhere"}, 400),
        ("/v1/answer", {"question": "a", "k": 0}, 422),
        ("/v1/answer/helped", {"question": "a", "item": "items/none"}, 400),
        ("/v1/answer/helped", {"question": "a"}, 422),
    ],
)
def test_what_is_wrong_is_said(
    http: TestClient, path: str, body: dict[str, Any], status: int
) -> None:
    got = http.post(path, json=body)
    assert got.status_code == status and got.json()["error"]


def test_a_draft_comes_from_the_endpoint_of_the_toml(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("draft")
    with model_service(lambda: "Follow the link [1].") as (seen, options):
        path = trained(
            folder, f'serve.draft={{endpoint="{options.endpoint}", model="small", timeout=5.0}}'
        )
        store = f"sqlite:///{folder / 'm6rec.db'}"
        with local_client(create(Settings(run=str(path), store=store))) as http:
            found = answer(http, PARCEL)
            assert found["draft"] == {
                "text": "Follow the link [1].", "cites": ["items/order-where"], "redacted": [],
            }  # fmt: skip
            assert answer(http, PARCEL, draft=False)["draft"] is None
            assert "Follow the link [1]." in http.get(f"/support?question={PARCEL}").text
    assert seen


def test_the_command_line_says_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recommender = Recommender.open(run)
    said = ask(recommender, PARCEL)
    assert said.answers[0].item == "items/order-where" and not said.escalate
    assert isinstance(recommender.model, ConfidentModel)
    answer_verb(str(run), PARCEL)
    told = "".join(capsys.readouterr())
    assert said.answers[0].title in told and "others asked" in told
    answer_verb(str(run), "Quarterly dividends of bonds, zebra?", language="zh", json=True)
    table = json.loads(capsys.readouterr().out)
    assert table["escalate"] and len(table["answers"]) == 3


# The page


def test_the_page_in_both_languages(http: TestClient) -> None:
    for tongue, place in (("en", 0), ("zh", 1)):
        headers = {"Accept-Language": tongue}
        page = http.get("/support", headers=headers).text
        assert SUPPORT["support text"][place] in page
        page = http.get("/support", params={"question": PARCEL}, headers=headers).text
        assert SUPPORT["helped"][place] in page and "Where is my order?" in page


def test_the_page_escapes_and_takes_feedback(http: TestClient) -> None:
    page = http.get("/support", params={"question": "<script>alert(1)</script> parcel"}).text
    assert "<script>alert" not in page and "&lt;script&gt;" in page
    fields = {"question": NEW, "item": "items/hub-voice", "helped": "yes"}
    assert http.post("/support/helped", data=fields).status_code == 403
    got = http.post("/support/helped", data=fields, headers={"Origin": "http://127.0.0.1"})
    assert got.status_code == 303
    assert SUPPORT["thanks"][0] in http.get(got.headers["location"]).text


@pytest.fixture
def served(settings: Settings) -> Iterator[str]:
    with at_a_port(create(settings)) as url:
        yield url


def test_a_person_asks_and_says_that_it_helped(served: str) -> None:
    if not CHROMIUM:
        pytest.skip("there is no Chromium; `make test` installs it where it can")
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        window = browser.new_context(
            base_url=served, locale="en-GB", viewport={"width": 390, "height": 800}
        )
        window.set_default_timeout(120_000)
        page, said = window.new_page(), []
        page.on("console", lambda message: said.append(message.text))
        page.goto("/support")
        page.keyboard.type(NEW)
        page.keyboard.press("Enter")
        page.wait_for_selector(".answer")
        other = page.locator("details.other").first
        wanted = other.locator("summary").inner_text()
        other.locator("summary").click()
        other.get_by_role("button", name="This helped").click()
        page.wait_for_selector(".stored")
        assert wanted in page.locator(".answer h2").inner_text()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390
        found = Axe().run(page).response["violations"]
        assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
        browser.close()
    assert said == []


def test_who_cannot_say_how_sure_sends_to_a_person(run: Path) -> None:
    recommender, found = Recommender.open(run), [Candidate("items/order-where", 1.0, "of words")]
    assert isinstance(recommender.model, ConfidentModel)
    assert reply(recommender, PARCEL, found, None).escalate
    assert reply(recommender, PARCEL, [], 1.0).escalate
    assert not reply(recommender, PARCEL, found, 1.0).escalate
    plain = replace(recommender, fitted=replace(recommender.fitted, model=recommender.model.part))
    assert not reply(plain, PARCEL, found, None).escalate

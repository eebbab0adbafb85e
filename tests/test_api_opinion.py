"""/v1/opinion over HTTP, and the pages in both languages; in Chromium how they feel."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from m6rec.opinion.desk import Desk, Done
from m6rec.opinion.notice import NOTICE
from m6rec.serving.app import create
from m6rec.serving.settings import Settings
from newsroom import world, write_config
from service import at_a_port, local_client, made_run
from test_web import CHROMIUM, HOSTILE, OURS, SEVERE, WAYS, chromium, opened

__all__ = ["chromium"]  # a fixture of another module
FIRM = "Harbor Motors"
API = "/v1/opinion"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def app(run: Path, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    folder = tmp_path_factory.mktemp("opinion")
    config = write_config(folder)
    settings = Settings(run=str(run), store=f"sqlite:///{folder}/m.db", opinion=str(config))
    return create(settings)


@pytest.fixture(scope="module")
def http(app: FastAPI) -> Iterator[TestClient]:
    """A client of a service that has read the news of the newsroom."""
    with local_client(app, follow_redirects=False) as client:
        documents, prices = world()
        sent = [
            {"id": d, "time": t, "source": s, "title": h, "text": b}
            for d, t, s, h, b in documents.select(
                "document", "time", "source", "title", "text"
            ).iter_rows()
        ]
        for at in range(0, len(sent), 2000):
            part = sent[at : at + 2000]
            answer = client.post(f"{API}/documents", json=part)
            assert answer.json() == {"notice": NOTICE["en"], "added": len(part), "got": len(part)}
        rows = [dict(zip(prices.columns, row, strict=True)) for row in prices.iter_rows()]
        assert client.post(f"{API}/prices", json=rows).json()["added"] == prices.height
        until(lambda: bool(client.get(f"{API}/alerts").json()["alerts"]))
        yield client


def until(done: Callable[[], bool]) -> None:
    """Wait for the desk's thread."""
    for _ in range(1200):
        if done():
            return
        time.sleep(0.1)
    raise AssertionError("the desk has not done it")


def test_documents_count_once(http: TestClient) -> None:
    document = {"id": "once", "time": "2024-01-02T10:00:00Z", "title": f"{FIRM} opens an office"}
    for added in (1, 0):
        answer = http.post(f"{API}/documents", json=[document])
        assert answer.status_code == 200 and answer.json()["added"] == added
    assert http.post(f"{API}/documents", json={"time": 5, "source": "x"}).status_code == 422
    wrong = [document | {"id": "y"}, document | {"id": "z", "title": ""}]
    answer = http.post(f"{API}/documents", json=wrong)
    assert answer.status_code == 422 and "document 2: has neither title nor text" in answer.text
    late = document | {"id": "l", "time": "9999-12-31T23:59:59-12:00"}
    assert http.post(f"{API}/documents", json=late).status_code == 422
    assert http.get(f"{API}/status").json()["documents"] == world()[0].height + 1


def test_every_answer_says_that_it_is_no_advice(http: TestClient) -> None:
    for path in ("entities", f"series?entity={FIRM}", "documents", "alerts", "watch/ann", "status"):
        found = http.get(f"{API}/{path}")
        assert found.status_code == 200 and found.json()["notice"] == NOTICE["en"], path
    assert http.get(f"{API}/alerts?language=zh").json()["notice"] == NOTICE["zh"]


def test_series_and_entities(http: TestClient) -> None:
    found = http.get(f"{API}/series", params={"entity": FIRM, "windows": 30}).json()
    assert len(found["times"]) == 30 == len(found["values"]["opinion"])
    assert {"opinion", "volume"} <= {row["measure"] for row in found["forecast"]}
    rows = http.get(f"{API}/entities").json()["entities"]
    assert len(rows) == 12 and all(row["forecast"] for row in rows)
    answer = http.get(f"{API}/series?entity=Nobody")
    assert answer.status_code == 404 and "nothing is known" in answer.json()["error"]


def test_alerts_are_acknowledged(http: TestClient) -> None:
    alert = http.get(f"{API}/alerts?open=true&n=1").json()["alerts"][0]
    assert alert["details"]["suggestion"] and alert["because"] == ""
    path = f"{API}/alerts/{alert['key']}/acknowledge"
    seen = http.post(path, json={"user": "ann"}).json()["alerts"][0]
    assert seen["acknowledged"] is not None
    left = http.get(f"{API}/alerts?open=true&n=400").json()["alerts"]
    assert alert["key"] not in {a["key"] for a in left}
    assert http.post(f"{API}/alerts/none/acknowledge", json={"user": "a"}).status_code == 404


def test_a_watch_list_ranks(http: TestClient) -> None:
    put = http.put(f"{API}/watch/eve", json={"entities": ["Vega Electric"]})
    assert put.json()["entities"] == ["Vega Electric"]
    assert http.get(f"{API}/watch/eve").json()["entities"] == ["Vega Electric"]
    assert http.put(f"{API}/watch/eve", json={"entities": ["Nobody"]}).status_code == 404
    news = http.get(f"{API}/documents?user=eve&n=3").json()["documents"]
    assert "Vega Electric" in news[0]["entities"] and news[0]["because"]
    erased = http.delete("/v1/users/eve").json()
    assert erased["erased"]["watched"] == 1
    assert http.get(f"{API}/watch/eve").json()["entities"] == []


def test_reading_and_labels(http: TestClient) -> None:
    first = http.get(f"{API}/documents", params={"entity": FIRM, "n": 1}).json()["documents"][0]
    read = {"user": "sam", "document": first["document"]}
    assert http.post(f"{API}/reads", json=read).status_code == 200
    ranked = http.get(f"{API}/documents?user=sam&n=5").json()["documents"]
    assert FIRM in ranked[0]["entities"] and first["document"] not in {
        d["document"] for d in ranked
    }
    label = {"document": first["document"], "entity": FIRM, "sentiment": "positive"}
    assert http.post(f"{API}/labels", json=label).json()["added"] == 1
    assert http.post(f"{API}/labels", json=label | {"document": "none"}).status_code == 404
    assert http.post(f"{API}/reads", json=read | {"document": "none"}).status_code == 404


def test_without_a_table_it_says_how_to_have_one(run: Path, tmp_path: Path) -> None:
    app = create(Settings(run=str(run), store=f"sqlite:///{tmp_path}/m.db"))
    with local_client(app) as client:
        answer = client.get(f"{API}/alerts")
        assert answer.status_code == 404 and "m6rec serve --opinion FILE" in answer.json()["error"]
        assert client.get("/opinion").status_code == 404
        assert 'href="/opinion"' not in client.get("/operations").text


def test_documents_become_items_of_a_run_with_their_domain(run: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, 'domain = "films"')
    store = f"sqlite:///{tmp_path}/m.db"
    with local_client(create(Settings(run=str(run), store=store, opinion=str(config)))) as client:
        document = {"id": "n1", "time": "2024-01-02", "title": "Castle in the news"}
        assert client.post(f"{API}/documents", json=document).status_code == 200
        found = client.get("/v1/items?search=castle in the news").json()
        assert [item["item"] for item in found] == ["films/n1"]


def test_the_page_says_when_the_first_report_is_still_to_come(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Desk, "step", lambda self: Done())
    settings = Settings(
        run=str(run), store=f"sqlite:///{tmp_path}/m.db", opinion=str(write_config(tmp_path))
    )
    with local_client(create(settings)) as client:
        assert "No alert is open." in client.get("/opinion").text
        document = {"id": "n1", "time": "2024-01-02", "title": f"{FIRM} in the news"}
        assert client.post(f"{API}/documents", json=document).status_code == 200
        page = client.get("/opinion").text
        assert "the first report follows" in page and "No alert is open." not in page


def pages(http: TestClient) -> list[str]:
    newest = http.get(f"{API}/documents?n=1").json()["documents"][0]["document"]
    return [
        "/opinion", "/opinion?user=kim", f"/opinion/entities/{FIRM}",
        f"/opinion/entities/{FIRM}?user=kim", f"/opinion/documents/{newest}",
        f"/opinion/documents/{newest}?user=kim",
    ]  # fmt: skip


def test_every_page_answers_in_both_languages(http: TestClient) -> None:
    http.put(f"{API}/watch/kim", json={"entities": [FIRM]})
    for path in pages(http):
        for tongue in ("en", "zh"):
            page = http.get(path, headers={"Accept-Language": tongue})
            assert page.status_code == 200, path
            assert f'<html lang="{tongue}' in page.text and NOTICE[tongue] in page.text
            assert not re.search(r"<style|\sstyle=|<script(?! src)|\son\w+=|https?://", page.text)
    assert http.get("/opinion/entities/Nobody").status_code == 404
    assert http.get("/opinion/documents/none").status_code == 404


def test_hostile_documents_are_escaped(http: TestClient) -> None:
    body = {"id": "bad/<b>", "time": "2024-01-03", "title": f"{FIRM} {HOSTILE}", "text": HOSTILE,
            "url": "javascript:alert(1)"}  # fmt: skip
    assert http.post(f"{API}/documents", json=body).status_code == 200
    page = http.get("/opinion/documents/bad/%3Cb%3E")
    assert page.status_code == 200
    assert "<script>alert" not in page.text and "javascript:" not in page.text


def test_forms_change_and_those_of_other_sites_do_not(http: TestClient) -> None:
    fields = {"user": "lee", "entity": [FIRM, "Nobody", "Swiftwheel"]}
    answer = http.post("/opinion/watch", data=fields, headers=OURS)
    assert answer.status_code == 303 and answer.headers["location"] == "/opinion?user=lee"
    assert http.get(f"{API}/watch/lee").json()["entities"] == [FIRM, "Swiftwheel"]
    foreign = {"Origin": "http://evil.example"}
    assert http.post("/opinion/watch", data=fields, headers=foreign).status_code == 403
    alert = http.get(f"{API}/alerts?open=true&n=1").json()["alerts"][0]["key"]
    seen = {"user": "lee", "alert": alert}
    assert http.post("/opinion/acknowledge", data=seen, headers=OURS).status_code == 303
    assert http.post("/opinion/acknowledge", data={"alert": alert}, headers=OURS).status_code == 400
    said = {"document": "once", "entity": FIRM, "sentiment": "neutral", "user": "lee"}
    assert http.post("/opinion/label", data=said, headers=OURS).status_code == 303
    assert (
        http.post("/opinion/label", data=said | {"sentiment": "x"}, headers=OURS).status_code == 400
    )
    read = {"user": "lee", "document": "once"}
    assert http.post("/opinion/read", data=read, headers=OURS).status_code == 204


@pytest.fixture(scope="module")
def served(http: TestClient) -> Iterator[str]:
    """The same service for a browser, at a port."""
    with at_a_port(http.app, "off") as url:
        yield url


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
def test_an_investor_at_work(chromium: Any, served: str, http: TestClient) -> None:
    context = opened(chromium, served)
    tab, said = context.new_page(), []
    tab.on("console", lambda message: said.append(message.text))
    tab.goto("/opinion")
    tab.get_by_label("Whose view").fill("max")
    tab.get_by_role("button", name="Show").click()
    tab.wait_for_url("**/opinion?user=max")
    tab.locator("label.seed", has_text=FIRM).click()
    tab.get_by_role("button", name="Keep").click()
    tab.locator(".chip", has_text="watched").wait_for()
    news = tab.locator("section", has=tab.get_by_role("heading", name="News", exact=True))
    first = news.locator("li").first
    assert FIRM in first.inner_text()
    with tab.expect_response("**/opinion/read") as answer:
        first.locator(".title").click()
    assert answer.value.status == 204
    tab.get_by_role("button", name="positive").first.click()
    tab.locator("button[aria-pressed=true]").wait_for()
    tab.get_by_role("link", name="Opinions").first.click()
    alert = (
        tab.locator("section", has=tab.get_by_role("heading", name="Alerts")).locator("li").first
    )
    tab.goto("/opinion?user=max")
    alert.locator("summary").click()
    text = alert.locator(".title").first.inner_text()
    alert.get_by_role("button", name="I have seen it").click()
    tab.wait_for_load_state()
    shown = tab.locator(".feed .title").all_inner_texts()
    assert text not in shown and said == []
    context.close()


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
@pytest.mark.parametrize(("scheme", "width", "locale"), WAYS)
def test_pages_are_accessible_and_fit(
    chromium: Any, served: str, http: TestClient, scheme: str, width: int, locale: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = opened(
        chromium, served, locale=locale, color_scheme=scheme, bypass_csp=True,
        viewport={"width": width, "height": 844}, reduced_motion="reduce",
    )  # fmt: skip
    page = context.new_page()
    for path in pages(http):
        page.goto(path)
        for summary in page.locator(".feed summary").all()[:2]:
            summary.click()
        found = Axe().run(page).response["violations"]
        bad = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in SEVERE]
        assert bad == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    context.close()

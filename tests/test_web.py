"""The web page: over plain HTTP what it escapes, refuses and protects; in Chromium how it feels."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from fastapi.testclient import TestClient

from m6rec import artifacts, experiment, pipeline
from m6rec.serving.app import create
from m6rec.serving.guard import hashed
from m6rec.serving.settings import Settings
from m6rec.serving.web.charts import curves, marks
from m6rec.serving.web.texts import TEXTS, speaker
from m6rec.store import ApiKey, Event, Store
from service import at_a_port, local_client
from shop import write_shop

CHROMIUM = which("chromium")
HOSTILE = '<script>alert(1)</script> & "quotes"'
SEVERE = ("serious", "critical")
PAGES = (
    "/", "/?user=u1", "/?liked=films/i1&domain=books&words=castle",
    "/onboarding?liked=films/i1", "/items",
    "/items?words=castle", "/items/films/i0", "/models", "/models/{run}", "/models/compare",
    "/operations?paused=1", "/support?question=parcel",
)  # fmt: skip
OURS = {"Origin": "http://127.0.0.1"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of a small shop on the same data; CURRENT names the fused one."""
    folder = tmp_path_factory.mktemp("web")
    toml = write_shop(folder)
    out = f'run.out="{folder / "runs"}"'
    pipeline.save(experiment.load(toml, [out, 'name="other"', "evaluate.baselines=[]"]))
    pipeline.save(experiment.load(toml, [out, 'model={kind="m6rec", deep=false}']))
    return folder / "runs"


@pytest.fixture(scope="module")
def settings(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    store = tmp_path_factory.mktemp("store") / "m6rec.db"
    return Settings(run=str(runs / "current"), store=f"sqlite:///{store}")


@pytest.fixture(scope="module")
def http(settings: Settings) -> Iterator[TestClient]:
    with local_client(create(settings), follow_redirects=False) as client:
        yield client


def test_every_page_answers_in_both_languages(http: TestClient, runs: Path) -> None:
    name = artifacts.resolve(runs / "current").name
    for path in PAGES:
        path = path.format(run=name)
        for tongue in ("en", "zh"):
            page = http.get(path, headers={"Accept-Language": tongue})
            assert page.status_code == 200, path
            assert f'<html lang="{tongue}' in page.text
            assert page.headers["content-security-policy"].startswith("default-src 'self'")
            assert not re.search(r"<style|\sstyle=|<script(?! src)|\son\w+=|https?://", page.text)


def test_texts_have_the_same_places_in_both_languages() -> None:
    for name, (english, chinese) in TEXTS.items():
        places = [sorted(re.findall(r"\{\w*\}", text)) for text in (english, chinese)]
        assert places[0] == places[1], name
    assert speaker("zh")("counted", n=3) == "计入 3 个事件"


def test_hostile_titles_and_keys_are_escaped(http: TestClient) -> None:
    body = {"title": HOSTILE, "attributes": {"group": "g0", "year": 1999}, "text": HOSTILE}
    assert http.put("/v1/items/films/bad", json=body).status_code == 200
    event = {"user": "<b>", "item": "films/bad"}
    assert http.post("/v1/events", json=event).status_code == 200
    pages = ["/items/films/bad", "/items?words=alert", "/?user=%3Cb%3E", "/?liked=films/bad"]
    for path in [*pages, "/operations", "/explore/titles?words=alert", "/explore/people?user=%3Cb"]:
        page = http.get(path)
        assert page.status_code == 200, path
        assert "<script>alert" not in page.text and "<b>" not in page.text.replace("<b>0", "")
    assert "&lt;script&gt;" in http.get("/items/films/bad").text
    assert http.delete("/v1/items/films/bad").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/items/films/nothing", "/?liked=nothing", "/?domain=nothing",
     "/models/nothing", "/models/..%2f..", "/models/compare?a=nothing", "/language/xx"],
)  # fmt: skip
def test_what_is_unknown_has_a_page_that_says_so(http: TestClient, path: str) -> None:
    page = http.get(path)
    assert page.status_code == 404
    assert "Back to the start" in page.text


def test_a_like_is_an_event_that_names_its_list(http: TestClient, settings: Settings) -> None:
    page = http.get("/?user=fan").text
    request = re.findall(r'name="request films" value="(\w+)"', page)[0]
    fields = {"user": "fan", "item": "films/i3", "request films": request}
    answer = http.post("/explore/like", data=fields, headers=OURS)
    assert answer.status_code == 303 and answer.headers["location"] == "/?user=fan"
    stored, _ = Store.open(settings.store).events(users=["fan"])
    assert [(e.item, e.request) for e in stored] == [("films/i3", request)]
    again = http.post("/explore/like", data=fields, headers=OURS | {"HX-Request": "true"})
    assert again.status_code == 200 and "Stored: fan liked" in again.text
    assert again.headers["hx-push-url"] == "/?user=fan"


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "https://testserver:1"])
def test_forms_of_other_sites_change_nothing(
    http: TestClient, settings: Settings, origin: str | None
) -> None:
    headers = {"Origin": origin} if origin else {}
    for path in ("/explore/like", "/onboarding", "/leave", "/enter"):
        fields = {"user": "victim", "item": "films/i3", "liked": "films/i3"}
        assert http.post(path, data=fields, headers=headers).status_code == 403
    assert Store.open(settings.store).user("victim") is None


def test_onboarding_keeps_what_was_chosen(http: TestClient) -> None:
    fields = {"user": "guest", "liked": ["films/i1", "books/i25"]}
    answer = http.post("/onboarding", data=fields, headers=OURS)
    assert answer.status_code == 303 and answer.headers["location"] == "/?user=guest"
    history = http.get("/v1/events", params={"user": "guest"}).json()
    assert {row["item"] for row in history} == {"films/i1", "books/i25"}
    assert http.post("/onboarding", data={"user": "x"}, headers=OURS).status_code == 422


def test_language_is_negotiated_and_chosen(http: TestClient) -> None:
    def tongue(accepted: str) -> str:
        page = http.get("/items", headers={"Accept-Language": accepted}).text
        return re.findall(r'<html lang="([\w-]+)"', page)[0]

    assert tongue("fr, zh-TW;q=0.8, en;q=0.5") == "zh-Hans"
    assert tongue("fr;q=x, de") == tongue("") == "en"
    chosen = http.get("/language/zh", params={"next": "/items"})
    assert chosen.status_code == 303 and chosen.headers["location"] == "/items"
    assert tongue("en") == "zh-Hans"
    for elsewhere in ("//evil.example", "https://evil.example", "/\\evil.example"):
        assert http.get(f"/language/en?next={elsewhere}").headers["location"] == "/"
    http.cookies.clear()


def test_a_key_is_asked_for_once(runs: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'keys.db'}"
    store = Store.open(url)
    for key, scope in (("reader", "read"), ("writer", "write")):
        store.add_key(ApiKey(hash=hashed(key), name=key, scope=scope, created=1))
    app = create(Settings(run=str(runs / "current"), store=url))
    with local_client(app, follow_redirects=False) as client:
        page = client.get("/items?words=x")
        assert page.status_code == 401
        assert 'name="next" value="/items?words=x"' in page.text
        assert client.get("/static/style.css").status_code == 200
        assert client.get("/operations", headers={"HX-Request": "1"}).headers["hx-refresh"]
        wrong = client.post("/enter", data={"key": "guess"}, headers=OURS)
        assert wrong.status_code == 401 and "not valid" in wrong.text
        let_in = client.post("/enter", data={"key": "reader", "next": "/items"}, headers=OURS)
        assert let_in.headers["location"] == "/items"
        cookie = let_in.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=strict" in cookie
        assert client.get("/items").status_code == 200
        assert client.get("/v1/models").status_code == 401  # the cookie is for pages only
        like = {"user": "u1", "item": "films/i3"}
        refused = client.post("/explore/like", data=like, headers=OURS)
        assert refused.status_code == 403 and "scope" in refused.text
        client.post("/enter", data={"key": "writer"}, headers=OURS)
        assert client.post("/explore/like", data=like, headers=OURS).status_code == 303
        assert client.post("/leave", headers=OURS).status_code == 303
        assert client.get("/items").status_code == 401


def test_figures_are_counted(runs: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'figures.db'}"
    with local_client(create(Settings(run=str(runs / "current"), store=url))) as client:
        client.post("/v1/recommend", json={"user": "u1"})
        client.post("/v1/recommend", json={"user": "nobody"})
        client.post("/v1/events", json=[{"user": "u1", "item": "films/i3"}] * 3)
        client.get("/nothing")
        text = client.get("/metrics").text
        assert 'm6rec_answers_total{history="some"} 1.0' in text
        assert 'm6rec_answers_total{history="none"} 1.0' in text
        assert "m6rec_events_total 3.0" in text and "m6rec_model_age_seconds" in text
        assert 'm6rec_request_seconds_count{route="POST /v1/recommend",status="200"} 2.0' in text
        assert 'route="other",status="404"' in text
        page = client.get("/operations").text
        assert "POST /v1/recommend" in page and "50%" in page


def test_two_runs_on_trial_are_shown(runs: Path, tmp_path: Path) -> None:
    other = next(runs / name for name in artifacts.runs(runs) if "-other-" in name)
    url = f"sqlite:///{tmp_path / 'trial.db'}"
    both = Settings(run=str(runs / "current"), rival=str(other), store=url)
    with local_client(create(both)) as client:
        assert client.get("/models").text.count("answers now") == 2
        page = client.get("/operations").text
        assert "Two runs on trial" in page and "too few users yet" in page and other.name in page


def test_figures_of_all_workers_add_up(tmp_path: Path) -> None:
    program = (
        "from m6rec.serving.monitor import Monitor; monitor = Monitor(); monitor.took(2); "
        "monitor.answered(0); found = monitor.figures(); print(found.events, found.cold)"
    )
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    told = [
        subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert told == [["2", "1"], ["4", "2"]]


def test_curves_and_marks(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [f'{{"scope": "train/a", "scalar": "holdout/x", "value": {v}, "step": {s}}}'
             for s, v in enumerate((1.0, 3.0, 2.0))]  # fmt: skip
    log.write_text("\n".join([*lines, '{"scalar": "once", "value": 1, "step": 0}', "broken"]))
    (found,) = curves(log)
    assert found.name == "a · holdout" and found.ends == (0, 2)
    assert found.lines[0].last == 2.0 and len(found.lines[0].points.split()) == 3
    a, b, none = marks([{"value": 1.0, "low": 0.0, "high": 2.0}, {"value": 2.0}, {}])
    assert a is not None and b is not None and none is None
    assert (a.low, a.x, a.high, a.half) == (4, 50, 96, 1.0) and (b.low, b.x) == (None, 96)


# In a browser


@pytest.fixture(scope="module")
def served(settings: Settings, http: TestClient) -> Iterator[str]:
    """The address of a server of its own, on the store of ``http``."""
    with at_a_port(create(settings)) as url:
        yield url


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("there is no Chromium; `make test` installs it where it can")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def opened(chromium: Any, served: str, **options: Any) -> Any:
    """A browser window of its own, patient with a busy machine."""
    context = chromium.new_context(base_url=served, **{"locale": "en-GB"} | options)
    context.set_default_timeout(120_000)
    return context


@pytest.fixture
def tab(chromium: Any, served: str) -> Iterator[Any]:
    """A page that must not say anything on its console."""
    context = opened(chromium, served)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert said == []


def titles(tab: Any, list: int = 0) -> list[str]:
    return tab.locator(".list").nth(list).locator("ol > li .title").all_inner_texts()


def test_a_click_changes_the_list_at_once(tab: Any, settings: Settings) -> None:
    tab.goto("/?user=clicker")
    before = titles(tab)
    tab.get_by_role("button", name=f"I liked {before[0]}").first.click()
    tab.get_by_text(f"Stored: clicker liked {before[0]}.").wait_for()
    after = titles(tab)
    assert before[0] not in after and after != before[1:]
    assert tab.locator(".chip").count() > 0  # what is new, and what rose or fell
    assert tab.url.endswith("/?user=clicker")
    (event,), _ = Store.open(settings.store).events(users=["clicker"])
    assert event.request


def test_a_history_is_built_by_title(tab: Any) -> None:
    tab.goto("/")
    before = titles(tab)
    tab.get_by_label("Or a history of your own").press_sequentially("dragon")
    tab.locator("#titles a").first.click()
    tab.get_by_text("Your history; it is not stored").wait_for()
    assert titles(tab) != before
    liked = titles(tab)[0]
    tab.get_by_role("button", name=f"I liked {liked}").first.click()
    tab.get_by_role("link", name=f"Remove {liked}").wait_for()
    assert tab.url.count("liked=") == 2
    tab.go_back()
    tab.get_by_role("link", name=f"Remove {liked}").wait_for(state="detached")


def test_onboarding_follows_every_choice(tab: Any) -> None:
    tab.goto("/onboarding")
    before = titles(tab)
    tab.locator(".seed").first.click()
    tab.get_by_text("1 chosen").wait_for()
    assert titles(tab) != before
    tab.get_by_label("Keep as user").fill("sprout")
    tab.get_by_role("button", name="Keep and go on").click()
    tab.wait_for_url("**/?user=sprout")
    assert "1 events count" in tab.inner_text(".asker")


def test_keys_alone_will_do(tab: Any) -> None:
    tab.goto("/")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.get_by_role("textbox", name="A user").focus()
    tab.keyboard.type("u1")
    tab.locator("#people li:first-child a", has_text="u1").wait_for()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/?user=u1*")
    heart = tab.locator(".like").first
    liked = heart.get_attribute("aria-label")
    heart.focus()
    tab.keyboard.press("Enter")
    tab.locator(".stored").wait_for()
    assert not tab.get_by_role("button", name=liked, exact=True).count()
    summary = tab.locator(".list summary").first
    summary.focus()
    tab.keyboard.press("Enter")
    tab.locator(".reasons").first.wait_for()


def test_a_list_that_comes_late_does_not_take_the_focus(tab: Any) -> None:
    tab.goto("/")
    tab.get_by_role("textbox", name="A user").focus()
    tab.locator("#people a").first.wait_for()
    with tab.expect_response("**/explore/people?user=u2*"):
        tab.keyboard.type("u2")
        tab.keyboard.press("ArrowDown")
    tab.wait_for_timeout(300)  # in which the answer is put in its place
    chosen = tab.evaluate("document.activeElement.getAttribute('href')")
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"**{chosen}")


def test_search_and_operations_renew_themselves(tab: Any, settings: Settings) -> None:
    tab.goto("/items")
    tab.get_by_label("Find an item").press_sequentially("castle")
    tab.get_by_role("heading", name="found").wait_for()
    tab.goto("/operations")
    store = Store.open(settings.store)
    store.add_events(
        [Event(user="live", item="films/i7", type="event", time=time.time_ns() // 1000)]
    )
    tab.get_by_role("cell", name="live", exact=True).wait_for()


def test_an_error_is_shown_as_a_page(chromium: Any, served: str) -> None:
    context = opened(chromium, served)
    page = context.new_page()
    page.goto("/?user=u2")
    page.locator(".like").first.evaluate("button => button.value = 'films/nothing'")
    page.locator(".like").first.click()
    page.get_by_text('There is no item "films/nothing".').wait_for()
    context.close()


WAYS = [("light", 1280, "en-GB"), ("dark", 390, "zh-CN")]


@pytest.mark.parametrize(("scheme", "width", "locale"), WAYS)
def test_pages_are_accessible_and_fit(
    chromium: Any, served: str, runs: Path, scheme: str, width: int, locale: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = opened(
        chromium, served, locale=locale, color_scheme=scheme, bypass_csp=True,
        viewport={"width": width, "height": 844}, reduced_motion="reduce",
    )  # fmt: skip
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    name = artifacts.resolve(runs / "current").name
    for path in PAGES:
        path = path.format(run=name)
        page.goto(path)
        if path == "/?user=u1":
            page.locator(".list summary").first.click()
        found = Axe().run(page).response["violations"]
        bad = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in SEVERE]
        assert bad == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    context.close()
    assert said == []

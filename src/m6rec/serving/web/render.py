"""Pages from templates: the reader's language, and how figures are written."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse

from m6rec.explanation import START, Contribution
from m6rec.serving.guard import COOKIE, cookie
from m6rec.serving.web.charts import bars
from m6rec.serving.web.texts import LANGUAGES, TEXTS, Say, speaker
from m6rec.wording import wording

HERE = Path(__file__).parent
LANGUAGE = "m6rec_language"  # cookie
NAV = (
    ("explore", "/"),
    ("onboarding", "/onboarding"),
    ("support", "/support"),
    ("items", "/items"),
    ("models", "/models"),
    ("operations", "/operations"),
)


def language(request: HTTPConnection) -> str:
    """Return the language that was chosen, else the first of the browser's that we speak."""
    chosen = cookie(request.headers.get("cookie", ""), LANGUAGE)
    if chosen in LANGUAGES:
        return chosen
    wanted = []
    for place, part in enumerate(request.headers.get("accept-language", "").split(",")):
        name, _, weight = part.strip().partition(";q=")
        try:
            wanted.append((-float(weight or 1), place, name.partition("-")[0].lower()))
        except ValueError:
            continue
    return next((name for _, _, name in sorted(wanted) if name in LANGUAGES), "en")


def page(request: HTTPConnection, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page in the reader's language."""
    tongue = language(request)
    here = request.url.path
    shown = [each for each in NAV if each[0] != "support" or request.app.state.answers]
    nav = [
        (name, path, here == path or (path != "/" and here.startswith(path)))
        for name, path in shown
    ]
    html = (
        environment()
        .get_template(template)
        .render(
            t=speaker(tongue),
            tongue=tongue,
            languages=LANGUAGES,
            here=here + (f"?{request.url.query}" if request.url.query else ""),
            nav=nav,
            keyed=bool(cookie(request.headers.get("cookie", ""), COOKIE)),
            **values,
        )
    )
    return HTMLResponse(html, status, headers={"Cache-Control": "no-store"})


def problem(request: HTTPConnection, status: int, message: str = "") -> HTMLResponse:
    """Return the page that says what went wrong."""
    return page(request, "problem.html", status, code=status, message=message)


@cache
def environment() -> Environment:
    """The templates, with every value escaped and no unknown name let through."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "ago": ago,
        "bars": bars,
        "date": date,
        "figure": figure,
        "heat": heat,
        "item_url": item_url,
        "label": label,
        "ms": ms,
        "percent": percent,
        "slice_name": slice_name,
        "span": span,
        "thousands": thousands,
        "to_json": to_json,
    }
    made.globals["url"] = url
    return made


def url(path: str, **query: str | Sequence[str] | None) -> str:
    """Return a path with the parameters that have a value."""
    told = {name: value for name, value in query.items() if value}
    return f"{path}?{urlencode(told, doseq=True)}" if told else path


def item_url(key: str) -> str:
    """Return the page of an item."""
    return f"/items/{quote(key, safe='/')}"


def label(reason: Contribution, t: Say, tongue: str) -> str:
    """Return what a reason is called: its own name, else that of its kind."""
    if reason.label == START:
        return t("starting point")
    if reason.item < 0 and reason.label == reason.kind and reason.kind in ("popularity", "seed"):
        return t(reason.kind)
    say = wording(tongue)
    named = say.named(reason.label)
    return reason.label if named == say.quote.format(reason.label) else named


def slice_name(name: str, t: Say) -> str:
    """Return what a slice of test rows is called; domains keep their names."""
    if name.startswith("activity "):
        return t("activity", n=name.removeprefix("activity "))
    known = name == "all" or (name in TEXTS and name.startswith(("cold ", "warm ")))
    return t(name) if known else name


def percent(share: float) -> str:
    """Return "37 %" of 0.37."""
    return f"{share:.0%}".replace("-", "−")


def thousands(number: float) -> str:
    """Return "12,345"."""
    return f"{number:,.0f}"


def figure(value: float) -> str:
    """Return a metric with four decimals and a true minus."""
    return f"{value:.4f}".replace("-", "−")


def ms(seconds: float) -> str:
    """Return seconds as milliseconds with about two figures."""
    found = seconds * 1000
    return f"{found:.1f}" if found < 10 else f"{found:,.0f}"


def heat(value: float) -> str:
    """Return the class of a cell whose value is between 0 and 1."""
    return f"h{round(10 * min(1.0, max(0.0, value)))}"


def to_json(value: Any) -> str:
    """Return a value as compact JSON, to be escaped like any text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def date(moment: str) -> str:
    """Return the minute of an RFC 3339 time."""
    return moment[:16].replace("T", " ")


def ago(micro: int, t: Say) -> str:
    """Return how long a moment (µs) has passed; a past one by its date after a month."""
    seconds = time.time() - micro / 1e6
    if micro < 0:
        return t("unknown")
    if seconds > 30 * 86_400:
        return time.strftime("%Y-%m-%d", time.gmtime(micro / 1e6))
    if seconds < 5:
        return t("now")
    name, n = _unit(seconds)
    return t(name, n=n)


def span(seconds: float, t: Say) -> str:
    """Return a duration in its largest unit."""
    name, n = _unit(seconds)
    return t(f"for {name}", n=n)


def _unit(seconds: float) -> tuple[str, int]:
    for name, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= size:
            return name, int(seconds // size)
    return "seconds", int(max(0, seconds))


def first_of(values: Mapping[str, list[str]], name: str) -> str:
    """Return the first value of a parsed form's field, "" where it was not sent."""
    return values.get(name, [""])[0].strip()

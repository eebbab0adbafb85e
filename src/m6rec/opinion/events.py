"""What drove an alert: documents with shares, terms, entities that moved along, where to look."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from m6rec.opinion.alerts import Alert, shift
from m6rec.opinion.series import Series, Windows, weights

Language = Literal["en", "zh"]
DRIVER = {
    "document": pl.String, "time": pl.Int64, "source": pl.String, "title": pl.String,
    "sentiment": pl.Float64, "share": pl.Float64,
}  # fmt: skip
ALONG = 2.0  # standard errors from which another entity moved along
HEAD = 80  # characters of a text that stand for a title
BACK = 40  # windows before, whose documents the terms are compared with
PRIOR = 100.0  # words that the prior of a term's log-odds is worth
LATIN, HAN = re.compile(r"[^\W\d_]{3,}"), re.compile(r"[\u3400-\u9fff]{2,}")


@dataclass(frozen=True, eq=False)
class Event:
    """An alert and what drove it.

    documents: the greatest shares first: document, time, source, title (the beginning of the text
    where there is none), sentiment, share. sources: how many different ones they come from, of
    all that drove it. terms: of those documents, with the z-score of their log-odds. along:
    entities that moved the same way, with their score.
    """

    alert: Alert
    documents: pl.DataFrame
    sources: int
    terms: tuple[tuple[str, float], ...]
    along: tuple[tuple[str, float], ...]

    def text(self, language: Language = "en") -> str:
        """Return the alert in one sentence."""
        a = self.alert
        said = _TEXTS[language][a.kind if a.kind != "threshold" else f"threshold{a.direction}"]
        way = _WAYS[language][a.direction]
        name = MEASURES[language].get(a.measure, a.measure)
        return said.format(
            entity=a.entity, measure=name, way=way, value=a.value, expected=a.expected,
            score=a.score, windows=a.windows,
        )  # fmt: skip

    def suggestion(self, language: Language = "en") -> str:
        """Return what to look at: never what to buy or sell."""
        texts = _SUGGESTIONS[language]
        parts = [texts["read" if len(self.documents) else "nothing"]]
        if len(self.documents):
            top = float(self.documents["share"][0])
            parts.append(texts["one" if top > 0.5 or self.sources == 1 else "many"])
        if self.along:
            names = (", " if language == "en" else "、").join(name for name, _ in self.along[:3])
            parts.append(texts["along"].format(names=names))
        parts.append(texts.get(self.alert.kind, ""))
        return (" " if language == "en" else "").join(part for part in parts if part)


def event(
    alert: Alert,
    series: Series,
    readings: pl.DataFrame,
    documents: pl.DataFrame | None,
    options: Windows,
    n: int = 5,
) -> Event:
    """Return what drove an alert, from what was known at its time.

    The share of a document in a move of opinion is w (s − expected) over the sum of that over all
    documents that push the same way; of other measures it is its weight. Terms: log-odds with a
    Dirichlet prior (Monroe et al. 2008) of the documents that push, beside those of the entity in
    the windows before.
    """
    seconds = int(np.diff(series.ends).min()) if len(series.ends) > 1 else alert.time
    first = alert.time - alert.windows * seconds
    own = readings.filter(pl.col("entity") == alert.entity, pl.col("time") < alert.time)
    newest = own.filter(pl.col("time") >= first)
    ends = (newest["time"].to_numpy() // seconds + 1) * seconds
    push = weights(newest, ends, options)
    if alert.measure == "opinion":
        expected = _centre(alert)
        push = push * np.maximum(alert.direction * (newest["sentiment"].to_numpy() - expected), 0)
    newest = newest.with_columns(share=push / max(float(push.sum()), 1e-12))
    newest = newest.filter(pl.col("share") > 0).sort("share", descending=True)
    empty = pl.DataFrame(schema={"document": pl.String, "title": pl.String, "text": pl.String})
    texts = empty if documents is None else documents
    said = pl.when(pl.col("title") == "").then(pl.col("text").str.head(HEAD)).otherwise("title")
    titles = texts.select("document", title=said)
    drivers = newest.head(n).join(titles, on="document", how="left", maintain_order="left")
    drivers = drivers.with_columns(pl.col("title").fill_null("")).select(list(DRIVER))
    before = own.filter(pl.col("time") < first, pl.col("time") >= first - BACK * seconds)
    sources = newest["source"].n_unique()
    terms = _terms(newest, before, texts, n)
    return Event(alert, drivers, sources, terms, _along(alert, series, n))


def _centre(alert: Alert) -> float:
    """Return the opinion from which documents push; that of a threshold is neutral."""
    return 0.0 if alert.kind == "threshold" else alert.expected


def _terms(
    newest: pl.DataFrame, before: pl.DataFrame, texts: pl.DataFrame, n: int
) -> tuple[tuple[str, float], ...]:
    def counts(which: pl.DataFrame) -> Counter[str]:
        found = texts.join(which.select("document").unique(), on="document", how="semi")
        return Counter(word for row in found.select("title", "text").rows() for word in words(row))

    a, b = counts(newest), counts(before)
    total = a + b
    if not a:
        return ()
    names = list(a)
    size = sum(total.values())
    prior = np.array([total[w] * PRIOR / size for w in names])
    x, y = (np.array([c[w] for w in names], float) for c in (a, b))
    odds = [
        np.log((k + prior) / (sum(c.values()) + PRIOR - k - prior)) for k, c in ((x, a), (y, b))
    ]
    z = (odds[0] - odds[1]) / np.sqrt(1 / (x + prior) + 1 / (y + prior))
    order = np.argsort(-z, kind="stable")[:n]
    return tuple((names[i], float(z[i])) for i in order if z[i] > 0)


def words(texts: Iterable[str | None]) -> set[str]:
    """Return the distinct words of a document: Latin ones of three letters or more, and Chinese
    ones, by jieba where it is installed, else pairs of characters."""
    found: set[str] = set()
    for text in texts:
        lower = (text or "").lower()
        for run in HAN.findall(lower):
            found |= set(_segmented(run))
        found |= {word for word in LATIN.findall(lower) if not HAN.match(word)}
    return found


def _segmented(run: str) -> list[str]:
    try:
        import jieba
    except ImportError:
        return [run[i : i + 2] for i in range(len(run) - 1)]
    jieba.setLogLevel(60)
    return [word for word in jieba.cut(run) if len(word) > 1]


def _along(alert: Alert, series: Series, n: int) -> tuple[tuple[str, float], ...]:
    at = int(np.searchsorted(series.ends, alert.time))
    seen = shift(series.until(at + 1), alert.measure, alert.windows, BACK)
    score = seen.score[:, -1] * (seen.direction[:, -1] == alert.direction)
    order = np.argsort(-np.nan_to_num(score), kind="stable")
    found: Sequence[tuple[str, float]] = [
        (series.entities[e], float(score[e]))
        for e in order
        if score[e] >= ALONG and series.entities[e] != alert.entity
    ]
    return tuple(found[:n])


MEASURES: dict[Language, dict[str, str]] = {
    "en": {"attention": "number of documents (log)", "volume": "volume (log)"},
    "zh": {
        "opinion": "舆情", "attention": "文章数（对数）", "documents": "文章数", "return": "收益率",
        "volatility": "波动", "volume": "成交量（对数）", "close": "收盘价", "evidence": "证据量",
    },
}  # fmt: skip
_WAYS: dict[Language, dict[int, str]] = {
    "en": {1: "rose", -1: "fell"},
    "zh": {1: "上升", -1: "下降"},
}
_TEXTS: dict[Language, dict[str, str]] = {
    "en": {
        "threshold1": "{entity}: {measure} is {value:.2f}, at or above {expected:.2f}",
        "threshold-1": "{entity}: {measure} is {value:.2f}, at or below {expected:.2f}",
        "change": "{entity}: {measure} {way} from {expected:.2f} to {value:.2f} "
        "({score:.1f} standard errors)",
        "spike": "{entity}: {measure} jumped from {expected:.2f} to {value:.2f} "
        "({score:.1f} standard errors)",
        "divergence": "{entity}: {measure} {way} to {value:.2f}, the price moved the other way",
    },
    "zh": {
        "threshold1": "{entity}：{measure}为 {value:.2f}，不低于 {expected:.2f}",
        "threshold-1": "{entity}：{measure}为 {value:.2f}，不高于 {expected:.2f}",
        "change": "{entity}：{measure}由 {expected:.2f} {way}至 {value:.2f}"
        "（{score:.1f} 倍标准误）",
        "spike": "{entity}：{measure}由 {expected:.2f} 骤升至 {value:.2f}（{score:.1f} 倍标准误）",
        "divergence": "{entity}：{measure}{way}至 {value:.2f}，价格却反向变动",
    },
}
_SUGGESTIONS: dict[Language, dict[str, str]] = {
    "en": {
        "read": "Read the documents with the greatest shares first.",
        "nothing": "No document pushed this way; look whether a source is missing.",
        "one": "Most comes from one document or one source: look whether others confirm it.",
        "many": "Several sources say so: look whether they repeat one report.",
        "along": "Look at what moved along: {names}.",
        "spike": "Look whether what is new is one story or several.",
        "divergence": "Look which came first, the news or the price.",
    },
    "zh": {
        "read": "请先阅读占比最大的文章。",
        "nothing": "没有文章推动这一变化；请检查是否缺少来源。",
        "one": "主要来自一篇文章或一个来源：请查看是否有其他来源证实。",
        "many": "多个来源都有提及：请查看它们是否转述同一报道。",
        "along": "请一并查看同向变动的：{names}。",
        "spike": "请查看新增内容是一件事还是几件事。",
        "divergence": "请查看消息与价格孰先孰后。",
    },
}

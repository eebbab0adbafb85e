"""The desk that watches a store: reads what came in, reports, alerts, delivers, and ranks."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from m6rec.arrays import Array
from m6rec.errors import DataError
from m6rec.opinion.config import OpinionConfig
from m6rec.opinion.delivery import deliver
from m6rec.opinion.forecast import Forecaster
from m6rec.opinion.personal import ALERTS, NEWS, Personal
from m6rec.opinion.reading import catch_up
from m6rec.opinion.sentiment import CLASSES, Reader
from m6rec.opinion.series import build
from m6rec.opinion.watch import Report, watch
from m6rec.store import Event, Store
from m6rec.store.records import Alert

LEASE = 120  # seconds in which nobody else watches; a step takes the turn again and again
BATCH = 500  # documents that are read between two looks at the turn
BACK = 1000  # windows that a report looks at
RECENT = 60  # newest windows in which alerts are raised; texts are at hand for twice as many
SHOWN = 400  # windows that are kept of each entity
TITLE = 80  # characters that stand for a title
SPARK = 30  # windows of a summary
WEEK = 7  # windows over which a summary counts documents
REFIT = 86_400  # seconds after which forecasters are fitted again
LABELS = 10  # new labels after which the reader learns from them
CANDIDATES = 400  # newest documents that are ranked, and alerts
FRESH = 30.0  # seconds for which a ranking is good while documents come in
log = logging.getLogger("m6rec.opinion")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a step did: documents read, alerts raised, deliveries made and failed; reported:
    whether there is a new report."""

    read: int = 0
    reported: bool = False
    raised: int = 0
    delivered: int = 0
    failed: int = 0


class Desk:
    """One process's desk. Any number may share a store: one at a time watches, all can be asked."""

    def __init__(self, store: Store, config: OpinionConfig) -> None:
        self.store, self.config = store, config
        self.entities = config.open_entities()
        self._base = config.open_reader()
        self._name = uuid.uuid4().hex
        self._reader: tuple[int, Reader] = (0, self._base)
        self._reported: tuple[Any, ...] = ()
        self._models: tuple[float, tuple[str, ...], Mapping[str, Forecaster]] = (0.0, (), {})
        self._ranking: tuple[float, Any, Personal | None] = (float("-inf"), None, None)
        self._guard = threading.Lock()
        self._ending = self._begun = False

    def end(self) -> None:
        """Have a step that is being made read no further."""
        self._ending = True

    def step(self, now: int | None = None) -> Done:
        """Do what there is to do, if it is this desk's turn."""
        now = int(time.time()) if now is None else now
        if not self.store.opinions.take_turn(self._name, now, LEASE):
            return Done()
        if not self._begun:
            self._take_in()
            self._begun = True
        reader = self.reader()
        read = 0
        while n := catch_up(self.store, self.entities, reader, self.config.copies, BATCH):
            read += n
            mine = self.store.opinions.take_turn(self._name, int(time.time()), LEASE)
            if self._ending or not mine:
                return Done(read=read)
        window = round(self.config.windows.hours * 3600)
        state = (self.store.opinions.size(), now // window, reader.fingerprint)
        raised, reported = 0, state != self._reported
        if reported:
            raised = self._report(now)
            self._reported = state
        sent, failed = deliver(self.store, self.config.delivery, now)
        return Done(read=read, reported=reported, raised=raised, delivered=sent, failed=failed)

    def _take_in(self) -> None:
        """Give a store without documents those of the files; from then on it is the truth."""
        if self.store.opinions.documents(n=1).height:
            return
        documents, problems = self.config.read_documents()
        prices, more = self.config.read_prices()
        for problem in (*problems, *more):
            log.warning("left out: %s", problem)
        self.store.opinions.add_prices(prices)
        self.store.opinions.add_documents(documents)

    def reader(self) -> Reader:
        """Return the reader, with what the labels of the store taught it: it learns anew after
        every 10 of them."""
        labels = self.store.opinions.labels()
        due = labels.height // LABELS * LABELS
        if due == self._reader[0]:
            return self._reader[1]
        labels = labels.head(due)
        documents = self.store.opinions.documents(keys=labels["document"].to_list(), n=due)
        said = {key: (title, text) for key, title, text in
                documents.select("document", "title", "text").iter_rows()}  # fmt: skip
        texts, classes = [], []
        for key, entity, sentiment in labels.select("document", "entity", "sentiment").iter_rows():
            title, text = said[key]
            whole = "\n".join(part for part in (title, text) if part)
            passages = self.entities.passages(title, text) if entity else {}
            texts.append(passages.get(entity, whole))
            classes.append(CLASSES.index(sentiment))
        fitted = self.config.sentiment.fit(texts, np.array(classes, int), start=self._base)
        self._reader = due, fitted
        return fitted

    def _report(self, now: int) -> int:
        """Report what is known by now, and raise alerts; returns how many are new."""
        newest = self.store.opinions.newest(now)
        if newest is None:
            return 0
        window = round(self.config.windows.hours * 3600)
        since = max(0, newest - BACK * window)
        kept = self.store.opinions
        readings = kept.readings(since=since, until=now)
        prices = kept.prices(since=since, until=now)
        texts = max(0, newest - 2 * RECENT * window)
        documents = kept.documents(since=texts, until=now, n=10**9)
        try:
            entities = build(readings, prices, self.config.windows, now).entities
            fitted, known, models = self._models
            fresh = known == entities and now - fitted < REFIT
            report = watch(
                readings, prices, self.config, documents=documents, until=now,
                since=newest - RECENT * window,
                models=models if fresh else None,
            )  # fmt: skip
        except DataError as error:  # no window has ended yet
            log.info("nothing to report: %s", error)
            return 0
        if not fresh:
            self._models = now, entities, report.models
        self.store.opinions.put_reports(reports(report), now)
        return self.store.alerts.add(report.records(), self.config.delivery.sinks)

    def personal(self) -> Personal | None:
        """Return what ranks the newest documents and alerts; None where there are none."""
        with self._guard:
            made, of, found = self._ranking
            if time.monotonic() - made < FRESH:
                return found
            documents, alerts = self.store.opinions.size()[0], self.store.alerts.find(n=CANDIDATES)
            state = documents, len(alerts), alerts[0].key if alerts else ""
            if state != of:
                found = self._made(alerts)
            self._ranking = time.monotonic(), state, found
            return found

    def _made(self, alerts: Sequence[Alert]) -> Personal | None:
        newest = self.store.opinions.documents(n=CANDIDATES)
        named = self.named(newest["document"].to_list())
        documents = {
            key: (title or text[:TITLE], " ".join((*named.get(key, {}), text)))
            for key, title, text in newest.select("document", "title", "text").iter_rows()
        }
        told = {
            alert.key: (alert.text, " ".join(self.entities.aliases.get(alert.entity, ())))
            for alert in alerts
        }
        if not documents and not told:
            return None
        names = {entity: (entity, " ".join(of[1:])) for entity, of in self.entities.aliases.items()}
        return Personal.of(documents, told, names, self.config.sentiment.encoder)

    def named(self, documents: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return document → entity → sentiment; of a copy, that of its original."""
        originals = self.store.opinions.originals_of(documents)
        found: dict[str, dict[str, float]] = {}
        rows = self.store.opinions.readings_in(set(originals.values()))
        for key, entity, sentiment in rows.select("document", "entity", "sentiment").iter_rows():
            if entity:
                found.setdefault(key, {})[entity] = sentiment
        return {key: found[of] for key, of in originals.items() if of in found}

    def history(self, user: str) -> list[str]:
        """Return the documents that a user has read, the oldest first."""
        prefix = f"{self.config.domain}/"
        items = self.store.history(user, time.time_ns() // 1000).item
        return [item.removeprefix(prefix) for item in items if item.startswith(prefix)]

    def note_read(self, user: str, document: str) -> None:
        """Note that a user has read a document: an event of the store, as any other."""
        item = f"{self.config.domain}/{document}"
        now = time.time_ns() // 1000
        self.store.add_events([Event(user=user, item=item, type="view", time=now)])

    def ranked(self, what: str, user: str, language: str = "en") -> dict[str, tuple[float, str]]:
        """Return alert (``ALERTS``) or document (``NEWS``) → score and why, as the recommender
        sees them for a user, the best first; none where nothing is known of them."""
        read, watched = self.history(user), self.store.opinions.watch_list(user)
        personal = self.personal() if read or watched else None
        if personal is None:
            return {}
        return {key: (score, why) for key, score, why in
                personal.ranked(what, read, watched, language)}  # fmt: skip

    def alerts(
        self,
        user: str = "",
        entity: str | None = None,
        open_only: bool = False,
        n: int = 50,
        language: str = "en",
    ) -> list[tuple[Alert, str]]:
        """Return alerts and why each stands where it does: for a user those first that the
        recommender puts first, else the newest."""
        found = self.store.alerts.find(entity=entity, open_only=open_only, n=max(n, CANDIDATES))
        order = self.ranked(ALERTS, user, language)
        found.sort(key=lambda alert: -order[alert.key][0] if alert.key in order else np.inf)
        return [(alert, order[alert.key][1] if alert.key in order else "") for alert in found[:n]]

    def news(
        self, user: str = "", entity: str | None = None, n: int = 50, language: str = "en"
    ) -> list[tuple[dict[str, Any], str]]:
        """Return documents with what they say of each entity, and why each stands where it does;
        as ``alerts``. What the user has read is left out of what is ranked for them."""
        order = self.ranked(NEWS, user, language)
        if entity is None and order:
            frame = self.store.opinions.documents(keys=list(order), n=len(order))
        else:
            frame = self.store.opinions.documents(entity=entity, n=max(n, CANDIDATES))
        rows = frame.to_dicts()
        rows.sort(key=lambda r: -order[r["document"]][0] if r["document"] in order else np.inf)
        rows = rows[:n]
        named = self.named([row["document"] for row in rows])
        return [
            (row | {"entities": named.get(row["document"], {})},
             order[row["document"]][1] if row["document"] in order else "")
            for row in rows
        ]  # fmt: skip


def reports(report: Report) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return entity → summary and body of its report, as JSON can hold them."""
    series, found = report.series, {}
    ends = series.ends[-SHOWN:].tolist()
    forecasts = report.forecast.partition_by("entity", as_dict=True)
    changes = report.changes.partition_by("entity", as_dict=True)
    for e, entity in enumerate(series.entities):
        values = {name: _plain(x[e, -SHOWN:]) for name, x in series.values.items()}
        ahead = [row for frame in _of(forecasts, entity) for row in frame.drop("entity").to_dicts()]
        moved = [row for frame in _of(changes, entity) for row in frame.drop("entity").to_dicts()]
        said = [x for x in values["opinion"] if x is not None]
        summary = {
            "time": ends[-1],
            "opinion": said[-1] if said else None,
            "documents": int(np.nansum(series.values["documents"][e, -WEEK:])),
            "spark": values["opinion"][-SPARK:],
            "forecast": next((r for r in ahead if r["measure"] == "opinion"), None),
            "changed": max((r["known"] for r in moved), default=None),
        }
        body = {"times": ends, "values": values, "forecast": ahead, "changes": moved}
        found[entity] = summary, body
    return found


def _of(parts: Mapping[Any, pl.DataFrame], entity: str) -> list[pl.DataFrame]:
    return [parts[(entity,)]] if (entity,) in parts else []


def _plain(x: Array) -> list[float | None]:
    return [round(v, 6) if np.isfinite(v) else None for v in x.tolist()]

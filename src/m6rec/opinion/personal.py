"""News and alerts in the order in which a person would want them, by the recommender.

There is no rule of its own for this: documents, alerts and entities are items with texts. What
somebody has read is their history, and so is what they watch. The model ``text`` does the rest,
across English and Chinese where the sentence encoder is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from m6rec import pipeline
from m6rec.data.frames import from_frames
from m6rec.errors import DataError
from m6rec.experiment import Experiment
from m6rec.models.text import Text
from m6rec.recommender import Recommender
from m6rec.text import Choice
from m6rec.tracking import Run

NEWS, ALERTS, ENTITIES = "news", "alerts", "entities"
WATCHED = 15.0  # how much an entity on the watch list weighs: log2(1 + 15) = 4 documents
NEWEST = 20  # documents of a history that count
LENGTH = 600  # characters of a text that are read

Told = tuple[str, str]  # title and text


@dataclass(frozen=True, eq=False)
class Personal:
    """keys: domain → documents, alerts and entities in the order of the recommender's items."""

    recommender: Recommender
    keys: Mapping[str, Sequence[str]]

    @classmethod
    def of(
        cls,
        documents: Mapping[str, Told],
        alerts: Mapping[str, Told],
        entities: Mapping[str, Told],
        encoder: Choice = "auto",
        run: Run | None = None,
    ) -> Personal:
        """Make it of what documents, alerts and entities are called, and of their texts, which hold
        all names of the entities that they are about. Raises DataError without any."""
        listed = {NEWS: documents, ALERTS: alerts, ENTITIES: entities}
        rows = [
            {"domain": domain, "item": str(place), "title": title, "text": text[:LENGTH]}
            for domain, texts in listed.items()
            for place, (title, text) in enumerate(texts.values())
        ]
        if not rows:
            raise DataError("there is nothing to rank")
        # A run needs an event; the model reads texts alone.
        log = {"domain": [rows[0]["domain"]], "item": [rows[0]["item"]], "user": ["nobody"]}
        domains = {name: {"feedback": "implicit"} for name, texts in listed.items() if texts}
        run = run or Run()
        prepared = from_frames(pl.DataFrame(log), pl.DataFrame(rows), run=run, domains=domains,
                               columns={"text": ["title", "text"]})  # fmt: skip
        experiment = Experiment(data=prepared.config, model=Text(encoder=encoder))
        fitted = pipeline.fit(experiment, prepared, run=run)
        return cls(Recommender(fitted), {name: list(texts) for name, texts in listed.items()})

    def ranked(
        self,
        what: str,
        read: Sequence[str] = (),
        watched: Sequence[str] = (),
        language: str = "en",
        k: int | None = None,
    ) -> list[tuple[str, float, str]]:
        """Return (key, score, why) of documents (``NEWS``) or alerts (``ALERTS``), the best first.

        read: documents that somebody has read, the oldest first; they are left out of the news.
        watched: entities. Without either: none.
        """
        history = dict.fromkeys(self._items(NEWS, read)[-NEWEST:], 1.0)
        history |= dict.fromkeys(self._items(ENTITIES, watched), WATCHED)
        if not self.keys[what] or not history:
            return []
        found = self.recommender.recommend(
            history=history, domain=what, k=k or len(self.keys[what]), explain=True,
            language=language,
        )  # fmt: skip
        rows = found.select("item", "score", "because").rows()
        return [
            (self.keys[what][int(item.partition("/")[2])], float(score), because)
            for item, score, because in rows
        ]

    def _items(self, domain: str, keys: Sequence[str]) -> list[str]:
        """Those of these keys that are there, as the recommender calls them."""
        place = {key: at for at, key in enumerate(self.keys[domain])}
        return [f"{domain}/{place[key]}" for key in keys if key in place]

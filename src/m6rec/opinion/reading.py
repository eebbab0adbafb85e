"""Documents → readings: what each says of each entity, with the copies of a text counted once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from m6rec.arrays import Array
from m6rec.data.opinions import READING
from m6rec.opinion.copies import Copies
from m6rec.opinion.entities import SENTENCE, Entities
from m6rec.opinion.sentiment import Reader

if TYPE_CHECKING:
    from m6rec.store import Store

MOST = 40  # sentences of a passage that are read
FOUND = ("document", "entity", "sentiment", "confidence")
NEUTRAL = 0.1  # how much a sentence without an opinion counts, next to 1


@dataclass(frozen=True, eq=False)
class Readings:
    """What was found in documents.

    readings: document, entity, time, source, sentiment = P(positive) − P(negative), confidence =
    the calibrated probability of the likeliest class, spread. whole: the same for the documents
    as a whole, entity "". Copies are in neither. originals: document → first copy of it.
    """

    readings: pl.DataFrame
    whole: pl.DataFrame
    originals: Mapping[str, str]


def read(
    documents: pl.DataFrame,
    entities: Entities,
    reader: Reader,
    copies: Copies | None = None,
    earlier: pl.DataFrame | None = None,
    known: Mapping[str, str] | None = None,
) -> Readings:
    """Read documents (document, time, source, title, text, …).

    earlier: documents that were read before, of which these may be copies; known: their
    originals, themselves where it says nothing.
    """
    copies = copies or Copies()
    originals = _originals(documents, copies, earlier, known or {})
    first = documents.filter(pl.col("document").is_in([k for k, o in originals.items() if k == o]))
    parts: list[tuple[str, str, str]] = []  # document, entity, passage
    for key, title, text in first.select("document", "title", "text").iter_rows():
        whole = "\n".join(part for part in (title, text) if part)
        parts.append((key, "", whole))
        parts += [(key, entity, said) for entity, said in entities.passages(title, text).items()]
    p = opinions([said for _, _, said in parts], reader)
    spread = pl.Series(list(originals.values()), dtype=pl.String).value_counts(name="spread")
    frame = (
        pl.DataFrame(
            {
                "document": [key for key, _, _ in parts],
                "entity": [entity for _, entity, _ in parts],
                "sentiment": (p[:, 2] - p[:, 0]).astype(np.float64),
                "confidence": p.max(axis=1).astype(np.float64),
            },
            schema={
                name: READING[name] for name in ("document", "entity", "sentiment", "confidence")
            },
        )
        .join(documents.select("document", "time", "source"), on="document", maintain_order="left")
        .join(spread.rename({"": "document"}), on="document", how="left", maintain_order="left")
        .select(pl.col(name).cast(kind) for name, kind in READING.items())
    )
    of_all = pl.col("entity") == ""
    return Readings(frame.filter(~of_all), frame.filter(of_all), originals)


def catch_up(store: Store, entities: Entities, reader: Reader, copies: Copies, n: int = 500) -> int:
    """Read the oldest n documents of a store that this reader has not read, and keep what it
    found; returns how many there were."""
    name = reader.fingerprint
    unread = store.opinions.unread(name, n)
    if unread.height:
        first = int(unread.select(pl.col("time").min()).item()) - round(copies.days * 86_400)
        last = int(unread.select(pl.col("time").max()).item())
        known = store.opinions.originals(first, last, name)
        earlier = store.opinions.documents(keys=list(known), n=len(known) + 1)
        found = read(unread, entities, reader, copies, earlier, known)
        both = pl.concat([found.readings, found.whole])
        store.opinions.put_readings(both, found.originals, name)
    return unread.height


def opinions(passages: list[str], reader: Reader) -> Array:
    """Return (n, 3) probabilities of negative, neutral, positive for passages of many sentences.

    Each sentence is read alone. Those that have an opinion count more than those that have none.
    """
    sentences: list[str] = []
    owner: list[int] = []
    for place, passage in enumerate(passages):
        said = [part for part in SENTENCE.split(passage) if part and part.strip()][:MOST]
        sentences += said
        owner += [place] * len(said)
    distinct = list(dict.fromkeys(sentences))
    place_of = {sentence: place for place, sentence in enumerate(distinct)}
    p = reader.read(distinct)[[place_of[sentence] for sentence in sentences]].astype(float)
    weight = 1 - p[:, 1] + NEUTRAL
    pooled = np.zeros((len(passages), 3))
    total = np.zeros(len(passages))
    np.add.at(pooled, owner, p * weight[:, None])
    np.add.at(total, owner, weight)
    silent = total == 0
    pooled[silent], total[silent] = (0, 1, 0), 1
    found: Array = pooled / total[:, None]
    return found


def _originals(
    documents: pl.DataFrame,
    copies: Copies,
    earlier: pl.DataFrame | None,
    known: Mapping[str, str],
) -> dict[str, str]:
    columns = ("document", "time", "title", "text")
    both = documents.select(columns)
    settled = 0
    if earlier is not None:
        before = earlier.filter(~pl.col("document").is_in(both["document"].to_list()))
        settled = before.height
        both = pl.concat([before.select(columns), both])
    texts = (both["title"] + "\n" + both["text"]).to_list()
    first = copies.first(texts, both["time"].to_numpy(), settled)
    keys = both["document"].to_list()
    found = {}
    for place in range(settled, len(keys)):
        original = keys[int(first[place])]
        found[keys[place]] = known.get(original, original)
    return found

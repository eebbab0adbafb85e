"""The ``[opinion]`` table: what is read, how, and by what it is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from m6rec import config
from m6rec.data.opinions import DOCUMENT, PRICE
from m6rec.errors import ConfigError
from m6rec.opinion.copies import Copies
from m6rec.opinion.documents import read_documents
from m6rec.opinion.entities import Entities
from m6rec.opinion.prices import read_prices
from m6rec.opinion.rows import Problem
from m6rec.opinion.sentiment import Reader, Sentiment
from m6rec.opinion.watch import Watching


@dataclass(frozen=True, kw_only=True)
class OpinionConfig(Watching):
    """The ``[opinion]`` table. Paths are seen from the TOML file.

    entities: table of aliases, CSV (entity, alias) or TOML. documents, prices: files to read.
    tz: zone of times that name none. reader: a saved reader of sentiment; without one the lexicon
    reads. sentiment: how a reader is trained by labels. copies: what counts as a copy.
    domain: the domain of the event store in which documents are items, so that what a user reads
    ranks what comes next.
    """

    entities: Path
    documents: tuple[Path, ...] = ()
    prices: tuple[Path, ...] = ()
    tz: str = "UTC"
    reader: Path | None = None
    sentiment: Sentiment = field(default_factory=Sentiment)
    copies: Copies = field(default_factory=Copies)
    domain: str = "news"

    @classmethod
    def read(cls, path: str | Path, set: Sequence[str] = ()) -> OpinionConfig:
        """Return the ``[opinion]`` table of a TOML file; ``set`` such as
        ["opinion.windows.hours=12"] overrides it."""
        path = Path(path)
        table = config.override(config.read_toml(path), set)
        if "opinion" not in table:
            raise ConfigError(f"{path}: has no table [opinion]")
        found = config.from_table(cls, table["opinion"], "opinion")
        return found.below(path.parent)

    def below(self, folder: Path) -> OpinionConfig:
        """Return it with paths seen from a folder."""
        return replace(
            self,
            entities=folder / self.entities,
            documents=tuple(folder / path for path in self.documents),
            prices=tuple(folder / path for path in self.prices),
            reader=None if self.reader is None else folder / self.reader,
        )

    def open_entities(self) -> Entities:
        """Read the table of aliases."""
        return Entities.read(self.entities)

    def open_reader(self) -> Reader:
        """Open the saved reader, or the one that is the lexicon alone."""
        return Reader(self.sentiment, {}) if self.reader is None else Reader.load(self.reader)

    def read_documents(self) -> tuple[pl.DataFrame, list[Problem]]:
        """Return the documents of all files, each id once, and the rows that are none."""
        frames, problems = [pl.DataFrame(schema=DOCUMENT)], []
        for path in self.documents:
            frame, bad = read_documents(path, tz=self.tz)
            frames.append(frame)
            problems += bad
        return pl.concat(frames).unique("document", keep="first", maintain_order=True), problems

    def read_prices(self) -> tuple[pl.DataFrame, list[Problem]]:
        """Return the prices of all files, and the rows that are none."""
        frames, problems = [pl.DataFrame(schema=PRICE)], []
        for path in self.prices:
            frame, bad = read_prices(path, tz=self.tz, entity=path.stem)
            frames.append(frame)
            problems += bad
        return pl.concat(frames), problems

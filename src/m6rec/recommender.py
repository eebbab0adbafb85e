"""A fitted run, ready to be asked: keys, titles and texts in, data frames out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from m6rec import artifacts, checks, config
from m6rec.arrays import Ids, Mask
from m6rec.arrivals import extended
from m6rec.artifacts import Fitted
from m6rec.candidates.shortlist import Shortlist
from m6rec.data import people
from m6rec.data.arrivals import typed
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query, make_query, of_items
from m6rec.errors import QueryError, RunError, sentence, suggestion
from m6rec.experiment import RankConfig
from m6rec.explanation import Explanation, explain
from m6rec.filters import Filter
from m6rec.models.base import Model, Reads, Recipe
from m6rec.names import Names
from m6rec.rank import Lists, rank, with_twins
from m6rec.tracking import Run
from m6rec.wording import wording

BATCH = 256  # requests scored at once: few, so that their scores stay near the processor
History = Sequence[str] | Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Recommender:
    """Answers requests with a fitted model; keys and titles are looked up in its items.

    A request is a ``user`` key (an unknown one is answered as a new user), a ``history`` of
    liked item keys or titles, oldest first (or item → rating or weight), raw ``attributes`` of
    a new user, free ``text``, or any of the last three together.
    """

    fitted: Fitted

    @classmethod
    def open(cls, path: str | Path, recipe: Recipe | None = None) -> Recommender:
        """Open a run directory, or "current"; see ``artifacts.load``."""
        return cls(artifacts.load(artifacts.resolve(path), recipe))

    def save(self, path: str | Path) -> Path:
        """Save as a new run directory; returns it. Raises RunError where it cannot be written."""
        try:
            return artifacts.save(self.fitted, Path(path))
        except OSError as error:
            raise RunError(f"{path}: cannot be saved: {sentence(error)}") from None

    def __repr__(self) -> str:
        data = self.dataset
        domains = ", ".join(domain.name for domain in data.domains)
        return (
            f'Recommender(kind "{self.model.recipe.kind}", {data.n_users:,} users, '
            f"{data.n_items:,} items of {domains})"
        )

    @property
    def model(self) -> Model:
        """The fitted model."""
        return self.fitted.model

    @property
    def dataset(self) -> Dataset:
        """All known events, with vocabularies."""
        return self.fitted.dataset

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What the training measured, as in metrics.json."""
        return self.fitted.metrics

    def with_items(self, items: pl.DataFrame) -> Recommender:
        """Return one that also knows these new items, without training; see
        ``arrivals.extended`` for the columns."""
        made = Recommender(extended(self.fitted, items))
        if "_names" in vars(self):
            vars(made)["_names"] = self._names.extended(made.dataset.items, made._titles)
        if "shortlist" in vars(self):  # new items are always candidates
            vars(made)["shortlist"] = self.shortlist
        return made

    def recommend(
        self,
        user: str | Sequence[str] | None = None,
        *,
        history: History | None = None,
        text: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        domain: str | None = None,
        filter: str | None = None,
        k: int = 10,
        offset: int = 0,
        diversity: float | None = None,
        explore: float | None = None,
        seed: int = 0,
        explain: bool = False,
        language: str = "en",
    ) -> pl.DataFrame:
        """Return the k best items: rank, item, domain, title, score; with a list of users also
        user, first; with ``explain`` also because, a sentence in ``language``, "en" or "zh".

        What is in the history, its twins in other domains and hidden items are left out; where
        items are people, also the user themselves and who is blocked.
        filter: an expression over item attributes, such as ``year >= 1990``. diversity: 0 … 1,
        how much lists are spread over domains. explore: share of random items, drawn by
        ``seed``; both are as the run's ``[rank]`` says where left out. Raises QueryError for an
        unknown domain, item, attribute or language.
        """
        wording(language)
        most = self.dataset.n_items
        k, offset = checks.count("k", k, most), checks.count("offset", offset, most)
        diversity = self.rank.diversity if diversity is None else diversity
        explore = self.rank.explore if explore is None else explore
        users = checks.users(user)
        allowed = self.allowed(domain, filter)
        rng = Run(seed=seed).rng("explore")
        frames = []
        for at in range(0, len(users), BATCH):
            part = users[at : at + BATCH]
            query = self.query(part, history=history, text=text, attributes=attributes)
            lists = self._lists(query, k, allowed, offset, diversity, explore, rng)
            frame = self._frame(lists, np.arange(offset, offset + k))
            if explain:
                reasons = self._explained(query, lists.items, language)
                cells = [str(cell) for row in reasons for cell in row]
                frame = frame.with_columns(because=pl.Series(cells, dtype=pl.String))
            keys = pl.Series("user", np.repeat(np.array(part, dtype=object), k).tolist(), pl.String)
            frames.append(frame.insert_column(0, keys).filter(pl.col("item").is_not_null()))
        result = pl.concat(frames)
        return result.drop("user") if user is None or isinstance(user, str) else result

    def similar(
        self, item: str, *, domain: str | None = None, filter: str | None = None, k: int = 10
    ) -> pl.DataFrame:
        """Return what somebody would be recommended of whom only this item is known."""
        return self.recommend(history=[item], domain=domain, filter=filter, k=k, explore=0.0)

    def score(
        self,
        items: Sequence[str],
        user: str | None = None,
        *,
        history: History | None = None,
        text: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> pl.DataFrame:
        """Return item, title and score of the given items; null where the model abstains."""
        codes = self.items(items)
        query = self.query([user], history=history, text=text, attributes=attributes)
        scores = self.model.score(query, codes)[0]
        titles = self._titles.gather(codes)
        frame = {"item": self._keys.gather(codes), "title": titles, "score": scores}
        return pl.DataFrame(frame).with_columns(pl.col("score").fill_nan(None))

    def explain(
        self,
        items: Sequence[str],
        user: str | None = None,
        *,
        history: History | None = None,
        text: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        language: str = "en",
    ) -> list[Explanation]:
        """Return why each of the given items has its score; ``str`` of it says so in
        ``language``, "en" or "zh". Raises QueryError where nothing is known of who asks."""
        codes = self.items(items)
        query = self.query([user], history=history, text=text, attributes=attributes)
        found = self._explained(query, codes[None], language)[0]
        nobody = not query.history.nnz and text is None and attributes is None
        if nobody and found and all(np.isnan(each.score) for each in found):
            raise QueryError("nothing is known of who asks; name a user, a history or words")
        return found

    def export(
        self,
        users: Sequence[str] | None = None,
        *,
        k: int = 10,
        domain: str | None = None,
        filter: str | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield user, rank, item, domain, title, score for all (or these) users, in batches."""
        keys = self.dataset.users.keys.to_list() if users is None else list(users)
        for at in range(0, len(keys), BATCH):
            yield self.recommend(keys[at : at + BATCH], k=k, domain=domain, filter=filter)

    @cached_property
    def rank(self) -> RankConfig:
        """How lists are made where a request does not say it."""
        return config.from_table(RankConfig, self.fitted.config.get("rank", {}), "rank")

    @cached_property
    def shortlist(self) -> Shortlist | None:
        """What finds candidates, as ``[rank]`` says; None = all items are scored."""
        return Shortlist.chosen(self.model, self.dataset, self.rank.candidates, self.rank.index)

    def query(
        self,
        users: Sequence[str | None],
        *,
        history: History | None = None,
        text: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Query:
        """Return the encoded requests (B,); see the class for what may go together."""
        data = self.dataset
        codes = data.users.encode(user or "" for user in checks.users(users))
        if history is None and attributes is None:
            query = data.query(codes)
        elif (codes >= 0).any():
            raise QueryError("ask either for a known user or with a history and attributes")
        else:
            query = self._new([] if history is None else history, attributes, len(users))
        if any(domain.people for domain in data.domains) and (codes < 0).any():
            rows = [people.itself(user or "", data.items, data.domains) for user in users]
            own = of_items(rows, data.n_items)
            query = replace(query, withheld=own if query.withheld is None else own + query.withheld)
        if text is None:
            return query
        fields = {name: getattr(query, name) for name in query.__slots__}
        return Query(**fields | {"text": (text,) * len(users)})

    def items(self, names: Sequence[str]) -> Ids:
        """Return the codes of items given by key or title; QueryError where there is none."""
        return np.array([self._names.code(name) for name in checks.names(names)], np.int32)

    def knows(self, name: str) -> bool:
        """Whether an item has this key or title."""
        return bool(self._names.find(name))

    def title(self, code: int) -> str:
        """Return the title of an item, its key where it has none."""
        return str(self._titles[code])

    def reads(self, text: str) -> bool:
        """Whether the model understands something of these words; else they change nothing."""
        if not isinstance(self.model, Reads):
            return False
        return bool(self.model.reads(self.query([None], text=text)).any())

    def search(self, words: str, allowed: Mask, n: int) -> pl.DataFrame:
        """Return item, domain and title of up to n allowed items whose title holds all of these
        words, those that begin with them first."""
        asked = words.casefold().split()
        frame = pl.DataFrame(
            [
                self._keys.alias("item"),
                self.fitted.items["domain"],
                self._titles.alias("title"),
                self._folded.alias("folded"),
            ]
        ).filter(pl.Series(allowed))
        for word in asked:
            frame = frame.filter(pl.col("folded").str.contains(word, literal=True))
        first = pl.col("folded").str.starts_with(" ".join(asked))
        order = [first.not_(), pl.col("folded").str.len_chars()]
        return frame.sort(order, maintain_order=True).drop("folded").head(n)

    def allowed(self, domain: str | None = None, filter: str | None = None) -> Mask:
        """Return (n_items,) items of a domain (None = all) that a filter lets through."""
        data = self.dataset
        mask = ~data.hidden
        if domain is not None:
            code = data.domain(domain)
            if code < 0:
                names = [each.name for each in data.domains]
                raise QueryError(
                    f'domain "{domain}" is unknown{suggestion(domain, names)} '
                    f"(known: {', '.join(names)})"
                )
            mask &= data.item_domain == code
        if filter:
            mask &= Filter.parse(filter).mask(self.fitted.items)
        return mask

    def _lists(
        self, query: Query, k: int, allowed: Mask, offset: int, diversity: float, explore: float,
        rng: np.random.Generator,
    ) -> Lists:  # fmt: skip
        exclude = query.seen
        if len(self.fitted.twins):
            exclude = with_twins(exclude, self.fitted.twins)
        short = None if self.rank.candidates == "auto" or explore else self.shortlist
        if short is None:
            scores = self.model.score(query)
        else:
            scores = short.scores(self.model, query, k + offset, allowed, exclude)
        return rank(
            scores, k, exclude=exclude, allowed=allowed, offset=offset, diversity=diversity,
            alike=self.dataset.item_domain, explore=explore, rng=rng,
        )  # fmt: skip

    def _frame(self, lists: Lists, places: Ids) -> pl.DataFrame:
        """B · k rows; null items where a list ends early."""
        flat = pl.Series(lists.items.ravel()).cast(pl.Int64)
        codes = flat.set(flat < 0, None)
        return pl.DataFrame(
            {
                "rank": np.tile(places + 1, len(lists.items)),
                "item": self._keys.gather(codes),
                "domain": self.fitted.items["domain"].gather(codes),
                "title": self._titles.gather(codes),
                "score": lists.scores.ravel(),
            }
        )

    def _explained(self, query: Query, items: Ids, language: str) -> list[list[Explanation]]:
        return explain(self.model, query, items, self.title, language, self.dataset)

    def _new(self, history: History, attributes: Mapping[str, Any] | None, n: int) -> Query:
        """Requests of somebody whom the data does not know."""
        data = self.dataset
        codes = self.items(checks.names(history))
        kind = next((i for i, event in enumerate(data.events) if event.sign == "positive"), 0)
        if isinstance(history, Mapping):
            weight = checks.weights(history)
        else:
            weight = np.where(data.explicit[codes], self.liked, data.events[kind].weight)
        features = {name: np.zeros((n, b.shape[1])) for name, b in data.user_attributes.items()}
        if attributes is not None:
            features |= self.attributes(attributes, n)
        m = len(codes)
        query = make_query(
            row=np.repeat(np.arange(n), m),
            item=np.tile(codes, n),
            weight=np.tile(weight, n),
            time=np.full(n * m, data.now, np.int64),
            event=np.full(n * m, kind, np.int16),
            user=np.full(n, -1, np.int32),
            now=np.full(n, data.now, np.int64),
            n_items=data.n_items,
            events=data.events,
            explicit=data.explicit,
            features={name: block.astype(np.float32) for name, block in features.items()},
        )
        return data.described(query)

    def attributes(self, given: Mapping[str, Any], n: int) -> dict[str, Any]:
        """Return the feature blocks (n, d) of n users with these raw attributes; QueryError for
        one that the data does not have, or whose column cannot hold the value."""
        checks.user_attributes(self.fitted.prepared.users, given)
        features = self.fitted.attributes.users
        kinds, between = self.fitted.prepared.users.drop("key").schema, features.separators
        row = [typed(n, [given.get(n)], kind, between.get(n, "|")) for n, kind in kinds.items()]
        blocks = features.apply(pl.DataFrame(row))
        return {name: np.repeat(block, n, axis=0) for name, block in blocks.items()}

    @cached_property
    def _names(self) -> Names:
        return Names.of(self.dataset.items, self._titles)

    @property
    def _keys(self) -> pl.Series:
        return self.dataset.items.keys

    @cached_property
    def _titles(self) -> pl.Series:
        """(n_items,) titles, the key where there is none."""
        items = self.fitted.items
        if "title" not in items.columns:
            return self._keys
        title = pl.col("title").cast(pl.String)
        return items.select(pl.when(title != "").then(title).otherwise("key")).to_series()

    @cached_property
    def _folded(self) -> pl.Series:
        """(n_items,) titles without case."""
        return pl.Series([title.casefold() for title in self._titles], dtype=pl.String)

    @cached_property
    def liked(self) -> float:
        """The rating that "liked" stands for: the upper quartile of what users gave."""
        rated = self.dataset.weight[self.dataset.explicit[self.dataset.item]]
        return float(np.quantile(rated, 0.75)) if len(rated) else 1.0

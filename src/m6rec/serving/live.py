"""A run and what the store has added to it since: keys and events in, encoded requests out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from m6rec import arrivals
from m6rec.arrays import Array, Floats, Ids, Mask
from m6rec.artifacts import Fitted
from m6rec.data.events import DEFAULT_EVENT
from m6rec.data.query import SEQUENCE, Query, make_query, of_items
from m6rec.data.schema import EventType
from m6rec.filters import Filter
from m6rec.models.base import Model
from m6rec.models.compose import BlendModel
from m6rec.models.confident import ConfidentModel
from m6rec.models.fallback import mixture
from m6rec.models.seeds import Seeds
from m6rec.recommender import Recommender
from m6rec.serving import pages
from m6rec.serving.hearing import Heard, columns, news, taught
from m6rec.serving.stock import Row, row_of, taken_in
from m6rec.store import Look, Store, digest

MICRO = 1_000_000  # of a second: the store's unit of time
AHEAD = 3600  # seconds by which another machine's clock may be ahead
MASKS = 256  # filters whose items are remembered
NEVER = np.iinfo(np.int64).min  # time of an item that has none


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks, as the store knows them: columns of their events, oldest first.

    time: microseconds, -1 unknown. code: of the user in the run, -1 unknown. attributes: raw,
    None = as the run has them. withheld: keys of items that no list may hold.
    """

    item: Sequence[str] = ()
    type: Sequence[str] = ()
    value: Sequence[float | None] = ()
    time: Sequence[int] = ()
    code: int = -1
    attributes: Mapping[str, Any] | None = None
    text: str | None = None
    withheld: Sequence[str] = ()


class Shelf(NamedTuple):
    """What only the store knows of an item. time: microseconds, None unknown."""

    time: int | None
    categories: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Live:
    """An opened run whose catalogue is as that of the store at revision ``rev``.

    shelves: of the items that the store has got or changed since they came from a run. base: the
    run as it was opened, None = this is it. changed, come: what the store says of items that the
    run had, and of those that came later, by key. heard: the questions answered since.
    """

    recommender: Recommender
    rev: int = 0
    shelves: Mapping[str, Shelf] = field(default_factory=dict)
    base: Recommender | None = None
    changed: Mapping[str, Row] = field(default_factory=dict)
    come: Mapping[str, Row] = field(default_factory=dict)
    heard: Heard = field(default_factory=Heard)
    _masks: dict[tuple[str | None, str | None, tuple[str, ...]], Mask] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, store: Store) -> Live:
        """Load a run and catch up with the store. Raises RunError for a broken run."""
        return cls(Recommender.open(path)).caught_up(store)

    @property
    def name(self) -> str:
        """The name of the run."""
        path = self.recommender.fitted.path
        return path.name if path else ""

    def behind(self, look: Look) -> bool:
        """Whether the store had items or answered questions that this does not know."""
        if look.item_rev != self.rev:
            return True
        return bool(self._words) and look.user_rev != self.heard.rev

    def caught_up(self, store: Store) -> Live:
        """Return this with the items that the store has got, changed or lost since, and with the
        questions that were answered."""
        stocked = self._stocked(store)
        if not self._words:
            return stocked
        rebuilt = stocked is not self and bool(self.come or stocked.come)
        return stocked._told(store, rebuilt)

    def _told(self, store: Store, rebuilt: bool) -> Live:
        """Return this with the questions that were answered since; rebuilt: the model may have
        lost those that it had heard."""
        now, come, lost = news(store, self.heard, self._words)
        live = self
        if lost:  # rows are only added, so begin with the run and what the store says of items
            fitted = (self.base or self.recommender).fitted
            fitted = taken_in(fitted, self.changed, arrivals.changed)
            live = self._of(taken_in(fitted, self.come, arrivals.extended))
        keys = list(now.words) if rebuilt or lost else come
        if keys:
            moment = int(time.time())
            asked = [
                Asker(item=past.item, type=past.type, value=past.value, time=past.time)
                for past in store.histories(keys, (moment + AHEAD) * MICRO)
            ]
            answers = live.query(asked, moment).history
            questions = {key: now.words[key] for key in keys}
            live = live._of(taught(live.recommender.fitted, questions, answers))
        return replace(live, heard=now, base=self.base or self.recommender, _masks={})

    def _of(self, fitted: Fitted) -> Live:
        return replace(self, recommender=Recommender(fitted), _masks={})

    @cached_property
    def _words(self) -> tuple[str, ...]:
        return columns(self.recommender.fitted)

    def _stocked(self, store: Store) -> Live:
        """Return this with the items that the store has got, changed or lost since.

        An item that came after the training and changes is taken in anew, by what it is now, so
        that every worker makes the same of it, whenever it looks.
        """
        rev, items, stones = store.changed_items(self.rev)
        if rev == self.rev:
            return self
        base = self.base or self.recommender
        gone = self._gone({*stones}, base)
        names = {d.name for d in base.dataset.domains}
        there = {item.key: item for item in items if item.key.partition("/")[0] in names}
        come = {key: row for key, row in self.come.items() if key not in gone}
        anew = len(come) < len(self.come) or not come.keys().isdisjoint(there)
        columns = base.fitted.items.drop("key", "domain").columns
        changes: dict[str, Row] = {
            key: {"hidden": True} for key in gone if key in base.dataset.items
        }
        for key, item in there.items():
            if key in base.dataset.items:
                changes[key] = dict.fromkeys(columns) | row_of(item)
            else:
                come[key] = row_of(item)
        shelves = {key: shelf for key, shelf in self.shelves.items() if key not in gone}
        shelves |= {key: Shelf(item.time, item.categories) for key, item in there.items()}
        changed = {**self.changed, **changes}
        fitted = base.fitted if anew else self.recommender.fitted
        fitted = taken_in(fitted, changed if anew else changes, arrivals.changed)
        new = come if anew else {key: come[key] for key in there if key in come}
        fitted = taken_in(fitted, new, arrivals.extended)
        return Live(Recommender(fitted), rev, shelves, base, changed, come, self.heard)

    def _gone(self, stones: set[str], base: Recommender) -> set[str]:
        """The keys of what was deleted; of people the store tells digests, which have no "/"."""
        if all("/" in stone for stone in stones):
            return stones
        people = tuple(f"{d.name}/" for d in base.dataset.domains if d.people)
        known = (key for key in (*base.dataset.items.keys, *self.come) if key.startswith(people))
        return stones | {key for key in known if digest(key) in stones}

    def allowed(
        self, domain: str | None, filter: str | None, categories: tuple[str, ...] = ()
    ) -> Mask:
        """Return (n_items,) items of a domain, in all of these categories, that a filter lets
        through; remembered."""
        key = domain, filter, categories
        mask = self._masks.get(key)
        if mask is None:
            mask = self.recommender.allowed(domain, filter)
            for category in categories:
                mask = mask & self._in(category)
            if len(self._masks) >= MASKS:
                self._masks.clear()
            self._masks[key] = mask
        return mask

    def held(self, filter: str) -> Mask:
        """Return (n_items,) the items that an expression holds for."""
        return Filter.parse(filter).mask(self.recommender.fitted.items)

    def query(self, askers: Sequence[Asker], now: int) -> Query:
        """Return the encoded requests; ``now`` in seconds. Events of unknown items are left out."""
        data = self.recommender.dataset
        item = [data.items.encode(a.item) for a in askers]
        known = [codes >= 0 for codes in item]
        event, weight = [], []
        for asker, codes in zip(askers, item, strict=True):
            kinds = [self._types.get(name, self._other) for name in asker.type]
            event.append(np.array([code for code, _ in kinds], np.int16))
            signed = np.array([w for _, w in kinds], np.float32)
            value = np.array([np.nan if v is None else v for v in asker.value], np.float32)
            plain = np.where(np.isnan(value), 1.0, value) * signed
            named = np.isnan(value) & np.array([name == "" for name in asker.type], np.bool_)
            rating = np.where(named, self.recommender.liked, value)
            plain = np.where((plain == 0) | (value < 0), np.nan, plain)  # it was only seen
            weight.append(np.where(data.explicit[codes], rating, plain).astype(np.float32))
        counts = [mask & ~np.isnan(w) for mask, w in zip(known, weight, strict=True)]
        n = [int(mask.sum()) for mask in counts]
        time = [np.floor_divide(np.array(a.time, np.int64), MICRO) for a in askers]
        code = np.array([a.code for a in askers], np.int32)
        query = make_query(
            row=np.repeat(np.arange(len(askers)), n),
            item=_taken(item, counts, np.int32),
            weight=_taken(weight, counts, np.float32),
            time=_taken(time, counts, np.int64),
            event=_taken(event, counts, np.int16),
            user=code,
            now=np.full(len(askers), now if data.now >= 0 else -1, np.int64),
            n_items=data.n_items,
            events=data.events,
            explicit=data.explicit,
            features=self._features(askers),
            text=tuple(a.text or "" for a in askers) if any(a.text for a in askers) else None,
            length=SEQUENCE,
        )
        if any(asker.withheld for asker in askers):
            rows = [data.items.encode(asker.withheld) for asker in askers]
            query = replace(query, withheld=of_items(rows, data.n_items))
        return data.described(query)

    def parts(self, query: Query) -> tuple[list[str], Floats]:
        """Return the names of the parts and λ (B, D, P); none and an empty array where the model
        is not a blend."""
        model = mixture(self.recommender.model)
        if model is None:
            return [], np.zeros((len(query), 0, 0), np.float32)
        kinds = [part.recipe.kind for part in model.parts]
        names = [k if kinds.count(k) == 1 else f"{k} {i + 1}" for i, k in enumerate(kinds)]
        return names, model.lambdas(query)

    def title(self, code: int) -> str:
        """Return the title of an item, its key where it has none."""
        return self.recommender.title(code)

    def of_users(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of a user's stored attributes that the run knows."""
        columns = self.recommender.fitted.prepared.users.drop("key").columns
        return {name: value for name, value in stored.items() if name in columns}

    @cached_property
    def latest(self) -> tuple[Ids, Ids]:
        """(n_items,) codes, those of the latest time first, and those times; NEVER at the end."""
        data = self.recommender.dataset
        time = np.full(data.n_items, NEVER)
        for key, shelf in self.shelves.items():
            code = data.items.code(key)
            if code >= 0 and shelf.time is not None:
                time[code] = shelf.time
        order = np.argsort(time, kind="stable")[::-1]
        return order, time[order]

    @cached_property
    def fingerprints(self) -> Array:
        """(n_items,) what page tokens call the items."""
        return pages.fingerprints(self.recommender.dataset.items.keys)

    @cached_property
    def alike(self) -> Array:
        """What makes two items resemble each other: (n, d) attributes, or (n,) domains."""
        blocks = self.recommender.dataset.item_attributes
        return np.hstack(list(blocks.values())) if blocks else self.recommender.dataset.item_domain

    @cached_property
    def scales(self) -> dict[int, tuple[float, float]]:
        """Code of each rated domain → its least and greatest rating."""
        data = self.recommender.dataset
        rated = [d for d, each in enumerate(data.domains) if each.feedback == "explicit"]
        found = {d: data.weight[data.item_domain[data.item] == d] for d in rated}
        return {d: (float(w.min()), float(w.max())) for d, w in found.items() if len(w)}

    @cached_property
    def domains(self) -> list[str]:
        """Names of the domains by code."""
        return [domain.name for domain in self.recommender.dataset.domains]

    def _in(self, category: str) -> Mask:
        """(n_items,) the items of a category: of the domain of that name, or marked so."""
        data = self.recommender.dataset
        mask: Mask = data.item_domain == data.domain(category)
        marked = [key for key, shelf in self.shelves.items() if category in shelf.categories]
        codes = data.items.encode(marked)
        mask[codes[codes >= 0]] = True
        return mask

    def _features(self, askers: Sequence[Asker]) -> dict[str, Array]:
        """The attribute blocks of the askers: of the run, or of what they now say of themselves."""
        data = self.recommender.dataset
        code = np.array([a.code for a in askers])
        known = np.maximum(code, 0)
        found = {
            name: np.where((code >= 0)[:, None], block[known], 0).astype(np.float32)
            for name, block in data.user_attributes.items()
        }
        for b, asker in enumerate(askers):
            if asker.attributes is not None and found:
                told = self.recommender.attributes(asker.attributes, 1)
                for name, block in told.items():
                    found[name][b] = block[0]
        return found

    @cached_property
    def liking(self) -> str:
        """The type of event that says that somebody liked an item."""
        events = self.recommender.dataset.events
        return next((e.name for e in events if e.sign == "positive"), "event")

    def liking_in(self, domain: str) -> str:
        """The type of event that mostly says so in a domain."""
        data = self.recommender.dataset
        of_domain = data.item_domain[data.item] == data.domain(domain)
        count = np.bincount(data.event[of_domain & (data.weight > 0)], minlength=len(data.events))
        return data.events[int(count.argmax())].name if count.any() else self.liking

    @cached_property
    def disliking(self) -> str | None:
        """The type of event that says that an item was of no use; None without one."""
        events = self.recommender.dataset.events
        return next((e.name for e in events if e.sign == "negative"), None)

    @cached_property
    def user_events(self) -> Array:
        """(n_users,) how many events the run has of each."""
        data = self.recommender.dataset
        return np.bincount(data.user, minlength=data.n_users)

    @cached_property
    def item_events(self) -> Array:
        """(n_items,) how many events the run has on each."""
        data = self.recommender.dataset
        return np.bincount(data.item, minlength=data.n_items)

    @cached_property
    def seeds(self) -> dict[str, list[str]]:
        """Keys of the seed items by domain: what the recipe of the run's own seeds chooses, else
        what covers most users."""
        data = self.recommender.dataset
        recipe = _seeds(self.recommender.model) or Seeds()
        return {
            domain: data.items.decode(recipe.choose_seeds(data, code))
            for code, domain in enumerate(self.domains)
        }

    @cached_property
    def _types(self) -> dict[str, tuple[int, float]]:
        """Event type → its code and signed weight; "" and the type of events that name none are
        the first positive one, as they are to ``Recommender``."""
        events = self.recommender.dataset.events
        found = {e.name: (c, _signed(e)) for c, e in enumerate(events)}
        first = found.get(self.liking, (0, 1.0))
        return {"": first, DEFAULT_EVENT: first} | found

    @cached_property
    def _other(self) -> tuple[int, float]:
        """Types that the run does not know: as plain events, unless its TOML declares types."""
        events = self.recommender.dataset.events
        code = next((c for c, e in enumerate(events) if e.sign == "positive"), 0)
        return code, 0.0 if self.recommender.fitted.prepared.config.events else 1.0


def _seeds(model: Model) -> Seeds | None:
    """The recipe of seeds among the parts of a model."""
    if isinstance(model.recipe, Seeds):
        return model.recipe
    parts = model.parts if isinstance(model, (BlendModel, ConfidentModel)) else ()
    return next((found for part in parts if (found := _seeds(part)) is not None), None)


def _signed(event: EventType) -> float:
    return event.weight if event.sign == "positive" else -event.weight


def _taken(columns: Sequence[Array], masks: Sequence[Mask], dtype: type) -> Array:
    parts = [column[mask] for column, mask in zip(columns, masks, strict=True)]
    return np.concatenate([*parts, np.zeros(0, dtype)]).astype(dtype)

"""The frozen, encoded data of all domains: event columns, vocabularies, features and texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids, Mask
from m6rec.data import people
from m6rec.data.derived import DERIVED, Derivation, newest_requests
from m6rec.data.query import SEQUENCE, Query, history_matrix, make_query
from m6rec.data.schema import Domain, EventType
from m6rec.data.vocab import Vocab
from m6rec.errors import ConfigError, suggestion

OF_EVENTS = ("start", "now", "user_features")  # cached, and the same whatever items there are


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """N events of n_users users on n_items items. Build it with ``Dataset.build``, which sorts.

    user, item: (N,) int32 codes, sorted by user, then oldest → newest.
    weight: (N,) float32; a rating (explicit domains), else the event's weight, below 0 for
        negative feedback.
    time: (N,) int64 unix seconds, -1 where unknown. event: (N,) int16 codes into ``events``.
    item_domain: (n_items,) int16 codes into ``domains``.
    user_attributes, item_attributes: name → (n, d) float32; zeros where unknown. Models see
        ``user_features`` and ``item_features``.
    derivation: how requests and items are described by events; None = not at all.
    item_text: n_items texts, "" where there is none; None where no item has any.
    user_text: n_users texts, the words that a user comes with: a question, a profile. Of a past
        question that was answered, the user is the question; "" = none; None where nobody has any.
    hidden: (n_items,) items that train but are never recommended.
    ordered: a user's rows stand in the order in which they happened.
    """

    user: Ids
    item: Ids
    weight: Floats
    time: Ids
    event: Ids
    users: Vocab
    items: Vocab
    domains: tuple[Domain, ...]
    item_domain: Ids
    events: tuple[EventType, ...] = (EventType(name="event"),)
    user_attributes: Mapping[str, Array] = field(default_factory=dict)
    item_attributes: Mapping[str, Array] = field(default_factory=dict)
    item_text: tuple[str, ...] | None = None
    user_text: tuple[str, ...] | None = None
    hidden: Mask
    ordered: bool = False
    derivation: Derivation | None = None

    @classmethod
    def build(
        cls,
        *,
        user: Ids,
        item: Ids,
        users: Vocab | int,
        items: Vocab | int,
        weight: Array | None = None,
        time: Ids | None = None,
        event: Ids | None = None,
        domains: tuple[Domain, ...] = (Domain(name="items"),),
        item_domain: Ids | None = None,
        events: tuple[EventType, ...] = (EventType(name="event"),),
        user_attributes: Mapping[str, Array] | None = None,
        item_attributes: Mapping[str, Array] | None = None,
        item_text: tuple[str, ...] | None = None,
        user_text: tuple[str, ...] | None = None,
        hidden: Mask | None = None,
        ordered: bool | None = None,
    ) -> Dataset:
        """Build from columns in any order; a count stands for a vocabulary of numbers.

        Without times the given order is kept; say ``ordered=True`` if it is meaningful.
        """
        users = Vocab.numbered(users) if isinstance(users, int) else users
        items = Vocab.numbered(items) if isinstance(items, int) else items
        user, item = np.asarray(user, dtype=np.int32), np.asarray(item, dtype=np.int32)
        timed = time is not None and bool((np.asarray(time) >= 0).any())
        time = np.full(len(user), -1, np.int64) if time is None else np.asarray(time, np.int64)
        weight = np.ones(len(user), np.float32) if weight is None else weight
        event = np.zeros(len(user), np.int16) if event is None else event
        rows = _by_user_and_time(
            user=user,
            item=item,
            weight=np.asarray(weight, dtype=np.float32),
            time=time,
            event=np.asarray(event, dtype=np.int16),
        )
        n_items = len(items)
        return cls(
            **rows,
            users=users,
            items=items,
            domains=domains,
            item_domain=np.zeros(n_items, np.int16)
            if item_domain is None
            else np.asarray(item_domain, np.int16),
            events=events,
            user_attributes=user_attributes or {},
            item_attributes=item_attributes or {},
            item_text=item_text,
            user_text=user_text,
            hidden=np.zeros(n_items, np.bool_) if hidden is None else hidden,
            ordered=timed if ordered is None else ordered,
        )

    def __len__(self) -> int:
        return len(self.user)

    @property
    def n_users(self) -> int:
        return len(self.users)

    @property
    def n_items(self) -> int:
        return len(self.items)

    @property
    def n_domains(self) -> int:
        return len(self.domains)

    @cached_property
    def worded(self) -> Mask:
        """(n_users,) users who come with words."""
        texts = self.user_text or ("",) * self.n_users
        return np.array([bool(text) for text in texts], np.bool_)

    @cached_property
    def explicit(self) -> Mask:
        """(n_items,) items of explicit domains, whose values are ratings."""
        of_domain = np.array([domain.feedback == "explicit" for domain in self.domains])
        return of_domain[self.item_domain]

    @cached_property
    def person(self) -> Ids:
        """(n_items,) int32 code of the user who an item is, -1 where it is none."""
        return people.persons(self.users, self.items, self.item_domain, self.domains)

    @cached_property
    def kept_apart(self) -> csr_array | None:
        """(n_users, n_items), by its entries: who must not be recommended to whom, themselves
        among them; None where no items are people."""
        if not any(domain.people for domain in self.domains):
            return None
        rows = self.user, self.item, self.event
        return people.kept_apart(*rows, self.person, self.item_domain, self.n_users, self.events)

    @cached_property
    def links(self) -> Ids | None:
        """(N,) the first row of the same link between people; see ``people.links``."""
        if not people.mutual(self.events).any():
            return None
        rows = self.user, self.item, self.event
        return people.links(*rows, self.person, self.item_domain, self.events)

    @cached_property
    def start(self) -> Ids:
        """(n_users + 1,) first event row of each user."""
        return np.searchsorted(self.user, np.arange(self.n_users + 1))

    @cached_property
    def now(self) -> int:
        """Time of the newest event in unix seconds, -1 without times."""
        return int(self.time.max(initial=-1))

    @cached_property
    def matrix(self) -> csr_array:
        """(n_users, n_items) float32 history weights as of ``now``; see ``history_matrix``."""
        now = np.full(self.n_users, self.now, np.int64)
        return history_matrix(
            self.user,
            self.item,
            self.weight,
            self.time,
            self.event,
            now,
            self.n_items,
            self.events,
            self.explicit,
        )

    @cached_property
    def positives(self) -> csr_array:
        """(n_users, n_items) float32: ``matrix`` without negative feedback.

        Explicit domains keep every rating.
        """
        matrix = self.matrix
        keep = (matrix.data > 0) | self.explicit[matrix.indices]
        if keep.all():
            return matrix
        row = np.repeat(np.arange(self.n_users), np.diff(matrix.indptr))[keep]
        return csr_array((matrix.data[keep], (row, matrix.indices[keep])), shape=matrix.shape)

    @cached_property
    def user_features(self) -> Mapping[str, Array]:
        """name → (n_users, d) float32: the attributes, and derived features to learn from.

        These are of the request that a user's newest event here answered, so that idle time is
        that of requests, not that until the log ended; 0 for users of fewer than two events.
        """
        if self.derivation is None:
            return self.user_attributes
        block = np.zeros((self.n_users, len(self.derivation.user_scale)), np.float32)
        for query in newest_requests(self):
            block[query.user] = query.features[DERIVED]
        return {**self.user_attributes, DERIVED: block}

    @cached_property
    def item_features(self) -> Mapping[str, Array]:
        """name → (n_items, d) float32: the attributes, and what the events here derive."""
        if self.derivation is None:
            return self.item_attributes
        return {**self.item_attributes, DERIVED: self.derivation.items(self)}

    def new_item_features(self, first: int) -> Mapping[str, Array]:
        """name → (n_items - first, d): ``item_features`` of the items from code ``first`` on, if
        these have no events; at a cost that does not grow with the items before them."""
        blocks = {name: block[first:] for name, block in self.item_attributes.items()}
        if self.derivation is None:
            return blocks
        unknown = np.zeros((self.n_items - first, len(self.derivation.item_scale)), np.float32)
        return {**blocks, DERIVED: unknown}

    def extended(self, new: Dataset) -> Dataset:
        """Return the dataset with the items of ``new`` after its own.

        new: has no events; its domains, and the names and widths of its blocks, are those here.
        """
        text = None
        if self.item_text is not None or new.item_text is not None:
            text = (self.item_text or ("",) * self.n_items) + (new.item_text or ("",) * new.n_items)
        derivation = self.derivation
        if derivation is not None and new.derivation is not None:
            derivation = derivation.extended(new.derivation)
        return self._with(
            items=self.items.extended(new.items.keys),
            item_domain=np.concatenate([self.item_domain, new.item_domain]),
            item_attributes={
                name: np.concatenate([block, new.item_attributes[name]])
                for name, block in self.item_attributes.items()
            },
            item_text=text,
            hidden=np.concatenate([self.hidden, new.hidden]),
            derivation=derivation,
        )

    def hiding(self, hidden: Mask) -> Dataset:
        """Return the dataset with other hidden items."""
        return self._with(hidden=hidden)

    def _with(self, **fields: Any) -> Dataset:
        """Return the dataset with other fields of items; what is cached of events stays."""
        made = replace(self, **fields)
        vars(made).update({name: vars(self)[name] for name in OF_EVENTS if name in vars(self)})
        return made

    def domain(self, name: str) -> int:
        """Return the code of a domain, -1 where it is unknown."""
        return next((i for i, d in enumerate(self.domains) if d.name == name), -1)

    def check_domains(self, names: Iterable[str], option: str) -> None:
        """Raise ConfigError where an option names a domain that there is not."""
        known = [d.name for d in self.domains]
        for name in names:
            if name not in known:
                near = suggestion(name, known)
                raise ConfigError(
                    f'{option}: "{name}" is no domain{near} (known: {", ".join(known)})'
                )

    def take(self, rows: Array) -> Dataset:
        """Return the events at these rows (mask or increasing indices), same vocabularies."""
        return replace(
            self,
            user=self.user[rows],
            item=self.item[rows],
            weight=self.weight[rows],
            time=self.time[rows],
            event=self.event[rows],
        )

    def among(self, items: Ids) -> Dataset:
        """Return the events on these items (C,) of the users who have some, items and users with
        codes and keys from 0 on; without attributes and texts."""
        place = np.full(self.n_items, -1, np.int32)
        place[items] = np.arange(len(items))
        rows = place[self.item] >= 0
        users, user = np.unique(self.user[rows], return_inverse=True)
        return replace(
            self.take(rows),
            user=user.astype(np.int32),
            item=place[self.item[rows]],
            users=Vocab.numbered(len(users)),
            items=Vocab.numbered(len(items)),
            item_domain=self.item_domain[items],
            user_attributes={},
            item_attributes={},
            item_text=None,
            user_text=None,
            hidden=self.hidden[items],
            derivation=None,
        )

    def query(self, users: Ids, now: Ids | None = None, length: int = SEQUENCE) -> Query:
        """Return the requests of these users (B,) with all their events here as history.

        A user of -1, or one without events, has an empty history, and -1 no words. ``now`` (B,)
        is in unix seconds; without it, it is the time of the newest event of the whole dataset.
        """
        users = np.asarray(users, dtype=np.int32)
        known = np.where(users >= 0, users, 0)
        count = np.where(users >= 0, self.start[known + 1] - self.start[known], 0)
        row = np.repeat(np.arange(len(users)), count)
        first = np.repeat(self.start[known] - np.r_[0, np.cumsum(count)[:-1]], count)
        at = first + np.arange(len(row))
        present = (users >= 0)[:, None]
        query = make_query(
            row=row,
            item=self.item[at],
            weight=self.weight[at],
            time=self.time[at],
            event=self.event[at],
            user=users,
            now=np.full(len(users), self.now, np.int64) if now is None else now,
            n_items=self.n_items,
            events=self.events,
            explicit=self.explicit,
            features={n: np.where(present, b[known], 0) for n, b in self.user_attributes.items()},
            text=self._words(users),
            length=length,
        )
        if self.kept_apart is not None:
            rows = csr_array(self.kept_apart[known] * (users >= 0)[:, None])
            rows.eliminate_zeros()
            query = replace(query, withheld=rows)
        return self.described(query)

    def _words(self, users: Ids) -> tuple[str, ...] | None:
        """The words that these users come with; None where none of them has any."""
        if self.user_text is None:
            return None
        words = tuple(self.user_text[u] if u >= 0 else "" for u in users.tolist())
        return words if any(words) else None

    def described(self, query: Query) -> Query:
        """Return the requests with their histories' block of derived features, if there is one.

        Whatever makes a Query ends with this step.
        """
        if self.derivation is None:
            return query
        return replace(query, features={**query.features, DERIVED: self.derivation.users(query)})


def _by_user_and_time(**columns: Array) -> dict[str, Any]:
    """Return the columns in stable order of user, then time; by one joint key if it fits."""
    user, time = columns["user"], columns["time"]
    first = int(time.min(initial=0))
    span = int(time.max(initial=0)) - first + 1
    if span * (int(user.max(initial=0)) + 2) >= 2**63:
        rows = pl.DataFrame(columns).sort("user", "time", maintain_order=True)
        return {name: rows[name].to_numpy(writable=True) for name in columns}
    key = user.astype(np.int64)
    key *= span
    key += time
    key -= first
    rest = {name: column for name, column in columns.items() if name not in ("user", "time")}
    rows = pl.DataFrame({"key": key, **rest}).sort("key", maintain_order=True)
    user, time = np.divmod(rows["key"].to_numpy(), span)
    time += first
    return {
        "user": user.astype(np.int32),
        "time": time,
        **{name: rows[name].to_numpy(writable=True) for name in rest},
    }

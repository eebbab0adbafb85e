"""Words as the only language: an item is its text, a user what they read or ask."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Floats, Ids, Mask, Scores, State, nest, unnest
from m6rec.compiled import threads
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.models.additive import Reasons, history_reasons
from m6rec.models.base import Model, Reason, Recipe
from m6rec.models.kernels import row_of, spread
from m6rec.text import Choice, FittedText, encoder_of, plain, resolve
from m6rec.tracking import Run

CANCELLED = 1e-6  # length, next to what was summed, below which a vector says nothing


@dataclass(frozen=True, kw_only=True)
class Text(Recipe):
    """Score an item by the cosine of its text with what the user asks for, or has read.

    The query vector is t + history · p: t encodes the words of the request, p pools the texts of
    the history, p = Σ_j ±log2(1 + |w_j|) 2^(-age_j / half_life) v_j, negative feedback below 0;
    both of length 1, and p alone where there are no words, or none that are understood: what they
    add up to must be longer than the shortest 1 in 20 words of item texts. Needs no events of a
    domain. Abstains on items without text and in explicit domains; reads no ratings.

    encoder: what turns texts into vectors: "hashed" words, or "sentence", a pretrained
    multilingual network (an extra: text), or "both" side by side; "auto" = "sentence" where that
    is installed, as the saved run then says. It is fitted on the texts of items, and on the words
    of users with events. dim: length of the vectors; None = 128 of "hashed", 512 of "sentence",
    less where the texts span less. half_life: events back after which what was read counts
    half; None = all the same, as where the data has no order. history: weight of p beside words.
    scope: "domain" = only history of the item's domain counts.
    """

    kind: ClassVar[str] = "text"
    encoder: Choice = "auto"
    dim: int | None = None
    half_life: float | None = 20.0
    history: float = 0.3
    scope: Literal["all", "domain"] = "all"

    def __post_init__(self) -> None:
        if self.dim is not None and self.dim < 1:
            raise ValueError(f"dim = {self.dim}: must be at least 1")
        if self.half_life is not None and self.half_life <= 0:
            raise ValueError(f"half_life = {self.half_life}: must be above 0 events")
        if self.history < 0:
            raise ValueError(f"history = {self.history}: must be 0 or more")

    def fit(self, train: Dataset, run: Run) -> TextModel:
        texts = train.item_text or ("",) * train.n_items
        said = said_by_users(train)
        name = resolve(self.encoder)
        fixed = replace(self, encoder=name)
        with threads(run.threads):
            encoder, vectors = encoder_of(name, self.dim).fit_encode((*texts, *said), run)
        vectors = vectors[: train.n_items].copy() if said else vectors
        vectors[train.explicit] = 0
        least = encoder.least(texts, run.rng("words"))
        return TextModel(fixed, encoder, vectors, train.item_domain, train.ordered, least)

    def restore(self, state: State) -> TextModel:
        encoder = encoder_of(plain(self.encoder), self.dim).restore(unnest("encoder", state))
        ordered, least = bool(state["ordered"][0]), float(state["least"][0])
        return TextModel(self, encoder, state["vectors"], state["item_domain"], ordered, least)


class TextModel(Model):
    """vectors: (n_items, dim) float32 of length 1; zeros where the model abstains.

    least: length of the sum of a text's shares from which on it is understood.
    """

    recipe: Text

    def __init__(
        self, recipe: Text, encoder: FittedText, vectors: Floats, item_domain: Ids, ordered: bool,
        least: float,
    ) -> None:  # fmt: skip
        self.recipe, self.encoder, self.vectors = recipe, encoder, vectors
        self.item_domain, self.ordered, self.least = item_domain, ordered, least
        self.known = spoken(vectors)
        self.n_items = len(vectors)

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        codes = np.arange(self.n_items) if items is None else np.asarray(items)
        scores = np.full((len(query), len(codes)), np.nan, np.float32)
        words, read = self._words(query), self._read(query)
        group = self._group(codes)
        for g in np.unique(group).tolist():
            at = np.flatnonzero((group == g) & self.known[codes])
            asked = self._asked(words, self._within(read, g))
            cosine = asked @ self.vectors[codes[at]].T
            cosine[~spoken(asked)] = np.nan
            scores[:, at] = cosine
        return scores

    def state(self) -> State:
        return {
            "vectors": self.vectors,
            "item_domain": self.item_domain,
            "ordered": np.array([self.ordered]),
            "least": np.array([self.least]),
            **nest("encoder", self.encoder.state()),
        }

    def update(self, dataset: Dataset) -> Self:
        n, longer = self.n_items, copy(self)
        vectors = np.zeros((dataset.n_items - n, self.vectors.shape[1]), np.float32)
        if dataset.item_text is not None:
            vectors[:] = self.encoder.encode(dataset.item_text[n:])
        vectors[dataset.explicit[n:]] = 0
        longer.vectors = np.concatenate([self.vectors, vectors])
        longer.known = np.concatenate([self.known, spoken(vectors)])
        longer.item_domain, longer.n_items = dataset.item_domain, dataset.n_items
        return longer

    def reads(self, query: Query) -> Mask:
        return spoken(self._words(query))

    def embed_query(self, query: Query, domain: int) -> Floats:
        group = 0 if self.recipe.scope == "all" else domain
        return self._asked(self._words(query), self._within(self._read(query), group))

    def embed_items(self, domain: int, items: Ids | None = None) -> Floats:
        at = slice(None) if items is None else items
        here = (self.item_domain[at] == domain)[:, None]
        return np.where(here, self.vectors[at], np.float32(0))

    def explain(self, query: Query, items: Ids) -> Reasons:
        words, read = self._words(query), self._read(query)
        reasons: Reasons = []
        for b, row in enumerate(np.asarray(items)):
            text = query.text[b] if query.text is not None else ""
            cells: list[list[Reason]] = [[] for _ in row]
            group = self._group(np.maximum(row, 0))
            for g in np.unique(group).tolist():
                at = np.flatnonzero((group == g) & (row >= 0) & self.known[row])
                one = self._within(read[[b]], g)
                found = self._reasons(text, words[[b]], one, self.vectors[row[at]])
                for c, cell in zip(at.tolist(), found, strict=True):
                    cells[c] = cell
            reasons.append(cells)
        return reasons

    def shares(self, query: Query) -> list[tuple[Reason, Floats]]:
        """Return each word and each history item of one request with its (dim,) share of the
        vector of ``embed_query``, where the scope is "all"; the values of the reasons are 0."""
        words, read = self._words(query), self._read(query)
        pull = self._history(words) * self._pooled(read)
        length = _length(words + pull)
        if length <= CANCELLED:
            return []
        text = query.text[0] if query.text is not None else ""
        said = self.encoder.parts(text) if words.any() else []
        whole = _length(np.sum([share for _, share in said], axis=0)) * length
        found = [(Reason(kind="text", value=0, name=n), share / whole) for n, share in said]
        if pull.any():
            scale = _length(pull) / (_length(read.data @ self.vectors[read.indices]) * length)
            found += [
                (Reason(kind="history", value=0, item=int(i)), w * scale * self.vectors[i])
                for i, w in zip(read.indices, read.data, strict=True)
            ]
        return found

    def _reasons(
        self, text: str, words: Floats, read: csr_array, targets: Floats
    ) -> list[list[Reason]]:
        """What the words (1, dim) and the history (1, n_items) give each target (C, dim)."""
        pull = self._history(words) * self._pooled(read)
        length = _length(words + pull)
        if length <= CANCELLED:
            return [[] for _ in targets]
        shares = self.encoder.parts(text) if words.any() else []
        whole = _length(np.sum([share for _, share in shares], axis=0)) * length
        summed = _length(read.data @ self.vectors[read.indices])
        scale = _length(pull) / (summed * length) if pull.any() else 0.0
        of_items = scale * read.data[:, None] * (self.vectors[read.indices] @ targets.T)
        return [
            [
                Reason(kind="text", value=float(share @ target) / whole, name=word)
                for word, share in shares
                if share.any()
            ]
            + history_reasons(read.indices, of_items[:, c])
            for c, target in enumerate(targets)
        ]

    def _group(self, codes: Ids) -> Ids:
        """(C,) the items that one query vector is for."""
        return np.zeros_like(codes) if self.recipe.scope == "all" else self.item_domain[codes]

    def _within(self, read: csr_array, group: int) -> csr_array:
        """The entries of a history that count for a group."""
        if self.recipe.scope == "all":
            return read
        data = np.where(self.item_domain[read.indices] == group, read.data, 0)
        return csr_array((data.astype(np.float32), read.indices, read.indptr), shape=read.shape)

    def _words(self, query: Query) -> Floats:
        """(B, dim) vectors of length 1 of the requests' words; zeros where none is understood."""
        if query.text is None:
            return np.zeros((len(query), self.encoder.dim), np.float32)
        different, place = np.unique(np.array(query.text, np.str_), return_inverse=True)
        sums = self.encoder.sums(different.tolist())
        return _unit(sums, max(self.least, CANCELLED))[place]

    def _read(self, query: Query) -> csr_array:
        """(B, n_items) float32 weights of the history items that have a text."""
        h = query.history
        weight = np.copysign(np.log2(1 + np.abs(h.data)), h.data) * self.known[h.indices]
        if self.recipe.half_life is not None and self.ordered:
            weight *= np.exp2(-self._age(query) / self.recipe.half_life)
        return csr_array((weight.astype(np.float32), h.indices, h.indptr), shape=h.shape)

    def _age(self, query: Query) -> Ids:
        """(nnz,) events since the newest one of each history entry; L where it is further back."""
        newest_first = query.sequence[:, ::-1]
        row, age = np.nonzero(newest_first >= 0)
        cell, first = np.unique(
            row * self.n_items + newest_first[row, age].astype(np.int64), return_index=True
        )
        asked = row_of(query.history).astype(np.int64) * self.n_items + query.history.indices
        if not len(cell):
            return np.zeros(len(asked), np.int64)
        place = np.searchsorted(cell, asked).clip(max=len(cell) - 1)
        found: Ids = np.where(cell[place] == asked, age[first[place]], newest_first.shape[1])
        return found

    def _pooled(self, read: csr_array) -> Floats:
        """(B, dim) sums of what was read, of length 1 or zero."""
        scale = np.asarray(abs(read).sum(axis=1))[:, None]
        return _unit(spread(read, self.vectors), CANCELLED * scale)

    def _history(self, words: Floats) -> Floats:
        """(B, 1) weight of the pooled history."""
        weight = np.where(spoken(words), np.float32(self.recipe.history), np.float32(1))
        return weight[:, None]

    def _asked(self, words: Floats, read: csr_array) -> Floats:
        """(B, dim) query vectors of length 1; zeros where nothing is known."""
        return _unit(words + self._history(words) * self._pooled(read), CANCELLED)


def said_by_users(train: Dataset) -> tuple[str, ...]:
    """Return the words of the users who have events, by code; of nobody else is anything known."""
    if train.user_text is None:
        return ()
    return tuple(train.user_text[u] for u in np.unique(train.user).tolist() if train.worded[u])


def spoken(vectors: Floats) -> Mask:
    """Return (n,) the rows (n, dim) that say something."""
    says: Mask = (vectors != 0).any(axis=1)
    return says


def _length(vector: Floats) -> float:
    return float(np.linalg.norm(vector))


def _unit(vectors: Floats, least: Floats | float) -> Floats:
    """Rows scaled to length 1; zeros where they are no longer than ``least``."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    kept = length > least
    scaled: Floats = np.where(kept, vectors / np.where(kept, length, 1), 0)
    return scaled.astype(np.float32)

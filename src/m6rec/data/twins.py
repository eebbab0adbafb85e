"""Twins: one product listed in two domains, known by its audience or its text."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Ids
from m6rec.compiled import compiled, structure
from m6rec.data.dataset import Dataset
from m6rec.errors import ConfigError, suggestion


@dataclass(frozen=True, kw_only=True)
class TwinsConfig:
    """The ``[twins]`` table: which items of two domains are one product, and what follows.

    action: "report" = only say so; "link" = whoever had one is not recommended the other;
        "drop" = leave out the events of other domains' items that twin one of ``target``.
    min_shared, jaccard: same audience = at least so many users of both, and at least this share
        of the users of either.
    text: "ignore"; "also" = the same text is enough; "must" = where both items have text, it
        must be the same too.
    cosine: similarity from which on texts count as the same where item text is encoded.
    """

    action: Literal["report", "link", "drop"] = "link"
    target: str = ""
    min_shared: int = 3
    jaccard: float = 0.6
    text: Literal["ignore", "also", "must"] = "must"
    cosine: float = 0.95

    def __post_init__(self) -> None:
        if self.min_shared < 1 or not 0 < self.jaccard <= 1:
            raise ValueError("min_shared must be at least 1, and jaccard above 0 and at most 1")
        if self.action == "drop" and not self.target:
            raise ValueError('action = "drop" needs target = "…", the domain that keeps its items')


@dataclass(frozen=True, kw_only=True, eq=False)
class Twins:
    """P pairs of items of two domains, the strongest first.

    first, second: (P,) item codes, the earlier domain first. shared: (P,) users of both.
    jaccard: (P,) float32, shared users over the users of either. similarity: (P,) float32
    cosine of the texts, NaN where one has none or texts were not compared.
    """

    first: Ids
    second: Ids
    shared: Ids
    jaccard: Floats
    similarity: Floats

    def __len__(self) -> int:
        return len(self.first)

    def partners(self, n_items: int) -> csr_array:
        """Return (n_items, n_items) float32, 1 where two items are twins.

        ``history @ partners`` marks what a user had under its other listing.
        """
        pair = (np.r_[self.first, self.second], np.r_[self.second, self.first])
        return csr_array((np.ones(2 * len(self), np.float32), pair), shape=(n_items, n_items))


def find_twins(
    dataset: Dataset,
    config: TwinsConfig | None = None,
    vectors: Floats | None = None,
) -> Twins:
    """Find the twins of a dataset.

    vectors: (n_items, d) text vectors of length 1 (zeros = no text); without them texts are
    the same if equal but for case, width and punctuation. A text that several items of one
    domain bear tells nothing, so by text alone only unambiguous ones pair up.
    """
    config = config or TwinsConfig()
    positives = dataset.positives
    if dataset.n_domains > 1:
        pairs = _same_audience(
            *_audience(positives), *structure(positives), dataset.item_domain,
            config.min_shared, config.jaccard,
        )  # fmt: skip
        people = np.array([domain.people for domain in dataset.domains])[dataset.item_domain]
        pairs = pairs[~people[pairs].any(axis=1)]  # nobody is a product
    else:
        pairs = np.zeros((0, 2), np.int64)
    similarity = np.full(len(pairs), np.nan, np.float32)
    if config.text != "ignore" and dataset.item_text is not None:
        texts = _plain_texts(dataset.item_text)
        if config.text == "also":
            pairs = np.unique(np.concatenate([pairs, _same_text(texts, dataset)]), axis=0)
        similarity = _similarity(pairs, texts, vectors)
        if config.text == "must":
            same = np.isnan(similarity) | (similarity >= config.cosine)
            pairs, similarity = pairs[same], similarity[same]
    shared, jaccard = _overlap(pairs, csr_array(positives.T))
    order = np.lexsort((pairs[:, 1], pairs[:, 0], -shared, -jaccard))
    return Twins(
        first=pairs[order, 0],
        second=pairs[order, 1],
        shared=shared[order],
        jaccard=jaccard[order],
        similarity=similarity[order],
    )


def drop_twins(dataset: Dataset, twins: Twins, target: str) -> Dataset:
    """Leave out the events of other domains' items that are a twin of an item of ``target``."""
    code = dataset.domain(target)
    if code < 0:
        names = [domain.name for domain in dataset.domains]
        raise ConfigError(f'[twins] target = "{target}": no such domain{suggestion(target, names)}')
    mine, other = np.r_[twins.first, twins.second], np.r_[twins.second, twins.first]
    gone = np.zeros(dataset.n_items, np.bool_)
    gone[other[dataset.item_domain[mine] == code]] = True
    return dataset.take(~gone[dataset.item])


@compiled()
def _same_audience(
    users_of: Ids,
    users: Ids,
    items_of: Ids,
    items: Ids,
    domain: Ids,
    min_shared: int,
    jaccard: float,
) -> Ids:
    """(P, 2) pairs. users: of each item, those with the shortest histories first.

    A twin of an item shares at least a share ``jaccard`` of its users, so it must already show
    among all but a few of them: candidates come from the users with short histories (Chaudhuri
    et al. 2006, prefix filter), and only candidates are counted in full. Memory is
    O(users + items + P).
    """
    n = len(domain)
    counts, touched = np.zeros(n, np.int32), np.empty(n, np.int32)
    mark = np.full(len(items_of) - 1, -1, np.int32)
    pairs = np.empty((1024, 2), np.int64)
    n_pairs = 0
    for i in range(n):
        first, size = users_of[i], users_of[i + 1] - users_of[i]
        least = max(min_shared, int(np.ceil(jaccard * size - 1e-9)))
        if size < least:
            continue
        spare = size - least  # users that a twin may lack
        some = min(size, spare + 1 + least // 4)
        n_touched = 0
        for a in range(first, first + some):
            for b in range(items_of[users[a]], items_of[users[a] + 1]):
                j = items[b]
                if domain[j] > domain[i]:
                    if counts[j] == 0:
                        touched[n_touched] = j
                        n_touched += 1
                    counts[j] += 1
        marked = False
        for t in range(n_touched):
            j = touched[t]
            seen, counts[j] = counts[j], 0
            other = users_of[j + 1] - users_of[j]
            if seen < some - spare or other < jaccard * size or size < jaccard * other:
                continue
            if not marked:
                for a in range(first, first + size):
                    mark[users[a]] = i
                marked = True
            both = 0
            for a in range(users_of[j], users_of[j + 1]):
                both += mark[users[a]] == i
            if both >= min_shared and both >= jaccard * (size + other - both):
                if n_pairs == len(pairs):
                    longer = np.empty((2 * n_pairs, 2), np.int64)
                    longer[:n_pairs] = pairs
                    pairs = longer
                pairs[n_pairs, 0], pairs[n_pairs, 1] = i, j
                n_pairs += 1
    return pairs[:n_pairs]


def _audience(positives: csr_array) -> tuple[Array, Array]:
    """(indptr, users) of each item, the users with the shortest histories first."""
    size = np.diff(positives.indptr)
    order = np.argsort(size, kind="stable")
    indptr, place = structure(csr_array(positives[order].T))
    return indptr, order[place].astype(np.int32)


def _plain_texts(texts: tuple[str, ...]) -> pl.Series:
    """Texts reduced to what makes a name: lower case letters and digits, in normal width."""
    normal = pl.Series([unicodedata.normalize("NFKC", text) for text in texts], dtype=pl.String)
    return normal.str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}]+", " ").str.strip_chars()


def _same_text(texts: pl.Series, dataset: Dataset) -> Ids:
    """(P, 2) pairs of items whose equal text occurs once in each of their domains."""
    table = pl.DataFrame({"text": texts, "domain": dataset.item_domain}).with_row_index("item")
    table = table.filter(pl.col("text") != "")
    table = table.filter(
        pl.len().over("text", "domain") == 1,
        pl.len().over("text") > 1,
    )
    pairs = table.join(table, on="text").filter(pl.col("domain") < pl.col("domain_right"))
    return pairs.select("item", "item_right").to_numpy().astype(np.int64)


def _similarity(pairs: Ids, texts: pl.Series, vectors: Floats | None) -> Floats:
    """(P,) cosine, 1 for equal texts; NaN where one is empty."""
    a, b = texts.gather(pairs[:, 0]), texts.gather(pairs[:, 1])
    equal = (a == b).to_numpy()
    value = np.zeros(len(pairs), np.float32)
    if vectors is not None:
        value = np.einsum("pd,pd->p", vectors[pairs[:, 0]], vectors[pairs[:, 1]])
    empty = ((a == "") | (b == "")).to_numpy()
    return np.where(empty, np.nan, np.where(equal, 1.0, value)).astype(np.float32)


def _overlap(pairs: Ids, audience: csr_array) -> tuple[Array, Floats]:
    """(P,) shared users, and their share of the users of either item."""
    size = np.diff(audience.indptr)
    binary = csr_array(
        (np.ones(audience.nnz, np.int32), audience.indices, audience.indptr), shape=audience.shape
    )
    both = binary[pairs[:, 0]].multiply(binary[pairs[:, 1]])
    shared: Array = np.asarray(both.sum(axis=1)).reshape(-1)
    either = size[pairs[:, 0]] + size[pairs[:, 1]] - shared
    return shared, (shared / np.maximum(either, 1)).astype(np.float32)

"""Seeds: the first items to show to somebody of whom nothing is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.sparse import csc_array

from m6rec.arrays import Ids, State
from m6rec.data.dataset import Dataset
from m6rec.errors import ConfigError, suggestion
from m6rec.models.base import Recipe
from m6rec.models.popular import Popular, PopularModel
from m6rec.tracking import Run


@dataclass(frozen=True, kw_only=True)
class Seeds(Recipe):
    """Score seed items above all others, the others by popularity.

    Explicit domains score by mean rating, in rating units; their seeds are for onboarding.

    items: keys ("domain/key", or the key alone where it is unique) of predefined seeds, in order.
    users: keys of seed users; what they like comes next, most liked among them first.
    n: seeds of each domain; where fewer are predefined, the rest is chosen for coverage: greedily
        the item liked by most users who like none of the seeds so far (Nemhauser et al. 1978).
    """

    kind: ClassVar[str] = "seeds"
    items: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    n: int = 20

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"n = {self.n}: must be at least 0")

    def fit(self, train: Dataset, run: Run) -> PopularModel:
        popular = Popular().fit(train, run)
        below = popular.popularity.max(initial=0) + 1.0
        score = popular.popularity - np.where(train.explicit, 0, below)
        assert popular.new is not None
        explicit = np.array([domain.feedback == "explicit" for domain in train.domains])
        new = popular.new - np.where(explicit, 0, below)
        for domain in range(train.n_domains):
            if train.domains[domain].feedback == "explicit":
                continue
            chosen = self.choose_seeds(train, domain)
            score[chosen] = 1.0 - np.arange(len(chosen)) / max(1, self.n)
        return PopularModel(self, score.astype(np.float32), new.astype(np.float32))

    def restore(self, state: State) -> PopularModel:
        return PopularModel(self, state["popularity"], state.get("new"))

    def choose_seeds(self, train: Dataset, domain: int) -> Ids:
        """Return up to n seed items of a domain, best first."""
        inside = (train.item_domain == domain) & ~train.hidden
        given = np.array([item_code(train, key) for key in self.items], dtype=np.int64)
        chosen = given[inside[given]].tolist() if len(given) else []
        if self.users:
            chosen += [i for i in self._liked(train) if inside[i]]
        chosen = list(dict.fromkeys(chosen))[: self.n]
        liked = csc_array(train.positives)
        uncovered = np.ones(train.n_users, np.float32)
        candidate = inside.copy()
        candidate[chosen] = False
        for item in chosen:
            uncovered[liked.indices[liked.indptr[item] : liked.indptr[item + 1]]] = 0
        while len(chosen) < self.n and candidate.any():
            newly = np.where(candidate, uncovered @ liked.astype(bool), -1.0)
            best = int(newly.argmax())
            if newly[best] <= 0:
                break
            chosen.append(best)
            candidate[best] = False
            uncovered[liked.indices[liked.indptr[best] : liked.indptr[best + 1]]] = 0
        return np.asarray(chosen, dtype=np.int64)

    def _liked(self, train: Dataset) -> list[int]:
        codes = train.users.encode(self.users)
        if (codes < 0).any():
            key = self.users[int(np.argmax(codes < 0))]
            raise ConfigError(f'seeds.users: there is no user "{key}" in the training data')
        count = train.positives[codes].sum(axis=0)
        order = np.argsort(-count, kind="stable")
        liked: list[int] = order[count[order] > 0].tolist()
        return liked


def item_code(data: Dataset, key: str) -> int:
    """Return the code of a key, with or without its domain; ConfigError where it is not one."""
    if key in data.items:
        return data.items.code(key)
    found = [c for d in data.domains if (c := data.items.code(f"{d.name}/{key}")) >= 0]
    if len(found) != 1:
        what = "is in several domains; write domain/key" if found else "is not in the data"
        near = suggestion(key, data.items.keys.to_list()) if not found else ""
        raise ConfigError(f'seeds.items: item "{key}" {what}{near}')
    return found[0]

"""The fitted PCT: users solved from their history, scores, and reasons that add up."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from m6rec.arrays import Array, Floats, Ids, Mask, Scores, State, unnest
from m6rec.data.dataset import Dataset
from m6rec.data.derived import DERIVED, USER_NAMES
from m6rec.data.query import Query
from m6rec.models import bayes
from m6rec.models.als import solve
from m6rec.models.base import Model, Reason, Recipe
from m6rec.models.bayes import Partners, posterior
from m6rec.models.conjugate import solve_all
from m6rec.models.described import described_later
from m6rec.models.entries import Events
from m6rec.models.kernels import fill_columns, fill_products
from m6rec.models.once import Once
from m6rec.text import FittedText, TextEncoder

Confidence = Literal["log", "linear", "binary"]


@dataclass(slots=True, eq=False)
class Told:
    """What was made of a query so far: the history by domain, the user attributes (B, p), and by
    domain û (B, k), and the users' vectors with whether anything is known of them."""

    parts: list[Events]
    attributes: Floats
    own: dict[int, Floats]
    users: dict[int, tuple[Floats, Mask]]


def vectors_for(
    state: State, target: int, vectors: Mapping[int, Floats] | list[Floats]
) -> list[Floats]:
    """Return the blocks of the sources of a domain's prior, in domain order. vectors: û by
    domain, of the sources at least."""
    scale = state["omega"][target] / state["norm"]
    return [vectors[s] * scale[s] for s in np.flatnonzero(scale).tolist()]


def user_features(blocks: Mapping[str, Array], n: int, used: bool) -> Floats:
    """Return a constant 1 and, where they are used, the user attributes: (n, 1 + p)."""
    columns = [block for _, block in sorted(blocks.items())] if used else []
    return np.hstack([np.ones((n, 1), np.float32), *columns]).astype(np.float32)


def attribute_names(query: Query, n: int) -> list[str]:
    """Return a name for each column of ``user_features``."""
    names = ["constant"]
    for name, block in sorted(query.features.items()):
        width = block.shape[1]
        names += USER_NAMES[:width] if name == DERIVED else [name] * width
    return names[:n]


class PctModel(Model):
    """State: for the stages "own" (each domain alone) and "full" (with its sources)

    items (n_items, k), bias (n_items,), gram (D, k, k) = α VᵀV, prior/d (p, k) of each domain,
    full/alone/d (p, k) = the prior of those who have history neither here nor in a source; and
    item_domain, explicit (D,), options (D, 3) = reg, nu, alpha, omega (D, D), warm (D,),
    middle (D, 3) = mean, least and greatest rating, norm (D,) = scale of û, known (n_items,).
    Explicit domains also have variance (n_items, k), precision (D, k + 1) and presence
    (n_items, q), see ``bayes``. For new items: guess/d (1 + p, k) = W, spread (D, k) = their
    variance, and the encoder of texts, under encoder/; older runs have none, and abstain on them.
    encoder: the recipe of the latter, None = φ holds no texts.
    """

    def __init__(
        self, recipe: Recipe, state: State, confidence: Confidence, attributes: bool,
        encoder: TextEncoder | None = None,
    ) -> None:  # fmt: skip
        self.recipe = recipe
        self.encoder = encoder
        self.confidence = confidence
        self.attributes = attributes
        self.item_domain: Ids = state["item_domain"]
        self.omega: Floats = state["omega"]
        self.n_items = len(self.item_domain)
        self.n_domains = len(self.omega)
        self._state = state
        for d in range(self.n_domains):  # older runs knew one prior, of users with sources
            if f"full/prior/{d}" in state and state["warm"][d]:
                known = len(state[f"own/prior/{d}"])
                state.setdefault(f"full/alone/{d}", state[f"full/prior/{d}"][:known])

    def state(self) -> State:
        return self._state

    def update(self, dataset: Dataset) -> PctModel:
        """A new item gets v = W φ, as one without events does at the fit."""
        first, state = self.n_items, self._state
        domain = dataset.item_domain[first:]
        phi = np.zeros((len(domain), 0), np.float32)
        if self.attributes:
            phi = described_later(dataset, first, self._texts)
        known: Mask = np.asarray(phi.any(axis=1))
        rows: State = {"presence": np.zeros((len(phi), state["presence"].shape[1]), np.float32)}
        told = np.hstack([np.ones((len(phi), 1), np.float32), phi, rows["presence"]])
        for stage in ("own", "full"):
            names = [f"{stage}/{name}" for name in ("items", "bias", "variance")]
            if names[0] not in state:
                continue
            items, bias, variance = (np.zeros((len(phi), *state[n].shape[1:])) for n in names)
            for d in np.unique(domain).tolist():
                at, guess = domain == d, state.get(f"{stage}/guess/{d}")
                if guess is not None:
                    items[at] = told[at, : len(guess)] @ guess
                    if state["explicit"][d]:
                        bias[at], items[at, 0] = items[at, 0], 1
                        variance[at] = state[f"{stage}/spread"][d]
                elif stage == self.stage(d):
                    known[at] = False
            some = len(state[names[2]]) > 0
            rows |= dict(zip(names, (items, bias, variance if some else variance[:0]), strict=True))
        rows |= {"item_domain": domain, "known": known}
        longer = copy(self)
        vars(longer).pop("_inside", None)
        longer._state = state | {
            name: np.concatenate([state[name], new.astype(state[name].dtype)])
            for name, new in rows.items()
        }
        longer.item_domain, longer.n_items = dataset.item_domain, dataset.n_items
        return longer

    @cached_property
    def _texts(self) -> FittedText | None:
        state = unnest("encoder", self._state)
        return self.encoder.restore(state) if self.encoder is not None and state else None

    @cached_property
    def _inside(self) -> list[tuple[Ids, Floats]]:
        """The items of each domain and their factors (k, n), else picked anew for each request."""
        inside = [np.flatnonzero(self.item_domain == d) for d in range(self.n_domains)]
        return [
            (at, np.ascontiguousarray(self.item_factors(d)[0][at].T)) for d, at in enumerate(inside)
        ]

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        codes = np.arange(self.n_items) if items is None else np.asarray(items)
        scores = np.empty((len(query), len(codes)), np.float32)
        told = self.read(query)
        for d in np.flatnonzero(np.bincount(self.item_domain[codes])).tolist():
            users, informed = self.users(told, d)
            if items is None:
                at, factors = self._inside[d]
            else:
                at = np.flatnonzero(self.item_domain[codes] == d)
                factors = self.item_factors(d)[0][codes[at]].T
            if self._state["explicit"][d]:
                mean, least, greatest = self._state["middle"][d]
                found = users @ factors + mean + self.item_factors(d)[1][codes[at]]
                fill_columns(found.clip(least, greatest), at, scores)
            else:
                fill_products(users, factors, at, scores)
            scores[np.ix_(~informed, at)] = np.nan
        scores[:, ~self._state["known"][codes]] = np.nan
        return scores

    def embed_query(self, query: Query, domain: int) -> Floats:
        """Return (B, k + 1): the user's vector in the domain, and a 1 for the item's bias."""
        users, informed = self.users(self.read(query), domain)
        told = np.where(informed[:, None], users, np.float32(np.nan))
        return np.hstack([told, np.ones((len(users), 1), np.float32)])

    def embed_items(self, domain: int, items: Ids | None = None) -> Floats:
        """Return (n_items, k + 1): the item's vector and its bias; zero outside the domain."""
        at = slice(None) if items is None else items
        factors, bias = self.item_factors(domain)
        vectors: Floats = np.hstack([factors[at], bias[at, None]])
        return np.where((self.item_domain[at] == domain)[:, None], vectors, np.float32(0))

    def explain(self, query: Query, items: Ids) -> list[list[list[Reason]]]:
        """Split u·v = vᵀ M⁻¹ (Σ_h b_h y_h + λ prior) over history items, attributes and sources."""
        codes, place = np.unique(np.maximum(items, 0), return_inverse=True)
        scores = np.take_along_axis(self.score(query, codes), place.reshape(items.shape), axis=1)
        told = self.read(query)
        names = attribute_names(query, told.attributes.shape[1])
        return [
            [
                self._reasons(b, int(i), float(s), told, names) if i >= 0 and s == s else []
                for i, s in zip(row, scores[b], strict=True)
            ]
            for b, row in enumerate(items)
        ]

    def _reasons(self, b: int, i: int, score: float, told: Told, names: list[str]) -> list[Reason]:
        d, parts, attributes = int(self.item_domain[i]), told.parts, told.attributes
        row, state = parts[d].rows(b, b + 1), self._state
        stage, matrix = "own", f"own/prior/{d}"
        if self.stage(d) == "full":
            sourced = bool(self.sourced(d, [part.rows(b, b + 1) for part in parts])[0])
            if state["warm"][d] or (sourced and not len(row.item)):
                informed = sourced or len(row.item)
                stage, matrix = "full", f"full/{'prior' if informed else 'alone'}/{d}"
        vector = self.item_factors(d)[0][i].astype(np.float64)
        reasons: list[Reason] = []
        if state["explicit"][d]:
            mean = float(state["middle"][d, 0] + state[f"{stage}/bias"][i])
            reasons.append(Reason(kind="bias", value=mean, name="mean rating of the item"))
        z, strength = self._influence(stage, d, row, vector)
        pull = state[matrix].astype(np.float64) @ (strength * z)  # (p,)
        reasons += self._history(stage, d, row, z, pull[attributes.shape[1] :])
        reasons += self._prior(pull, attributes[b], names)
        sources = np.flatnonzero(self.omega[d]).tolist() if stage == "full" else []
        for place, s in enumerate(sources):
            first = attributes.shape[1] + state["presence"].shape[1] + place * len(z)
            toward = pull[first : first + len(z)] * (self.omega[d, s] / state["norm"][s])
            source = parts[s].rows(b, b + 1)
            if not len(source.item):
                continue
            y, weight = self._influence("own", s, source, toward)
            pulled = state[f"own/prior/{s}"].astype(np.float64) @ (weight * y)
            reasons += self._history("own", s, source, y, pulled[attributes.shape[1] :])
            reasons += self._prior(pulled, attributes[b], names)
        rest = score - sum(r.value for r in reasons)
        if abs(rest) > 1e-5 * max(1.0, abs(score)) and state["explicit"][d]:
            reasons.append(Reason(kind="other", value=rest, name="limits of the rating scale"))
        return reasons

    def _influence(
        self, stage: str, domain: int, row: Events, vector: Array
    ) -> tuple[Array, Array]:
        """Return M⁻¹ · vector (k,) for the user of one history row, and the strength of the
        prior beside an event of weight 1, (1,) or (k,)."""
        state = self._state
        strength = self.strength(domain, row.count)
        spread = np.zeros(len(vector))
        if state["explicit"][domain]:
            precision = state[f"{stage}/precision"][domain].astype(np.float64)
            strength = precision[1:] / precision[0]
            spread = state[f"{stage}/variance"][row.item].sum(axis=0, dtype=np.float64)
        factors = state[f"{stage}/items"][row.item].astype(np.float64)
        weight, _ = self.weights(domain, row.value)
        m = factors.T @ (weight[:, None] * factors) + np.diag(strength + spread)
        if len(row.item) and not state["explicit"][domain]:
            m += state[f"{stage}/gram"][domain]
        return np.linalg.solve(m, vector), strength

    def _history(self, stage: str, domain: int, row: Events, z: Array, pull: Array) -> list[Reason]:
        state = self._state
        _, target = self._targets(stage, domain, row)
        values = target * (state[f"{stage}/items"][row.item].astype(np.float64) @ z)
        basis = state["presence"][row.item].astype(np.float64)
        values += basis @ pull[: basis.shape[1]] / np.sqrt(max(1, len(basis)))
        return [
            Reason(kind="history", value=float(v), item=int(i))
            for i, v in zip(row.item, values, strict=True)
        ]

    def _prior(self, pull: Array, attributes: Array, names: list[str]) -> list[Reason]:
        reasons = [Reason(kind="popularity", value=float(pull[0]), name="what users here like")]
        for p in np.flatnonzero(attributes[1:]) + 1:
            value = float(pull[p] * attributes[p])
            reasons.append(Reason(kind="attribute", value=value, name=names[p]))
        return reasons

    def stage(self, domain: int) -> str:
        """Return which vectors score a domain: "full" where it has sources, else "own"."""
        return "full" if self.omega[domain].any() else "own"

    def item_factors(self, domain: int) -> tuple[Floats, Floats]:
        """Return the vectors (n_items, k) and biases (n_items,)."""
        stage = self.stage(domain)
        return self._state[f"{stage}/items"], self._state[f"{stage}/bias"]

    def read(self, query: Query) -> Told:
        """Return what was made of a query so far, at first its history and attributes."""
        return self._once.of(
            self, query,
            lambda: Told(
                Events.split(query.history, self.item_domain, self.n_domains),
                user_features(query.features, len(query), self.attributes), {}, {},
            ),
        )  # fmt: skip

    @cached_property
    def _once(self) -> Once[Told]:
        return Once()

    def own(self, told: Told, domain: int) -> Floats:
        """Return û of a domain (B, k); zeros where a user is not active in it."""
        if domain not in told.own:
            part = told.parts[domain]
            prior = self.known(told.attributes, part) @ self._state[f"own/prior/{domain}"]
            u = self.solve_users("own", domain, part, prior)
            u[part.count == 0] = 0
            told.own[domain] = u
        return told.own[domain]

    def users(self, told: Told, domain: int) -> tuple[Floats, Mask]:
        """Return the users' vectors in a domain (B, k), and whether anything is known of them."""
        if domain not in told.users:
            told.users[domain] = self._users(told, domain)
        return told.users[domain]

    def _users(self, told: Told, domain: int) -> tuple[Floats, Mask]:
        stage, state, part = self.stage(domain), self._state, told.parts[domain]
        active = part.count > 0
        informed = told.attributes[:, 1:].any(axis=1) | active
        known = self.known(told.attributes, part)
        prior = known @ state[f"own/prior/{domain}"]
        if stage == "full":
            own = {s: self.own(told, s) for s in np.flatnonzero(self.omega[domain]).tolist()}
            features = np.hstack([known, *vectors_for(state, domain, own)])
            shared = features @ state[f"full/prior/{domain}"]
            sourced = self.sourced(domain, told.parts)
            if state["warm"][domain]:
                alone = known @ state[f"full/alone/{domain}"]
                prior = np.where((active | sourced)[:, None], shared, alone)
            else:
                prior = np.where((sourced & ~active)[:, None], shared, prior)
            informed |= sourced
        return self.solve_users(stage, domain, part, prior), informed

    def sourced(self, domain: int, parts: list[Events]) -> Mask:
        """Return (B,) who has history in some source of a domain."""
        sources = np.flatnonzero(self.omega[domain])
        found: Mask = np.logical_or.reduce([parts[s].count > 0 for s in sources])
        return found

    def known(self, attributes: Floats, part: Events) -> Floats:
        """Return attributes and, where domains are explicit, what the choice of items says."""
        basis = self._state["presence"]
        if not basis.shape[1]:
            return attributes
        return np.hstack([attributes, bayes.presence(part.start, part.item, basis)])

    def solve_users(self, stage: str, domain: int, part: Events, prior: Floats) -> Floats:
        """Solve the users of history rows in one domain from their priors (B, k)."""
        state = self._state
        weight, target = self._targets(stage, domain, part)
        if state["explicit"][domain]:
            names = ("items", "variance", "precision")
            items, variance, precision = (state[f"{stage}/{name}"] for name in names)
            partners = Partners(items, variance, precision[domain])
            return posterior(part.start, part.item, target, partners, prior)[0]
        return solve(
            part.start, part.item, weight, target, state[f"{stage}/items"],
            state[f"{stage}/gram"][domain], part.count > 0, self.strength(domain, part.count),
            prior,
        )  # fmt: skip

    def solve_many(self, stage: str, domain: int, part: Events, features: Floats) -> Floats:
        """Do what ``solve_users`` does, from features (B, p), quicker where users are many."""
        state, prior = self._state, self._state[f"{stage}/prior/{domain}"]
        if state["explicit"][domain]:
            return self.solve_users(stage, domain, part, features @ prior)
        weight, target = self._targets(stage, domain, part)
        return solve_all(
            part.start, part.item, weight, target, state[f"{stage}/items"],
            state[f"{stage}/gram"][domain], part.count > 0, self.strength(domain, part.count),
            features, prior,
        )  # fmt: skip

    def _targets(self, stage: str, domain: int, part: Events) -> tuple[Array, Array]:
        """Return the weights of history entries, and these times the values to be met."""
        weight, target = self.weights(domain, part.value)
        return weight, target - weight * self._state[f"{stage}/bias"][part.item]

    def weights(self, domain: int, value: Array) -> tuple[Array, Array]:
        """Return confidence c and c·y of history values (N,); without the item's bias."""
        if self._state["explicit"][domain]:
            return np.ones_like(value), value - self._state["middle"][domain, 0]
        size = np.abs(value)
        if self.confidence == "log":
            size = np.log2(1 + size)
        elif self.confidence == "binary":
            size = np.ones_like(size)
        return size, np.where(value > 0, size, 0)

    def strength(self, domain: int, count: Ids) -> Array:
        """Return λ (n + 1)^ν of rows with n events."""
        reg, nu, _ = self._state["options"][domain]
        strength: Array = reg * (count + 1.0) ** nu
        return strength

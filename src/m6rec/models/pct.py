"""PCT, global collaborative filtering: latent vectors of users and items over all domains.

In each domain t, weighted matrix factorisation (Hu et al. 2008; regularised as in Rendle et al.
2021), where a user's vector is drawn to what the other domains, and attributes, say of them:

  Σ_(u,i)∈S_t c_ui (y_ui − u_t·v_i)² + α_t Σ_u∈t Σ_i∈t (u_t·v_i)²
    + λ_t Σ_u (n_u + 1)^ν ‖u_t − A_t a_u − Σ_s ω_ts B_ts û_s‖²
    + λ_t Σ_i (n_i + 1)^ν ‖v_i − W_t φ_i‖²

û_s is the user's vector in domain s alone, ω_ts ∈ [0, 1] how much t trusts s. With ω = 0 the
domain stands alone; a domain that says nothing gets B ≈ 0. Explicit domains are factorised as
``bayes`` says, with the same priors. A user is always solved from the history in the query, so a
new one is no exception.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from typing import ClassVar, Self

import numpy as np
from scipy.sparse import csr_array

from m6rec.arrays import Array, Floats, Mask, State, nest
from m6rec.checkpoint import NOWHERE, Checkpoint, Saved
from m6rec.compiled import threads
from m6rec.config import to_table
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.splits import Split
from m6rec.models import bayes
from m6rec.models.base import Recipe
from m6rec.models.bayes import Bayes
from m6rec.models.blocks import Block, Side, measured, scale
from m6rec.models.conjugate import EACH
from m6rec.models.described import described
from m6rec.models.entries import Events
from m6rec.models.judges import HOLDOUTS, carved
from m6rec.models.newcomers import learn_ridges
from m6rec.models.pct_model import Confidence, PctModel, user_features, vectors_for
from m6rec.models.ridge import ridge
from m6rec.models.transfer import Local, choose
from m6rec.pool import Pool, cut
from m6rec.text import Choice, FittedText, TextEncoder, encoder_of, plain
from m6rec.tracking import Run

BY_ITEM = ("items", "bias", "variance")  # arrays of a stage that have a row for each item
MAPS = ("prior", "guess")  # from features to vectors, of users and of items
Kept = dict[int, tuple[tuple[float | None, ...], State, Floats]]  # domain → options, state, vectors
BRIEF = 4  # sweeps where fits only compare options; of ratings, twice as many


@dataclass(frozen=True, kw_only=True)
class Pct(Recipe):
    """Global collaborative filtering over any number of domains.

    dim: latent size k. sweeps: alternations. ridge: shrinkage of B and W, and of A where
        ``domains`` has none.
    confidence: c of an event of weight w: "log" = log2(1 + w), "linear" = w, "binary" = 1.
    attributes: whether user and item attributes and texts enter as priors.
    encoder: of the text vectors in φ, "hashed" or "sentence", as of "text"; "auto" = "hashed",
    which finds more new items here. text_dim: their size; 0 leaves texts out.
    domains: options by domain; a domain without an entry has its options learned on a holdout.
    transfer: False keeps every domain alone (all ω = 0).
    ratings: how explicit domains are factorised; reg, nu and alpha play no part in them.
    """

    kind: ClassVar[str] = "pct"
    dim: int = 64
    sweeps: int = 8
    ridge: float = 1.0
    confidence: Confidence = "log"
    attributes: bool = True
    encoder: Choice = "auto"
    text_dim: int = 64
    transfer: bool = True
    domains: Mapping[str, Local] = field(default_factory=dict)
    ratings: Bayes = field(default_factory=Bayes)

    def __post_init__(self) -> None:
        if self.dim < 1 or self.sweeps < 1:
            raise ValueError("dim and sweeps must be at least 1")

    def choose(self, split: Split, run: Run) -> Self:
        """Learn reg, nu, alpha and ω of every domain without options on the holdout.

        Those of thin domains, and of new users for the ridge of A, are carved from its train.
        """
        holdouts = carved(split, run)
        quiet = replace(run, bars=False)
        fixed = replace(self, encoder=plain(self.encoder))
        ratings = replace(self.ratings, sweeps=min(self.ratings.sweeps, 2 * BRIEF))
        kept: list[Kept] = [{} for _ in range(HOLDOUTS)]
        names = [
            d.name for d in split.train.domains if self.attributes and d.name not in self.domains
        ]

        def attempt(options: dict[str, Local], r: int, thin: Mask) -> PctModel:
            recipe = replace(fixed, ratings=ratings, domains=options)
            return fit(recipe, holdouts(r).train, quiet, told_of(r), kept[r], thin)

        def told(data: Dataset) -> Floats:
            """Return φ, in which derived features know nothing of what is held out."""
            return phi if data.derivation is None else item_features(fixed, data, quiet)[0]

        told_of = cache(lambda r: told(holdouts(r).train))
        with threads(run.threads, len(split.train) * self.dim):
            phi, _ = item_features(fixed, split.train, run)
            test = split.test.user, split.test.item, split.test.weight
            checkpoint = checkpoint_of("choose", fixed, split.train, phi, run, *test)
            saved = Saved(checkpoint)
            options = choose(self.domains, holdouts, attempt, run, self.transfer, saved)
            alone = replace(
                fixed, sweeps=min(BRIEF, self.sweeps), ratings=ratings, domains=options,
                transfer=False,
            )  # fmt: skip
            ridges = learn_ridges(
                split.train, lambda d: fit(alone, d, quiet, told(d)), names, run,
                saved.part("ridges"),
            )  # fmt: skip
            checkpoint.done()
        for name, found in ridges.items():
            options[name] = replace(options[name], ridge=found)
            run.scalar(f"ridge/{name}", found, 0)
        for target, local in options.items():
            for source, omega in local.omega.items():
                run.scalar(f"omega/{target}/from {source}", omega, 0)
        return replace(fixed, domains=options)

    def settled(self, train: Dataset) -> bool:
        """Return whether the options of every domain are given."""
        return all(domain.name in self.domains for domain in train.domains)

    def fit(self, train: Dataset, run: Run) -> PctModel:
        if not self.settled(train):
            return self.choose(holdout(train, run.rng("holdout")), run).fit(train, run)
        fixed = replace(self, encoder=plain(self.encoder))
        with threads(run.threads, len(train) * self.dim):
            phi, encoder = item_features(fixed, train, run)
            checkpoint = checkpoint_of("fit", fixed, train, phi, run)
            model = fit(fixed, train, run, phi, saved=Saved(checkpoint))
            checkpoint.done()
        if encoder is None:
            return model
        return fixed.restore(model.state() | nest("encoder", encoder.state()))

    def restore(self, state: State) -> PctModel:
        encoder = text_encoder(self, len(state["item_domain"]))
        return PctModel(self, state, self.confidence, self.attributes, encoder)


def fit(
    recipe: Pct, train: Dataset, run: Run, phi: Floats, kept: Kept | None = None,
    whole: Mask | None = None, saved: Saved = NOWHERE,
) -> PctModel:  # fmt: skip
    """Fit every domain alone, then those with sources again with the sources' vectors.

    kept: carries domains alone from one fit to the next on the same train and recipe. whole: (D,)
    implicit domains that take all sweeps, the others only a few; None = all of them. saved: where
    every sweep is kept.
    """
    omegas = (name for local in recipe.domains.values() for name in local.omega)
    train.check_domains([*recipe.domains, *omegas], "domains of pct")
    n_domains, rated = train.n_domains, [d.feedback == "explicit" for d in train.domains]
    k = max(recipe.ratings.dim + 1 if explicit else recipe.dim for explicit in rated)
    local = [recipe.domains.get(d.name, Local()) for d in train.domains]
    names = [d.name for d in train.domains]
    omega = np.array([[o.omega.get(s, 0.0) for s in names] for o in local], np.float32)
    inside = [train.item_domain == d for d in range(n_domains)]
    matrix = train.matrix
    seen = np.bincount(train.positives.indices, minlength=train.n_items) > 0
    state: State = {
        "item_domain": train.item_domain,
        "explicit": np.array(rated),
        "options": np.array([[o.reg, o.nu, o.alpha] for o in local], np.float32),
        "omega": omega if recipe.transfer else np.zeros_like(omega),
        "warm": np.array([o.warm for o in local]),
        "known": seen | (phi.any(axis=1) if phi.shape[1] else False),
        "middle": np.zeros((n_domains, 3), np.float32),  # mean, least, greatest rating
        "norm": np.ones(n_domains, np.float32),
    }
    width = recipe.ratings.presence if any(rated) else 0
    state["presence"] = np.zeros((train.n_items, width), np.float32)
    for d in np.flatnonzero(rated).tolist():
        ratings = csr_array(matrix[:, inside[d]])
        if not ratings.nnz:
            state["known"][inside[d]] = False
        else:
            state["middle"][d] = ratings.data.mean(), ratings.data.min(), ratings.data.max()
            rng = run.rng("presence", names[d])
            state["presence"][inside[d]] = bayes.presence_basis(ratings, width, rng, run.pool)
    attributes = user_features(train.user_features, train.n_users, recipe.attributes)
    parts = Events.split(matrix, train.item_domain, n_domains)
    every = kept is not None or bool(state["omega"].any())  # are users' vectors wanted later?
    kept = {} if kept is None else kept
    vectors: list[Floats] = []
    for stage in ("own", "full"):
        state[f"{stage}/items"] = np.zeros((train.n_items, k), np.float32)
        state[f"{stage}/bias"] = np.zeros(train.n_items, np.float32)
        state[f"{stage}/gram"] = np.zeros((n_domains, k, k), np.float32)
        state[f"{stage}/variance"] = np.zeros((train.n_items if any(rated) else 0, k), np.float32)
        state[f"{stage}/precision"] = np.ones((n_domains, k + 1), np.float32)
        state[f"{stage}/spread"] = np.zeros((n_domains, k), np.float32)
        if stage == "full" and not state["omega"].any():
            break
        model = recipe.restore(state)
        total = sum(recipe.ratings.sweeps if explicit else recipe.sweeps for explicit in rated)
        with run.progress(f"pct, {stage} vectors", total) as advance:
            for d in range(n_domains):
                if stage == "full" and not state["omega"][d].any():
                    continue
                blocks = vectors_for(state, d, vectors) if stage == "full" else []
                f = np.hstack([model.known(attributes, parts[d]), *blocks])
                given = None if rated[d] else local[d].ridge
                shrink = np.full(f.shape[1], recipe.ridge)
                shrink[: attributes.shape[1]] = recipe.ridge if given is None else given
                key = (local[d].reg, local[d].nu, local[d].alpha, given)
                if stage == "own" and d in kept and kept[d][0] == key:
                    found = kept[d][1]
                elif stage == "full" and not state["warm"][d]:
                    found = extended(model, d, parts[d], f, vectors[d], shrink)
                else:
                    rng = run.rng(stage, names[d])
                    alternate = rate if rated[d] else factorise
                    few = whole is not None and not whole[d]
                    one = replace(recipe, sweeps=min(BRIEF, recipe.sweeps)) if few else recipe
                    own = saved.part(f"{stage}/{d}")
                    found = alternate(one, model, d, parts[d], f, phi, rng, advance, run.pool, own)
                place(state, stage, d, found, inside[d], k)
                if given is not None and (stage == "own" or state["warm"][d]):
                    # only now: shrunk in every sweep, attributes would fade with their number
                    name = f"{stage}/prior/{d}"
                    solved = solve_users(model, stage, d, parts[d], f, run.pool)
                    state[name] = prior_of(model, d, parts[d], f, solved, shrink)
                if stage == "full" and state["warm"][d]:
                    joint = solve_users(model, stage, d, parts[d], f, run.pool)
                    known = model.known(attributes, parts[d])
                    state[f"full/alone/{d}"] = prior_of(
                        model, d, parts[d], known, joint, shrink[: known.shape[1]]
                    )
                if stage == "own":
                    some = measured(parts[d], run.rng("norm", names[d]))
                    prior = f[some] @ state[f"own/prior/{d}"]
                    drawn = model.solve_users(stage, d, parts[d].take(some), prior)
                    state["norm"][d] = scale(drawn)
                if stage == "own" and every:
                    users = kept[d][2] if d in kept and kept[d][1] is found else None
                    if users is None:
                        users = solve_users(model, stage, d, parts[d], f, run.pool)
                        users[parts[d].count == 0] = 0
                    kept[d] = key, found, users
                    vectors.append(users)
    if not state["omega"].any():
        state = {n: v for n, v in state.items() if not n.startswith("full/")}
    return recipe.restore(state)


def checkpoint_of(
    task: str, recipe: Pct, train: Dataset, phi: Floats, run: Run, *more: Array
) -> Checkpoint:
    """Return the checkpoint of what is done with a recipe, these data and more arrays."""
    kinds = [list(map(to_table, each)) for each in (train.domains, train.events)]
    about = [task, to_table(recipe), kinds, train.ordered]
    events = train.user, train.item, train.weight, train.time, train.event
    keys = train.worded, train.person, train.item_domain, train.hidden
    known = [block for _, block in sorted(train.user_features.items())]
    return Checkpoint(run, about, *events, *keys, phi, *known, *more)


def place(state: State, stage: str, domain: int, found: State, inside: Mask, k: int) -> None:
    """Write what was found of a domain into the arrays of all domains."""
    for name, value in found.items():
        if name in MAPS:
            state[f"{stage}/{name}/{domain}"] = np.pad(value, ((0, 0), (0, k - value.shape[1])))
            continue
        whole = state[f"{stage}/{name}"]
        at = inside if name in BY_ITEM else domain
        block = whole[at]
        block[tuple(map(slice, value.shape))] = value
        whole[at] = block


def extended(
    model: PctModel, domain: int, part: Events, features: Floats, users: Floats, shrink: Array
) -> State:
    """Keep a domain as it stands alone, and learn the prior of those without history in it."""
    state, inside = model.state(), model.item_domain == domain
    kept = {n: state[f"own/{n}"][inside] for n in BY_ITEM if len(state[f"own/{n}"])}
    kept |= {n: state[f"own/{n}"][domain] for n in ("gram", "precision", "spread")}
    if f"own/guess/{domain}" in state:
        kept["guess"] = state[f"own/guess/{domain}"]
    return kept | {"prior": prior_of(model, domain, part, features, users, shrink)}


def solve_users(
    model: PctModel, stage: str, domain: int, part: Events, features: Floats, pool: Pool
) -> Floats:
    """Solve the users of all rows, given the map from features to their priors."""
    shared = pool.share(model)
    pieces = (
        (shared, stage, domain, part.rows(first, last), features[first:last])
        for first, last in pairwise(cut(part.count + EACH, pool.size).tolist())
    )
    return np.concatenate(list(pool.map(PctModel.solve_many, pieces)))


def prior_of(
    model: PctModel, domain: int, part: Events, features: Floats, users: Floats, shrink: Array
) -> Floats:
    """Return the map (p, k) from features to the vectors of users who are active in a domain."""
    active = part.count > 0
    strength = model.strength(domain, part.count[active])
    return ridge(features[active], users[active], strength, shrink)


def item_features(recipe: Pct, data: Dataset, run: Run) -> tuple[Floats, FittedText | None]:
    """Return φ (n_items, p), see ``described``, and the fitted encoder of texts."""
    if not recipe.attributes:
        return np.zeros((data.n_items, 0), np.float32), None
    return described(data, text_encoder(recipe, data.n_items), run)


def text_encoder(recipe: Pct, n_items: int) -> TextEncoder | None:
    """Return the encoder of the texts in φ; None = they are left out."""
    if not recipe.text_dim:
        return None
    return encoder_of(plain(recipe.encoder), min(recipe.text_dim, n_items))


def factorise(
    recipe: Pct, model: PctModel, domain: int, part: Events, features: Floats, phi: Floats,
    rng: np.random.Generator, advance: Callable[[int], None], pool: Pool, saved: Saved,
) -> State:  # fmt: skip
    """Alternate over one domain; return its items, bias, gram and prior."""
    codes = np.flatnonzero(model.item_domain == domain)
    local = np.full(model.n_items, -1, np.int32)
    local[codes] = np.arange(len(codes))
    by_user = Events(part.start, local[part.item], part.value)
    by_item, place = by_user.flipped(len(codes))
    weight, target = model.weights(domain, part.value)
    reg_user, reg_item = (
        model.strength(domain, by_user.count),
        model.strength(domain, by_item.count),
    )
    k, alpha = recipe.dim, float(model.state()["options"][domain, 2])
    told = np.hstack([np.ones((len(codes), 1), np.float32), phi[codes]])
    users = Side(
        Block(by_user.start, by_user.item, weight, target, reg_user, features),
        recipe.ridge, pool,
    )  # fmt: skip
    items = Side(
        Block(by_item.start, by_item.item, weight[place], target[place], reg_item, told),
        recipe.ridge, pool,
    )  # fmt: skip
    seen = by_item.count > 0
    vectors = (rng.standard_normal((len(codes), k)) * 0.1 / np.sqrt(k)).astype(np.float32)
    gram = vectors[seen].T @ vectors[seen]
    prior = np.zeros((features.shape[1], k), np.float32)
    guess = np.zeros((told.shape[1], k), np.float32)
    done = 0
    if held := saved.read():
        vectors, gram, prior, guess = (held[n] for n in ("vectors", "gram", "prior", "guess"))
        done = int(held["sweeps"][0])
    advance(done)
    for sweep in range(done, recipe.sweeps):
        user = users.solve(vectors, alpha * gram, prior)
        prior = user.prior
        item = items.solve(user.vectors, alpha * user.gram, guess)
        vectors, gram = item.vectors, item.gram
        if phi.shape[1]:
            guess = item.prior
        vectors[~seen] = (told @ guess)[~seen]
        kept = {"vectors": vectors, "gram": gram, "prior": prior, "guess": guess}
        saved.write({**kept, "sweeps": np.array([sweep + 1])})
        advance(1)
    found = {"items": vectors, "gram": alpha * gram, "prior": prior}
    return found | ({"guess": guess} if phi.shape[1] else {})


def rate(
    recipe: Pct, model: PctModel, domain: int, part: Events, features: Floats, phi: Floats,
    rng: np.random.Generator, advance: Callable[[int], None], pool: Pool, saved: Saved,
) -> State:  # fmt: skip
    """Factorise the ratings of one domain; return what ``bayes.factorise`` does."""
    inside = model.item_domain == domain
    value = part.value - model.state()["middle"][domain, 0]
    shape = (len(part.count), model.n_items)
    ratings = csr_array(csr_array((value, part.item, part.start), shape=shape)[:, inside])
    described = [np.ones((model.n_items, 1), np.float32), phi, model.state()["presence"]]
    return bayes.factorise(
        ratings, features, np.hstack(described)[inside], recipe.ratings, recipe.ridge, rng, advance,
        pool, saved,
    )  # fmt: skip

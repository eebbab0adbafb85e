"""Towers: deep models of users and items that meet in a dot product.

The item tower takes the item's id, attributes and text; the user tower encodes the sequence of
item vectors (``encoders``) and the user's attributes. Every place of a sequence learns to tell
what came next from the items of the same domain (sampled softmax with the sampling probability
taken off, Bengio & Senécal 2008; Yi et al. 2019). New items and users need no retraining: what
is known of them takes the place of an id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from m6rec.arrays import Floats, Ids, Mask, Scores, State, nest, unnest
from m6rec.cache import cache_dir
from m6rec.config import to_table
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.data.splits import Split, holdout
from m6rec.metrics import ranked
from m6rec.models.attribution import integrated_gradients
from m6rec.models.base import Model, Reason, Recipe
from m6rec.models.encoders import EncoderKind
from m6rec.models.networks import Towers as Network
from m6rec.models.networks import from_state, to_state
from m6rec.models.pct import Pct
from m6rec.models.pct_model import PctModel
from m6rec.models.tower_inputs import item_features, latent, latents, user_features
from m6rec.text import Name
from m6rec.tracking import Run
from m6rec.training.loop import Training, deterministic, train
from m6rec.training.losses import Loss, ranking_loss
from m6rec.training.sequences import Batch, Pieces, gaps, histories

JUDGED = 3000  # most holdout users that an epoch is judged by
BATCH = 512
TASTE = "taste by PCT"


@dataclass(frozen=True, kw_only=True)
class Towers(Recipe):
    """Deep towers over ids, attributes, texts and the sequence of a user's items.

    encoder: "attention" (SASRec), "gru" (GRU4Rec), "cnn" (NextItNet) or "mlp" (pooled history).
    dim: length of vectors.
    layers, heads, dropout: of the encoder.
    length: newest items that are encoded.
    attributes: whether the towers see attributes and texts.
    pct: gives the towers its vectors of items, and of the user in each domain as of the event;
    left out, they do without.
    gaps: whether the time between events is told.
    domain_heads: whether each domain turns the user's vector by a matrix of its own.
    text_dim: size of the text vectors, 0 = none.
    texts: the encoder that makes them, "hashed" or "sentence".
    id_dropout: share of items that are shown without their id, so that the rest learns.
    head: "dot", or "additive" = the source's W₃ (f(u) + f(v)) + b₃, which ranks alike for all.
    loss: "softmax", "bce" or "bpr".
    negatives: items drawn for each step; a domain that has no more is taken whole.
    popular: exponent of their popularity, 0 = uniform.
    metric: what the number of epochs is chosen by.
    epochs: passes over the data; found on a holdout if left out.
    training: see there; its epochs are the most that are tried.
    """

    kind: ClassVar[str] = "towers"
    encoder: EncoderKind = "attention"
    dim: int = 64
    layers: int = 2
    heads: int = 2
    dropout: float = 0.3
    length: int = 50
    attributes: bool = True
    pct: Pct | None = None
    gaps: bool = True
    domain_heads: bool = False
    text_dim: int = 64
    texts: Name = "hashed"
    id_dropout: float = 0.1
    head: Literal["dot", "additive"] = "dot"
    loss: Loss = "softmax"
    negatives: int = 2048
    popular: float = 0.5
    metric: str = "ndcg@10"
    epochs: int | None = None
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        for name in ("dim", "layers", "heads", "length", "negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least 1")
        if self.dim % self.heads:
            raise ValueError(f"dim = {self.dim} must be a multiple of heads = {self.heads}")
        if not 0 <= self.dropout < 1 or not 0 <= self.id_dropout < 1:
            raise ValueError("dropout and id_dropout must be at least 0 and below 1")

    def choose(self, split: Split, run: Run) -> Self:
        """Find the number of epochs on the holdout, by early stopping."""
        chosen = self
        if self.pct is not None:
            chosen = replace(self, pct=self.pct.choose(split, run))
        if self.epochs is not None:
            return chosen
        learner = Learner(chosen, split.train, run)
        found = learner.learn(self.training, partial(judge, learner, split))
        return replace(chosen, epochs=max(1, found))

    def fit(self, train: Dataset, run: Run) -> TowersModel:
        if self.epochs is None or not (self.pct is None or self.pct.settled(train)):
            return self.choose(holdout(train, run.rng("holdout")), run).fit(train, run)
        learner = Learner(self, train, run)
        learner.learn(replace(self.training, epochs=self.epochs))
        return learner.model()

    def restore(self, state: State) -> TowersModel:
        network = make_network(self, state["phi"], state["trained"], state["sizes"])
        from_state(network, unnest("net", state))
        pct = None if self.pct is None else self.pct.restore(unnest("pct", state))
        return TowersModel(self, network, state, pct)


def make_network(recipe: Towers, phi: Floats, trained: Mask, sizes: Ids) -> Network:
    """sizes: number of user attributes, length of a PCT vector, number of domains."""
    width, latent, domains = sizes.tolist()
    return Network(
        phi, trained, width, recipe.encoder, recipe.dim, recipe.layers, recipe.heads,
        recipe.dropout, recipe.id_dropout, recipe.head == "additive", latent, domains,
        recipe.gaps, recipe.domain_heads,
    )  # fmt: skip


class Learner:
    """A network in training on a dataset."""

    def __init__(self, recipe: Towers, data: Dataset, run: Run) -> None:
        self.recipe, self.data, self.run = recipe, data, run
        torch.set_num_threads(run.threads)
        self.pct = None if recipe.pct is None else recipe.pct.fit(data, run)
        self.pieces = Pieces.of(data, recipe.length)
        self.count = np.bincount(self.pieces.item, minlength=data.n_items)
        self.trained: Mask = self.count > 0
        self.phi = item_features(
            data, run, recipe.attributes, recipe.text_dim, recipe.texts, self.pct
        )
        self.user_blocks = user_features(data.user_features, data.n_users, recipe.attributes)
        self.latents = latents(self.pct, data, self.pieces.row)
        sizes = (self.user_blocks.shape[1], self.latents.shape[1], data.n_domains)
        self.sizes = np.array(sizes)
        seed = int(run.rng("weights").integers(2**31))
        torch.manual_seed(seed)
        self.network = make_network(recipe, self.phi, self.trained, self.sizes)
        self.pools = [
            np.flatnonzero(self.trained & (data.item_domain == d)) for d in range(data.n_domains)
        ]

    def learn(self, training: Training, judged: partial[float] | None = None) -> int:
        """Train, from a checkpoint if the same training was killed; return the best epochs."""
        table = [to_table(replace(self.recipe, training=training)), self.run.seed, self.run.scope]
        digest = hashlib.sha256(json.dumps([table, judged is None]).encode())
        pieces, domain = self.pieces, self.data.item_domain
        seen = (pieces.row, pieces.item, pieces.time, pieces.first, pieces.size, domain)
        for array in (*seen, self.phi, self.user_blocks, self.latents):
            digest.update(np.ascontiguousarray(array).data)
        checkpoint = cache_dir() / "checkpoints" / digest.hexdigest()[:32]
        with deterministic():
            found = train(
                self.network, self.batches, self.loss, training, self.run, judged, checkpoint
            )
        return found.epochs

    def batches(self, epoch: int) -> Iterator[tuple[Batch, np.random.Generator]]:
        """Yield the batches of an epoch, each with the stream that its negatives come from."""
        rng = self.run.rng("epoch", str(epoch))
        for batch in self.pieces.batches(self.recipe.training.batch, rng):
            yield batch, rng

    def loss(self, given: tuple[Batch, np.random.Generator]) -> Tensor:
        """Return the mean loss of the targets of a batch, each among items of its domain."""
        network, (batch, rng) = self.network, given
        row, column = np.nonzero(batch.target >= 0)
        place = batch.target[row, column]  # among the pieces' events
        target = self.pieces.item[place]
        domain = self.data.item_domain[target]
        drawn = {int(d): self.draw(int(d), rng) for d in np.unique(domain)}
        used = np.zeros(self.data.n_items, np.bool_)
        for codes in (batch.item[row, column], target, *(codes for codes, _ in drawn.values())):
            used[codes] = True
        codes = np.flatnonzero(used)
        among = np.cumsum(used) - 1  # place of each used item among the codes
        tensor = torch.from_numpy(codes)
        vectors, bias = network.items(tensor), network.bias(tensor)[:, 0]
        inputs = torch.from_numpy(among[np.maximum(batch.item, 0)])
        inside = torch.from_numpy(batch.item >= 0)[..., None]
        states = network.sequence(vectors[inputs] * inside, torch.from_numpy(gaps(batch.time)))
        states = states[torch.from_numpy(row), torch.from_numpy(column)]
        blocks = self.user_blocks[self.data.user[self.pieces.row[place]]]
        vectors = network.head.items(vectors)
        total = states.new_zeros(())
        for d, (negative, expected) in drawn.items():
            rows = np.flatnonzero(domain == d)
            known = (torch.from_numpy(x[rows]) for x in (blocks, self.latents[place]))
            u = network.users(states[torch.from_numpy(rows)], *known, d)
            own = torch.from_numpy(among[target[rows]])
            others = torch.from_numpy(among[negative])
            at = np.full(self.data.n_items, -1)
            at[negative] = np.arange(len(negative))
            same = torch.from_numpy(at[target[rows]])
            shift = torch.from_numpy(np.log(expected))
            positive = (u * vectors[own]).sum(1) + bias[own]
            part = ranking_loss(
                self.recipe.loss, positive, u, vectors[others], bias[others] - shift, same
            )
            total = total + part * (len(rows) / len(target))
        return total

    def draw(self, domain: int, rng: np.random.Generator) -> tuple[Ids, Floats]:
        """Return distinct negatives of a domain (N,), and how often each is expected among them.

        Weighted sampling without replacement by exponential keys (Efraimidis & Spirakis 2006).
        """
        pool, n = self.pools[domain], self.recipe.negatives
        if len(pool) <= n:
            return pool, np.ones(len(pool), np.float32)
        weight = self.count[pool] ** self.recipe.popular
        keys = rng.exponential(size=len(pool)) / weight
        drawn = np.argpartition(keys, n)[:n]
        if self.recipe.loss != "softmax":
            return pool[drawn], np.ones(n, np.float32)
        expected = -np.expm1(-n * weight[drawn] / weight.sum())
        return pool[drawn], expected.astype(np.float32)

    def model(self) -> TowersModel:
        """Return the model as it stands, its item vectors computed once."""
        network = self.network.eval()
        with torch.inference_mode():
            codes = torch.arange(self.data.n_items)
            inner = network.items(codes)
            vectors = inner.numpy().copy()
            keys = network.head.items(inner).numpy().copy()
            bias = network.bias(codes)[:, 0].numpy().copy()
        described = self.phi.any(axis=1)
        state: State = {
            "phi": self.phi,
            "trained": self.trained,
            "sizes": self.sizes,
            "vectors": vectors,
            "keys": keys,
            "average": np.average(vectors, axis=0, weights=self.count + 1e-9).astype(np.float32),
            "item_bias": np.where(self.trained, bias, 0).astype(np.float32),
            "item_domain": self.data.item_domain,
            "known": (self.trained | described) & ~self.data.explicit,
            **nest("net", to_state(network)),
            **({} if self.pct is None else nest("pct", self.pct.state())),
        }
        return TowersModel(self.recipe, network, state, self.pct)


def judge(learner: Learner, split: Split) -> float:
    """Return the mean metric of holdout users over the domains."""
    model, values = learner.model(), []
    for d in range(split.train.n_domains):
        items = np.flatnonzero((split.train.item_domain == d) & model.known)
        targets = csr_array(split.test.positives[:, items])
        users = np.flatnonzero(np.diff(targets.indptr))
        rng = learner.run.rng("judged", str(d))  # the same users after every epoch
        users = np.sort(rng.permutation(users)[:JUDGED])
        for at in range(0, len(users), BATCH):
            query = split.context.query(users[at : at + BATCH])
            scores = model.score(query, items)
            seen = csr_array(query.history[:, items])
            found = ranked(scores, csr_array(targets[users[at : at + BATCH]]), seen)
            values.append(np.nan_to_num(found.metric(learner.recipe.metric)))
    return float(np.concatenate(values).mean()) if values else 0.0


class TowersModel(Model):
    """State: phi (n_items, p), trained, known (n_items,), sizes (3,) of ``make_network``,
    vectors (n_items, d), keys (n_items, e) = what meets a user's vector, average (d,) = the mean
    vector of events, item_bias (n_items,), item_domain, the weights under net/, PCT under pct/."""

    recipe: Towers

    def __init__(
        self, recipe: Towers, network: Network, state: State, pct: PctModel | None
    ) -> None:
        self.recipe, self.network, self._state, self.pct = recipe, network, state, pct
        self.vectors: Floats = state["vectors"]
        self.keys: Floats = state["keys"]
        self.bias: Floats = state["item_bias"]
        self.known: Mask = state["known"]
        self.item_domain: Ids = state["item_domain"]
        self.n_items = len(self.vectors)

    def state(self) -> State:
        return self._state

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        codes = np.arange(self.n_items) if items is None else np.asarray(items)
        scores = np.full((len(query), len(codes)), np.nan, np.float32)
        states = self.states(query)
        for d in np.unique(self.item_domain[codes]).tolist():
            at = np.flatnonzero((self.item_domain[codes] == d) & self.known[codes])
            inside = codes[at]
            users = self.users(query, states, d)
            scores[:, at] = users @ self.keys[inside].T + self.bias[inside]
        return scores

    def embed_query(self, query: Query, domain: int) -> Floats:
        """Return (B, e + 1): the user's vector, and a 1 for the item's bias."""
        users = self.users(query, self.states(query), domain)
        return np.hstack([users, np.ones((len(users), 1), np.float32)])

    def embed_items(self, domain: int) -> Floats:
        """Return (n_items, e + 1): the item's vector and its bias; zero outside the domain."""
        found: Floats = np.hstack([self.keys, self.bias[:, None]])
        return np.where((self.item_domain == domain)[:, None], found, np.float32(0))

    def explain(self, query: Query, items: Ids) -> list[list[list[Reason]]]:
        """Split a score by integrated gradients over the history, the attributes and PCT.

        The baseline, told as "an average history", is as many average items and no attributes.
        """
        history, time, count = histories(query, self.recipe.length, self.known)
        gap, blocks = gaps(time), self.user_blocks(query)
        names = [n for n, block in sorted(query.features.items()) for _ in range(block.shape[1])]
        result: list[list[list[Reason]]] = [[[] for _ in row] for row in items]
        wanted = np.where((items >= 0) & self.known[np.maximum(items, 0)], items, -1)
        for d in np.unique(self.item_domain[wanted[wanted >= 0]]).tolist():
            latents = latent(self.pct, query, d)
            for b, row in enumerate(wanted):
                places = np.flatnonzero((row >= 0) & (self.item_domain[row] == d))
                informed = count[b] or blocks[b].any() or latents[b].any()
                if not len(places) or not informed:
                    continue
                seen = history[b, : count[b]]
                path = self.vectors[seen] if count[b] else np.zeros_like(self.vectors[:1])
                average = self._state["average"] if count[b] else path[0]
                of_items, attributes, of_pct, base = integrated_gradients(
                    self.network, path, gap[b, : len(path)], blocks[b], latents[b], average,
                    self.keys[row[places]], d,
                )  # fmt: skip
                for c, place in enumerate(places):
                    constant = float(base[c]) + float(self.bias[row[place]])
                    reasons = [Reason(kind="bias", value=constant, name="an average history")]
                    reasons += [
                        Reason(kind="history", value=float(v), item=int(i))
                        for i, v in zip(seen, of_items[c], strict=bool(count[b]))
                    ]
                    reasons += [
                        Reason(kind="attribute", value=float(attributes[c, p]), name=names[p])
                        for p in np.flatnonzero(blocks[b])
                    ]
                    if latents[b].any():
                        reasons.append(Reason(kind="other", value=float(of_pct[c]), name=TASTE))
                    result[b][place] = reasons
        return result

    def states(self, query: Query) -> tuple[Floats, Floats, Mask]:
        """Return what the sequences say (B, d), the attributes (B, p), and (B,) whether either
        says anything."""
        item, time, count = histories(query, self.recipe.length, self.known)
        blocks = self.user_blocks(query)
        with torch.inference_mode():
            vectors = torch.from_numpy(self.vectors[np.maximum(item, 0)] * (item >= 0)[..., None])
            states = self.network.sequence(vectors, torch.from_numpy(gaps(time)))
            last = torch.from_numpy(np.maximum(count - 1, 0))
            found: Floats = states[torch.arange(len(count)), last].numpy()
        return found, blocks, (count > 0) | blocks.any(axis=1)

    def users(self, query: Query, read: tuple[Floats, Floats, Mask], domain: int) -> Floats:
        """Return (B, e) vectors in a domain, from ``states``; NaN where nothing is known of a
        user."""
        states, blocks, informed = read
        latents = latent(self.pct, query, domain)
        with torch.inference_mode():
            told = (torch.from_numpy(x) for x in (states, blocks, latents))
            users: Floats = self.network.users(*told, domain).numpy().copy()
        users[~(informed | latents.any(axis=1))] = np.nan
        return users

    def user_blocks(self, query: Query) -> Floats:
        """Return the user attributes that the tower takes: (B, p)."""
        width = int(self._state["sizes"][0])
        return user_features(query.features, len(query), self.recipe.attributes)[:, :width]

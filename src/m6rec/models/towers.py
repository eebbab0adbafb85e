"""Towers: deep models of users and items that meet in a dot product.

The item tower takes the item's id, attributes and text; the user tower encodes the sequence of
item vectors (``encoders``) and the user's attributes. Every place of a sequence learns to tell
what came next from the items of the same domain (sampled softmax with the sampling probability
taken off, Bengio & Senécal 2008; Yi et al. 2019). New items and users need no retraining: what
is known of them takes the place of an id.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from m6rec.arrays import Array, Floats, Ids, Mask, State, nest, unnest
from m6rec.cache import cache_dir, forget
from m6rec.checkpoint import hash_of
from m6rec.config import to_table
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.query import SEQUENCE
from m6rec.data.splits import Split
from m6rec.metrics import of_ranks, ranked
from m6rec.models.attribution import integrated_gradients
from m6rec.models.base import Recipe
from m6rec.models.encoders import EncoderKind
from m6rec.models.networks import Hybrid, UserSide, from_state, to_state
from m6rec.models.networks import Towers as Network
from m6rec.models.pct import Pct
from m6rec.models.pct_model import PctModel
from m6rec.models.tower_inputs import item_features, latents, users_told
from m6rec.models.tower_objective import Step, objective
from m6rec.models.two_towers import Inputs, TwoTowers
from m6rec.text import Name
from m6rec.tracking import Run
from m6rec.training.group import ALONE, Group, learn
from m6rec.training.loop import Training, deterministic, train
from m6rec.training.losses import Loss
from m6rec.training.negatives import draw
from m6rec.training.place import beside
from m6rec.training.sequences import Batch, Pieces, Scope, gaps, settled

JUDGED = 3000  # most holdout users that an epoch is judged by
BATCH = 512
STALE = 7 * 86_400  # seconds for which the checkpoint of a training that was killed is kept


@dataclass(frozen=True, kw_only=True)
class Towers(Recipe):
    """Deep towers over ids, attributes, texts and the sequence of a user's items.

    encoder: "attention" (SASRec), "gru" (GRU4Rec), "cnn" (NextItNet) or "mlp" (pooled history).
    dim: length of vectors.
    layers, heads, dropout: of the encoder.
    length: newest items that are encoded, of the newest 100 events over all domains, which are
    what a request carries in order.
    scope: "all" = of one sequence over all domains, "domain" = of the domain that is asked for;
    "auto" = "all", or "domain" where events have an order but no times.
    attributes: whether the towers see attributes and texts.
    pct: gives the towers its vectors of items, and of the user in each domain as of the event;
    left out, they do without.
    gaps: whether the time between events is told.
    domain_heads: whether each domain turns the user's vector by a matrix of its own.
    text_dim: size of the text vectors, 0 = none.
    texts: the encoder that makes them, "hashed" or "sentence".
    id_dropout: share of items that are shown without their id, so that the rest learns.
    head: "dot", or "additive" = the source's W₃ (f(u) + f(v)) + b₃, which ranks alike for all.
    scales: whether the mean of the newest 3 items, and that of all that are encoded, are told
    beside what the encoder makes of their order (the whole life is told by ``pct``).
    event_heads: whether each event type is a task with a head of its own; a request is answered
    by all heads, by the weights of their types.
    value_head: whether the values of events are learned too, by squared error, as a further task.
    Several tasks are balanced by variances that are learned.
    adversarial: training also under an attack that moves the vectors of users and items by this
    share of their length to where the loss rises fastest (APR); 0 = none.
    hybrid: how PCT and network meet, where there is ``pct``: "separate" = its vectors are inputs;
    "residual" = PCT's score is part of the towers' as well, so that the network learns what is
    left; "tuned" = likewise, and its vectors of items are trained further.
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
    scope: Scope = "auto"
    attributes: bool = True
    pct: Pct | None = None
    gaps: bool = True
    domain_heads: bool = False
    text_dim: int = 64
    texts: Name = "hashed"
    id_dropout: float = 0.1
    head: Literal["dot", "additive"] = "dot"
    scales: bool = False
    event_heads: bool = False
    value_head: bool = False
    adversarial: float = 0.0
    hybrid: Hybrid = "separate"
    loss: Loss = "softmax"
    negatives: int = 2048
    popular: float = 1.0
    metric: str = "ndcg@10"
    epochs: int | None = None
    training: Training = field(
        default_factory=lambda: Training(lr=2e-3, epochs=60, patience=6, average=0.995)
    )

    def __post_init__(self) -> None:
        for name in ("dim", "layers", "heads", "length", "negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least 1")
        if self.length > SEQUENCE:
            raise ValueError(
                f"length = {self.length}: a request carries the newest {SEQUENCE} events"
            )
        of_ranks(self.metric)
        if self.dim % self.heads:
            raise ValueError(f"dim = {self.dim} must be a multiple of heads = {self.heads}")
        if not 0 <= self.dropout < 1 or not 0 <= self.id_dropout < 1:
            raise ValueError("dropout and id_dropout must be at least 0 and below 1")
        if self.adversarial < 0:
            raise ValueError(f"adversarial = {self.adversarial}: must be at least 0")
        if self.hybrid != "separate" and self.pct is None:
            raise ValueError(f'hybrid = "{self.hybrid}" needs pct, whose vectors it adds')

    def choose(self, split: Split, run: Run) -> Self:
        """Find the number of epochs on the holdout, by early stopping."""
        chosen = replace(self, scope=settled(self.scope, split.train))
        if self.pct is not None:
            chosen = replace(chosen, pct=self.pct.choose(split, run))
        if self.epochs is not None:
            return chosen
        learner = Learner(chosen, split.train, run)
        found = learner.learn(self.training, split)
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
    """sizes: number of user attributes, length of a PCT vector, numbers of domains and of event
    types (which older runs lack)."""
    width, latent, domains, events = (*sizes.tolist(), 1)[:4]
    return Network(
        phi, trained, width, recipe.encoder, recipe.dim, recipe.layers, recipe.heads,
        recipe.dropout, recipe.id_dropout, recipe.head == "additive", latent, domains,
        recipe.gaps, recipe.domain_heads, recipe.scales, events if recipe.event_heads else 1,
        recipe.value_head, recipe.hybrid,
    )  # fmt: skip


class Learner:
    """A network in training on a dataset. group: the processes that train it now."""

    group = ALONE

    def __init__(self, recipe: Towers, data: Dataset, run: Run) -> None:
        recipe = replace(recipe, scope=settled(recipe.scope, data))
        self.recipe, self.data, self.run = recipe, data, run
        torch.set_num_threads(run.threads)
        self.pct = None if recipe.pct is None else recipe.pct.fit(data, run)
        self.pieces = Pieces.of(data, recipe.length, recipe.scope == "all")
        self.count = np.bincount(self.pieces.item, minlength=data.n_items)
        self.trained: Mask = self.count > 0
        self.phi, self.later = item_features(
            data, run, recipe.attributes, recipe.text_dim, recipe.texts, self.pct
        )
        self.user_blocks, self.told = users_told(data, self.pieces.row, recipe.attributes)
        self.latents = latents(self.pct, data, self.pieces.row)
        row = self.pieces.row
        self.value = standardised(data.weight[row], data.item_domain[self.pieces.item])
        width, latent = self.user_blocks.shape[1], self.latents.shape[1]
        self.sizes = np.array([width, latent, data.n_domains, len(data.events)])
        seed = int(run.rng("weights").integers(2**31))
        torch.manual_seed(seed)
        self.network = make_network(recipe, self.phi, self.trained, self.sizes)
        if len(self.network.types):
            share = [e.weight * (e.sign == "positive") for e in data.events]
            self.network.shares.copy_(torch.tensor(share) / max(sum(share), 1e-9))
        self.pools = [
            np.flatnonzero(self.trained & (data.item_domain == d)) for d in range(data.n_domains)
        ]

    def learn(self, training: Training, split: Split | None = None) -> int:
        """Train; return the epochs, with a split those that its holdout judges best."""
        return learn(self, training, split)

    def train_in(self, group: Group, training: Training, split: Split | None = None) -> int:
        """Train, from a checkpoint if the same training was killed."""
        self.group, self.training = group, training
        table = [to_table(replace(self.recipe, training=training)), self.run.seed, self.run.scope]
        pieces, domain = self.pieces, self.data.item_domain
        seen = (pieces.row, pieces.item, pieces.time, pieces.first, pieces.size, domain)
        told = (self.data.event, self.value, self.phi, self.user_blocks, self.latents)
        name = hash_of([table, split is None, group.size], *seen, *told)
        checkpoint = cache_dir() / "checkpoints" / name
        forget(checkpoint.parent, STALE)
        judged = None if split is None else partial(judge, self, split)
        with deterministic():
            found = train(
                self.network, self.batches, self.loss, training, self.run, judged, checkpoint,
                group=group,
            )  # fmt: skip
        return found.epochs

    def batches(self, epoch: int) -> Iterator[tuple[Batch, np.random.Generator]]:
        """Yield the batches of an epoch, each with the stream that its negatives come from."""
        rng = self.run.rng("epoch", str(epoch))
        for batch in self.pieces.batches(self.training.rows(len(self.pieces)), rng):
            yield batch, rng

    def loss(self, given: tuple[Batch, np.random.Generator]) -> Tensor:
        """Return the mean loss of the targets of a batch, each among items of its domain."""
        network, (batch, rng) = self.network, given
        here = beside(network)
        every = self.data.item_domain[self.pieces.item[batch.target[batch.target >= 0]]]
        drawn = {int(d): self.draw(int(d), rng) for d in np.unique(every)}
        batch = batch.part(self.group)
        row, column = np.nonzero(batch.target >= 0)
        place = batch.target[row, column]  # among the pieces' events
        target = self.pieces.item[place]
        domain = self.data.item_domain[target]
        used = np.zeros(self.data.n_items, np.bool_)
        for some in (batch.item[row, column], target, *(some for some, _ in drawn.values())):
            used[some] = True
        codes = here(np.flatnonzero(used))
        among = np.cumsum(used) - 1  # place of each used item among the codes
        vectors = network.items(codes)
        inputs = here(among[np.maximum(batch.item, 0)])
        inside = here(batch.item >= 0)[..., None]
        states = network.sequence(vectors[inputs] * inside, here(gaps(batch.time)))
        states = states[here(row), here(column)]
        owner = self.pieces.row[place]
        blocks = self.user_blocks[self.told[place]]
        steps = []
        for d, (negative, expected) in drawn.items():
            rows = np.flatnonzero(domain == d)
            if not len(rows):
                continue
            again = np.full(self.data.n_items, -1)
            again[negative] = np.arange(len(negative))
            known = here(blocks[rows])
            latent = here(self.latents[place[rows]])
            step = Step(
                domain=d,
                trunk=network.trunk(states[here(rows)], known, latent, d),
                latent=latent,
                event=here(self.data.event[owner[rows]]),
                value=here(self.value[place[rows]]),
                own=here(among[target[rows]]),
                others=here(among[negative]),
                shift=here(np.log(expected)),
                same=here(again[target[rows]]),
            )
            steps.append(step)
        options = self.recipe.loss, self.recipe.adversarial
        return objective(network, steps, codes, vectors, *options, self.group)

    def draw(self, domain: int, rng: np.random.Generator) -> tuple[Ids, Floats]:
        """Return distinct negatives of a domain, see ``training.negatives``."""
        pool, corrected = self.pools[domain], self.recipe.loss == "softmax"
        weight = self.count[pool] ** self.recipe.popular
        return draw(pool, weight, self.recipe.negatives, rng, corrected)

    def model(self) -> TowersModel:
        """Return the model as it stands, its item vectors computed once."""
        network = self.network.eval()
        with torch.inference_mode():
            codes = torch.arange(self.data.n_items)
            inner = network.items(codes)
            vectors = inner.numpy().copy()
            keys = network.keys(codes, inner).numpy().copy()
            bias = network.bias(codes)[:, 0].numpy().copy()
        described = self.phi.any(axis=1)
        side = network.items.described
        weight = {} if side is None else {"weight": side.weight.detach().numpy().T.copy()}
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
            **nest("new", self.later | weight),
            **nest("net", to_state(network)),
            **({} if self.pct is None else nest("pct", self.pct.state())),
        }
        return TowersModel(self.recipe, network, state, self.pct)


def standardised(value: Array, group: Ids) -> Floats:
    """Return values (N,) less the mean of their group, in its standard deviations."""
    n = np.maximum(np.bincount(group), 1)
    mean = np.bincount(group, value) / n
    deviation = np.sqrt(np.bincount(group, (value - mean[group]) ** 2) / n)
    found: Floats = ((value - mean[group]) / np.maximum(deviation, 1e-6)[group]).astype(np.float32)
    return found


def judge(learner: Learner, split: Split) -> float:
    """Return the mean metric of holdout users over the domains."""
    model, values = learner.model(), []
    for d in range(split.train.n_domains):
        items = np.flatnonzero((split.train.item_domain == d) & model.known)
        targets = csr_array(split.test.positives[:, items])
        users = np.flatnonzero(np.diff(targets.indptr))
        rng = learner.run.rng("judged", str(d))  # the same users after every epoch
        users, moments = np.sort(rng.permutation(users)[:JUDGED]), split.moments(d)
        for at in range(0, len(users), BATCH):
            some = users[at : at + BATCH]
            query = split.context.query(some, moments[some])
            scores = model.score(query, items)
            seen = csr_array(query.seen[:, items])
            found = ranked(scores, csr_array(targets[some]), seen)
            values.append(np.nan_to_num(found.metric(learner.recipe.metric)))
    return float(np.concatenate(values).mean()) if values else 0.0


class TowersModel(TwoTowers):
    """State: phi (n_items, p), trained, known (n_items,), sizes (3,) of ``make_network``,
    vectors (n_items, d), keys (n_items, e) = what meets a user's vector, average (d,) = the mean
    vector of events, item_bias (n_items,), item_domain, the weights under net/, PCT under pct/;
    new/ and later/ as of ``TwoTowers``, in which case the tables are of the items at the fit."""

    recipe: Towers

    def __init__(
        self, recipe: Towers, network: Network, state: State, pct: PctModel | None
    ) -> None:
        self.recipe, self.network = recipe, network
        tables = state["vectors"], state["keys"], state["item_bias"]
        width = int(state["sizes"][0])
        joint = recipe.scope != "domain"
        super().__init__(
            *tables, state, width, recipe.length, joint, recipe.attributes, recipe.texts, pct
        )

    def keys_of(self, vectors: Floats, latent: Floats) -> Floats:
        with torch.inference_mode():
            keys: Floats = self.network.head.items(torch.from_numpy(vectors)).numpy().copy()
        return keys if self.network.factors is None else np.hstack([keys, latent])

    def run(self, vectors: Floats, inputs: Inputs) -> Floats:
        side = UserSide(self.network)
        given = vectors, inputs.gap, inputs.count, inputs.attributes, inputs.latent
        with torch.inference_mode():
            users: Floats = side(*map(torch.from_numpy, given)).numpy().copy()
        return users

    def shares(self, inputs: Inputs, domain: int, keys: Floats) -> tuple[Array, Array, Array]:
        """By integrated gradients."""
        some = inputs.count[0] > 0
        path = self.vectors[inputs.item[0]] if some else np.zeros_like(self.vectors[:1])
        average = self.average if some else path[0]
        return integrated_gradients(
            self.network, path, inputs.gap[0], inputs.attributes[0], inputs.latent[0, domain],
            average, keys, domain,
        )  # fmt: skip

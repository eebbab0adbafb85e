"""DeepFM: a factorisation machine and an MLP over the same fields (Guo et al. 2017).

Fields are the user's history, ratings and attributes, and the item's id, domain and attributes.
Ranked domains learn by sampled softmax, BCE or BPR, ratings by squared error; in training a
history leaves out the item that is asked for. Rows of the embeddings may be made exactly zero by
a group lasso (Yuan & Lin 2006, by proximal steps), or shrunk by how rare their feature is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from m6rec.arrays import Array, Floats, Ids, State
from m6rec.data.dataset import Dataset
from m6rec.data.derived import DERIVED
from m6rec.data.holdout import holdout
from m6rec.data.splits import Split
from m6rec.metrics import of_ranks, ranked
from m6rec.models.base import Recipe
from m6rec.models.deepfm_model import DeepFMModel, Scale, deviation, names_of
from m6rec.models.interactions import Bags, Given, Side
from m6rec.models.interactions import DeepFM as Network
from m6rec.models.kernels import row_of
from m6rec.models.tower_inputs import users_told
from m6rec.tracking import Run
from m6rec.training.loop import Training, deterministic, train
from m6rec.training.losses import Loss, scored_loss
from m6rec.training.negatives import draw
from m6rec.training.place import beside

JUDGED = 3000  # most holdout users that an epoch is judged by
BATCH = 512
STRENGTHS = {"none": 0.0, "group": 0.1, "frequency": 1.0}  # where reg is left out


@dataclass(frozen=True, kw_only=True)
class DeepFM(Recipe):
    """Factorisation machine and MLP over history, ids, attributes and domain.

    For data that is rich in attributes. New users and items need no retraining; texts are not
    read.

    dim: length of the embeddings.
    hidden: sizes of the MLP's layers; none = the factorisation machine alone.
    dropout: in the MLP.
    attributes: whether attributes are fields.
    user_ids: whether a known user's id is a field, besides the history.
    id_dropout: share of items that are shown without their id, so that the rest learns.
    loss: of ranked domains: "softmax", "bce" or "bpr".
    negatives: items drawn for each step; a domain that has no more is taken whole.
    popular: exponent of their popularity, 0 = uniform.
    penalty: of embedding rows, one for each value of a feature: "group" makes rows exactly zero;
        "frequency" adds reg · (n + 1)^power · ‖row‖² for the n events of each to the loss's sum.
    reg: strength of the penalty. Left out, 1 of "frequency" and 0.1 of "group", which stands
        beside Adam's steps of about 1.
    power: see ``penalty``.
    metric: what the number of epochs is chosen by in ranked domains; less the error of ratings.
    epochs: passes over the data; found on a holdout if left out.
    training: see there; its epochs are the most that are tried.
    """

    kind: ClassVar[str] = "deepfm"
    dim: int = 16
    hidden: tuple[int, ...] = (64, 32)
    dropout: float = 0.2
    attributes: bool = True
    user_ids: bool = False
    id_dropout: float = 0.1
    loss: Loss = "softmax"
    negatives: int = 128
    popular: float = 0.5
    penalty: Literal["none", "group", "frequency"] = "frequency"
    reg: float | None = None
    power: float = 0.5
    metric: str = "ndcg@10"
    epochs: int | None = None
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        for name in ("dim", "negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be at least 1")
        of_ranks(self.metric)
        if min(self.hidden, default=1) < 1:
            raise ValueError(f"hidden = {list(self.hidden)}: sizes must be at least 1")
        if not 0 <= self.dropout < 1 or not 0 <= self.id_dropout < 1:
            raise ValueError("dropout and id_dropout must be at least 0 and below 1")
        if self.reg is not None and self.reg < 0:
            raise ValueError(f"reg = {self.reg}: must not be below 0")

    @property
    def strength(self) -> float:
        """reg, or what stands for it where it is left out."""
        return STRENGTHS[self.penalty] if self.reg is None else self.reg

    def choose(self, split: Split, run: Run) -> Self:
        """Find the number of epochs on the holdout, by early stopping."""
        if self.epochs is not None:
            return self
        learner = Learner(self, split.train, run)
        found = learner.learn(self.training, partial(judge, learner, split))
        return replace(self, epochs=max(1, found))

    def fit(self, train: Dataset, run: Run) -> DeepFMModel:
        if self.epochs is None:
            return self.choose(holdout(train, run.rng("holdout")), run).fit(train, run)
        learner = Learner(self, train, run)
        learner.learn(replace(self.training, epochs=self.epochs))
        return learner.model()

    def restore(self, state: State) -> DeepFMModel:
        return DeepFMModel(self, state)


def side_by_side(blocks: Mapping[str, Array], n: int) -> tuple[Floats, tuple[int, ...]]:
    """Return blocks (n, p) in the order of their names, and the width of each."""
    found = [block for _, block in sorted(blocks.items())]
    joined = np.hstack([np.zeros((n, 0)), *found]).astype(np.float32)
    return joined, tuple(block.shape[1] for block in found)


def first_events(data: Dataset, user: Ids, item: Ids) -> Ids:
    """Return the row of the first event of each (user, item) cell (N,): what derives from a
    history tells nothing of the item before it."""
    keys, first = np.unique(
        data.user.astype(np.int64) * data.n_items + data.item, return_index=True
    )
    rows: Ids = first[np.searchsorted(keys, user.astype(np.int64) * data.n_items + item)]
    return rows


def widths_of_users(data: Dataset, used: bool) -> tuple[int, ...]:
    """Return the widths of the blocks of ``user_features``, in the order of their names."""
    widths = {name: block.shape[1] for name, block in data.user_attributes.items()}
    if data.derivation is not None:
        widths[DERIVED] = len(data.derivation.user_scale)
    return tuple(width for _, width in sorted(widths.items())) if used else ()


class Learner:
    """A network in training on the (user, item) cells of a dataset."""

    def __init__(self, recipe: DeepFM, data: Dataset, run: Run) -> None:
        self.recipe, self.data, self.run = recipe, data, run
        torch.set_num_threads(run.threads)
        matrix = data.positives
        self.user, self.item, self.start = row_of(matrix), matrix.indices, matrix.indptr
        self.count = np.bincount(self.item, minlength=data.n_items)
        self.active = np.diff(self.start)
        self.scale = Scale.of(matrix, data)
        self.z, self.rated = self.scale.z(matrix)
        self.target = self.scale.standard(self.item, matrix.data)
        self.z_sum = np.bincount(self.user, self.z, data.n_users)
        self.rated_sum = np.bincount(self.user, self.rated, data.n_users)
        used = recipe.attributes
        rows = first_events(data, self.user, self.item)
        self.blocks, self.told = users_told(data, rows, used)
        self.item_names = sorted(data.item_features) if used else []
        phi, item_widths = side_by_side(data.item_features if used else {}, data.n_items)
        torch.manual_seed(int(run.rng("weights").integers(2**31)))
        given = Given(
            n_users=data.n_users if recipe.user_ids else 0,
            item_domain=data.item_domain,
            trained=self.count > 0,
            item_blocks=phi,
            item_widths=item_widths,
            user_widths=widths_of_users(data, used),
            rated=bool(data.explicit.any()),
            start=self.scale.standard(np.arange(data.n_items), self.scale.base),
        )
        self.network = Network(given, recipe.dim, recipe.hidden, recipe.dropout, recipe.id_dropout)
        self.frequency = self.frequencies()
        self.pools = [
            np.flatnonzero((self.count > 0) & (data.item_domain == d) & ~data.explicit)
            for d in range(data.n_domains)
        ]

    def frequencies(self) -> dict[str, Floats]:
        """Return the events of each row of the penalised tables."""
        of_item, of_user = self.count.astype(np.float32), self.active.astype(np.float32)
        of_block = np.bincount(self.told, minlength=len(self.blocks)).astype(np.float32)
        found = {
            "item": of_item,
            "history": of_item,
            "rating": of_item * self.data.explicit,
            "user": of_user,
            "item_attributes": of_item @ (self.network.given.item_blocks != 0),
            "user_attributes": of_block @ (self.blocks != 0),
        }
        return {n: f for n, f in found.items() if n in self.network.tables}

    def learn(self, training: Training, judged: partial[float] | None = None) -> int:
        """Train, and return the best number of epochs."""
        names = list(self.frequency)
        after = partial(self.shrink, names) if self.recipe.penalty == "group" else None
        with deterministic():
            found = train(
                self.network, self.batches, self.loss, training, self.run, judged, after=after
            )
        return found.epochs

    def shrink(self, names: list[str], lr: float) -> None:
        self.network.shrink(lr * self.recipe.strength, names)

    def batches(self, epoch: int) -> Iterator[tuple[Ids, np.random.Generator]]:
        """Yield the cells of each batch, with the stream that its negatives come from."""
        rng, n = self.run.rng("epoch", str(epoch)), len(self.user)
        order, size = rng.permutation(n), self.recipe.training.rows(n)
        for at in range(0, len(order), size):
            yield order[at : at + size], rng
        if self.recipe.penalty == "group":
            for name, share in self.zero_rows().items():
                self.run.scalar(f"zero rows/{name}", share, epoch + 1)

    def zero_rows(self) -> dict[str, float]:
        """Return the share of rows that are zero, among features with events, by table."""
        found = {}
        for name, count in self.frequency.items():
            zero = (self.network.tables[name] == 0).all(dim=1).cpu().numpy()[count > 0]
            found[name] = float(zero.mean()) if len(zero) else 0.0
        return found

    def bags(self, rows: Ids) -> Bags:
        """Return the histories of the users of these cells, without the cells themselves."""
        users, place = np.unique(self.user[rows], return_inverse=True)
        size = self.active[users]
        first = np.cumsum(size) - size
        cell = np.arange(size.sum()) + np.repeat(self.start[users] - first, size)
        user, own_z, own_rated = self.user[rows], self.z[rows], self.rated[rows]
        judged = self.rated_sum[user] - own_rated
        arrays = (
            self.item[cell].astype(np.int64),
            first.astype(np.int64),
            self.z[cell],
            self.rated[cell],
            place,
            self.item[rows].astype(np.int64),
            own_z,
            own_rated,
            np.sqrt(np.maximum(self.active[user] - 1, 1)).astype(np.float32),
            np.sqrt(np.maximum(judged, 1)).astype(np.float32),
            deviation(self.z_sum[user] - own_z, judged),
        )
        return Bags(*map(beside(self.network), arrays))

    def loss(self, given: tuple[Ids, np.random.Generator]) -> Tensor:
        """Return the mean loss of a batch of cells, each by the feedback of its domain."""
        (rows, rng), here = given, beside(self.network)
        network, user, item = self.network, self.user[rows], self.item[rows]
        bags = self.bags(rows)
        u = network.users(bags, here(self.blocks[self.told[rows]]), here(user))
        total = u.bias.new_zeros(())
        told = np.flatnonzero(self.data.explicit[item])
        if len(told):
            at = here(told)
            v = network.items(here(item[told].astype(np.int64)))
            found = network.paired(u.take(at), v) + bags.deviation[at]
            error = found - here(self.target[rows[told]])
            total = total + error.square().sum() / len(rows)
        domain = np.where(self.data.explicit[item], -1, self.data.item_domain[item])
        for d in np.unique(domain[domain >= 0]):
            part = np.flatnonzero(domain == d)
            total = total + self.ranked(item[part], u.take(here(part)), int(d), rng) * (
                len(part) / len(rows)
            )
        if self.recipe.penalty == "frequency":
            strength = self.recipe.strength / len(self.user)
            weight = {
                n: here(strength * (f + 1) ** self.recipe.power) for n, f in self.frequency.items()
            }
            total = total + network.frequency_penalty(weight)
        return total

    def ranked(self, item: Ids, u: Side, domain: int, rng: np.random.Generator) -> Tensor:
        """Return the mean loss of items (P,) of one domain against drawn ones."""
        network, recipe, pool = self.network, self.recipe, self.pools[domain]
        here = beside(network)
        weight = self.count[pool] ** recipe.popular
        negative, expected = draw(pool, weight, recipe.negatives, rng, recipe.loss == "softmax")
        at = np.full(self.data.n_items, -1)
        at[negative] = np.arange(len(negative))
        positive = network.paired(u, network.items(here(item.astype(np.int64))))
        others = network.crossed(u, network.items(here(negative)))
        shifted = others - here(np.log(expected))
        return scored_loss(recipe.loss, positive, shifted, here(at[item]))

    def model(self) -> DeepFMModel:
        """Return the model as it stands, its item side computed once."""
        network, scale = self.network.eval(), self.scale
        tables, k = network.tables, self.recipe.dim
        with torch.inference_mode():
            fields = network.item_fields(torch.arange(self.data.n_items))
            items = network.items(torch.arange(self.data.n_items))
            vectors = fields[..., :k]
            pairs = (vectors * (items.total[:, None] - vectors)).sum(dim=2) / 2
            arrays = {
                "item_total": items.total,
                "item_hidden": items.hidden,
                "item_parts": fields[..., k] + pairs,
                "first": network.of_user,
                "second": network.of_item,
                "second_bias": network.of_item_bias,
                "domain": tables["domain"],
                "item_attributes": tables["item_attributes"],
                "history": tables["history"],
                "user_attributes": tables["user_attributes"],
            }
            arrays |= {"rating": tables["rating"]} if "rating" in tables else {}
            if "user" in tables:
                known = torch.from_numpy((self.active > 0).astype(np.float32))
                arrays["user"] = tables["user"] * known[:, None]
            for i, layer in enumerate(network.layers):
                arrays |= {f"deep/{i}/weight": layer.weight, f"deep/{i}/bias": layer.bias}
            state = {name: value.detach().numpy().copy() for name, value in arrays.items()}
        described = network.given.item_blocks.any(axis=1)
        state |= {
            "known": (self.count > 0) | described,
            "trained": self.count > 0,
            "active": self.active > 0,
            "explicit": self.data.explicit,
            "user_widths": np.array(network.given.user_widths, np.int64),
            "item_names": names_of(self.item_names),
            **scale.state(),
        }
        return DeepFMModel(self.recipe, state)


def judge(learner: Learner, split: Split) -> float:
    """Return the mean metric of holdout users, less the root mean squared error of ratings.

    The former over users and ranked domains, the latter in deviations of the domain's ratings.
    """
    data, model = split.train, learner.model()
    rng = learner.run.rng("judged")  # the same users after every epoch
    values, squares = [], []
    held, moments = split.test.positives, split.moments()
    users = np.flatnonzero(np.diff(held.indptr))
    users = np.sort(rng.permutation(users)[:JUDGED])
    for at in range(0, len(users), BATCH):
        some = users[at : at + BATCH]
        query = split.context.query(some, moments[some])
        targets = csr_array(held[some])
        row, item = row_of(targets), targets.indices
        told = data.explicit[item] & model.known[item]
        found = model.pairs(query, row[told], item[told])
        wanted = targets.data[told]
        error = (found - wanted) / model.scale.scale[item[told]]
        squares.append(np.square(error[np.isfinite(error)]))
        for d in np.unique(data.item_domain[item[~data.explicit[item]]]):
            inside = np.flatnonzero((data.item_domain == d) & model.known)
            of_domain = csr_array(targets[:, inside])
            asked = np.flatnonzero(np.diff(of_domain.indptr))
            part = query.take(asked)
            scores = model.score(part, inside)
            rows = ranked(scores, csr_array(of_domain[asked]), csr_array(part.seen[:, inside]))
            values.append(np.nan_to_num(rows.metric(learner.recipe.metric)))
    gain = float(np.concatenate(values).mean()) if values else 0.0
    square = np.concatenate([np.zeros(0), *squares])
    return gain - (float(np.sqrt(square.mean())) if len(square) else 0.0)

"""A deep model from words to items: what somebody wants who says it so."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from m6rec.arrays import Floats, Ids, Mask, Scores, State, nest, unnest
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.query import Query
from m6rec.data.splits import Split
from m6rec.models.additive import Reasons
from m6rec.models.base import Model, Reason, Recipe
from m6rec.models.kernels import row_of
from m6rec.models.questions import Judge, past
from m6rec.models.text import Text, TextModel, spoken
from m6rec.text import Choice
from m6rec.tracking import Run
from m6rec.training.loop import Training, deterministic, train
from m6rec.training.place import beside

BATCH = 1024
SCALE = 20.0  # s: of a cosine, so that it can be a logit
POINTS = 32  # of the path along which a score is split


@dataclass(frozen=True, kw_only=True)
class Intent(Recipe):
    """score = 20 u(x) · v_i + b_i, with u(x) = x + W₂ relu(W₁ x + b₁) and v_i = γ t_i + e_i.

    x is the request read as by "text": its words, and what was liked; t_i the text of item i in
    the same space. So training starts from the cosine of both, and learns what the wording does
    not tell: e_i of each item, and the network. An item without events has e_i = b_i = 0, and is
    known by its text. The text of an item counts as one request that it answers. The softmax is
    over all items of the domain. Abstains in explicit domains.

    encoder, dim, half_life, history: as of "text". hidden: width of the network. dropout: of x
    and of the hidden layer. id_dropout: share of items that are shown without e_i and b_i, so
    that γ and the network learn to do without. epochs: passes over the data; found on a holdout
    if left out. training: see there; its epochs are the most that are tried.
    """

    kind: ClassVar[str] = "intent"
    encoder: Choice = "auto"
    dim: int | None = None
    half_life: float | None = 20.0
    history: float = 0.3
    hidden: int = 256
    dropout: float = 0.3
    id_dropout: float = 0.05
    epochs: int | None = None
    training: Training = field(
        default_factory=lambda: Training(lr=1e-3, batch=64, epochs=60, patience=10)
    )

    def __post_init__(self) -> None:
        self._reader()
        if self.hidden < 1:
            raise ValueError(f"hidden = {self.hidden}: must be at least 1")
        if not 0 <= self.dropout < 1 or not 0 <= self.id_dropout < 1:
            raise ValueError("dropout and id_dropout must be at least 0 and below 1")

    def choose(self, split: Split, run: Run) -> Self:
        if self.epochs is not None:
            return self
        learner = _Learner(self, split.train, run)
        judge = Judge(learner.reader, split, run)
        found = learner.learn(self.training, lambda: judge(learner.model().scores_of))
        return replace(self, epochs=max(1, found))

    def fit(self, train: Dataset, run: Run) -> IntentModel:
        if self.epochs is None:
            return self.choose(holdout(train, run.rng("holdout")), run).fit(train, run)
        learner = _Learner(self, train, run)
        learner.learn(replace(self.training, epochs=self.epochs))
        return learner.model()

    def restore(self, state: State) -> IntentModel:
        reader = self._reader().restore(unnest("reader", state))
        own = {name: value for name, value in state.items() if not name.startswith("reader/")}
        return IntentModel(self, reader, own)

    def _reader(self) -> Text:
        return Text(
            encoder=self.encoder, dim=self.dim, half_life=self.half_life, history=self.history
        )


class _Network(nn.Module):
    """texts: (n_items, d) t. See ``Intent``."""

    def __init__(self, texts: Floats, hidden: int, dropout: float) -> None:
        super().__init__()
        n, d = texts.shape
        self.texts: Tensor
        self.register_buffer("texts", torch.from_numpy(texts))
        self.first, self.second = nn.Linear(d, hidden), nn.Linear(hidden, d, bias=False)
        nn.init.zeros_(self.second.weight)
        self.drop = nn.Dropout(dropout)
        self.own = nn.Parameter(torch.zeros(n, d))
        self.bias = nn.Parameter(torch.zeros(n))
        self.share = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, shown: Tensor) -> Tensor:
        """Return (B, n_items) scores; shown (n_items,) 1 = with what is known of the item alone."""
        x = self.drop(x)
        users = x + self.second(self.drop(torch.relu(self.first(x))))
        items = self.share * self.texts + self.own * shown[:, None]
        scores: Tensor = SCALE * users @ items.T + self.bias * shown
        return scores


class _Learner:
    """The network in training on the requests of a dataset."""

    def __init__(self, recipe: Intent, data: Dataset, run: Run) -> None:
        self.data, self.run = data, run
        torch.set_num_threads(run.threads)
        self.reader = recipe._reader().fit(data, run)
        self.recipe = replace(recipe, encoder=self.reader.recipe.encoder)
        self.x, self.target = examples(self.reader, data)
        self.trained: Mask = np.bincount(self.target, minlength=data.n_items) > 0
        self.trained &= np.bincount(data.item, minlength=data.n_items) > 0
        self.known: Mask = (self.trained | self.reader.known) & ~data.explicit
        torch.manual_seed(int(run.rng("weights").integers(2**31)))
        self.network = _Network(self.reader.vectors, recipe.hidden, recipe.dropout)

    def learn(self, training: Training, judge: Any = None) -> int:
        if not len(self.x):
            return 0
        with deterministic():
            return train(self.network, self.batches, self.loss, training, self.run, judge).epochs

    def batches(self, epoch: int) -> Iterator[tuple[Ids, Floats]]:
        rng = self.run.rng("epoch", str(epoch))
        order = rng.permutation(len(self.x))
        size = self.recipe.training.rows(len(self.x))
        for at in range(0, len(order), size):
            shown = rng.random(self.data.n_items) >= self.recipe.id_dropout
            yield order[at : at + size], shown.astype(np.float32)

    def loss(self, batch: tuple[Ids, Floats]) -> Tensor:
        (rows, shown), here = batch, beside(self.network)
        scores = self.network(here(self.x[rows]), here(shown))
        domain = self.data.item_domain
        outside = (domain[self.target[rows]][:, None] != domain) | ~self.known
        scores = scores.masked_fill(here(outside), float("-inf"))
        return functional.cross_entropy(scores, here(self.target[rows]))

    def model(self) -> IntentModel:
        with torch.inference_mode():
            own = self.network.own * torch.from_numpy(self.trained[:, None])
            items = SCALE * (self.network.share * self.network.texts + own)
            state: State = {
                "items": items.numpy().copy(),
                "bias": (self.network.bias.numpy() * self.trained).astype(np.float32),
                "share": (SCALE * self.network.share).reshape(1).numpy().copy(),
                "into": self.network.first.weight.numpy().copy(),
                "shift": self.network.first.bias.numpy().copy(),
                "out": self.network.second.weight.numpy().copy(),
                "known": self.known,
            }
        return IntentModel(self.recipe, self.reader, state)


def examples(reader: TextModel, data: Dataset) -> tuple[Floats, Ids]:
    """Return requests (N, dim) and the items (N,) that they wanted: for each positive event the
    words of the user, or the texts of all else that they liked; and each item by its own text."""
    users = np.unique(data.user)
    liked = data.positives
    vectors, targets = [], []
    for at in range(0, len(users), BATCH):
        some = users[at : at + BATCH]
        h = liked[some]
        row, item = row_of(h), h.indices
        wanted = ~data.explicit[item]
        x = past(reader, data, some)[row]
        silent = ~data.worded[some][row]
        if silent.any():  # leave the wanted item out of what was read
            read = np.log2(1 + np.abs(h.data))[:, None] * reader.vectors[item]
            whole = np.zeros((len(some), read.shape[1]), np.float32)
            np.add.at(whole, row, read)
            rest = whole[row] - read
            length = np.linalg.norm(rest, axis=1, keepdims=True)
            x = np.where(silent[:, None], rest / np.where(length > 1e-6, length, np.inf), x)
        vectors.append(x[wanted])
        targets.append(item[wanted])
    own = np.flatnonzero(reader.known)
    x = np.concatenate([*vectors, reader.vectors[own]]).astype(np.float32)
    target = np.concatenate([*targets, own]).astype(np.int64)
    told = spoken(x)
    return x[told], target[told]


class IntentModel(Model):
    """State: items (n_items, d) = 20 v, bias (n_items,), share (1,) = 20 γ, the network's into
    (h, d), shift (h,) and out (d, h); known (n_items,); the reader under reader/."""

    recipe: Intent

    def __init__(self, recipe: Intent, reader: TextModel, state: State) -> None:
        self.recipe, self.reader, self._state = recipe, reader, state
        self.n_items = reader.n_items

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        scores = self.scores_of(query, self.reader.embed_query(query, 0))
        return scores if items is None else scores[:, items]

    def scores_of(self, query: Query, x: Floats) -> Scores:
        """Return (B, n_items) scores of requests that were read as these vectors (B, dim)."""
        s = self._state
        users = x + np.maximum(x @ s["into"].T + s["shift"], 0) @ s["out"].T
        scores: Scores = (users @ s["items"].T + s["bias"]).astype(np.float32)
        scores[~spoken(x)] = np.nan
        scores[:, ~s["known"]] = np.nan
        return scores

    def reads(self, query: Query) -> Mask:
        return self.reader.reads(query)

    def update(self, dataset: Dataset) -> Self:
        longer = copy(self)
        longer.reader = self.reader.update(dataset)
        new = slice(self.n_items, dataset.n_items)
        vectors = longer.reader.vectors[new]
        longer._state = self._state | {
            "items": np.concatenate([self._state["items"], vectors * self._state["share"]]),
            "bias": np.concatenate([self._state["bias"], np.zeros(len(vectors), np.float32)]),
            "known": np.concatenate([self._state["known"], longer.reader.known[new]]),
        }
        longer.n_items = dataset.n_items
        return longer

    def explain(self, query: Query, items: Ids) -> Reasons:
        """By integrated gradients from silence (Sundararajan et al. 2017): what each word and each
        item of the history adds, as far as the request's vector holds it."""
        s, x = self._state, self.reader.embed_query(query, 0)
        codes = np.maximum(np.asarray(items), 0)
        scores = self.score(query)
        along = (np.arange(POINTS) + 0.5) / POINTS
        reasons: Reasons = []
        for b, row in enumerate(codes):
            open_ = (along[:, None] * (x[b] @ s["into"].T) + s["shift"] > 0).mean(axis=0)
            told = self.reader.shares(query.take(np.array([b])))
            target = s["items"][row]
            slope = target + ((target @ s["out"]) * open_) @ s["into"]  # (C, d)
            cells: list[list[Reason]] = []
            for c, item in enumerate(row.tolist()):
                if items[b, c] < 0 or np.isnan(scores[b, item]):
                    cells.append([])
                    continue
                found = [replace(reason, value=float(share @ slope[c])) for reason, share in told]
                rest = float(scores[b, item]) - sum(reason.value for reason in found)
                cells.append([*found, Reason(kind="bias", value=rest, name="average")])
            reasons.append(cells)
        return reasons

    def state(self) -> State:
        return self._state | nest("reader", self.reader.state())

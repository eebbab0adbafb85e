"""The contract of every model: Recipe → fit → Model, small Protocols, and the table of kinds."""

from __future__ import annotations

import importlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from scipy.sparse import csr_array

from m6rec import config
from m6rec.arrays import Floats, Ids, Mask, Scores, State
from m6rec.data.dataset import Dataset
from m6rec.data.query import Query
from m6rec.data.splits import Split
from m6rec.errors import ConfigError, suggestion
from m6rec.tracking import Run

DEFAULT = "m6rec"  # kind of a [model] table that names none
KINDS: dict[str, str] = {
    "popular": "m6rec.models.popular:Popular",
    "neighbours": "m6rec.models.neighbours:Neighbours",
    "linear": "m6rec.models.linear:Linear",
    "graph": "m6rec.models.graph:Graph",
    "rp3beta": "m6rec.models.neighbours:RP3Beta",
    "peers": "m6rec.models.peers:Peers",
    "window": "m6rec.models.window:Window",
    "pct": "m6rec.models.pct:Pct",
    "towers": "m6rec.models.towers:Towers",
    "distilled": "m6rec.models.distil:Distilled",
    "onnx": "m6rec.models.onnx:Onnx",
    "deepfm": "m6rec.models.deepfm:DeepFM",
    "text": "m6rec.models.text:Text",
    "questions": "m6rec.models.questions:Questions",
    "intent": "m6rec.models.intent:Intent",
    "normalised": "m6rec.models.normalised:Normalised",
    "confident": "m6rec.models.confident:Confident",
    "seeds": "m6rec.models.seeds:Seeds",
    "blend": "m6rec.models.compose:Blend",
    "fallback": "m6rec.models.fallback:Fallback",
    "m6rec": "m6rec.models.default:M6Rec",
}


class Model(ABC):
    """A fitted model: frozen arrays, never mutated. ``recipe`` made it."""

    recipe: Recipe
    n_items: int

    @abstractmethod
    def score(self, query: Query, items: Ids | None = None) -> Scores:
        """Return (B, n_items) float32 scores, or (B, C) for the item codes ``items`` (C,).

        Higher is better; NaN = the model abstains for that cell, decided per (query, item).
        Never sorts, filters or excludes: ``rank`` does. In explicit domains, in rating units.
        """

    @abstractmethod
    def state(self) -> State:
        """Return all fitted arrays; ``recipe.restore`` makes an equal model of them."""


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """Hyper-parameters only; a subclass is a frozen dataclass with a ``kind``."""

    kind: ClassVar[str]

    @abstractmethod
    def fit(self, train: Dataset, run: Run) -> Model:
        """Fit on train and nothing else; a holdout, if needed, is carved from train."""

    @abstractmethod
    def restore(self, state: State) -> Model:
        """Return the model whose ``state()`` this was."""

    def choose(self, split: Split, run: Run) -> Self:
        """Return this recipe with every "auto" option fixed on a holdout split of train.

        ``fit`` of a recipe with open options carves a holdout, chooses, and fits on all of
        train; a Blend calls this on its parts first, so that all share one holdout.
        """
        return self

    @classmethod
    def from_table(cls, table: Mapping[str, Any], where: str = "model") -> Recipe:
        """Build the recipe that a TOML table names by its ``kind``."""
        if isinstance(table, Recipe):
            return table
        if isinstance(table, Mapping) and where == "model":
            table = {"kind": DEFAULT, **table}
        if not isinstance(table, Mapping) or not isinstance(table.get("kind"), str):
            raise ConfigError(f'{where}: a model is a table with kind = "…"')
        rest = {key: value for key, value in table.items() if key != "kind"}
        return config.from_table(recipe_class(table["kind"], where), rest, where)


def recipe_class(kind: str, where: str = "model") -> type[Recipe]:
    """Return the recipe class of a kind in KINDS, or of a researcher's own ``module:Class``."""
    if kind in KINDS:
        module, name = KINDS[kind].split(":")
    elif re.fullmatch(r"[\w.]+:\w+", kind):
        module, name = kind.split(":")
    else:
        known = ", ".join(sorted(KINDS))
        raise ConfigError(
            f'{where}.kind = "{kind}": no such model{suggestion(kind, KINDS)} '
            f'(known: {known}, or your own "module:Class")'
        )
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f'{where}.kind = "{kind}": cannot be imported: {error}') from None
    if not (isinstance(cls, type) and issubclass(cls, Recipe)):
        raise ConfigError(f'{where}.kind = "{kind}": is not a subclass of m6rec Recipe')
    return cls


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One additive contribution to a score, in score units.

    kind: what contributed. item: code of the history item, else -1. name: attribute, word,
    past question or event. part: kind of the model part inside a blend.
    """

    kind: Literal["history", "attribute", "text", "question", "popularity", "bias", "seed", "other"]
    value: float
    item: int = -1
    name: str = ""
    part: str = ""


@runtime_checkable
class Explains(Protocol):
    """A model whose scores split into reasons."""

    def explain(self, query: Query, items: Ids) -> list[list[list[Reason]]]:
        """Return B × C lists of reasons for ``items`` (B, C); each list adds up to the score.

        A cell where the model abstains, or of item -1, has an empty list.
        """


@runtime_checkable
class Embeds(Protocol):
    """A model whose score is a dot product, so that nearest-neighbour search applies: up to a
    constant of the request, and beside what it ``Reaches`` if it does."""

    def embed_query(self, query: Query, domain: int) -> Floats:
        """Return (B, d) query vectors for items of one domain; NaN where it abstains."""

    def embed_items(self, domain: int, items: Ids | None = None) -> Floats:
        """Return (n_items, d) item vectors for that domain, or (C, d) of ``items`` (C,); rows
        outside it are zero."""


@runtime_checkable
class Reaches(Protocol):
    """A model whose scores are 0 but for a few items, or that adds such scores to a dot product."""

    def reach(self, query: Query) -> Scores:
        """Return (B, n) scores of the items that it was fitted on: zeros where it has none to
        give, and where it abstains."""


@runtime_checkable
class Reads(Protocol):
    """A model that understands words of a request."""

    def reads(self, query: Query) -> Mask:
        """Return (B,) requests in whose text there is something that the model knows."""


@runtime_checkable
class Hears(Protocol):
    """A model that takes in answered questions without a refit."""

    def heard(self, users: Ids, texts: Sequence[str], answers: csr_array) -> Model:
        """Return the model that also knows these questions.

        users: (Q,) their codes, -1 = unknown at the fit; what was known of such a user, or of the
        same words that came later, is replaced. texts: Q questions. answers: (Q, n_items) weights,
        below 0 = it did not help.
        """


@runtime_checkable
class Updates(Protocol):
    """A model that takes in new items without a refit."""

    def update(self, dataset: Dataset) -> Model:
        """Return the model of a dataset whose items extend those of this one.

        dataset: its items from code ``n_items`` of this model on are new, and count as items
        without events; the others, users and domains are as at the fit. The new model scores
        the old items as this one does, and the new ones as if they had been known at the fit, or
        abstains on them. The cost must not grow with more than a copy of what there is.
        """


def heard(model: Model, users: Ids, texts: Sequence[str], answers: csr_array) -> Model:
    """Return ``model.heard(…)``, or the model itself where it has no use for questions."""
    return model.heard(users, texts, answers) if isinstance(model, Hears) else model


def updated(model: Model, dataset: Dataset) -> Model:
    """Return ``model.update(dataset)``; ConfigError where the model has no update."""
    if isinstance(model, Updates):
        return model.update(dataset)
    raise ConfigError(
        f'"{model.recipe.kind}" has no update, so it takes in no new items before it is trained '
        "again; see docs/add-a-model.md"
    )

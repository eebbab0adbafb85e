"""What a fitted model learned that a person should see: weights λ and ω, the ridge of A."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from m6rec.data.query import ACTIVITY_NAMES
from m6rec.models.base import Model
from m6rec.models.compose import BlendModel
from m6rec.models.confident import ConfidentModel
from m6rec.models.fallback import FallbackModel
from m6rec.models.pct import Pct
from m6rec.models.pct_model import PctModel
from m6rec.models.transfer import Local

NEW = "new items"  # the row of items without events
WORDS = "none, but words"  # the row of requests in words


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A table (of λ, ω or A), with a heading and a sentence that says how to read it."""

    symbol: str
    heading: str
    text: str
    frame: pl.DataFrame


def learned(model: Model, domains: Sequence[str]) -> Iterator[Learned]:
    """Yield what a model and its parts learned, the model's own first."""
    if isinstance(model, ConfidentModel):
        yield from learned(model.part, domains)
    if isinstance(model, BlendModel):
        if not isinstance(model, FallbackModel):
            yield _lambda(model, domains)
        for part in model.parts:
            yield from learned(part, domains)
    if isinstance(model, PctModel) and len(domains) > 1:
        yield _omega(model, domains)
    if isinstance(model, PctModel) and isinstance(model.recipe, Pct):
        ridges = [model.recipe.domains.get(domain, Local()).ridge for domain in domains]
        if any(ridge is not None for ridge in ridges):
            yield _ridge(ridges, domains)


def _lambda(model: BlendModel, domains: Sequence[str]) -> Learned:
    names = [part.recipe.kind for part in model.parts]
    columns = [n if names.count(n) == 1 else f"{n} {i + 1}" for i, n in enumerate(names)]
    rows = [
        {"domain": domain, "history": bucket}
        | {n: f"{w:.2f}" for n, w in zip(columns, model.weights[d, b], strict=True)}
        for d, domain in enumerate(domains)
        for b, bucket in enumerate([*ACTIVITY_NAMES, NEW][: model.weights.shape[1]])
        if bucket != NEW or model.weights[d, b].any()
    ]
    rows += [
        {"domain": domain, "history": WORDS}
        | {n: f"{w:.2f}" for n, w in zip(columns, model.words[d], strict=True)}
        for d, domain in enumerate(domains)
        if model.words[d].any()
    ]
    return Learned(
        symbol="λ",
        heading="λ: how much each part counts",
        text="By domain, and by how many items of it are in the history, or for new items, where "
        "theirs differ, or for requests in words; learned on a holdout.",
        frame=pl.DataFrame(rows),
    )


def _omega(model: PctModel, domains: Sequence[str]) -> Learned:
    columns = {
        f"from {source}": [
            "–" if target == source else f"{model.omega[t, s]:.2f}"
            for t, target in enumerate(domains)
        ]
        for s, source in enumerate(domains)
    }
    helped = [
        "–" if not omega.any() else "all users" if warm else "only users without history there"
        for omega, warm in zip(model.omega, model.state()["warm"], strict=True)
    ]
    return Learned(
        symbol="ω",
        heading="ω: how much one domain trusts another",
        text="Kept where it helped on the holdout; 0 = the domain does not listen to that one.",
        frame=pl.DataFrame({"domain": list(domains), **columns, "for": helped}),
    )


def _ridge(ridges: Sequence[float | None], domains: Sequence[str]) -> Learned:
    shown = ["–" if ridge is None else f"{ridge:g}" for ridge in ridges]
    return Learned(
        symbol="A",
        heading="A: how far attributes alone tell a taste",
        text="The ridge that served users best who were held out whole; the larger it is, the "
        "closer a new user is to the average one.",
        frame=pl.DataFrame({"domain": list(domains), "ridge": shown}),
    )

"""M6-Rec: one open-domain recommender for all your domains.

    run = m6rec.fit("shop.toml")                       # or data frames
    run.recommend(history=["Alien", "Blade Runner"])   # a polars data frame
    m6rec.save(run, "runs/mine")
    run = m6rec.open("runs/mine")

Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from m6rec.api import evaluate, explain, fit, load, open, recommend, save
    from m6rec.experiment import Experiment
    from m6rec.recommender import Recommender

_LAZY = {
    "load": "m6rec.api",
    "fit": "m6rec.api",
    "evaluate": "m6rec.api",
    "recommend": "m6rec.api",
    "explain": "m6rec.api",
    "save": "m6rec.api",
    "open": "m6rec.api",
    "Experiment": "m6rec.experiment",
    "Recommender": "m6rec.recommender",
}

__all__ = [
    "Experiment",
    "Recommender",
    "__version__",
    "evaluate",
    "explain",
    "fit",
    "load",
    "open",
    "recommend",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module m6rec has no attribute {name}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})

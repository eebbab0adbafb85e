"""What the towers are told: with and without PCT's vectors, times and heads for each domain.

    python benchmarks/tower_inputs.py demo|beauty [--models ids,pct] [--epochs 25] [--seed 0]

One seed, on a holdout of train (of the demo's MovieLens-100k, or of beauty): the best NDCG@10 over
the epochs, and when. The holdout picks the epoch, so read the differences, not the values.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field, replace

import datasets
import numpy as np
from fusion import demo

from m6rec.data.holdout import holdout
from m6rec.models.pct import Pct
from m6rec.models.towers import Learner, Towers
from m6rec.tracking import Run


@dataclass(frozen=True, kw_only=True)
class Watched(Run):
    """A run that keeps what the holdout said after each epoch."""

    heard: list[float] = field(default_factory=list)

    def scalar(self, name: str, value: float, step: int) -> None:
        if name == "holdout":
            self.heard.append(value)


def main(what: str, models: list[str], epochs: int, seed: int) -> None:
    train = demo().train if what == "demo" else datasets.beauty().train
    run = Run(seed=seed)
    split = holdout(train, run.rng("holdout"))
    training = replace(Towers().training, epochs=epochs)
    plain = Towers(popular=1.0, gaps=False, training=training)
    recipes = {
        "ids": plain,
        "gaps": replace(plain, gaps=True),
        "heads": replace(plain, domain_heads=True),
        "pct": plain,
    }
    if "pct" in models:
        recipes["pct"] = replace(plain, pct=Pct().choose(split, run))
    for name in models:
        watched, began = Watched(seed=seed), time.time()
        learner = Learner(recipes[name], split.train, watched)
        learner.learn(training, split)
        best = int(np.argmax(watched.heard))
        print(f"{what}  {name:<6} ndcg@10 {watched.heard[best]:.4f} after {best + 1} of "
              f"{len(watched.heard)} epochs  {time.time() - began:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("demo", "beauty"))
    parser.add_argument("--models", default="ids,gaps,heads,pct")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    main(given.what, given.models.split(","), given.epochs, given.seed)

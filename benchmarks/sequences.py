"""Deep towers beside the window model and the fused default, on sequences: full ranking.

    python benchmarks/sequences.py beauty|amazon3|games [--models window,towers,fused]

Leave-last splits of the data README; the number of epochs and λ are learned on a holdout of
train. Prints recall@10 and NDCG@10 by domain, and the seconds of the fit (one seed).
"""

from __future__ import annotations

import argparse
import time

import datasets

from m6rec.evaluation import evaluate
from m6rec.models.base import Recipe
from m6rec.models.compose import Blend
from m6rec.models.neighbours import Neighbours
from m6rec.models.popular import Popular
from m6rec.models.towers import Towers
from m6rec.models.window import Window
from m6rec.tracking import Run
from m6rec.training.loop import Training

TOWERS = Towers(dropout=0.5, popular=1.0, training=Training(lr=2e-3, epochs=40, patience=3))
MODELS: dict[str, Recipe] = {
    "window": Window(),
    "towers": TOWERS,
    "fused": Blend(parts=(Window(), TOWERS, Neighbours(), Popular())),
}


def main(what: str, models: list[str]) -> None:
    split = getattr(datasets, what)()
    metrics = ("recall@10", "ndcg@10")
    for name in models:
        run = Run(seed=0)
        began = time.time()
        model = MODELS[name].fit(split.train, run)
        seconds = time.time() - began
        found = evaluate(model, split, metrics=metrics, by=("domain",), run=run)
        for part, rows in found.slices.items():
            values = "  ".join(f"{m} {rows.mean(m):.4f}" for m in metrics)
            print(f"{what}  {name:<8} {part:<8} {values}  fit {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("beauty", "amazon3", "games"))
    parser.add_argument("--models", default=",".join(MODELS))
    given = parser.parse_args()
    main(given.what, given.models.split(","))

"""Towers trained on the processor and on a graphics processor: time of an epoch, and quality.

    python benchmarks/device.py [--sets amazon3 beauty] [--epochs 3] [--threads 8]

Each set's train, the default towers; then NDCG@10 of the held-out events, full ranking. The first
epoch, in which kernels are loaded, is left out of the times. "again": whether a second training
with the same seed gave the same numbers to the last bit.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import datasets
import numpy as np
import torch

from m6rec.data.splits import Split
from m6rec.evaluation import evaluate
from m6rec.models.towers import Towers, TowersModel
from m6rec.tracking import Run
from m6rec.training.group import Scalars
from m6rec.training.loop import Training

WAYS = (("cpu", "float32"), ("cuda", "float32"), ("cuda", "bf16"))


def fitted(split: Split, training: Training, threads: int) -> tuple[TowersModel, float]:
    """Return the towers, and the median seconds of an epoch but the first."""
    told = Scalars()
    run = Run(threads=threads, trackers=(told,))
    model = Towers(epochs=training.epochs, training=training).fit(split.train, run)
    seconds = [value for name, value, _ in told.told if name.endswith("seconds")]
    return model, float(np.median(seconds[1:] or seconds))


def main(names: list[str], epochs: int, threads: int) -> None:
    graphics = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    print(f"torch {torch.__version__}, graphics processor: {graphics}; {threads} threads")
    print("| set | device | precision | s per epoch | whole fit, s | NDCG@10 | again |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        split: Split = getattr(datasets, name)()
        for device, precision in WAYS:
            if device == "cuda" and graphics == "none":
                continue
            training = replace(Towers().training, epochs=epochs, device=device, precision=precision)
            began = time.perf_counter()
            model, seconds = fitted(split, training, threads)
            whole = time.perf_counter() - began
            again = "not asked"
            if device == "cuda":
                other, _ = fitted(split, training, threads)
                again = "same" if (other.vectors == model.vectors).all() else "differs"
            found = evaluate(model, split, metrics=("ndcg@10",), run=Run())
            print(f"| {name} | {device} | {precision} | {seconds:.1f} | {whole:.0f} | "
                  f"{found['ndcg@10']:.4f} | {again} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="*", default=["amazon3", "beauty"])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=8)
    options = parser.parse_args()
    main(options.sets, options.epochs, options.threads)

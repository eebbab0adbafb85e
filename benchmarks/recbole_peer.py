"""RecBole's SASRec and GRU4Rec on its own MovieLens-100k: run by recbole_sequences.py.

    <python with recbole 1.2.1> benchmarks/recbole_peer.py SASRec --seeds 0,1 [--set inner_size=128]

Prints one line of JSON for each seed: where the last event of every user came among all items,
with those of the history (ranks) and without them (masked), and what training cost.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import logging
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import recbole
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
from recbole_quick import quicken

SETTINGS: dict[str, Any] = {  # all else as RecBole documents it
    "data_path": str(Path(recbole.__file__).parent / "dataset_example"),
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
    "loss_type": "CE",
    "train_neg_sample_args": None,
    "metrics": ["NDCG", "Hit"],
    "valid_metric": "NDCG@10",
    "use_gpu": False,
    "show_progress": False,
}


def main(
    name: str, seed: int, given: dict[str, Any], epochs: int, quick: bool,
    checkpoint: Path | None, minutes: float,
) -> dict[str, Any]:  # fmt: skip
    """Train one model; with ``epochs`` for their time alone, neither judged nor asked."""
    config = Config(name, "ml-100k", config_dict={**SETTINGS, "seed": seed, **given})
    init_seed(seed, config["reproducibility"])
    data = create_dataset(config)
    train, valid, test = data_preparation(config, data)
    init_seed(seed, config["reproducibility"])
    network = get_model(name)(config, train.dataset).to(config["device"])
    if quick:
        quicken(network)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, network)
    spent = Clock(trainer)
    if epochs:
        trainer.epochs = epochs
        trainer.fit(train, None, verbose=False, saved=False)
        return {"model": name, **spent.told()}
    best = Best(trainer, train.generator, checkpoint, time.monotonic() + 60 * minutes)
    with contextlib.suppress(Enough):
        trainer.fit(train, valid, verbose=False, saved=False, callback_fn=best)
    network.load_state_dict(best.weights)
    own = trainer.evaluate(test, load_best_model=False)
    return {
        "model": name, "seed": seed, "epochs": best.epoch, "heard": best.heard,
        "finished": trainer.cur_step > trainer.stopping_step,
        "own": {metric: float(value) for metric, value in own.items()},
        **answers(network, data, test), **spent.told(),
    }  # fmt: skip


class Clock:
    """Wall and processor seconds of each epoch of training, without its judgement."""

    def __init__(self, trainer: Any) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []
        self.epoch, trainer._train_epoch = trainer._train_epoch, self

    def __call__(self, *args: Any, **named: Any) -> Any:
        wall, processor = time.perf_counter(), time.process_time()
        found = self.epoch(*args, **named)
        self.wall.append(time.perf_counter() - wall)
        self.processor.append(time.process_time() - processor)
        return found

    def told(self) -> dict[str, Any]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"wall": self.wall, "processor": self.processor, "peak_mb": peak}


class Enough(Exception):
    """The time is up."""


class Best:
    """Keeps the weights of the best epoch, and what a training needs to go on where it stood."""

    def __init__(
        self, trainer: Any, shuffle: torch.Generator, checkpoint: Path | None, until: float
    ) -> None:
        self.trainer, self.shuffle, self.checkpoint, self.until = (
            trainer, shuffle, checkpoint, until,
        )  # fmt: skip
        self.epoch, self.heard, self.weights = 0, [], {}
        if checkpoint is not None and checkpoint.exists():
            held = torch.load(checkpoint, weights_only=True)
            trainer.model.load_state_dict(held["network"])
            trainer.optimizer.load_state_dict(held["optimiser"])
            torch.set_rng_state(held["rng"])
            shuffle.set_state(held["shuffle"])
            self.epoch, self.heard, self.weights = held["epoch"], held["heard"], held["weights"]
            trainer.start_epoch, trainer.cur_step = len(self.heard), held["step"]
            trainer.best_valid_score = self.heard[self.epoch - 1]

    def __call__(self, epoch: int, value: float) -> None:
        print(f"epoch {epoch + 1}: {value:.4f}", file=sys.stderr, flush=True)
        trainer = self.trainer
        self.heard.append(float(value))
        if trainer.cur_step == 0:
            self.epoch, self.weights = epoch + 1, copy.deepcopy(trainer.model.state_dict())
        if self.checkpoint is not None:
            held = {
                "network": trainer.model.state_dict(), "optimiser": trainer.optimizer.state_dict(),
                "rng": torch.get_rng_state(), "shuffle": self.shuffle.get_state(),
                "epoch": self.epoch, "heard": self.heard, "weights": self.weights,
                "step": trainer.cur_step,
            }  # fmt: skip
            part = self.checkpoint.with_suffix(".part")
            torch.save(held, part)
            part.replace(self.checkpoint)
        if time.monotonic() > self.until:
            raise Enough


def answers(network: Any, data: Any, test: Any) -> dict[str, Any]:
    """Return users, their last items, and the ranks of these; equal scores count as better."""
    rows = test.dataset.inter_feat
    network.eval()
    with torch.inference_mode():
        given = rows.to(next(network.parameters()).device)
        scores = network.full_sort_predict(given).cpu().numpy().copy()
    scores[:, 0] = -np.inf  # no item
    user, item = rows["user_id"].numpy(), rows["item_id"].numpy()
    own = scores[np.arange(len(item)), item][:, None]
    ranks = (scores >= own).sum(axis=1)
    every = data.inter_feat  # all events but the first of each user, which lists begin with
    first = every["item_length"].numpy() == 1
    users = np.r_[every["user_id"].numpy(), every["user_id"].numpy()[first]]
    items = np.r_[every["item_id"].numpy(), every["item_id_list"][:, 0].numpy()[first]]
    place = np.zeros(data.user_num, np.int64)
    place[user] = np.arange(len(user))
    seen = items != item[place[users]]
    scores[place[users[seen]], items[seen]] = -np.inf
    return {
        "user": data.id2token("user_id", user).tolist(),
        "item": data.id2token("item_id", item).tolist(),
        "ranks": ranks.tolist(),
        "masked": (scores >= own).sum(axis=1).tolist(),
        "seen": int(seen.sum()),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=("SASRec", "GRU4Rec"))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--set", nargs="*", default=[], help="name=whole number")
    parser.add_argument("--epochs", type=int, default=0, help="time these, and no more")
    parser.add_argument("--quick", action="store_true", help="see recbole_quick.py")
    parser.add_argument("--checkpoint", type=Path, help="file to go on from; of one seed")
    parser.add_argument("--minutes", type=float, default=1e6, help="most, of training a seed")
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    SETTINGS["use_gpu"] = options.gpu
    logging.disable(logging.WARNING)
    sys.argv = sys.argv[:1]  # RecBole reads it too
    torch.set_num_threads(1)
    changed = {k: int(v) for k, v in (pair.split("=") for pair in options.set)}
    with tempfile.TemporaryDirectory() as folder:
        SETTINGS["checkpoint_dir"] = folder
        for number in options.seeds.split(","):
            found = main(
                options.model, int(number), changed, options.epochs, options.quick,
                options.checkpoint, options.minutes,
            )  # fmt: skip
            print(json.dumps(found), flush=True)

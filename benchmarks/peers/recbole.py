"""RecBole: BPR, LightGCN and EASE; SASRec and GRU4Rec where events have an order.

These two compute their losses by ``recbole_quick``, equal to RecBole's own up to rounding, so their
times are not RecBole's.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import dok_matrix

from peers import Options, Score, Space, Train

MODELS = {
    "BPR": Space(
        {"embedding_size": (64, 128), "learning_rate": (0.001, 0.005), "epochs": (20, 60)}, True
    ),
    "LightGCN": Space(
        {"n_layers": (2, 3), "learning_rate": (0.001, 0.005), "epochs": (20, 40),
         "reg_weight": (1e-5, 1e-3)}, True,
    ),
    "EASE": Space({"reg_weight": (250.0, 50.0, 500.0, 1000.0, 2000.0)}, largest=12_500),
    "MultiVAE": Space({"learning_rate": (0.001, 0.005), "epochs": (50, 100),
                       "dropout_prob": (0.5, 0.3)}, True),
    "SASRec": Space({"epochs": (5, 10, 20, 40, 80), "dropout": (0.5, 0.2)}, True, ordered=True),
    "GRU4Rec": Space({"epochs": (5, 10, 20, 40, 80), "dropout": (0.3, 0.5)}, True, ordered=True),
}  # fmt: skip
SETTINGS = {
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "use_gpu": False,
    "show_progress": False,
    "state": "ERROR",
    "eval_args": {"split": {"RS": [1.0, 0.0, 0.0]}, "order": "TO", "mode": "full"},
}


def fit(model: str, train: Train, options: Options, seed: int) -> Score:
    logging.disable(logging.WARNING)
    sys.argv = sys.argv[:1]  # RecBole reads it too
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        write(train, Path(folder) / "set" / "set.inter")
        return trained(model, train, named(model, options), seed, folder)


def update(matrix: Any, entries: Any) -> None:
    """What LightGCN calls on a dok_matrix, and newer scipy has under another name."""
    matrix._dict.update(entries)


def trained(model: str, train: Train, options: Options, seed: int, folder: str) -> Score:
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, create_samplers
    from recbole.data.interaction import Interaction
    from recbole.data.utils import get_dataloader
    from recbole.utils import get_model, get_trainer, init_seed
    from recbole_quick import quicken

    torch.set_num_threads(1)
    dok_matrix._update = update
    ordered = MODELS[model].ordered
    own: Options = {**SETTINGS, **options, "seed": seed, "data_path": folder}
    own["checkpoint_dir"] = folder
    if ordered:
        own |= {"loss_type": "CE", "train_neg_sample_args": None}
    if model == "MultiVAE":
        own["train_neg_sample_args"] = None
    config = Config(model, "set", config_dict=own)
    init_seed(seed, True)
    data = create_dataset(config)
    parts = data.build()
    sampler = create_samplers(config, data, parts)[0]
    loader = get_dataloader(config, "train")(config, parts[0], sampler, shuffle=True)
    network = get_model(config["model"])(config, loader.dataset)
    torch.autograd.set_detect_anomaly(False)  # RecBole 1.2.1 turns it on (in sine.py)
    if ordered:
        quicken(network)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, network)
    trainer.fit(loader, None, verbose=False, saved=False, show_progress=False)
    network.eval()
    user_code, item_code = (
        codes(data.field2id_token[field], n)
        for field, n in (("user_id", train.n_users), ("item_id", train.n_items))
    )
    past = histories(train) if ordered else []

    def score(users: np.ndarray, items: np.ndarray) -> np.ndarray:
        out = np.full((len(users), len(items)), np.nan, np.float32)
        known, there = user_code[users] > 0, item_code[items] > 0
        if known.any():
            query = {"user_id": torch.as_tensor(user_code[users[known]])}
            if ordered:
                rows = [item_code[past[u]][-50:] for u in users[known]]
                padded = np.stack([np.pad(row, (0, 50 - len(row))) for row in rows])
                query["item_id_list"] = torch.as_tensor(padded)
                query["item_length"] = torch.as_tensor([len(row) for row in rows])
            with torch.inference_mode():
                found = network.full_sort_predict(Interaction(query)).reshape(known.sum(), -1)
            every = found.numpy()[:, item_code[items[there]]]
            out[np.ix_(known, there)] = every
        return out

    return score


def write(train: Train, file: Path) -> None:
    """Write the events as RecBole reads them; the place of a row stands for its time."""
    file.parent.mkdir()
    rows = zip(train.user.tolist(), train.item.tolist(), strict=True)
    lines = [f"{u}\t{i}\t{t}\n" for t, (u, i) in enumerate(rows)]
    file.write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "".join(lines))


def named(model: str, options: Options) -> Options:
    """Return the options under the names that RecBole has for them in this model."""
    dropout = options.get("dropout")
    if dropout is None:
        return options
    names = ("hidden_dropout_prob", "attn_dropout_prob") if model == "SASRec" else ("dropout_prob",)
    return {k: v for k, v in options.items() if k != "dropout"} | dict.fromkeys(names, dropout)


def codes(tokens: np.ndarray, n: int) -> np.ndarray:
    """(n,) RecBole's code of each of ours, 0 = none."""
    found = np.zeros(n, np.int64)
    found[np.array(tokens[1:], dtype=np.int64)] = np.arange(1, len(tokens))
    return found


def histories(train: Train) -> list[np.ndarray]:
    """Items of each user, oldest first."""
    order = np.argsort(train.user, kind="stable")
    ends = np.cumsum(np.bincount(train.user, minlength=train.n_users))[:-1]
    return np.split(train.item[order], ends)

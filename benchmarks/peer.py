"""Fits one model of one peer and writes its answers: run by quality.py, in the peer's environment.

    <the peer's python> benchmarks/peer.py PEER FOLDER SECONDS

FOLDER holds train.npz, ask.npz and job.json; the answers go there: answers.npz (lists, or
predicted ratings) or scores.npy (all candidates, for sampled protocols), and cost.json. Processor
seconds are limited by the system, so that a trial costs the same however busy the machine is.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
from peers import Train, lists, scores


def main(name: str, folder: Path, seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    job = json.loads((folder / "job.json").read_text())
    with np.load(folder / "train.npz") as held:
        arrays = {part: held[part] for part in ("user", "item", "rating")}
    train = Train(**arrays, **job["train"])
    with np.load(folder / "ask.npz") as held:
        users, items = held["users"], held["items"]
    peer = importlib.import_module(f"peers.{name}")
    began = time.process_time()
    model = peer.fit(job["model"], train, job["options"], job["seed"])
    fitted = time.process_time()
    if job["answer"] == "ratings":
        np.savez(folder / "answers.npz", ratings=model(users, items))
    elif job["answer"] == "scores":
        shape = (len(users), len(items))
        out = np.lib.format.open_memmap(folder / "scores.npy", "w+", np.float32, shape)
        at = 0
        for found in scores(model, train, users, items):
            out[at : at + len(found)] = found
            at += len(found)
        out.flush()
    else:
        found = [lists(part, job["k"]) for part in scores(model, train, users, items)]
        np.savez(folder / "answers.npz", lists=np.concatenate(found))
    cost = {"fit": fitted - began, "answer": time.process_time() - fitted}
    cost["peak_mb"] = peak()
    (folder / "cost.json").write_text(json.dumps(cost))


def peak() -> float:
    """Return the most memory that this program held, in MB; getrusage counts its parent's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

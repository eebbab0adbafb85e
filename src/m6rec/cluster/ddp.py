"""Networks trained by several machines with Ray Train: each has a part of every batch."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig

from m6rec.cluster.shards import own
from m6rec.compiled import threads

T = TypeVar("T")
TRIES = 3  # times that a training is begun again after a process or machine was lost


def together(function: Callable[..., T], *arguments: Any) -> T:
    """Call ``function(*arguments, group)`` on every machine of the cluster that was joined, in
    processes that exchange tensors over gloo; return what the first returns.

    One process a machine, with as many threads as the smallest of them has CPUs: what is
    computed once for a batch, such as the vectors of negatives, is so once a machine. The
    arguments are sent once. Where a process is lost all begin again, from the checkpoint if
    there is one. Raises the M6RecError of a process.
    """
    from ray.train.torch import TorchConfig, TorchTrainer

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    cpus = [int(held["CPU"]) for held in alive if held.get("CPU", 0) >= 1]
    shared = ray.put((function, arguments))
    with tempfile.TemporaryDirectory() as folder:
        logging.getLogger("ray.train").setLevel(logging.CRITICAL)
        trainer = TorchTrainer(
            _process,
            train_loop_config={"shared": [shared], "threads": min(cpus)},
            scaling_config=ScalingConfig(
                num_workers=len(cpus),
                resources_per_worker={"CPU": min(cpus)},
                placement_strategy="SPREAD",
            ),
            torch_config=TorchConfig(backend="gloo"),
            run_config=RunConfig(
                storage_path=folder, failure_config=FailureConfig(max_failures=TRIES)
            ),
        )
        try:
            found: T = trainer.fit().return_value  # type: ignore[attr-defined]
        except Exception as error:
            raise own(error) from None
    return found


def _process(given: dict[str, Any]) -> Any:
    """What each process does; only what the first returns is sent back."""
    import torch

    from m6rec.training.group import Group

    context = ray.train.get_context()
    group = Group(context.get_world_rank(), context.get_world_size())
    function, arguments = ray.get(given["shared"][0])
    torch.set_num_threads(given["threads"])
    with threads(given["threads"]):
        found = function(*arguments, group)
    return found if group.rank == 0 else None

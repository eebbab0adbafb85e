"""Networks trained by several machines with Ray Train: each has a part of every batch."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

import ray
import ray.util.client
from ray.train import FailureConfig, RunConfig, ScalingConfig

from m6rec.cluster.nodes import own
from m6rec.compiled import threads

T = TypeVar("T")
TRIES = 3  # times that a training is begun again after a process or machine was lost


def cpus() -> list[int]:
    """Return the CPUs of each machine that can train; none from outside of a cluster, where Ray
    Train cannot be driven."""
    if ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
        return []
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return [int(held["CPU"]) for held in alive if held.get("CPU", 0) >= 1]


def together(function: Callable[..., T], *arguments: Any) -> T:
    """Call ``function(*arguments, group)`` on every machine of the cluster that was joined, in
    processes that exchange tensors over gloo; return what the first returns.

    One process a machine, with as many threads as the smallest of them has CPUs: what is
    computed once for a batch, such as the vectors of negatives, is so once a machine. The
    arguments are sent once. Where a process is lost all begin again, on the machines that are
    left, from the checkpoint if there is one. Raises the M6RecError of a process.
    """
    from ray.train.torch import TorchConfig, TorchTrainer

    each = cpus()
    shared = ray.put((function, arguments))
    with tempfile.TemporaryDirectory() as folder:
        logging.getLogger("ray.train").setLevel(logging.CRITICAL)
        trainer = TorchTrainer(
            _process,
            train_loop_config={"shared": [shared], "threads": min(each)},
            scaling_config=ScalingConfig(
                num_workers=(1, len(each)),  # type: ignore[arg-type]  # those left, if one is lost
                resources_per_worker={"CPU": min(each)},
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
            failed = getattr(error, "worker_failures", {})  # by rank
            raise own(next(iter(failed.values()), error)) from error
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

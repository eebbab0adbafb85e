"""Where a run shows its scalars while it trains: TensorBoard event files, Weights & Biases."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from m6rec.errors import ConfigError

TrackerName = Literal["tensorboard", "wandb"]
FLUSH = 10.0  # seconds until a scalar is on disk, for whoever watches a training
PRIVATE = ("data", "base", "test")  # tables of an experiment that do not leave the machine


class Tracker(Protocol):
    """Takes scalars over steps. ``name`` is a path such as "train/0-pct/holdout/books"."""

    def scalar(self, name: str, value: float, step: int) -> None: ...


class TensorBoard:
    """An event file in ``folder``, whole once the context ends."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder), flush_secs=FLUSH)

    def scalar(self, name: str, value: float, step: int) -> None:
        summary = self._summary(value=[self._summary.Value(tag=name, simple_value=value)])
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._writer.close()


class WeightsAndBiases:
    """A W&B run; its mode, key, entity, project (by default m6rec) and folder come from WANDB_*
    variables. A step counts within the path above a name, since W&B's own only ever grows."""

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        import wandb

        quiet = wandb.Settings(
            silent=True, console="off", disable_git=True, disable_code=True, save_code=False
        )
        try:
            local = wandb.setup().settings.mode in ("offline", "dryrun", "disabled")
            if not local and not wandb.login(prompt=False):
                raise ConfigError(
                    "track: wandb finds no API key; set WANDB_API_KEY, or WANDB_MODE=offline to "
                    "keep the run on this machine"
                )
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "m6rec"),
                dir=os.environ.get("WANDB_DIR", str(folder)),
                name=name,
                config={key: value for key, value in config.items() if key not in PRIVATE},
                settings=quiet,
            )
        except wandb.Error as error:
            raise ConfigError(f"track: wandb: {' '.join(str(error).split())}") from error
        self._defined: set[str] = set()

    def scalar(self, name: str, value: float, step: int) -> None:
        counter = f"{name.rpartition('/')[0]}/step".lstrip("/")
        if name not in self._defined:
            self._run.define_metric(counter, hidden=True)
            self._run.define_metric(name, step_metric=counter)
            self._defined.add(name)
        self._run.log({name: value, counter: step})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._run.finish(exit_code=0 if kind is None else 1)


@contextmanager
def opened(
    names: Sequence[TrackerName], folder: Path, name: str, config: Mapping[str, Any]
) -> Iterator[tuple[Tracker, ...]]:
    """Yield the named trackers of the run that is being written in ``folder``; they end with the
    context, and are told of a failure.

    TensorBoard writes into the run, W&B beside it, in ``wandb``: its files hold absolute links,
    and are synced later. Raises ConfigError for a package that is not installed.
    """
    for each in names:
        try:
            importlib.import_module(each)
        except ImportError:
            raise ConfigError(
                f"track: {each} is not installed; install it with `pip install {each}`, or both "
                "trackers with the extra: `pip install '.[track]'`"
            ) from None
    with ExitStack() as stack:
        found: list[Tracker] = []
        for each in dict.fromkeys(names):
            if each == "tensorboard":
                found.append(stack.enter_context(TensorBoard(folder / "tensorboard")))
            else:
                found.append(stack.enter_context(WeightsAndBiases(folder.parent, name, config)))
        yield tuple(found)

"""The machines of a Ray cluster: connecting to them, and pieces of work sent there."""

from __future__ import annotations

import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

import ray
from ray._private import worker as driver
from ray.exceptions import RayError, RayTaskError

from m6rec.compiled import threads
from m6rec.errors import ClusterError, ConfigError, M6RecError

T = TypeVar("T")
TRIES = 10  # times that a piece is begun again after its process or machine was lost
AHEAD = 2  # pieces a CPU that are sent before the first result is taken
_print: Any = getattr(driver, "print_to_stdstream", None)  # Ray's own, for it has no setting


def connect(address: str) -> None:
    """Join the cluster at an address: "auto" = that of $RAY_ADDRESS, or the one that this
    machine belongs to, or else this machine alone; "ray://host:port" or "host:port" = that one.
    Joined already: nothing.

    From here on, what Ray has to say of machines (lost ones, say) goes to stderr.
    """
    if _print:
        driver.print_to_stdstream = _complain
    if ray.is_initialized():
        return
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or "auto"
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address != "auto":
            _knock(address)
            ray.init(address=address, **quiet)
            return
        try:
            ray.init(address="auto", **quiet)
        except ConnectionError:
            ray.init(include_dashboard=False, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f'cluster "{address}": cannot be joined ({error}); write "auto" or "ray://host:10001", '
            "and start it there with `ray start --head`"
        ) from None


def _complain(data: dict[str, Any], *more: Any, **options: Any) -> None:
    """Print a message of Ray on stderr; by itself it takes stdout, where programs read results."""
    _print({**data, "is_err": True}, *more, **options)


def _knock(address: str) -> None:
    """Raise OSError at once where nobody answers; Ray would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("it has no host and port")
    socket.create_connection((host, int(port)), timeout=5).close()


class RayPool:
    """The pool of the cluster that was joined: a piece is a task of one CPU and one thread.

    A task whose process or machine is lost is begun again elsewhere. What is shared lives in the
    memory of the driver's machine, and is copied once to each machine that reads it.
    size: by default the CPUs of the cluster now; machines that join later get pieces too.
    """

    def __init__(self, size: int | None = None) -> None:
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        self.size = size or max(1, int(there.get("CPU", 1)))

    def share(self, value: T) -> T:
        return cast(T, ray.put(value))

    def map(self, function: Callable[..., T], pieces: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """Raises the M6RecError that a function raised; ClusterError for what else it raised, and
        for a piece lost ``TRIES`` times."""
        begun: deque[Any] = deque()
        for piece in pieces:
            begun.append(_work.remote(function, *piece))
            if len(begun) >= AHEAD * self.size:
                yield _result(begun.popleft())
        while begun:
            yield _result(begun.popleft())

    @property
    def machines(self) -> int:
        """How many machines can train one network together."""
        from m6rec.cluster import ddp  # loads torch

        return len(ddp.cpus())

    def together(self, function: Callable[..., T], *arguments: Any) -> T:
        """Return what function(*arguments, group) returns in the first of the machines."""
        from m6rec.cluster import ddp

        return ddp.together(function, *arguments)


@ray.remote(num_cpus=1, max_retries=TRIES)
def _work(function: Callable[..., T], *piece: Any) -> T:
    with threads(1):
        return function(*piece)


def _result(task: Any) -> Any:
    try:
        return ray.get(task)
    except RayError as error:
        raise own(error) from error


def own(error: BaseException) -> M6RecError:
    """Return the M6RecError that a worker raised, from what Ray wraps it in; of anything else, one
    that says what it was."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, M6RecError) and not isinstance(inner, RayError):  # Ray's can be both
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    lines = str(error).strip().splitlines() or [""]
    wrapped = isinstance(error, RayTaskError)  # a traceback, at its end what is wrong
    told = lines[-1] if wrapped else f"{type(error).__name__}: {lines[0]}"
    return ClusterError(
        f"the cluster could not do a piece of work ({told}); see that its machines have memory "
        "enough, this version of m6rec and what a model of your own imports, and repeat the "
        "command: it goes on"
    )

"""Where independent pieces of work are done: in this process, or on the machines of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np

from m6rec.arrays import Array, Ids

T = TypeVar("T")


class Pool(Protocol):
    """size: how many pieces are done at once; 1 = do not cut the work at all."""

    @property
    def size(self) -> int: ...

    def share(self, value: T) -> T:
        """Return what stands for a large value among the arguments of ``map``.

        On a cluster that is a handle, which each machine reads once for all its pieces.
        """

    def map(self, function: Callable[..., T], pieces: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """Yield function(*piece) of every piece, in order.

        function: one that can be imported. A shared value stands for itself where it is an
        argument, not inside one. Pieces are taken from the iterable as
        they are begun; arrays in arguments and results may be read-only.
        """


class Here:
    """The pool of one process: pieces are done in turn, with all threads of the run."""

    size = 1

    def share(self, value: T) -> T:
        return value

    def map(self, function: Callable[..., T], pieces: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        return (function(*piece) for piece in pieces)


HERE = Here()


def cut(cost: Array, n: int) -> Ids:
    """Return (n + 1,) bounds of n runs of rows (R,) of about equal cost; fewer of few rows."""
    total = np.r_[0.0, np.cumsum(cost)]
    bounds = np.searchsorted(total, np.linspace(0, total[-1], n + 1))
    bounds[0], bounds[-1] = 0, len(cost)
    found: Ids = np.unique(bounds) if len(cost) else bounds[[0, -1]]
    return found

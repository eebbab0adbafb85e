"""Where independent pieces of work are done: in this process, or on the machines of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Pool(Protocol):
    """size: how many pieces are worth making; 1 = do not cut the work at all."""

    @property
    def size(self) -> int: ...

    def share(self, value: T) -> T:
        """Return what stands for a large value among the arguments of ``map``.

        On a cluster that is a handle, which each machine reads once for all its pieces.
        """

    def map(self, function: Callable[..., T], pieces: Sequence[tuple[Any, ...]]) -> list[T]:
        """Return function(*piece) of every piece, in order; ``function`` is a module's own."""


class Here:
    """The pool of one process: pieces are done in turn, with all threads of the run."""

    size = 1

    def share(self, value: T) -> T:
        return value

    def map(self, function: Callable[..., T], pieces: Sequence[tuple[Any, ...]]) -> list[T]:
        return [function(*piece) for piece in pieces]

"""What several steps of one answer make of the same query, made once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Holds what a model last made of an object, such as a query; nobody may change it.

    Copies of a model share the holder, so it holds whose value it is; pickled ones are empty.
    """

    def __init__(self) -> None:
        self._held: tuple[weakref.ref[object], object, T] | None = None

    def held(self, model: object, source: object) -> T | None:
        """Return what was made of the source, which has to be the same object, or None."""
        held = self._held
        if held is None or held[1] is not source or held[0]() is not model:
            return None
        return held[2]

    def of(self, model: object, source: object, make: Callable[[], T]) -> T:
        """Return what is held of the source, or else what ``make`` makes of it."""
        found = self.held(model, source)
        if found is None:
            found = make()
            self._held = weakref.ref(model), source, found
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Once, ()

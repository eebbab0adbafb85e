"""Group commit: writes that wait for each other share a transaction, so one fsync."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from m6rec.errors import StoreError
from m6rec.store.database import Database

Task = Callable[[sa.Connection, Sequence[Any]], Sequence[Any]]
MOST = 512  # writes in one transaction


class _Write:
    """One caller's write: its task and argument, then what came of it.

    woken: it is done, or it is its caller's turn to commit.
    """

    __slots__ = ("argument", "done", "error", "result", "task", "woken")

    def __init__(self, task: Task, argument: Any) -> None:
        self.task = task
        self.argument = argument
        self.woken = threading.Event()
        self.done = False
        self.result: Any = None
        self.error: Exception | None = None


class Writer:
    """Commits what waits together, each acknowledged after the commit.

    There is no thread: of the callers that wait, one commits for all. A task gets the arguments
    of all writes in a row that have it, and returns a result for each.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Write] = deque()
        self._guard = threading.Lock()
        self._busy = False

    def write(self, task: Task, argument: Any) -> Any:
        """Return the task's result for this argument, once it is durable."""
        mine = _Write(task, argument)
        with self._guard:
            self._waiting.append(mine)
            wait, self._busy = self._busy, True
        if wait:
            mine.woken.wait()
        if not mine.done:
            self._lead()
        if mine.error is not None:
            raise mine.error
        return mine.result

    def _lead(self) -> None:
        """Commit what waits by now, then wake its callers and the next one to commit."""
        with self._guard:
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST))]
        try:
            self._commit(taken)
        finally:
            with self._guard:
                following = self._waiting[0] if self._waiting else None
                self._busy = following is not None
            for write in taken:
                if not write.done:
                    write.error = StoreError("the write was interrupted")
                    write.done = True
                write.woken.set()
            if following is not None:
                following.woken.set()

    def _commit(self, writes: Sequence[_Write]) -> None:
        """Commit together; where a task fails, each alone, so that only its caller hears of it.

        If the commit itself fails, nobody knows whether it counts: then it is not tried again.
        """
        stage = "begin"
        try:
            with self._database.said("cannot be written"), self._database.transaction() as at:
                stage = "tasks"
                for task, group in groupby(writes, key=lambda write: write.task):
                    same = list(group)
                    results = task(at, [write.argument for write in same])
                    for write, result in zip(same, results, strict=True):
                        write.result = result
                stage = "commit"
        except Exception as error:
            if len(writes) > 1 and stage == "tasks":
                for write in writes:
                    self._commit([write])
                return
            for write in writes:
                write.error = error if len(writes) == 1 else StoreError(str(error))
        for write in writes:
            write.done = True

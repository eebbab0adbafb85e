"""Requests that wait for the same worker are scored together."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence

from m6rec.compiled import threads
from m6rec.serving.asks import Answer, Ask

Waiting = tuple[Ask, asyncio.AbstractEventLoop, "asyncio.Future[Answer]"]
Recommend = Callable[[Sequence[Ask]], Sequence[Answer | Exception]]

TOGETHER = 32  # requests of one batch


class Batcher:
    """One thread that takes all requests that wait, up to TOGETHER, and answers them at once.

    An idle worker answers a request alone and at once; under load, batches form by themselves.
    n_threads: of the kernels and BLAS.
    """

    def __init__(self, recommend: Recommend, n_threads: int = 1) -> None:
        self.recommend, self.n_threads = recommend, n_threads
        self._waiting: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="recommend", daemon=True)
        self._thread.start()

    async def ask(self, ask: Ask) -> Answer:
        """Return the answer, or raise what is wrong with the request."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.put((ask, loop, future))
        return await future

    def close(self) -> None:
        """Answer what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        with threads(self.n_threads):
            while (batch := self._batch()) is not None:
                asks = [ask for ask, _, _ in batch]
                answers = self._answers(asks)
                for (_, loop, future), answer in zip(batch, answers, strict=True):
                    loop.call_soon_threadsafe(_resolve, future, answer)

    def _answers(self, asks: Sequence[Ask]) -> Sequence[Answer | Exception]:
        """Answer together, or where that fails one by one, so that each has its own error."""
        try:
            return self.recommend(asks)
        except Exception as error:
            if len(asks) == 1:
                return [error]
            return [answer for ask in asks for answer in self._answers([ask])]

    def _batch(self) -> list[Waiting] | None:
        """The requests that wait, at least one; None at the end."""
        first = self._waiting.get()
        if first is None:
            return None
        batch = [first]
        while len(batch) < TOGETHER:
            try:
                other = self._waiting.get_nowait()
            except queue.Empty:
                break
            if other is None:
                self._waiting.put(None)
                break
            batch.append(other)
        return batch


def _resolve(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    if future.cancelled():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)

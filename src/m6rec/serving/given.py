"""What was recommended, written down in the background so that no answer waits for it."""

from __future__ import annotations

import logging
import queue
import threading

from m6rec.errors import M6RecError
from m6rec.serving.asks import Answer
from m6rec.serving.live import MICRO
from m6rec.store import Given, Store

PAUSE = 0.2  # seconds between two writes
LONGEST = 100_000  # rows that wait at most; more are dropped

log = logging.getLogger("m6rec")


class Journal:
    """Writes the items of answers to the store, many at once, from a thread of its own.

    Up to PAUSE seconds of them are lost when the process is killed; events never pass here.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._waiting: queue.SimpleQueue[tuple[Answer, float]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    def note(self, answer: Answer, now: float) -> None:
        """Have the items of an answer written down, if it is known who got them."""
        if answer.user is None:
            return
        if self._waiting.qsize() * max(1, len(answer.items)) > LONGEST:
            log.warning(
                "request %s is not written down: the store does not keep up", answer.request
            )
            return
        self._waiting.put((answer, now))

    def close(self) -> None:
        """Write what waits, and end."""
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        while True:
            ending = self._stop.wait(PAUSE)
            rows: list[Given] = []
            while not self._waiting.empty():
                rows += _rows(*self._waiting.get())
            if rows:
                try:
                    self.store.add_given(rows)
                except M6RecError as error:
                    log.warning("recommendations not written down: %s", error)
                except Exception as error:  # whatever it is, the next may go well
                    log.exception("recommendations not written down", exc_info=error)
            if ending:
                return


def _rows(answer: Answer, now: float) -> list[Given]:
    return [
        Given(
            request=answer.request,
            user=answer.user or "",
            item=item.item,
            position=place,
            time=int(now * MICRO),
            run=answer.run,
            arm=answer.arm,
            explored=item.explored,
            score=item.score,
        )
        for place, item in enumerate(answer.items)
    ]

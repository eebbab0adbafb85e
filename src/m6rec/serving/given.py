"""What was recommended, written down in the background so that no answer waits for it."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from itertools import count

from m6rec.errors import DataError, M6RecError
from m6rec.serving.asks import Answer
from m6rec.serving.live import MICRO
from m6rec.store import Given, Store

PAUSE = 0.2  # seconds between two writes
Row = tuple[str, str, int, str, str, str, bool, float]  # one item of an answer
LONGEST = 100_000  # rows that wait at most; more are dropped

log = logging.getLogger("m6rec")


class Journal:
    """Writes the items of answers to the store, many at once, from a thread of its own.

    Up to PAUSE seconds of them are lost when the process is killed; events never pass here.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._waiting: queue.SimpleQueue[list[Row]] = queue.SimpleQueue()
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
        about = answer.request, answer.user, int(now * MICRO), answer.run, answer.arm
        self._waiting.put([(*about, i.item, i.explored, i.score) for i in answer.items])

    def close(self) -> None:
        """Write what waits, and end."""
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        while True:
            ending = self._stop.wait(PAUSE)
            answers: list[list[Given]] = []
            while not self._waiting.empty():
                answers.append(list(map(_given, self._waiting.get(), count())))
            self._add(answers)
            if ending:
                return

    def _add(self, answers: Sequence[Sequence[Given]]) -> None:
        """Write together, or where one does not fit each alone, so that only it is left out."""
        if not answers:
            return
        try:
            self.store.add_given(row for rows in answers for row in rows)
        except DataError as error:
            if len(answers) == 1:
                log.warning("a recommendation is not written down: %s", error)
                return
            for rows in answers:
                self._add([rows])
        except M6RecError as error:
            log.warning("recommendations not written down: %s", error)
        except Exception as error:  # whatever it is, the next may go well
            log.exception("recommendations not written down", exc_info=error)


def _given(row: Row, position: int) -> Given:
    request, user, time, run, arm, item, explored, score = row
    return Given(
        request=request, user=user, item=item, position=position, time=time, run=run,
        explored=explored, arm=arm, score=score,
    )  # fmt: skip

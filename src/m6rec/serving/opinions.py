"""The opinion desk inside a worker: a thread that steps it, and the way to it for the doors."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from fastapi import HTTPException

from m6rec.opinion.config import OpinionConfig
from m6rec.opinion.desk import Desk
from m6rec.serving.service import Service
from m6rec.store import Item, Store

EVERY = 2.0  # seconds between two looks at what came in
NOT_HERE = "this service watches no opinions; start it with `m6rec serve --opinion FILE`"
log = logging.getLogger("m6rec.opinion")


class OpinionService:
    """Opened and closed with the worker. Any number of workers may run: one at a time watches."""

    def __init__(self, store: Store, path: str | Path) -> None:
        self.desk = Desk(store, OpinionConfig.read(path))
        self._stop = threading.Event()
        self._new = threading.Event()
        self._thread = threading.Thread(target=self._work, name="opinions", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Finish the step that is being made."""
        self._stop.set()
        self._new.set()
        self.desk.end()
        self._thread.join()

    def wake(self) -> None:
        """Say that something came in."""
        self._new.set()

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                done = self.desk.step()
                if done.read or done.raised:
                    log.info("%s documents read, %s alerts raised", done.read, done.raised)
            except Exception as error:  # whatever it is, the next step may go well
                log.exception("watching opinions failed", exc_info=error)
                self._stop.wait(EVERY)
            self._new.wait(EVERY)
            self._new.clear()


def desk(here: Service) -> Desk:
    """Return the desk; 404 where the service has none."""
    if here.opinions is None:
        raise HTTPException(404, NOT_HERE)
    return here.opinions.desk


def keep_items(here: Service, rows: list[tuple[str, int, str, str]]) -> None:
    """Make documents (key, unix seconds, title, text) items of the run that is served, if it has
    their domain: its recommendations then hold them too."""
    domain = desk(here).config.domain
    if domain in here.engine.live.domains:
        here.store.put_items(
            Item(key=f"{domain}/{key}", title=title, text=text, time=at * 1_000_000)
            for key, at, title, text in rows
        )


def now() -> int:
    """Return the time in unix seconds."""
    return int(time.time())

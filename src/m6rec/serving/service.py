"""What one worker process holds: the engine, its batcher, and the watch over CURRENT."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from m6rec import artifacts, config
from m6rec.errors import M6RecError, RunError
from m6rec.experiment import RetrainConfig
from m6rec.serving.asks import Answer, Ask
from m6rec.serving.batcher import Batcher
from m6rec.serving.drift import drift
from m6rec.serving.engine import Engine
from m6rec.serving.schedule import Schedule
from m6rec.serving.settings import Settings
from m6rec.store import Store

T = TypeVar("T")
HOUR = 3600.0  # seconds between two looks at drift
log = logging.getLogger("m6rec")


class Service:
    """Opened at start, closed at the end of a worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.started = time.time()
        self.store = Store.open(settings.store)
        self.path = artifacts.resolve(settings.run)
        rival = artifacts.resolve(settings.rival) if settings.rival else None
        self.engine = Engine(self.store, self.path, rival, settings.share)
        self.batcher = Batcher(self.engine.recommend, settings.threads)
        retraining = self._retraining()
        self.schedule = Schedule(retraining, self.path.parent, self.store) if retraining else None
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._follow, name="watch", daemon=True)
        self._watch.start()

    def close(self) -> None:
        """Answer what waits, write down what is to be written, and let go of the store."""
        self._stop.set()
        self._watch.join()
        if self.schedule:
            self.schedule.close()
        self.batcher.close()
        self.engine.close()
        self.store.close()

    async def recommend(self, ask: Ask) -> Answer:
        """Answer together with whoever else waits."""
        return await self.batcher.ask(ask)

    async def run(self, work: Callable[..., T], *args: Any, **named: Any) -> T:
        """Do something that blocks without holding up other requests."""
        return await asyncio.to_thread(work, *args, **named)

    def reload(self, run: str = "") -> str:
        """Serve the run that CURRENT names now, or another of the same folder; returns its name.
        RunError, and the old one stays, where it is broken."""
        path = self.path.parent / run if run else artifacts.resolve(self.settings.run)
        if run and Path(run).name != run:
            raise RunError(f'"{run}" is not the name of a run')
        name = self.engine.reload(path)
        self.path = path
        log.info("serving run %s", name)
        return name

    def _retraining(self) -> RetrainConfig | None:
        """What the run's own TOML says of retraining, None where nothing asks for it."""
        table = self.engine.live.recommender.fitted.config.get("serve", {}).get("retrain", {})
        found = config.from_table(RetrainConfig, table, "serve.retrain")
        return found if found.every_hours or found.after_events else None

    def _follow(self) -> None:
        """Serve whatever CURRENT names, as soon as it changes; retrain when it is time."""
        follows = Path(self.settings.run).name == "current"
        refused = named = self.path
        looked = time.monotonic()
        while not self._stop.wait(self.settings.poll):
            try:
                if time.monotonic() >= looked + HOUR:
                    looked = time.monotonic()
                    for found in drift(self.store, self.engine.live, time.time_ns() // 1000):
                        for warning in found["warnings"]:
                            log.warning("drift: %s", warning)
                if self.schedule:
                    self.schedule.act(self.settings.run, self.settings.store)
                named = artifacts.resolve(self.settings.run) if follows else self.path
                if named not in (refused, self.path):
                    self.reload()
            except M6RecError as error:
                refused = named
                log.error("the old run stays: %s", error)

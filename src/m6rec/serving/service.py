"""What one worker process holds: the engine, its batcher, and the watch over CURRENT."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numba

from m6rec import artifacts, config
from m6rec.errors import RunError
from m6rec.experiment import RetrainConfig
from m6rec.serving.asks import Answer, Ask
from m6rec.serving.batcher import Batcher
from m6rec.serving.drift import drift
from m6rec.serving.engine import Engine
from m6rec.serving.live import Live
from m6rec.serving.monitor import Monitor
from m6rec.serving.schedule import Schedule
from m6rec.serving.settings import Settings
from m6rec.store import Event, Hits, Store

if TYPE_CHECKING:
    from m6rec.serving.opinions import OpinionService

T = TypeVar("T")
REASONERS = 8  # threads that make reasons, beside that of the lists
HOUR = 3600.0  # seconds between two looks at drift
KEPT = 90 * 86_400_000_000  # microseconds for which it is known what was recommended
log = logging.getLogger("m6rec")


class Service:
    """Opened at start, closed at the end of a worker."""

    def __init__(self, settings: Settings, monitor: Monitor) -> None:
        self.settings, self.monitor = settings, monitor
        self.started = time.time()
        self.store = Store.open(settings.store)
        self.path = artifacts.resolve(settings.run)
        self.follows = Path(settings.run).name == "current" and not Path(settings.run).exists()
        self._reloading = threading.Lock()
        self._counting = threading.Lock()
        self._hits: dict[int, tuple[Sequence[Hits], float]] = {}  # span → hits, good until
        rival = artifacts.resolve(settings.rival) if settings.rival else None
        self.engine = Engine(self.store, self.path, rival, settings.share, settings.scored())
        self.batcher = Batcher(self.engine.recommend, settings.threads)
        n = min(settings.threads, numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        self._reasoners = ThreadPoolExecutor(REASONERS, "reasons", numba.set_num_threads, (n,))
        retraining = self._retraining()
        self.schedule = Schedule(retraining, self.path.parent, self.store) if retraining else None
        self.opinions: OpinionService | None = None
        _settle()
        self._stop = threading.Event()
        self._watch = threading.Thread(target=self._follow, name="watch", daemon=True)
        self._watch.start()

    def close(self) -> None:
        """Answer what waits, write down what is to be written, and let go of the store."""
        self._stop.set()
        self._watch.join()
        if self.opinions:
            self.opinions.close()
        if self.schedule:
            self.schedule.close()
        self.batcher.close()
        self._reasoners.shutdown()
        self.engine.close()
        self.store.close()

    async def recommend(self, ask: Ask) -> Answer:
        """Answer together with whoever else waits; reasons hold up nobody else."""
        answer = await self.batcher.ask(ask)
        if answer.reasons is not None:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._reasoners, answer.explained)
        self.monitor.answered(answer.history)
        return answer

    async def add_events(self, events: Sequence[Event]) -> int:
        """Store events; once this returns, they are on disk. Returns how many were new."""
        added = await self.run(self.store.add_events, events)
        self.monitor.took(len(events))
        return added

    async def run(self, work: Callable[..., T], *args: Any, **named: Any) -> T:
        """Do something that blocks without holding up other requests."""
        return await asyncio.to_thread(work, *args, **named)

    async def live(self) -> Live:
        """Return the run that answers, with every item that the store has."""
        return await self.run(lambda: self.engine.live)

    def hits(self, span: int) -> Sequence[Hits]:
        """Return what became of what was given in the past so many microseconds; counted anew
        once it costs a twentieth of the time at most."""
        with self._counting:
            found, until = self._hits.get(span, ((), 0.0))
            began = time.monotonic()
            if began >= until:
                found = self.store.hits(time.time_ns() // 1000 - span)
                took = time.monotonic() - began
                self._hits[span] = found, began + 20 * took
            return found

    def reload(self, run: str = "") -> str:
        """Serve the run that CURRENT names now, or make another of the folder the current one, for
        all workers; returns its name. RunError, and the old one stays, where it is broken."""
        if run and not self.follows:
            raise RunError("this service serves one run; start it with `m6rec serve current`")
        if run and run not in artifacts.runs(self.path.parent):
            raise RunError(f'there is no run "{run}"')
        path = self.path.parent / run if run else artifacts.resolve(self.settings.run)
        with self._reloading:
            name = self.engine.reload(path)
            self.path = path
            _settle()
        if run:
            artifacts.set_current(path)
        log.info("serving run %s", name)
        return name

    def _retraining(self) -> RetrainConfig | None:
        """What the run's own TOML says of retraining, None where nothing asks for it."""
        table = self.engine.live.recommender.fitted.config.get("serve", {}).get("retrain", {})
        found = config.from_table(RetrainConfig, table, "serve.retrain")
        return found if found.every_hours or found.after_events else None

    def _follow(self) -> None:
        """Serve whatever CURRENT names, as soon as it changes; retrain when it is time."""
        named, looked = self.path, time.monotonic()
        while not self._stop.wait(self.settings.poll):
            try:
                if time.monotonic() >= looked + HOUR:
                    looked = time.monotonic()
                    self._tidy()
                if self.schedule:
                    self.schedule.act(self.settings.run, self.settings.store)
                now = artifacts.resolve(self.settings.run) if self.follows else self.path
                if now not in (named, self.path):
                    self.reload()
                named = now
            except RunError as error:
                named = now
                log.error("the old run stays: %s", error)
            except Exception as error:  # whatever it is, the next look may go well
                log.exception("looking after the run failed", exc_info=error)

    def _tidy(self) -> None:
        """Say what has drifted, and forget what was recommended long ago."""
        self.store.forget_given(time.time_ns() // 1000 - KEPT)
        for found in drift(self.store, self.engine.live, time.time_ns() // 1000):
            for warning in found["warnings"]:
                log.warning("drift: %s", warning)


def _settle() -> None:
    """Have the garbage collector leave alone what stays for as long as the run does: looking
    through it takes a tenth of a second, in which nobody is answered."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()

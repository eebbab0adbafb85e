"""When to train again, and the process that does it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from m6rec.errors import RunError
from m6rec.experiment import RetrainConfig
from m6rec.store import Store

LOCK = ".retrain"

log = logging.getLogger("m6rec")


@contextmanager
def alone(folder: Path, store: Store) -> Iterator[None]:
    """Hold the lock of a folder of runs, and leave in it when this was, and the store's newest
    event then; RunError where another process holds it."""
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{folder}: a retraining is going on already") from None
        state = json.dumps({"time": time.time(), "event": store.last_event()})
        file.seek(0)
        file.truncate()
        file.write(state)
        file.flush()
        yield


class Schedule:
    """Knows when a retraining is due, and starts it; every worker may hold one, one acts."""

    def __init__(self, config: RetrainConfig, folder: Path, store: Store) -> None:
        self.config, self.folder, self.store = config, folder, store
        self.running: subprocess.Popen[bytes] | None = None
        if not (folder / LOCK).exists():
            self._begin()

    def due(self) -> bool:
        """Return whether it is time, by the clock or by the events that came since the last."""
        try:
            last = json.loads((self.folder / LOCK).read_text())
        except (OSError, ValueError):  # being written, or whoever began it was killed
            self._begin()
            return False
        hours, events = self.config.every_hours, self.config.after_events
        if hours is not None and time.time() - last["time"] >= 3600 * hours:
            return True
        return events is not None and self.store.last_event() - last["event"] >= events

    def _begin(self) -> None:
        """Have the time and the events be counted from now on, unless another worker does so."""
        with suppress(RunError), alone(self.folder, self.store):
            pass

    def act(self, run: str, url: str) -> None:
        """Start a retraining where one is due, and report on one that has ended."""
        if self.running is not None:
            if (status := self.running.poll()) is None:
                return
            log.info("retraining ended with status %d", status)
            self.running = None
        if self.due():
            nice = ["nice", "-n", "10"] if shutil.which("nice") else []
            command = [*nice, sys.executable, "-m", "m6rec", "retrain", run]
            own = {**os.environ, "M6REC_STORE": url}  # where it may hold a password
            self.running = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=own)

    def close(self) -> None:
        """Stop a retraining that is going on; nothing of it is published."""
        if self.running is not None and self.running.poll() is None:
            self.running.terminate()
            self.running.wait()

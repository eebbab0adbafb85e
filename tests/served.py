"""A small shop that is trained, and a real server of it on a free port."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from m6rec import experiment, pipeline
from m6rec.serving.app import create
from m6rec.serving.settings import Settings
from shop import write_shop


def train_shop(folder: Path) -> Path:
    """Train the shop; returns the folder with its run, which CURRENT names."""
    toml = write_shop(folder)
    assignments = [
        f'run.out="{folder / "runs"}"',
        'model={kind="fallback", parts=[{kind="neighbours"}, {kind="text"}, {kind="popular"}]}',
        "evaluate.baselines=[]",
    ]
    pipeline.save(experiment.load(toml, assignments))
    return folder / "runs"


def settings(runs: Path, folder: Path) -> Settings:
    """Of a service whose store is new and lies in ``folder``."""
    return Settings(run=str(runs / "current"), store=f"sqlite:///{folder / 'm6rec.db'}")


@contextmanager
def server(of: Settings) -> Iterator[str]:
    """Serve from a thread; yields the URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        served = uvicorn.Server(uvicorn.Config(create(of), log_level="warning"))
        thread = threading.Thread(target=served.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not served.started and thread.is_alive():
                time.sleep(0.01)
            assert served.started, "the server did not start"
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            served.should_exit = True
            thread.join()

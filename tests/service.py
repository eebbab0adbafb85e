"""A small run to serve, and a server of its own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from shutil import copytree
from socket import socket
from tempfile import mkdtemp
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from m6rec import experiment, pipeline
from shop import write_shop


def made_run(folder: Path) -> Path:
    """Put the shop's run, kind m6rec, into ``folder``/runs; returns "…/runs/current"."""
    copytree(_runs(), folder / "runs")
    return folder / "runs" / "current"


def purchases_run(folder: Path) -> Path:
    """Make a run that reads no words, whose TOML declares the type of all its events, "purchase";
    returns "…/runs/current"."""
    toml = write_shop(folder)
    log = (folder / "log.csv").read_text().splitlines()
    lines = [f"{log[0]},event", *(f"{line},purchase" for line in log[1:])]
    (folder / "log.csv").write_text("\n".join(lines))
    assignments = [f'run.out="{folder / "runs"}"', "data.events.purchase.weight=2.0"]
    pipeline.save(experiment.load(toml, [*assignments, "evaluate.baselines=[]"]))
    return folder / "runs" / "current"


@cache
def _runs() -> Path:
    folder = Path(mkdtemp(prefix="m6rec-test-"))
    toml = write_shop(folder)
    assignments = [
        f'run.out="{folder / "runs"}"',
        'model={kind="m6rec", deep=false}',
        "evaluate.baselines=[]",
    ]
    pipeline.save(experiment.load(toml, assignments))
    return folder / "runs"


def local_client(app: FastAPI, **options: Any) -> TestClient:
    """A client that asks by a name of this machine, as the guard wants it without API keys."""
    return TestClient(app, base_url="http://127.0.0.1", **options)


@contextmanager
def at_a_port(app: FastAPI, lifespan: Literal["on", "off"] = "on") -> Iterator[str]:
    """The address of an application that a thread serves, for a browser."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan=lifespan))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def free_port() -> int:
    with socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class Server:
    """`m6rec serve` in a process; ``kill`` ends it at once, ``start`` begins anew."""

    def __init__(self, run: Path, store: str, *options: str) -> None:
        self.port = free_port()
        self.log = run.parent / f"server-{self.port}.log"
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "m6rec", "serve", str(run), "--store", store]
        self.command = [*command, "--port", str(self.port), *options]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{self.url}/v1/health/ready", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                if self.process.poll() is not None:
                    raise RuntimeError(self.log.read_text()) from None
                time.sleep(0.1)
        raise RuntimeError("the server does not get ready")

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end; returns its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=30)


@contextmanager
def serving(run: Path, store: str, *options: str) -> Iterator[Server]:
    server = Server(run, store, *options)
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()

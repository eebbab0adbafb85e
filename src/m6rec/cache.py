"""The cache folder, and arrays in it: each verified by hash, and written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from m6rec.arrays import Floats

DIGEST = 32  # bytes of a SHA-256, which stand before those of the array


def cache_dir() -> Path:
    """Return where what can be fetched or made again is kept: $M6REC_CACHE, else ~/.cache/m6rec."""
    return Path(os.environ.get("M6REC_CACHE") or Path.home() / ".cache" / "m6rec")


def forget(folder: Path, seconds: float) -> None:
    """Remove the files of a folder that have not been written to for so long."""
    for file in folder.glob("*"):
        with suppress(OSError):
            if file.is_file() and time.time() - file.stat().st_mtime > seconds:
                file.unlink()


def kept(file: Path, shape: tuple[int, int], make: Callable[[], Floats]) -> Floats:
    """Return the float32 array of a file, else make it and write the file.

    A file that is damaged or of another shape is made again. Any number of processes may do so
    at once: each writes a file of its own and renames it. A cache that cannot be written is none.
    """
    found = _read(file, shape)
    if found is None:
        found = np.ascontiguousarray(make(), np.float32)
        _write(file, found)
    return found


def _read(file: Path, shape: tuple[int, int]) -> Floats | None:
    try:
        data = file.read_bytes()
    except OSError:
        return None
    body = data[DIGEST:]
    if len(body) != 4 * shape[0] * shape[1] or hashlib.sha256(body).digest() != data[:DIGEST]:
        return None
    return np.frombuffer(body, np.float32).reshape(shape)


def _write(file: Path, array: Floats) -> None:
    body = array.tobytes()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(hashlib.sha256(body).digest() + body)
            Path(name).replace(file)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError:
        return

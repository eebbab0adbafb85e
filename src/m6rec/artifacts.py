"""The run directory: a fitted model and its data, saved without pickle, published atomically."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from m6rec import config, text
from m6rec.arrays import Array, Ids, nest, unnest
from m6rec.data.attributes import Attributes
from m6rec.data.dataset import Dataset
from m6rec.data.drops import Drops
from m6rec.data.features import Features
from m6rec.data.prepare import Prepared
from m6rec.data.schema import DataConfig, Domain, EventType
from m6rec.data.vocab import Vocab
from m6rec.errors import ConfigError, RunError
from m6rec.models.base import Model, Recipe

FORMAT = 2  # of the run directory; a reader refuses what is newer
NEEDED = (
    "config.toml",
    "state.safetensors",
    "vocab.parquet",
    "items.parquet",
    "users.parquet",
    "history.parquet",
)
DRAFT = re.compile(r"\.draft-(\d+)-.*")
NO_ATTRIBUTES = Attributes(Features(), Features())
LIBRARIES = ("m6rec", "numpy", "scipy", "numba", "polars", "safetensors")


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """A fitted model and what asking it needs.

    prepared: every event known, and the raw attributes of users and items. attributes: fitted,
    turn raw attributes into feature blocks. twins: (n_items,) code of the product, shared by
    its listings in several domains, -1 = one listing: whoever had one is not recommended another.
    config: the experiment as a TOML table. metrics, drops: as reported by its training.
    path: the run directory, None before it is saved.
    """

    model: Model
    prepared: Prepared
    twins: Ids
    attributes: Attributes = NO_ATTRIBUTES
    config: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    drops: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None

    @cached_property
    def dataset(self) -> Dataset:
        """All events, as histories of known users, with feature blocks."""
        return self.attributes.attach(self.prepared.dataset, self.prepared)

    @property
    def items(self) -> pl.DataFrame:
        """n_items rows in code order: key, domain, title, hidden and the raw attributes."""
        return self.prepared.items


def run_name(name: str, table: Mapping[str, Any]) -> str:
    """Return a name such as 20261124-093012-commerce-3f9c: UTC time, experiment, hash of both."""
    now = datetime.now(UTC)
    digest = hashlib.sha256(f"{now.isoformat()}{os.getpid()}{config.dumps(table)}".encode())
    slug = re.sub(r"[^\w]+", "-", name).strip("-") or "run"
    return f"{now:%Y%m%d-%H%M%S}-{slug}-{digest.hexdigest()[:4]}"


@contextmanager
def draft(out: Path) -> Iterator[Path]:
    """Yield a fresh directory beside the runs in ``out``; removed unless ``publish`` renames it.

    Drafts that a killed process left behind are removed first.
    """
    out.mkdir(parents=True, exist_ok=True)
    for left in out.iterdir():
        if (match := DRAFT.fullmatch(left.name)) and not _alive(int(match[1])):
            shutil.rmtree(left, ignore_errors=True)
    path = out / f".draft-{os.getpid()}-{os.urandom(4).hex()}"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def save(fitted: Fitted, path: Path) -> Path:
    """Save as the new run directory ``path``, whole or not at all; returns it."""
    with draft(path.parent) as folder:
        write(fitted, folder)
        return publish(folder, path)


def write(fitted: Fitted, folder: Path) -> None:
    """Write the files of a run into a draft; files that are there already become part of it."""
    data = fitted.prepared.dataset
    state = nest("model", fitted.model.state()) | {"twins": fitted.twins}
    save_file(
        {name: np.ascontiguousarray(value) for name, value in state.items()},
        folder / "state.safetensors",
    )
    _vocab(data).write_parquet(folder / "vocab.parquet")
    shutil.copymode(folder / "vocab.parquet", folder / "state.safetensors")  # was its owner's only
    items = fitted.items
    if data.item_text is not None:
        items = items.with_columns(text=pl.Series(data.item_text, dtype=pl.String))
    items.write_parquet(folder / "items.parquet")
    fitted.prepared.users.write_parquet(folder / "users.parquet")
    _history(data).write_parquet(folder / "history.parquet")
    (folder / "config.toml").write_text(config.dumps(fitted.config), encoding="utf-8")
    _write_json(folder / "metrics.json", fitted.metrics)
    _write_json(folder / "drops.json", fitted.drops)
    _write_json(folder / "manifest.json", _manifest(fitted, folder))


def publish(folder: Path, path: Path) -> Path:
    """Make a finished draft the run ``path``: fsync every file, then one rename."""
    if path.exists():
        raise RunError(f"{path}: exists already; choose another directory")
    for each in sorted(folder.rglob("*")):
        _fsync(each)
    _fsync(folder)
    folder.rename(path)
    _fsync(path.parent)
    return path


def set_current(path: Path) -> None:
    """Make this run the one that ``current`` names, by replacing runs/CURRENT atomically."""
    new = path.parent / f".CURRENT-{os.getpid()}"
    new.write_text(path.name + "\n", encoding="utf-8")
    _fsync(new)
    new.replace(path.parent / "CURRENT")
    _fsync(path.parent)


def resolve(run: str | Path, out: Path = Path("runs")) -> Path:
    """Return the directory of a run: a path, or "current" for the one that CURRENT in ``out``
    names, or "DIR/current" for that of another folder of runs."""
    path = Path(run)
    if path.name != "current" or path.exists():
        return path
    pointer = (out if str(run) == "current" else path.parent) / "CURRENT"
    try:
        name = pointer.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise RunError(f"{pointer}: no run yet; make one with `m6rec train`") from None
    if not name or Path(name).name != name:
        raise RunError(f"{pointer}: does not hold the name of a run")
    return pointer.parent / name


def current_name(path: Path, out: Path = Path("runs")) -> str:
    """Return what ``resolve`` takes for the current run in the folder of ``path``."""
    folder = path.parent
    return "current" if folder.absolute() == out.absolute() else str(folder / "current")


def runs(out: Path) -> list[str]:
    """Return the names of the runs in a folder, the newest first."""
    found = [f.parent.name for f in out.glob("*/manifest.json") if not DRAFT.match(f.parent.name)]
    return sorted(found, reverse=True)


def holding(out: Path, user: str) -> list[str]:
    """Return the names of the runs in a folder whose vocabulary has this user, or cannot be read
    and so may have them."""
    key = (pl.col("kind") == "user") & (pl.col("key") == user)

    def holds(name: str) -> bool:
        try:
            known = pl.scan_parquet(out / name / "vocab.parquet")
            return known.filter(key).head(1).collect().height > 0
        except (OSError, pl.exceptions.PolarsError):
            return True

    return [name for name in runs(out) if holds(name)]


def load(path: Path, recipe: Recipe | None = None) -> Fitted:
    """Load a run, verifying every hash; nothing that the run names is imported.

    recipe: of a model of your own ("module:Class"), which a run cannot name by itself.
    Raises RunError in one sentence for a missing, damaged or newer run.
    """
    manifest = checked(path)
    try:
        table = manifest["model"]
        made = recipe or Recipe.from_table(without_code(table, path), "model")
        table = tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
        state = load_file(path / "state.safetensors")
        fitted = Fitted(
            model=made.restore(unnest("model", state)),
            prepared=_restored(path, manifest, table.get("data", {})),
            attributes=Attributes.restore(manifest["attributes"]),
            twins=state["twins"],
            config=table,
            metrics=_read_json(path, "metrics.json"),
            drops=_read_json(path, "drops.json"),
            manifest=manifest,
            path=path,
        )
        probe = fitted.dataset.query(np.zeros(1, np.int32))
        fitted.model.score(probe, np.array([fitted.dataset.n_items - 1]))
        return fitted
    except (RunError, ConfigError):
        raise
    except Exception as error:  # hashes hold: made wrong, or by another version's code
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RunError(f"{path}: does not fit this version ({detail}); train it again") from error


def checked(path: Path) -> dict[str, Any]:
    """Return the manifest of a run after verifying every file against it; else RunError."""
    if not (path / "manifest.json").is_file():
        raise RunError(f"{path}: is not a run (it has no manifest.json)")
    manifest: dict[str, Any] = _read_json(path, "manifest.json")
    version = manifest.get("format")
    if not isinstance(version, int) or not isinstance(manifest.get("files"), dict):
        raise RunError(f"{path}: is damaged (manifest.json has no format or files)")
    if version > FORMAT:
        made = manifest.get("versions", {}).get("m6rec", "a newer version")
        raise RunError(
            f"{path}: is of format {version}, made by m6rec {made}; this version reads up to "
            f"format {FORMAT}, so upgrade m6rec"
        )
    files = manifest["files"]
    for name in NEEDED:
        if name not in files:
            raise RunError(f"{path}: is damaged (manifest.json does not list {name})")
    for name, digest in files.items():
        file = path / name
        if ".." in Path(name).parts or not file.is_file():
            raise RunError(f"{path}: is damaged ({name} is missing)")
        if _sha256(file) != digest:
            raise RunError(f"{path}: is damaged ({name} does not match its checksum)")
    return manifest


def without_code(table: Any, path: Path | None) -> Any:
    """Return the table, unless a kind in it, at any depth, is a "module:Class": then RunError."""
    if isinstance(table, Mapping):
        kind = table.get("kind")
        if isinstance(kind, str) and ":" in kind:
            raise RunError(
                f'{path}: its model is your own "{kind}", and a run never imports code; '
                "open it in Python with m6rec.open(path, recipe=…)"
            )
    values = table.values() if isinstance(table, Mapping) else table
    for value in values:
        if isinstance(value, (Mapping, list)):
            without_code(value, path)
    return table


def _manifest(fitted: Fitted, folder: Path) -> dict[str, Any]:
    data = fitted.prepared.dataset
    libraries = (*LIBRARIES, *([text.PACKAGE] if text.installed() else []))
    versions = {name: metadata.version(name) for name in libraries}
    return {
        "format": FORMAT,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "seed": fitted.config.get("seed", 0),
        "data": data_hash(data),
        "model": config.to_table(fitted.model.recipe),
        "domains": [config.to_table(domain) for domain in data.domains],
        "events": [config.to_table(event) for event in data.events],
        "ordered": data.ordered,
        "attributes": fitted.attributes.state(),
        "files": {
            str(file.relative_to(folder)): _sha256(file)
            for file in sorted(folder.rglob("*"))
            if file.is_file() and file.name != "manifest.json"
        },
    }


def _restored(path: Path, manifest: Mapping[str, Any], table: Mapping[str, Any]) -> Prepared:
    vocab = pl.read_parquet(path / "vocab.parquet")
    users, things = (
        Vocab(vocab.filter(pl.col("kind") == kind)["key"]) for kind in ("user", "item")
    )
    items = pl.read_parquet(path / "items.parquet")
    history = pl.read_parquet(path / "history.parquet")
    domains = tuple(config.from_table(Domain, each) for each in manifest["domains"])
    events = tuple(config.from_table(EventType, each) for each in manifest["events"])
    code = {domain.name: i for i, domain in enumerate(domains)}
    for name, count in (("user", len(users)), ("item", len(things)), ("event", len(events))):
        column = history[name].to_numpy()
        if len(column) and not 0 <= column.min() <= column.max() < count:
            raise RunError(f"{path}: is damaged (history.parquet has an unknown {name})")
    data = Dataset(
        user=history["user"].to_numpy(),
        item=history["item"].to_numpy(),
        weight=history["weight"].to_numpy(),
        time=history["time"].to_numpy(),
        event=history["event"].to_numpy(),
        users=users,
        items=things,
        domains=domains,
        item_domain=np.array([code[name] for name in items["domain"]], np.int16),
        events=events,
        item_text=tuple(items["text"].to_list()) if "text" in items.columns else None,
        hidden=items["hidden"].to_numpy(),
        ordered=bool(manifest["ordered"]),
    )
    if len(items) != data.n_items or (np.diff(data.user) < 0).any():
        raise RunError(f"{path}: is damaged (items or history are out of order)")
    return Prepared(
        dataset=data,
        users=pl.read_parquet(path / "users.parquet"),
        items=items.drop("text", strict=False),
        drops=Drops(),
        config=config.from_table(DataConfig, table, "data"),
    )


def _vocab(data: Dataset) -> pl.DataFrame:
    kinds = ["user"] * data.n_users + ["item"] * data.n_items
    return pl.DataFrame({"kind": kinds, "key": pl.concat([data.users.keys, data.items.keys])})


def _history(data: Dataset) -> pl.DataFrame:
    columns: dict[str, Array] = {
        name: getattr(data, name) for name in ("user", "item", "weight", "time", "event")
    }
    return pl.DataFrame(columns)


def data_hash(data: Dataset) -> str:
    """Return the sha256 of the events and vocabularies, the same for the same data."""
    digest = hashlib.sha256()
    for column in _history(data).iter_columns():
        digest.update(column.to_numpy().tobytes())
    for vocab in (data.users, data.items):
        digest.update("\0".join(vocab.keys.to_list()).encode())
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write_json(file: Path, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=1, default=_plain)
    file.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def _read_json(path: Path, name: str) -> Any:
    try:
        return json.loads((path / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise RunError(f"{path}: is damaged ({name} is not readable JSON)") from None


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

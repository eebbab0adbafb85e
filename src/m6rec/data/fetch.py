"""Public data sets that may not be redistributed: fetched, verified by hash, converted, cached."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from m6rec.cache import cache_dir
from m6rec.data.drops import Drops
from m6rec.data.readers import read, title_and_year
from m6rec.data.schema import Table
from m6rec.errors import DataError, suggestion
from m6rec.tracking import Run

ARCHIVE = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
WHEEL = "recbole==1.2.1"  # carries the same data
SHA256 = {
    "ml-100k.zip": "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}
ARTICLES = "The|An?|La|Les?|Il|El|Das|De[rn]|Die"  # that the archive puts behind a title
SUMS = "SHA256SUMS"
TIMEOUT = 10  # seconds for the archive's server to answer
WHEEL_TIMEOUT = 120
Tables = dict[str, pl.DataFrame]  # file stem → its rows


def fetch(name: str, cache: Path | None = None, run: Run | None = None) -> Path:
    """Return the folder of a data set (ratings.csv, films.csv, users.csv), fetched if need be.

    ml-100k: MovieLens-100k (GroupLens; not to be redistributed), from the official archive,
    else from a PyPI wheel. Raises DataError where no source can be reached or verified.
    """
    if name not in SETS:
        raise DataError(f'"{name}" is no data set that can be fetched{suggestion(name, SETS)}')
    target = (cache or cache_dir()) / name
    if verified(target):
        return target
    run = run or Run()
    problems = []
    with run.progress(f"fetch {name}", len(SETS[name])) as advance:
        for source in SETS[name]:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    tables = source.load(Path(folder))
                publish(tables, target)
                return target
            except (DataError, OSError, zipfile.BadZipFile) as error:
                problems.append(f"{source.name}: {error}")
            advance(1)
    raise DataError(
        f"{name} could not be fetched ({'; '.join(problems)}); connect to the network, or put "
        f"ratings.csv, films.csv, users.csv and {SUMS} of another machine's cache into {target}"
    )


def verified(folder: Path) -> bool:
    """Whether a cached set is whole: every file has the hash that was written with it."""
    sums = folder / SUMS
    if not sums.is_file():
        return False
    lines = [line.split("  ", 1) for line in sums.read_text().splitlines()]
    return bool(lines) and all(
        len(line) == 2 and (folder / line[1]).is_file() and sha256(folder / line[1]) == line[0]
        for line in lines
    )


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish(tables: Tables, target: Path) -> None:
    """Write the tables as CSV with their hashes, and put the folder in place at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for name, frame in tables.items():
            frame.write_csv(folder / f"{name}.csv")
        sums = "".join(f"{sha256(file)}  {file.name}\n" for file in sorted(folder.iterdir()))
        (folder / SUMS).write_text(sums)
        if target.exists():
            shutil.rmtree(target)  # damaged, else it would have been used
        folder.rename(target)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        if not verified(target):  # another process may have been first
            raise


def _check(path: Path) -> Path:
    if sha256(path) != SHA256[path.name]:
        raise DataError(f"{path.name} is not the file that is expected (its SHA-256 differs)")
    return path


def _ml100k_archive(folder: Path) -> Tables:
    path = folder / "ml-100k.zip"
    try:
        with urllib.request.urlopen(ARCHIVE, timeout=TIMEOUT) as reply, path.open("wb") as file:
            shutil.copyfileobj(reply, file)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise DataError(f"cannot be reached ({getattr(error, 'reason', error)})") from None
    return from_archive(_check(path), folder)


def from_archive(path: Path, folder: Path) -> Tables:
    """Return the canonical tables of the official archive, unpacked into ``folder``."""
    with zipfile.ZipFile(path) as archive:
        for name in ("u.data", "u.item", "u.user"):
            (folder / name).write_bytes(archive.read(f"ml-100k/{name}"))
    ratings, films, users = (
        read(Table(path=name), folder, Drops(strict=True))
        for name in ("u.data", "u.item", "u.user")
    )
    return canonical(ratings.rename({"timestamp": "time"}), films, users)


def _ml100k_wheel(folder: Path) -> Tables:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--retries", "1", "--timeout", "15", "--dest", str(folder), WHEEL]
    try:
        subprocess.run(
            [*pip, *options], check=True, capture_output=True, text=True, timeout=WHEEL_TIMEOUT
        )
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DataError(f"pip download failed ({reason})") from None
    except subprocess.TimeoutExpired:
        raise DataError(f"pip download took more than {WHEEL_TIMEOUT} s") from None
    return from_wheel(next(folder.glob("recbole-*.whl")), folder)


def from_wheel(path: Path, folder: Path) -> Tables:
    """Return the canonical tables of the RecBole wheel, unpacked into ``folder``."""
    names = ("ml-100k.inter", "ml-100k.item", "ml-100k.user")
    with zipfile.ZipFile(path) as archive:
        for name in names:
            member = archive.read(f"recbole/dataset_example/ml-100k/{name}")
            (folder / name).write_bytes(member)
            _check(folder / name)
    ratings, films, users = (read(Table(path=n), folder, Drops(strict=True)) for n in names)
    title = pl.col("movie_title").list.join(" ").replace("unkonwn", "unknown")
    year = pl.concat_str(pl.lit(" ("), "release_year", pl.lit(")"))  # "V": video, no year
    full = pl.concat_str(
        title, pl.when(pl.col("release_year") != "unkonwn").then(year).fill_null("")
    )
    films = films.with_columns(title_and_year(full))
    return canonical(
        ratings.rename({"user_id": "user", "item_id": "item", "timestamp": "time"}),
        films.rename({"item_id": "item", "class": "genres"}),
        users.rename({"user_id": "user", "zip_code": "zip"}),
    )


def canonical(ratings: pl.LazyFrame, films: pl.LazyFrame, users: pl.LazyFrame) -> Tables:
    """Return the same rows in the same form whatever the source."""
    whole = [pl.col(name).cast(pl.Int64) for name in ("user", "item", "rating", "time")]
    film = [
        pl.col("item").cast(pl.Int64),
        article_first(pl.col("title")),
        "year",
        pl.col("genres").list.join("|"),
    ]
    user = [pl.col("user").cast(pl.Int64), pl.col("age").cast(pl.Int64)]
    return {
        "ratings": ratings.select(whole).sort("time", "user", "item").collect(),
        "films": films.select(film).sort("item").collect(),
        "users": users.select(*user, "gender", "occupation", "zip").sort("user").collect(),
    }


def article_first(title: pl.Expr) -> pl.Expr:
    """Return "The Godfather" for "Godfather, The"; a title in brackets behind it stays."""
    return title.str.replace(rf"^(.+), ({ARTICLES})( \(.*\))?$", "$2 $1$3").str.replace(
        r"^(.+), (L')( \(.*\))?$", "$2$1$3"
    )


@dataclass(frozen=True)
class Source:
    """Where a set comes from; ``load`` works in an empty folder."""

    name: str
    load: Callable[[Path], Tables]


SETS: dict[str, tuple[Source, ...]] = {
    "ml-100k": (
        Source(ARCHIVE, _ml100k_archive),
        Source(f"PyPI wheel {WHEEL}", _ml100k_wheel),
    )
}

"""Verb of the store: everything in it to files, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from m6rec.cli import show
from m6rec.cli.serve import URL, StoreUrl
from m6rec.errors import ConfigError

EXAMPLES = show.examples(
    "m6rec store export backup",
    "m6rec store export backup --form parquet --store postgresql://m6rec@db/m6rec",
    "m6rec store import backup --store sqlite:///copy.db",
)
PARTS = ("items", "users", "events")  # in the order in which they are taken in
FORMS = ("jsonl", "parquet")


def store(
    what: Annotated[Literal["export", "import"], typer.Argument(metavar="export|import")],
    folder: Annotated[Path, typer.Argument(help="Of the files, such as events.jsonl.")],
    form: Annotated[
        Literal["jsonl", "parquet"], typer.Option("--form", help="Of the files of an export.")
    ] = "jsonl",
    store: StoreUrl = URL,
) -> None:
    """Write a store's items, users and events to files, or read them.

    An import overwrites items and users of the same key, and adds events that the store does not
    have; a file that is missing is left out. A service may run meanwhile. API keys, seeds and
    what was recommended stay where they are.
    """
    from m6rec.store import Store

    if what == "import":
        files = {part: _file(folder, part) for part in PARTS}
        if not any(files.values()):
            raise ConfigError(f"store import: {folder} has no items, users or events in .jsonl "
                              "or .parquet")  # fmt: skip
    else:
        files = {part: folder / f"{part}.{form}" for part in PARTS}
    opened = Store.open(store, create=what == "import")
    try:
        if what == "export":
            folder.mkdir(parents=True, exist_ok=True)
        for part, file in files.items():
            if file is not None:
                n = getattr(opened, f"{what}_{part}")(file)
                said = f"new {part} from" if (what, part) == ("import", "events") else f"{part}:"
                show.whole(f"{n:,} {said} {file}")
    finally:
        opened.close()


def _file(folder: Path, part: str) -> Path | None:
    """The file of a part of an import, None where there is none."""
    found = [file for form in FORMS if (file := folder / f"{part}.{form}").exists()]
    if len(found) > 1:
        raise ConfigError(f"store import: there are both {found[0]} and {found[1]}; remove one")
    return found[0] if found else None

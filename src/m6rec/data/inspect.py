"""Look at a user's files and draft an experiment's data and split as commented TOML."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from m6rec.data import columns, delimited, features, readers
from m6rec.data.drops import Drops
from m6rec.data.events import DEFAULT_EVENT
from m6rec.data.preset import Preset
from m6rec.data.schema import Columns, Role, Table
from m6rec.errors import DataError

ROWS = 10_000  # looked at in each file
SQLITE = b"SQLite format 3\x00"  # how such a file begins
NEGATIVE = ("dislike", "hide", "return", "refund", "skip", "downvote", "notinterested", "report")
STRONG = {"purchase": 4, "buy": 4, "order": 4, "cart": 2, "addtocart": 2, "favorite": 3, "like": 3}
LIKED = 0.7  # of the highest rating: what is liked
RATINGS = ("rating", "stars", "score", "overall")
PEOPLE = "social"  # what a domain of people is called
_OF_USERS = {"user", "users", "log", "events", "interactions"}  # words that name no domain
ROLE_WORDS: dict[Role, str] = {
    "items": r"item|product|movie|film|book|article|song|track|artist|video|catalog|meta",
    "users": r"user|customer|member|people|person|account",
    "links": r"link|identit|mapping",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Seen:
    """One file: how it is read, what it is, its columns by part, its first rows.

    people: whether its items are people."""

    table: Table
    role: Role
    parts: dict[str, str]
    frame: pl.DataFrame
    stem: str
    people: bool = False


def draft(files: Sequence[Path], base: Path | None = None, preset: Preset | None = None) -> str:
    """Return TOML that prepares these files as they are; paths are relative to ``base``.

    Roles and columns are guessed from names and values, and each guess stands in a comment.
    preset: what the line of business is like; it says how events count, how the log is cleaned
    and split, and its other tables follow. Raises DataError where no file looks like a log of
    users and items.
    """
    base = base or Path()
    seen = [look(file, base, preset) for file in files]
    logs = [s for s in seen if s.role == "interactions"]
    if not logs:
        known = "; ".join(f"{s.table.path}: {', '.join(s.frame.columns)}" for s in seen)
        raise DataError(f"no file has both a user and an item column ({known})")
    several = len(logs) > 1 or any(log.people for log in logs)
    of = f" --scenario {preset.name}" if preset else ""
    lines = [f"# Drafted by `m6rec init{of}`. Every line is a guess to check.", "", "[data]"]
    if not several:
        lines += _table_lines(logs, "interactions")
    roles: tuple[Role, ...] = ("items", "users", "links")
    things = {log.stem for log in logs if not log.people}
    only = things.pop() if len(things) == 1 else ""  # people have no catalogue
    placed = {id(s): _domain_of(s, logs) or only for s in seen if several and s.role == "items"}
    for role in roles:
        lines += _table_lines([s for s in seen if s.role == role and not placed.get(id(s))], role)
    rated, least = _rated(logs)
    lines += _feedback_lines(logs if preset is None else ())
    lines += [
        '# tz = "UTC"         # zone of times that name none',
        "# strict = false     # true: one bad row stops the load",
        "",
    ]
    if several:
        for stem in dict.fromkeys(log.stem for log in logs):
            own = [log for log in logs if log.stem == stem]
            lines += [f"[data.domains.{_bare(stem)}]"]
            lines += _table_lines(own, "interactions")
            lines += _table_lines([s for s in seen if placed.get(id(s)) == stem], "items")
            lines += ['users = "shared"     # "own": the same key is another person here']
            if own[0].people:
                lines += _names_of_people(seen)
                lines += ["people = true        # an item is the user of that key"]
            lines += [""]
    else:
        lines += _column_lines(logs[0])
    lines += _event_lines(logs, preset) + _feature_lines(seen)
    if preset:
        lines += _preset_lines(preset, logs, least if rated else None)
        return "\n".join(lines) + "\n"
    lines += [
        "[data.clean]",
        "core_users = 0       # fewest events of a user in a domain",
        "core_items = 0       # fewest events of an item",
        "# max_per_day = 1000 # users above are taken for bots",
        "",
        *_split_lines(logs),
    ]
    return "\n".join(lines) + "\n"


def _names_of_people(seen: Sequence[Seen]) -> list[str]:
    """Where a table of users says their names, it is one of items of the domain of people, too."""
    for each in seen:
        if each.role == "users":
            named = columns.texts(each.frame.columns, Columns(), Columns(), each.table.path)
            if named:
                bound = replace(each.table, columns=Columns(item=each.parts["user"]))
                return _table_lines([replace(each, table=bound)], "items")
    return []


def look(file: Path, base: Path, preset: Preset | None = None) -> Seen:
    """Read the first rows of a file and guess what it is."""
    if not file.is_file():
        raise DataError(f"{file}: no such file; name a file of interactions, items or users")
    path = os.path.relpath(file, base)
    with file.open("rb") as content:
        database = content.read(16) == SQLITE
    if database:
        raise DataError(f'{path}: is a database; say sql = "sqlite:///{path}" and a query')
    table = _readable(path, base)
    drops = Drops()
    try:
        frame = readers.read(table, base, drops).head(ROWS).drop(delimited.ROW).collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: cannot be read: {readers.first_line(error)}") from None
    names, nothing = frame.columns, Columns()
    parts = {}
    stem = re.sub(r"\W+", "_", file.name.split(".")[0])
    if preset and (found := _by_preset(preset, table, frame, stem)):
        return found
    for role in _likely(file, names):
        try:
            parts = columns.resolve(names, nothing, nothing, role, path)
        except DataError:
            continue
        return Seen(table, role, parts, frame, stem)
    raise DataError(f"{path}: no column looks like a user or an item ({', '.join(names)})")


def _by_preset(preset: Preset, table: Table, frame: pl.DataFrame, stem: str) -> Seen | None:
    """A log as the preset knows its columns: of other people, or with its value column; the
    columns, and the type of a log that names none, are said in the table."""
    names = frame.columns
    person, value = preset.person_column(names), preset.value_column(names)
    own = Columns(item=person, value=value)
    try:
        parts = columns.resolve(names, own, Columns(), "interactions", table.path)
    except DataError:
        return None
    event = ""
    if "event" not in parts and (person or not preset.people):
        event = preset.kind(person or "") or preset.event
    table = replace(table, event=event, columns=own)
    stem = PEOPLE if person else "_".join(w for w in stem.split("_") if w not in _OF_USERS) or stem
    return Seen(table, "interactions", parts, frame, stem, person is not None)


def _readable(path: str, base: Path) -> Table:
    """The table of a path: lines of unequal length are sequences; else UTF-8, else GB or Latin."""
    table = Table(path=path)
    if readers.format_of(table) != "csv":
        return table
    for encoding in ("utf-8", "gb18030", "latin-1"):
        table = Table(path=path, encoding=encoding)
        try:
            lines = [line for line in delimited.head(table, base / path) if line.strip()][:200]
        except DataError:
            if encoding == "latin-1":
                raise
            continue
        break
    widths = {len(line.split()) for line in lines}
    marks = any(mark in lines[0] for mark in delimited.DELIMITERS if mark != " ")
    if not marks and len(widths) > 1:
        return Table(path=path, encoding=table.encoding, format="sequence")
    return table


def _likely(file: Path, names: Sequence[str]) -> list[Role]:
    """Roles in the order in which they should be tried."""
    word = file.name.lower()
    simple = {columns.simple(name) for name in names}
    if simple & set(columns.GUESSES["person"]) and "domain" in simple:
        return ["links"]
    named: list[Role] = [role for role, words in ROLE_WORDS.items() if re.search(words, word)]
    user = simple & set(columns.GUESSES["user"])
    item = simple & set(columns.GUESSES["item"])
    if user and item:
        return ["interactions"]
    if item or user:
        return ["items"] if item else ["users"]
    return [role for role in named if role != "links"]


def _domain_of(seen: Seen, logs: Sequence[Seen]) -> str:
    """The domain whose name an item file carries, or whose folder it shares alone."""
    tokens = set(re.split(r"[_\W]+", seen.table.path.lower()))
    fits = [log.stem for log in logs if set(log.stem.lower().split("_")) & tokens - _GENERIC]
    return fits[0] if len(fits) == 1 else ""


_GENERIC = {"log", "items", "item", "events", "interactions", "ratings", "csv", "parquet", "jsonl"}


def _table_lines(seen: Sequence[Seen], role: Role) -> list[str]:
    if not seen:
        return []
    plain = [_inline(s, role) for s in seen]
    value = plain[0] if len(plain) == 1 else "[\n  " + ",\n  ".join(plain) + ",\n]"
    return [f"{role} = {value}"]


def _inline(seen: Seen, role: Role) -> str:
    """A path, or an inline table where more than the path must be said."""
    table = seen.table
    extra = {}
    if table.encoding != "utf-8":
        extra["encoding"] = _text(table.encoding)
    if table.format != "auto":
        extra["format"] = _text(table.format)
    if table.event:
        extra["event"] = _text(table.event)
    bound = [(part, getattr(table.columns, part)) for part in ("item", "value")]
    if named := ", ".join(f"{part} = {_text(name)}" for part, name in bound if name):
        extra["columns"] = f"{{ {named} }}"
    if not extra:
        return _text(table.path)
    return (
        "{ "
        + ", ".join(f"{k} = {v}" for k, v in {"path": _text(table.path), **extra}.items())
        + " }"
    )


def _column_lines(log: Seen) -> list[str]:
    lines = ["[data.columns]        # of the interactions"]
    for part in columns.PARTS["interactions"]:
        if part in log.parts:
            lines.append(f"{part} = {_text(log.parts[part])}  # e.g. {_examples(log, part)}")
        else:
            lines.append(f'# {part} = "…"')
    return [*lines, ""]


def _rated(logs: Sequence[Seen]) -> tuple[str, int]:
    """The column of ratings, "" where there is none, and the least one that says "liked"."""
    for log in logs:
        name = log.parts.get("value", "")
        if columns.simple(name) in RATINGS:
            values = log.frame[name].cast(pl.Float64, strict=False).drop_nulls()
            if len(values) and values.n_unique() <= 21 and 0 <= values.min() <= values.max() <= 10:  # type: ignore[operator]
                return name, math.ceil(LIKED * float(values.max()))  # type: ignore[arg-type]
    return "", 0


def _feedback_lines(logs: Sequence[Seen]) -> list[str]:
    name, _ = _rated(logs)
    if name:
        return [f'feedback = "explicit"  # {name} holds ratings; "implicit" ranks instead']
    return ['feedback = "implicit"  # "explicit": values are ratings to be predicted']


def _split_lines(logs: Sequence[Seen]) -> list[str]:
    if all("time" in log.parts for log in logs):
        return ["[split]", 'kind = "leave-last"  # the newest of each user; or "temporal"']
    return ["[split]", 'kind = "random"      # there are no times to split by', "fraction = 0.1"]


def _event_lines(logs: Sequence[Seen], preset: Preset | None = None) -> list[str]:
    found: dict[str, Seen] = {}
    for log in logs:
        if "event" in log.parts:
            kinds = log.frame[log.parts["event"]].cast(pl.String).str.strip_chars()
            named = kinds.replace("", None).drop_nulls().unique().sort().to_list()
            found |= dict.fromkeys(named, log)
        elif preset:
            found[log.table.event or DEFAULT_EVENT] = log
    if not found or len(found) > 30:
        return []
    lines = ["# Event types of the first rows; once some are declared, others are dropped."]
    for kind, log in found.items():
        known = preset.kind(kind) if preset else None
        if preset and known:
            lines += [f"[data.events.{_bare(kind)}]"]
            lines += preset.event_lines(known, log.parts.get("value"))
            if log.people and known == preset.event and _both_ways(log):
                lines += ["mutual = true      # nearly all links of your file stand both ways"]
            lines += [""]
            continue
        if preset and columns.simple(kind) in preset.unlearned:
            lines += [f"# {kind}: left out, since it says nothing of taste", ""]
            continue
        sign = "negative" if columns.simple(kind) in NEGATIVE else "positive"
        weight = STRONG.get(columns.simple(kind), 1)
        lines += [f"[data.events.{_bare(kind)}]", f"weight = {weight}", f'sign = "{sign}"', ""]
    return lines


def _both_ways(log: Seen) -> bool:
    """Whether nearly all links of the first users stand in both directions."""
    user, item = (log.frame[log.parts[part]].cast(pl.String) for part in ("user", "item"))
    links = pl.DataFrame({"a": user, "b": item}).unique()
    inside = links.filter(pl.col("b").is_in(user.unique().implode()))
    back = inside.join(links.rename({"a": "b", "b": "a"}), on=["a", "b"], how="semi")
    return back.height > 0.9 * max(inside.height, 1)


def _preset_lines(preset: Preset, logs: Sequence[Seen], least: int | None) -> list[str]:
    """The preset's own tables; a split that the files do not allow is replaced.

    least: the lowest rating that counts as liking, where values are ratings."""
    lines: list[str] = []
    for name, section in preset.sections.items():
        if name.startswith(("init", "data.events")):
            continue
        timed = all("time" in log.parts for log in logs)
        if name == "split" and not timed and 'kind = "random"' not in section:
            lines += [*_split_lines(logs), ""]
            continue
        lines += section.splitlines()
        if name == "data.clean" and least is not None:
            lines += [f"min_value = {least}      # of ratings: what counts as liking"]
        lines += [""]
    if "split" not in preset.sections:
        lines += [*_split_lines(logs), ""]
    return lines


def _feature_lines(seen: Sequence[Seen]) -> list[str]:
    lines = []
    guessed: dict[str, dict[str, str]] = {"items": {}, "users": {}}
    for entry in seen:
        if entry.role not in guessed:
            continue
        taken = {*entry.parts.values()}
        if entry.role == "items":
            words = columns.texts(entry.frame.columns, Columns(), Columns(), entry.table.path)
            taken |= set(words)
            if words:
                lines += [f"# Item texts of {entry.table.path}: {', '.join(words)}"]
        for name in entry.frame.columns:
            if name not in taken:
                kind = features.guess(entry.frame[name]).kind
                guessed[entry.role].setdefault(name, f'# {_bare(name)} = {{ kind = "{kind}" }}')
    for role, found in guessed.items():
        if found:
            lines += [f"[data.features.{role}]", *found.values()]
    return [*lines, ""] if lines else []


def _examples(seen: Seen, part: str) -> str:
    values = seen.frame[seen.parts[part]].drop_nulls().unique(maintain_order=True).head(3)
    return ", ".join(re.sub(r"\s+", " ", str(value))[:30] for value in values)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _bare(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)

"""Look at a user's files and draft an experiment's data and split as commented TOML."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from m6rec.data import columns, features
from m6rec.data.catalogue import typed
from m6rec.data.events import DEFAULT_EVENT
from m6rec.data.look import Seen, look
from m6rec.data.preset import Preset
from m6rec.data.schema import Columns, Role
from m6rec.errors import DataError

NEGATIVE = ("dislike", "hide", "return", "refund", "skip", "downvote", "notinterested", "report")
STRONG = {"purchase": 4, "buy": 4, "order": 4, "cart": 2, "addtocart": 2, "favorite": 3, "like": 3}
LIKED = 0.7  # of the highest rating: what is liked
RATINGS = ("rating", "stars", "score", "overall")


def draft(files: Sequence[Path], base: Path | None = None, preset: Preset | None = None) -> str:
    """Return TOML that prepares these files as they are; paths are relative to ``base``.

    Roles and columns are guessed from names and values, and each guess stands in a comment.
    preset: what the line of business is like; it says how events count, how the log is cleaned
    and split, and its other tables follow. A column that a log lacks is left to say: "?", which
    no table has; a file that is nothing known is left out, and named. Raises DataError where no
    file looks like a log of users and items.
    """
    base = base or Path()
    seen = [look(file, base, preset) for file in files]
    unknown = [s for s in seen if len(s.lacking) > 1]
    logs = [s for s in seen if s.role == "interactions" and s not in unknown]
    if not logs and len(unknown) == len(seen):
        raise DataError("; ".join(map(_unknown, unknown)))
    if not logs:
        known = "; ".join(f"{s.table.path}: {', '.join(s.frame.columns)}" for s in seen)
        raise DataError(
            f"no file has both a user and an item column ({known}); say which in a TOML of your "
            'own: [data.columns] user = "…", see docs/data.md#columns'
        )
    several = len(logs) > 1 or any(log.people for log in logs)
    of = f" --scenario {preset.name}" if preset else ""
    lines = [f"# Drafted by `m6rec init{of}`. Every line is a guess to check.", "", "[data]"]
    if not several:
        lines += _table_lines(logs, "interactions")
    lines += [f"# TODO {_said(_unknown(s))}" for s in unknown]
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
    todo = [f"  # TODO: {_asked(s)}" if s.lacking else "" for s in seen]
    if len(plain) == 1:
        return [f"{role} = {plain[0]}{todo[0]}"]
    listed = [f"  {text},{comment}" for text, comment in zip(plain, todo, strict=True)]
    return [f"{role} = [", *listed, "]"]


def _unknown(seen: Seen) -> str:
    names = ", ".join(seen.frame.columns)
    return (
        f"{seen.table.path}: no column looks like a user or an item ({names}); say what it is and "
        f'which they are: interactions (or items, or users) = {{ path = "{seen.table.path}", '
        'columns = { user = "…", item = "…" } }, see docs/data.md#columns'
    )


def _asked(seen: Seen) -> str:
    return f"which is the {seen.lacking[0]}? {_said(', '.join(seen.frame.columns))}"


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
    if table.decimal != ".":
        extra["decimal"] = _text(table.decimal)
    if table.time_format:
        extra["time_format"] = _text(table.time_format)
    bound = [(part, getattr(table.columns, part)) for part in ("item", "value")]
    bound += [(part, "?") for part in seen.lacking]
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
            raw = log.frame[name]
            known = typed(raw, log.table, numeric=True) if raw.dtype == pl.String else raw
            values = known.cast(pl.Float64, strict=False).drop_nulls()
            if len(values) and values.n_unique() <= 21 and 0 <= values.min() <= values.max() <= 10:  # type: ignore[operator]
                return name, math.ceil(LIKED * float(values.max()))  # type: ignore[arg-type]
    return "", 0


def _feedback_lines(logs: Sequence[Seen]) -> list[str]:
    name, _ = _rated(logs)
    if name:
        return [f'feedback = "explicit"  # {_said(name)} holds ratings; "implicit" ranks instead']
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
            lines += [f"# {_said(kind)}: left out, since it says nothing of taste", ""]
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
                lines += [f"# {_said(f'Item texts of {entry.table.path}: ' + ', '.join(words))}"]
        for name in entry.frame.columns:
            if name not in taken:
                column = entry.frame[name]
                text = column.dtype == pl.String
                kind = features.guess(typed(column, entry.table) if text else column).kind
                guessed[entry.role].setdefault(name, f'# {_bare(name)} = {{ kind = "{kind}" }}')
    for role, found in guessed.items():
        if found:
            lines += [f"[data.features.{role}]", *found.values()]
    return [*lines, ""] if lines else []


def _examples(seen: Seen, part: str) -> str:
    values = seen.frame[seen.parts[part]].drop_nulls().unique(maintain_order=True).head(3)
    return ", ".join(_said(str(value))[:30] for value in values)


def _said(text: str) -> str:
    """Text as a comment of TOML may hold it: in one line, without control characters."""
    return re.sub(r"[\s\x00-\x1f\x7f]+", " ", text)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _bare(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)

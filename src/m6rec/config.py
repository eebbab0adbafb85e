"""TOML tables ↔ frozen dataclasses; an unknown key is refused with a suggestion."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import tomli_w

from m6rec.errors import ConfigError, suggestion

T = TypeVar("T")


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file; a missing or malformed file is one sentence."""
    path = Path(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; write one with `m6rec init`") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name the TOML file in it") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def dumps(value: Any) -> str:
    """Write a dataclass (or a plain table) as TOML."""
    return tomli_w.dumps(to_table(value) if dataclasses.is_dataclass(value) else value)


def override(table: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply ``a.b.0.c=value`` assignments to a table; values are TOML, else plain strings."""
    result: dict[str, Any] = copy.deepcopy(dict(table))
    for assignment in assignments:
        path, value = _halves(assignment, "--set", "a.b")
        _assign(result, path.split("."), value, assignment)
    return result


def assigned(assignments: Sequence[str], option: str) -> dict[str, Any]:
    """Return ``name=value`` assignments of a command-line option as a table."""
    return dict(_halves(assignment, option, "name") for assignment in assignments)


def from_table(cls: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """Build a frozen dataclass from a TOML table, checking every key and value.

    What a table within leaves out is as in the default of its field. A class with its own
    ``from_table(table, where)`` (a model recipe, which is chosen by ``kind``) decides for itself.
    Raises ConfigError that names the key, the value and the fix.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where or 'configuration'} must be a table, not {table!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            noun = f'"{kind}"' if (kind := getattr(cls, "kind", "")) else f"[{where or 'top'}]"
            near = suggestion(key, [*fields, "kind"] if kind else fields)
            raise ConfigError(f"{_join(where, key)} is not an option of {noun}{near}")
    values = {
        key: _convert(hints[key], _completed(value, _usual(fields[key])), _join(where, key))
        for key, value in table.items()
    }
    for name, field in fields.items():
        if name not in values and _required(field):
            raise ConfigError(f"{_join(where, name)} is missing; it has no default")
    try:
        return cls(**values)
    except ValueError as error:  # raised by __post_init__ checks
        raise ConfigError(f"{where + ': ' if where else ''}{error}") from None


def to_table(value: Any, base: Any = None) -> dict[str, Any]:
    """Return a dataclass as a TOML table; None, and what is as in base (left out: as by default),
    are left out."""
    table: dict[str, Any] = {}
    if kind := getattr(value, "kind", ""):
        table["kind"] = kind
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        usual = getattr(base, field.name) if type(base) is type(value) else _usual(field)
        if field.init and item is not None and item != usual:
            table[field.name] = _plain(item, usual)
    return table


def _plain(item: Any, usual: Any = None) -> Any:
    if dataclasses.is_dataclass(item):
        return to_table(item, usual if _whole(usual) else None)
    if isinstance(item, Mapping):
        return {str(key): _plain(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return [_plain(value) for value in item]
    if isinstance(item, Path):
        return str(item)
    return item


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(args, value, where)
    if origin is Literal:
        if value not in args:
            known = ", ".join(f'"{a}"' if isinstance(a, str) else str(a) for a in args)
            words = [a for a in args if isinstance(a, str)]
            hint_text = suggestion(value, words) if isinstance(value, str) else ""
            raise ConfigError(f"{where} = {value!r}: must be one of {known}{hint_text}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} = {value!r}: must be a list")
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(kinds) != len(value):
            raise ConfigError(f"{where} = {value!r}: must have {len(kinds)} entries")
        return tuple(
            _convert(k, v, f"{where}[{i}]")
            for i, (k, v) in enumerate(zip(kinds, value, strict=True))
        )
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} = {value!r}: must be a table")
        return {key: _convert(args[1], item, _join(where, key)) for key, item in value.items()}
    if hint is Any:
        return value
    if hasattr(hint, "from_table"):
        return hint.from_table(value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_table(hint, value, where)
    return _convert_plain(hint, value, where)


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in options:
        return None
    error: ConfigError | None = None
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert(option, value, where)
        except ConfigError as problem:
            error = error or problem
    raise error or ConfigError(f"{where} = {value!r} does not fit")


def _convert_plain(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, (str, Path)):
        return Path(value)
    if hint is str and isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()  # as TOML reads dates that are not quoted
    if hint in (int, float) and isinstance(value, bool):
        raise ConfigError(f"{where} = {str(value).lower()}: must be {_NAMES[hint]}")
    if not isinstance(value, hint):
        name = _NAMES.get(hint, getattr(hint, "__name__", str(hint)))
        raise ConfigError(f"{where} = {value!r}: must be {name}")
    return value


_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    Path: "a path",
}


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _usual(field: dataclasses.Field[Any]) -> Any:
    """The default of a field, MISSING where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _whole(usual: Any) -> bool:
    """Whether a table stands for changes to this default, and not for something of a kind."""
    return dataclasses.is_dataclass(usual) and not hasattr(usual, "from_table")


def _completed(value: Any, usual: Any) -> Any:
    """Return a table with what it leaves out as in the default of its field."""
    if not isinstance(value, Mapping) or not _whole(usual):
        return value
    rest = {f.name: getattr(usual, f.name) for f in dataclasses.fields(usual) if f.init}
    return {**rest, **value}


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _halves(assignment: str, option: str, name: str) -> tuple[str, Any]:
    path, equals, text = assignment.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f'{option} {assignment}: write it as "{name}=value"')
    return path.strip(), _parse(text.strip())


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _assign(table: Any, path: list[str], value: Any, assignment: str) -> None:
    key: Any = path[0]
    if isinstance(table, list):
        if not key.isdigit() or int(key) >= len(table):
            raise ConfigError(
                f"--set {assignment}: there is no entry {key} in a list of {len(table)}"
            )
        key = int(key)
    elif not isinstance(table, dict):
        raise ConfigError(f"--set {assignment}: {key} stands below a value, not a table")
    if len(path) == 1:
        table[key] = value
        return
    if isinstance(table, dict) and key not in table:
        table[key] = {}
    _assign(table[key], path[1:], value, assignment)

"""Write the reference pages from the code: configuration.md, models.md and cli.md.

    python docs/generate.py     rewrite the pages beside this file

tests/test_docs.py fails where a page is not what this would write.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from typer.main import get_command
from typer.testing import CliRunner

from m6rec.cli.app import app
from m6rec.data.schema import Names, Tables
from m6rec.experiment import Experiment
from m6rec.models.base import KINDS, Embeds, Explains, Recipe, recipe_class
from m6rec.opinion.config import OpinionConfig
from m6rec.serving.app import create
from m6rec.serving.settings import Settings

HERE = Path(__file__).parent
GENERATED = "<!-- Written by docs/generate.py from the code; change it there. -->"
WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Any: "any value",
    Path: "path",
    Names: "text or list of text",
    Recipe: "[model](#models)",
}
NAMED = {Tables: "[table](#one-table-of-data), path, or list"}


def configuration() -> str:
    """Every table and option of an experiment, then every kind of model."""
    parts = [
        "# Configuration",
        GENERATED,
        "One TOML file describes an experiment. Below are all its tables and options, with their "
        "types and defaults. An unknown key is refused, and the nearest known one is suggested. "
        "Any option can be overridden on the command line: `--set model.reg=0.1`.",
        "`NAME` stands for a name of yours. "
        "Start from a draft of your own files: `m6rec init --from log.csv`. "
        "[Data](data.md) explains the data tables by example.",
    ]
    for places, cls in tables(Experiment):
        parts.append(heading(places, cls))
        parts += options(cls)
    parts += [
        "## Opinions",
        "The verbs of `m6rec opinion` read one more table, of the same file or one of its own; "
        "[finance](scenarios/finance.md) shows it by example.",
    ]
    for places, cls in tables(OpinionConfig, "opinion"):
        parts.append("#" + heading(places, cls))
        parts += options(cls)
    parts += [
        "## Models",
        "A model is a table with a `kind`, and that kind's options: `[model]`, each of "
        "`[[model.parts]]`, and each of `[[evaluate.baselines]]`. What they do and when to take "
        'which: [models](models.md). A model of your own is `kind = "my_module:MyRecipe"`: '
        "[add a model](add-a-model.md).",
    ]
    nested: dict[type, list[str]] = {}
    for kind in KINDS:
        cls = recipe_class(kind)
        parts.append(f'### `kind = "{kind}"`')
        parts += options(cls)
        for places, inner in tables(cls, "model"):
            if inner is not cls and not issubclass(inner, Recipe):
                nested.setdefault(inner, []).extend(f"`[{p}]` of `{kind}`" for p in places)
    for inner, places in nested.items():
        parts.append("### " + ", ".join(places))
        parts += options(inner)
    return page(parts)


def models() -> str:
    """One line for every entry of KINDS."""
    lines = ["| kind | what it does | reasons | vectors | code |", "|---|---|---|---|---|"]
    for kind, target in KINDS.items():
        cls = recipe_class(kind)
        hint = typing.get_type_hints(cls.fit)["return"]
        model = (typing.get_args(hint) or (hint,))[0]  # of several, the first
        path = Path(target.partition(":")[0].replace(".", "/")).with_suffix(".py")
        row = (
            f"[`{kind}`](configuration.md#kind--{kind})",
            cell(first_sentence(cls)),
            has(model, Explains),
            has(model, Embeds),
            f"[{path.name}](../src/{path})",
        )
        lines.append(f"| {' | '.join(row)} |")
    return page(
        [
            "# Models",
            GENERATED,
            "Every model takes the same query and gives scores; all obey the laws in "
            "[concepts](concepts.md#laws). `reasons`: its scores split into reasons that add up. "
            "`vectors`: its score is a dot product, so a nearest-neighbour index can be used.",
            "\n".join(lines),
            "The default is `m6rec`. It needs no options: it picks parts that suit the data, and "
            "learns how to weigh them on a holdout inside the training data.",
        ]
    )


def cli() -> str:
    """``m6rec --help`` and the help of every verb."""
    parts = [
        "# Command line",
        GENERATED,
        "`RUN` is a run directory, or `current`: the newest in `runs/`; `DIR/current` is the "
        "newest in another folder. With `--json`, a verb "
        "prints JSON on standard output and nothing else there. A mistake in a file or a request "
        "is one sentence on standard error, and exit status 2.",
        f"```text\n{help_of()}\n```",
    ]
    for verb, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        parts += [f"## m6rec {verb}", f"```text\n{help_of(verb)}\n```"]
        for inner in getattr(command, "commands", ()):
            parts += [f"### m6rec {verb} {inner}", f"```text\n{help_of(verb, inner)}\n```"]
    return page(parts)


def http() -> str:
    """Every route of /v1 and the fields of its body, from the OpenAPI document."""
    table = create(Settings()).openapi()
    parts = [
        GENERATED,
        "# HTTP reference",
        "What [the service](http-api.md) answers under `/v1`; the same as OpenAPI under "
        '`/v1/openapi.json`. An error is `{"error": sentence, "code": word}` with a status of '
        "4xx; 401, 403, 413 and 429 may come from any route.",
    ]
    for path, methods in table["paths"].items():
        if not path.startswith("/v1"):
            continue
        for method, route in methods.items():
            parts.append(f"## {method.upper()} {path}")
            parts.append(marked(route["description"]))
            given = [(p["name"], p["schema"], p["required"]) for p in route.get("parameters", [])]
            parts += fields_of(given)
            parts += body_of(route.get("requestBody"), table)
    return page(parts)


def body_of(body: Any, table: Any) -> list[str]:
    """The fields of a JSON body."""
    if body is None:
        return []
    schema = body["content"]["application/json"]["schema"]
    ways = schema.get("anyOf", [schema])
    named = next(way for way in ways if "$ref" in way)
    of = table["components"]["schemas"][named["$ref"].rpartition("/")[2]]
    needed = of.get("required", [])
    given = [(name, field, name in needed) for name, field in of["properties"].items()]
    several = ["A JSON object, or a list of them:"] if len(ways) > 1 else ["A JSON object:"]
    return [*several, *fields_of(given)]


def fields_of(given: list[tuple[str, Any, bool]]) -> list[str]:
    """Name, type, default and meaning of fields, as a table; nothing without any."""
    rows = [
        f"| `{name}` | {kind_of(schema)} | {'needed' if needed else shown(schema)} "
        f"| {cell(schema.get('description', ''))} |"
        for name, schema, needed in given
    ]
    head = ["| field | type | default | |", "|---|---|---|---|"]
    return ["\n".join([*head, *rows])] if rows else []


def kind_of(schema: Any) -> str:
    """The type of a field in words."""
    ways = [way for way in schema.get("anyOf", [schema]) if way.get("type") != "null"]
    names = []
    for way in ways:
        if "enum" in way:
            names.append(", ".join(f"`{value}`" for value in way["enum"]))
        elif way.get("type") == "array":
            inner = way["items"]
            names.append(
                f"list of {inner['type'] if 'type' in inner else 'objects'}s".replace("ss", "s")
            )
        else:
            names.append(
                {"string": "text", "object": "object"}.get(way.get("type"), way.get("type"))
            )
    return " or ".join(str(name) for name in names)


def shown(schema: Any) -> str:
    """The default of a field."""
    value = schema.get("default")
    return "–" if value in (None, "", [], {}) else f"`{json.dumps(value)}`"


PAGES = {
    "configuration.md": configuration,
    "models.md": models,
    "cli.md": cli,
    "http-reference.md": http,
}


def help_of(*verb: str) -> str:
    """The help text at a width of 100 columns."""
    runner = CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"})
    result = runner.invoke(app, [*verb, "--help"], prog_name="m6rec")
    return "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())


def tables(cls: type, at: str = "") -> Iterator[tuple[list[str], type]]:
    """Every dataclass of a configuration once, with the TOML tables in which it stands."""
    found: dict[type, list[str]] = {}

    def walk(each: type, place: str) -> None:
        if each in found and "[]" in place:
            return
        found.setdefault(each, []).append(place)
        if len(found[each]) == 1:
            for name, hint in fields(each):
                inside = f"{place}.{name}" if place else name
                for c, more in dataclasses_in(hint):
                    walk(c, inside + more)

    walk(cls, at)
    yield from ((places, each) for each, places in found.items())


def dataclasses_in(hint: Any) -> Iterator[tuple[type, str]]:
    """The dataclasses of a type, each with what its TOML path has beyond the option's name."""
    if hint is Tables:
        yield typing.get_args(Tables.__orig_bases__[0])[0], "[]"  # type: ignore[attr-defined]
    elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if not inspect.isabstract(hint):
            yield hint, ""
    elif isinstance(get_origin(hint), type) and issubclass(get_origin(hint), Mapping):
        yield from ((c, f".NAME{more}") for c, more in dataclasses_in(get_args(hint)[1]))
    elif get_origin(hint) is not Literal:
        for argument in get_args(hint):
            if argument is not Ellipsis:
                yield from dataclasses_in(argument)


def heading(places: list[str], cls: type) -> str:
    """The section heading of a dataclass."""
    if places == [""]:
        return "## Top of the file"
    if cls.__name__ == "Table":
        return "## One table of data"
    return "## " + ", ".join(f"`[{place}]`" for place in places if "[]" not in place)


def slug(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    kept = re.sub(r"[^\w\- ]", "", title.lstrip("# ").lower())
    return kept.strip().replace(" ", "-")


def options(cls: type) -> list[str]:
    """What the class says of itself, and a table of its options."""
    intro, texts = documented(cls)
    for base in filter(dataclasses.is_dataclass, cls.__mro__[1:]):
        texts = documented(base)[1] | texts  # of inherited options
    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for name, hint in fields(cls):
        about = meaning(name, hint, intro, texts)
        row = (f"`{name}`", type_of(hint), default_of(cls, name), about)
        lines.append("| " + " | ".join(cell(each) for each in row) + " |")
    return [*intro, "\n".join(lines)]


def meaning(name: str, hint: Any, intro: list[str], texts: dict[str, str]) -> str:
    """The text of an option, else where it is explained."""
    if name in texts:
        return texts[name]
    if hint is Recipe:
        return "see [models](#models)"
    for inner, _ in dataclasses_in(hint):
        known = chain(tables(Experiment), tables(OpinionConfig, "opinion"))
        title = heading({c: places for places, c in known}[inner], inner)
        return f"see [{title.removeprefix('## ')}](#{slug(title)})"
    if re.search(rf"\b{name}\b", " ".join(intro)):
        return "see above"
    return next((f"see `{other}`" for other, text in texts.items() if f"`{name}`" in text), "")


def fields(cls: type) -> list[tuple[str, Any]]:
    """Name and type of the options of a dataclass."""
    hints = typing.get_type_hints(cls)
    return [(f.name, hints[f.name]) for f in dataclasses.fields(cls) if f.init]


def documented(cls: type) -> tuple[list[str], dict[str, str]]:
    """The introduction of a class docstring by paragraphs, and the text of each option.

    Options are documented as ``name: text`` or ``name, name: text`` at the start of a sentence.
    """
    text = inspect.cleandoc(cls.__doc__ or "")
    names = "|".join(sorted((name for name, _ in fields(cls)), key=len, reverse=True))
    start = re.compile(rf"(?:^|(?<=[.\n]) *)\n*((?:{names})(?:, (?:{names}))*): ", re.MULTILINE)
    marks = list(start.finditer(text))
    intro = text[: marks[0].start()] if marks else text
    found: dict[str, str] = {}
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    for mark, end in zip(marks, ends, strict=False):
        about = " ".join(text[mark.end() : end].split())
        for name in mark.group(1).split(", "):
            found[name] = f"{found[name]} {about}" if name in found else about
    return [marked(" ".join(p.split())) for p in intro.split("\n\n") if p.strip()], {
        name: marked(about) for name, about in found.items()
    }


def first_sentence(cls: type) -> str:
    """The first sentence of the introduction."""
    intro, _ = documented(cls)
    return re.split(r"(?<=[.;])\s+(?=[A-Z])", intro[0])[0].rstrip(".")


def type_of(hint: Any) -> str:
    """A type in words."""
    for known in (NAMED, WORDS):
        if hint in known:
            return known[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = (type_of(each) for each in args if each is not type(None))
        return " or ".join(dict.fromkeys(inner))
    if origin is Literal:
        return ", ".join(f'`"{a}"`' if isinstance(a, str) else f"`{a}`" for a in args)
    if origin is tuple:
        return f"list of {type_of(args[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"table of {type_of(args[1])}"
    return "table"


def default_of(cls: type, name: str) -> str:
    """The default of an option as TOML; – where there is none to write."""
    field = next(f for f in dataclasses.fields(cls) if f.name == name)
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        value = field.default
    else:
        return "needed"
    if isinstance(value, Recipe):
        return f'`{{kind = "{value.kind}"}}`'
    several = isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value))
    if value is None or several or dataclasses.is_dataclass(value) or value in ({}, ()):
        return "–"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{json.dumps(value, default=str)}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def has(model: type, protocol: type) -> str:
    """A mark where a model class has every method of a capability."""
    names = [n for n in vars(protocol) if not n.startswith("_")]
    return "✓" if all(hasattr(model, name) for name in names) else "–"


def cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return text.replace("|", r"\|")


def marked(text: str) -> str:
    """A docstring as Markdown and TOML: single backticks, no emphasis, and no None."""
    text = re.sub(r"``([^`]+)``", r"`\1`", text).replace("*", r"\*")
    return re.sub(r"\bNone = ", "left out = ", re.sub(r"\bFalse\b", "`false`", text))


def page(parts: list[str]) -> str:
    """Paragraphs as a file."""
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"
    for file, write in PAGES.items():
        (HERE / file).write_text(write(), encoding="utf-8")

"""RSS 2.0, RSS 1.0 and Atom files → rows; a file that could harm the reader is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from m6rec.data.readers import absent
from m6rec.errors import DataError
from m6rec.opinion.rows import Problem

NAMES = {  # what a tag is called here, the first that is there counts
    "document": ("guid", "id"),
    "time": ("pubDate", "published", "updated", "date"),
    "title": ("title",),
    "text": ("encoded", "content", "description", "summary"),
}


def read_feed(path: Path) -> tuple[list[tuple[int, Mapping[str, Any]]], list[Problem]]:
    """Return the items of a feed, each with its number in the file.

    A feed is XML from strangers: one with a DTD is refused, so that it can neither define
    entities that grow without end nor name files to be read.
    """
    root = _parsed(path)
    if _name(root) not in ("rss", "RDF", "feed"):
        raise DataError(f"{path}: is neither RSS nor Atom: it begins with <{_name(root)}>")
    source = next((_text(e) for e in _children(root, "title")), "")
    for channel in _children(root, "channel"):
        source = next((_text(e) for e in _children(channel, "title")), source)
    rows: list[tuple[int, Mapping[str, Any]]] = []
    problems = []
    items = (e for e in root.iter() if _name(e) in ("item", "entry"))
    for place, item in enumerate(items, 1):
        row = {name: _first(item, tags) for name, tags in NAMES.items()}
        row["url"] = _link(item)
        row["source"] = source
        row["document"] = row["document"] or row["url"]
        if any(row[name] for name in ("title", "text")):
            rows.append((place, {name: value for name, value in row.items() if value}))
        else:
            problems.append(Problem(str(path), place, "has neither title nor text"))
    return rows, problems


def _parsed(path: Path) -> ElementTree.Element:
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: Any) -> None:
        raise DataError(f"{path}: has a document type, which feeds do not need and attacks use")

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
        return builder.close()
    except FileNotFoundError:
        raise absent(path) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (expat.ExpatError, AssertionError) as error:
        raise DataError(f"{path}: is not XML: {error}") from None


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if _name(child) == name)


def _first(item: ElementTree.Element, tags: tuple[str, ...]) -> str:
    for tag in tags:
        for child in _children(item, tag):
            if text := _text(child):
                return text
    return ""


def _link(item: ElementTree.Element) -> str:
    """The address: the text of <link>, or its href, rather an alternate one."""
    links = sorted(_children(item, "link"), key=lambda e: e.get("rel", "alternate") != "alternate")
    return next((found for e in links if (found := _text(e) or (e.get("href") or "").strip())), "")


def _text(element: ElementTree.Element) -> str:
    return "".join(element.itertext()).strip()

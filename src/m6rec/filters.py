"""A small, safe filter language over item attributes: ``price < 50 and "comedy" in genres``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
import polars as pl

from m6rec.arrays import Mask
from m6rec.errors import QueryError, suggestion, written

LONGEST = 4_000  # characters of an expression
DEEPEST = 40  # parentheses and nots inside each other
Kind = Literal["number", "string", "boolean", "list"]
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)
    |(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<quoted>`[^`]+`)|(?P<name>[^\W\d]\w*)
    |(?P<sign><=|>=|==|!=|<|>|=|\(|\)|\[|\]|,|-))""",
    re.VERBOSE,
)
_WORDS = ("and", "or", "not", "in", "true", "false")
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed expression; ``mask`` applies it to a table of items."""

    text: str
    root: Node

    @classmethod
    def parse(cls, text: str) -> Filter:
        """Parse an expression; raises QueryError with the position of what does not fit.

        Attributes are bare words, or stand in backquotes; strings in either quotes, numbers,
        true, false, and lists of these in [ ]. Comparisons < <= > >= == != (which chain as in
        Python), in, not in, and, or, not, parentheses. ``"x" in attribute`` asks for a member
        of a list or a part of a string.
        """
        if len(text) > LONGEST:
            raise QueryError(f"filter: {len(text)} characters long; at most {LONGEST} are allowed")
        return cls(text, _Parser(text).parse())

    def mask(self, items: pl.DataFrame) -> Mask:
        """Return (n_items,) which items the expression holds for.

        A missing value equals nothing and is neither above nor below anything. Raises
        QueryError for an attribute that is no column, or a comparison of unlike kinds.
        """
        value, kind = _Compiler(self.text, items).compile(self.root)
        if kind != "boolean":
            _fail(self.text, self.root.at, f"this is a {kind}, not a condition")
        held = items.with_columns(value.alias("held"))["held"]
        return held.to_numpy().astype(np.bool_)


class Node(NamedTuple):
    """kind: "name", "value", "list", "not", "and", "or" or "compare"; at: its position."""

    kind: str
    at: int
    value: Any = None  # of a name or literal; the operator of a comparison
    parts: tuple[Any, ...] = ()


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def _fail(text: str, at: int, problem: str) -> NoReturn:
    raise QueryError(f"filter `{text}`: at character {at + 1}: {problem}")


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            what = "an unfinished string" if text[start] in "\"'`" else f'"{text[start]}"'
            _fail(text, start, f"{what} is not understood")
        kind = str(match.lastgroup)
        word = match[kind]
        if kind == "name" and word.lower() in _WORDS:
            kind, word = "word", word.lower()
        elif kind == "quoted":
            kind, word = "name", word[1:-1]
        found.append(_Token(kind, word, match.start(str(match.lastgroup))))
        at = match.end()
    return [*found, _Token("end", "the end", len(text))]


class _Parser:
    """Recursive descent, one method per rule; each returns a node."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.place, self.depth = text, _tokens(text), 0, 0

    def parse(self) -> Node:
        node = self.either()
        if self.now.kind != "end":
            self.fail(f'"{self.now.text}" does not fit here; join conditions with "and" or "or"')
        return node

    @property
    def now(self) -> _Token:
        return self.tokens[self.place]

    def fail(self, problem: str) -> NoReturn:
        _fail(self.text, self.now.at, problem)

    def took(self, *texts: str) -> str:
        """Step over the token if it is one of these signs or words, and return it."""
        token = self.now
        if token.kind in ("sign", "word") and token.text in texts:
            self.place += 1
            return token.text
        return ""

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"more than {DEEPEST} levels of nesting")

    def either(self) -> Node:
        at, parts = self.now.at, [self.both()]
        while self.took("or"):
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Node("or", at, parts=tuple(parts))

    def both(self) -> Node:
        at, parts = self.now.at, [self.negation()]
        while self.took("and"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else Node("and", at, parts=tuple(parts))

    def negation(self) -> Node:
        at = self.now.at
        if not self.took("not"):
            return self.comparison()
        self.deeper()
        node = Node("not", at, parts=(self.negation(),))
        self.depth -= 1
        return node

    def comparison(self) -> Node:
        at, left = self.now.at, self.operand()
        pairs = []
        while operator := self.operator():
            right = self.operand()
            pairs.append(Node("compare", at, operator, (left, right)))
            at, left = right.at, right
        if not pairs:
            return left
        return pairs[0] if len(pairs) == 1 else Node("and", pairs[0].at, parts=tuple(pairs))

    def operator(self) -> str:
        if self.now == ("sign", "=", self.now.at):
            self.fail('write "==" to compare')
        if self.now == ("word", "not", self.now.at):
            self.place += 1
            if not self.took("in"):
                self.fail('"in" must follow "not" here')
            return "not in"
        return self.took(*_COMPARISONS, "in")

    def operand(self) -> Node:
        token = self.now
        if self.took("("):
            self.deeper()
            node = self.either()
            if not self.took(")"):
                self.fail('a ")" is missing')
            self.depth -= 1
            return node
        if self.took("["):
            return self.members(token.at)
        if token.kind == "name":
            self.place += 1
            return Node("name", token.at, token.text)
        return self.literal()

    def members(self, at: int) -> Node:
        values: list[Node] = []
        while not self.took("]"):
            if values and not self.took(","):
                self.fail('a "," or "]" is missing')
            values.append(self.literal())
        return Node("list", at, parts=tuple(values))

    def literal(self) -> Node:
        at, minus = self.now.at, self.took("-")
        token = self.now
        self.place += token.kind != "end"
        if token.kind == "number":
            return Node("value", at, -float(token.text) if minus else float(token.text))
        if token.kind == "string" and not minus:
            return Node("value", at, re.sub(r"\\(.)", r"\1", token.text[1:-1], flags=re.DOTALL))
        if token.kind == "word" and token.text in ("true", "false") and not minus:
            return Node("value", at, token.text == "true")
        self.place -= token.kind != "end"
        self.fail(f"an attribute or a value is expected, not {token.text}")


class _Compiler:
    """Nodes to polars expressions with their kinds; a boolean expression is never null."""

    def __init__(self, text: str, items: pl.DataFrame) -> None:
        self.text, self.items, self.schema = text, items, items.schema

    def compile(self, node: Node) -> tuple[pl.Expr, Kind]:
        if node.kind == "name":
            return self.attribute(node)
        if node.kind == "value":
            return pl.lit(node.value), _kind_of(node.value)
        if node.kind == "list":
            _fail(self.text, node.at, 'a list in [ ] only stands after "in" or "not in"')
        if node.kind == "compare":
            return self.comparison(node), "boolean"
        parts = [self.condition(part) for part in node.parts]
        if node.kind == "not":
            return ~parts[0], "boolean"
        joined = pl.all_horizontal(parts) if node.kind == "and" else pl.any_horizontal(parts)
        return joined, "boolean"

    def condition(self, node: Node) -> pl.Expr:
        value, kind = self.compile(node)
        if kind != "boolean":
            _fail(self.text, node.at, f"this is a {kind}, not a condition")
        return value

    def attribute(self, node: Node) -> tuple[pl.Expr, Kind]:
        name = node.value
        if name not in self.schema:
            known = ", ".join(self.schema)
            guess = suggestion(name, self.schema)
            _fail(self.text, node.at, f'there is no attribute "{name}"{guess} (known: {known})')
        column, dtype = pl.col(name), self.schema[name]
        if isinstance(dtype, pl.List):
            inner = pl.Float64 if _numeric_list(dtype) else pl.String
            return column.cast(pl.List(inner)), "list"
        if dtype == pl.Boolean:
            return column.fill_null(False), "boolean"
        if dtype.is_numeric():
            return column.cast(pl.Float64).fill_nan(None), "number"
        return column.cast(pl.String), "string"

    def comparison(self, node: Node) -> pl.Expr:
        left, right = node.parts
        operator = node.value
        if operator in ("in", "not in"):
            held = self.member(left, right).fill_null(False)
            return ~held if operator == "not in" else held
        (a, kind), (b, other) = self.compile(left), self.compile(right)
        if kind != other or kind == "list":
            problem = f'a {kind} and a {other} cannot be compared by "{operator}"'
            hint = '; use "in"' if "list" in (kind, other) else ""
            if "string" in (kind, other) and "number" in (kind, other):
                hint = self.read_as(left if kind == "string" else right)
            _fail(self.text, node.at, problem + hint)
        if operator in ("==", "!="):
            equal = (a == b).fill_null(False)
            return equal if operator == "==" else ~equal
        ordered = {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}
        return ordered[operator].fill_null(False)

    def read_as(self, node: Node) -> str:
        """How an attribute that is text reads, where a number was expected."""
        if node.kind != "name":
            return ""
        given = self.items[node.value].drop_nulls().cast(pl.String)
        number = given.str.strip_chars().cast(pl.Float64, strict=False)
        odd = given.filter(number.is_null() & (given.str.strip_chars() != ""))
        such = f", such as {written(odd[0])}" if len(odd) else ""
        return f'; "{node.value}" was read as text{such}; see docs/data.md#features'

    def member(self, left: Node, right: Node) -> pl.Expr:
        value, kind = self.compile(left)
        if right.kind == "list":
            for part in right.parts:
                if _kind_of(part.value) != kind:
                    _fail(self.text, part.at, f"a {kind} is expected in this list")
            if not right.parts:
                return pl.lit(False)
            return value.is_in([part.value for part in right.parts])
        where, other = self.compile(right)
        if other == "list":
            inner = "number" if _numeric_list(self.schema[right.value]) else "string"
            if kind != inner:
                _fail(self.text, left.at, f'"{right.value}" holds {inner}s, this is a {kind}')
            return where.list.contains(value)
        if other == "string" and kind == "string":
            return where.str.contains(value, literal=True)
        _fail(self.text, right.at, f'a {kind} cannot be "in" a {other}')


def _numeric_list(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.List) and dtype.inner.is_numeric()


def _kind_of(value: Any) -> Kind:
    return (
        "boolean" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
    )

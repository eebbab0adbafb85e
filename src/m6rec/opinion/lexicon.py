"""The finance word list → features of a text: polar words, and measures with their direction.

A list alone is the start, before anybody has labelled anything. "Profit rose" is good, "loss
narrowed" too: a direction counts with the measure next to it. "Not", in the three words before,
turns a word round. Figures that are compared ("9.4 from 11.7") give a direction as well.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from m6rec.arrays import Floats

SOURCE = "M6-Rec's own finance word list, English and Chinese"
LICENCE = "Apache-2.0"
NAMES = (
    "positive", "negative", "better", "worse", "up", "down", "bad", "more", "fewer", "net",
    "polar", "measure", "figure", "length",
)  # fmt: skip
PAIR = 8  # most words between a direction and its measure
NEGATED = 3  # words that a negation reaches
LONE = 0.5  # of a direction without a measure, or of a bad measure without a direction
COMPARED = 9  # words on either side of "from" in which the figures are looked for
TOKEN = re.compile(
    r"[a-z]+(?:[-'’&][a-z]+)*\.?(?=[^a-z]|$)|\d+(?:[.,]\d+)*%?|[\u3400-\u9fff]|[;:.!?。；！？，,]"
)
GAP = re.compile(r"(?<=[\u3400-\u9fff]) (?=[\u3400-\u9fff])")
ENDS = frozenset(";:.!?。；！？")
SIGN = {"positive": 1, "negative": -1, "up": 1, "down": -1, "good": 1, "bad": -1}


@dataclass(frozen=True, slots=True)
class Found:
    """A word of the list in a text: its kinds, the place of its first token and its tokens."""

    word: str
    kinds: frozenset[str]
    place: int
    size: int


class Lexicon:
    """words: word or phrase → its kinds. prefixes: beginning of a word → kinds of all such."""

    def __init__(self, tables: Mapping[str, Mapping[str, str]]) -> None:
        words: dict[str, set[str]] = {}
        prefixes: dict[str, set[str]] = {}
        for table in tables.values():
            for kind, listed in table.items():
                for word in (each.strip() for each in listed.replace("\n", " ").split(",")):
                    if word.endswith("*"):
                        prefixes.setdefault(word[:-1], set()).add(kind)
                    elif word:
                        words.setdefault(" ".join(_tokens(word)), set()).add(kind)
        self.words = {word: frozenset(kinds) for word, kinds in words.items()}
        self.prefixes = {word: frozenset(kinds) for word, kinds in prefixes.items()}
        self.longest = max(word.count(" ") + 1 for word in self.words)
        self.shortest = min(map(len, self.prefixes))

    def __len__(self) -> int:
        return len(self.words) + len(self.prefixes)

    def find(self, tokens: Sequence[str]) -> list[Found]:
        """Return the words of the list in tokens, the longest at each place."""
        found, place = [], 0
        while place < len(tokens):
            size = 1
            for size in range(min(self.longest, len(tokens) - place), 0, -1):
                word = " ".join(tokens[place : place + size])
                kinds = self.words.get(word) or (self._beginning(word) if size == 1 else None)
                if kinds:
                    found.append(Found(word, kinds, place, size))
                    break
            place += size
        return found

    def _beginning(self, word: str) -> frozenset[str] | None:
        for end in range(len(word), self.shortest - 1, -1):
            if kinds := self.prefixes.get(word[:end]):
                return kinds
        return None

    def weigh(self, text: str) -> tuple[list[tuple[str, float, str]], list[str]]:
        """Return (words, value, feature) of what speaks for (+) or against (−), and all tokens."""
        tokens = _tokens(text)
        said: list[tuple[str, float, str]] = []
        start = 0
        for end in [i for i, token in enumerate(tokens) if token in ENDS] + [len(tokens)]:
            if end > start:
                said += self._weigh(tokens[start:end])
            start = end + 1
        return said, tokens

    def _weigh(self, tokens: Sequence[str]) -> list[tuple[str, float, str]]:
        """Weigh one sentence."""
        found = self.find(tokens)
        measures = [f for f in found if f.kinds & {"good", "bad"}]
        ends = [f.place for f in found if "until" in f.kinds]
        turned = [f.place + f.size for f in found if "not" in f.kinds]
        said: list[tuple[str, float, str]] = []
        bound: set[int] = set()

        def keep(word: Found, value: float, feature: str, extra: str = "") -> None:
            before = any(0 <= word.place - at < NEGATED for at in turned)
            name = GAP.sub("", f"{extra} {word.word}".strip())
            said.append((name, -value if before else value, feature))

        for word in found:
            if directions := word.kinds & {"up", "down"}:
                up = SIGN[next(iter(directions))]
                pair = _nearest(word, measures, ends)
                if pair is not None:
                    bound.add(pair.place)
                    good = SIGN["good" if "good" in pair.kinds else "bad"]
                    keep(word, up * good, "pair", pair.word)
                    continue
                if not word.kinds & {"positive", "negative"}:
                    keep(word, LONE * up, "lone")
            if polar := word.kinds & {"positive", "negative"}:
                keep(word, SIGN[next(iter(polar))], "polar")
        for word in measures:
            if "bad" in word.kinds and word.place not in bound and "negative" not in word.kinds:
                keep(word, -LONE, "bad")
        for word in (f for f in found if "from" in f.kinds):
            sign = _compared(tokens, word, measures)
            if sign:
                said.append((word.word, sign, "compared"))
        return said

    def features(self, texts: Sequence[str]) -> Floats:
        """Return (n, 14) float32; see ``NAMES``."""
        rows = np.zeros((len(texts), len(NAMES)), np.float32)
        for row, text in zip(rows, texts, strict=True):
            said, tokens = self.weigh(text)
            at = {"polar": 0, "pair": 2, "lone": 4, "compared": 7}
            for _, value, feature in said:
                if feature == "bad":
                    row[6] += abs(value)
                else:
                    row[at[feature] + (value < 0)] += abs(value)
            net = sum(value for _, value, _ in said)
            row[:9] = np.minimum(row[:9], 3)
            row[9:] = (
                np.tanh(net / 1.5),
                bool(said),
                any(f.kinds & {"good", "bad"} for f in self.find(tokens)),
                any(token[0].isdigit() for token in tokens),
                np.log1p(len(tokens)),
            )
        return rows

    def terms(self, text: str) -> list[tuple[str, float]]:
        """Return the words that speak for or against, with their values, in their order."""
        return [(word, value) for word, value, _ in self.weigh(text)[0]]


@cache
def lexicon() -> Lexicon:
    """Return the list that comes with M6-Rec."""
    text = (files("m6rec.opinion") / "lexicon.toml").read_text(encoding="utf-8")
    return Lexicon(tomllib.loads(text))


def scores(features: Floats) -> Floats:
    """Return (n, 3) float32 logits of negative, neutral, positive by the list alone."""
    net = 1.5 * np.arctanh(np.clip(features[:, 9], -0.99, 0.99))
    found: Floats = np.stack([-2 * net, np.full(len(net), 1.0), 2 * net], axis=1)
    return found.astype(np.float32)


def _tokens(text: str) -> list[str]:
    return [token.rstrip(".") or token for token in TOKEN.findall(text.lower())]


def _nearest(word: Found, measures: Sequence[Found], ends: Sequence[int]) -> Found | None:
    """The measure of a direction: the nearest one, rather one before it, not past a "but"."""
    best, least = None, PAIR + 1.0
    for measure in measures:
        if measure.place == word.place:
            continue
        low, high = sorted((measure.place, word.place))
        if any(low < end < high for end in ends):
            continue
        gap = high - low + (1.5 if measure.place > word.place else 0)
        if gap < least:
            best, least = measure, gap
    return best


def _compared(tokens: Sequence[str], word: Found, measures: Sequence[Found]) -> float:
    """±1 where a figure is above or below the one that it is compared with, by the measure."""
    after = word.place + word.size
    now = [_figure(t) for t in tokens[max(word.place - COMPARED, 0) : word.place]]
    then = [_figure(t) for t in tokens[after : after + COMPARED]]
    a = next((x for x in reversed(now) if x is not None), None)
    b = next((x for x in then if x is not None), None)
    if a is None or b is None or a == b:
        return 0
    before = [m for m in measures if m.place < word.place]
    behind = [m for m in measures if after <= m.place < after + COMPARED]
    good = SIGN["bad" if before and "good" not in before[-1].kinds else "good"]
    if before and behind:
        other = SIGN["good" if "good" in behind[0].kinds else "bad"]
        if other != good:  # a profit, compared with a loss
            return good
    return good * (1 if a > b else -1)


def _figure(token: str) -> float | None:
    """The number of a token, unless it is a year."""
    if not token[0].isdigit():
        return None
    plain = token.rstrip("%").replace(",", "")
    if plain.isdigit() and 1900 <= int(plain) <= 2100 and "%" not in token:
        return None
    try:
        return float(plain)
    except ValueError:
        return None

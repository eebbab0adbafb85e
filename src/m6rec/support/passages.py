"""The part of an answer that is closest to a question: extracted, never written anew."""

from __future__ import annotations

import re

from m6rec.text import FittedText

MOST = 240  # characters of a passage, unless one sentence has more
END = re.compile(r"(?<=[.!?])\s+(?=[^\s\W_a-z])|(?<=[。！？；])|\n+")  # of a sentence


def sentences(text: str) -> list[str]:
    """Return the sentences of an English or Chinese text."""
    return [part.strip() for part in END.split(text) if part and part.strip()]


def passages(text: str) -> list[str]:
    """Return runs of sentences that follow each other, each of at most MOST characters."""
    found: list[str] = []
    for each in sentences(text):
        gap = "" if found and found[-1][-1] in "。！？；" else " "
        if found and len(found[-1]) + len(gap) + len(each) <= MOST:
            found[-1] += gap + each
        else:
            found.append(each)
    return found


def best_passage(encoder: FittedText, question: str, text: str) -> str:
    """Return the passage of a text whose vector is closest to the question's; "" of no text."""
    found = passages(text)
    if len(found) < 2:
        return found[0] if found else ""
    asked = encoder.encode([question])[0]
    return found[int((encoder.encode(found) @ asked).argmax())]

"""Logs that are made up for the demos, where no real ones may be shipped; what is planted is said.

Each function writes CSV files into a folder and returns their paths, the log first.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

DAY = 86_400
START = 1_735_689_600  # 2025-01-01, UTC
GENRES = ("folk", "techno", "jazz", "metal", "baroque", "hip hop")
FIRST = ("Velvet", "Silent", "Golden", "Paper", "Northern", "Electric", "Hollow", "Crimson")
SECOND = ("Harbour", "Foxes", "Lanterns", "Machine", "Rivers", "Choir", "Parade", "Atlas")
PEOPLE = ("Ada", "Ben", "Chen", "Dina", "Emil", "Fay", "Goran", "Hana", "Ivan", "Jun", "Kira",
          "Leo", "Mei", "Nils", "Olga", "Pia", "Quin", "Rosa", "Sami", "Tara")  # fmt: skip
SHELVES = ("coffee", "running", "garden", "books", "kitchen", "toys", "audio", "travel")
THINGS = ("starter", "classic", "compact", "deluxe", "travel", "family", "studio", "outdoor")

COMMERCE = (
    "400 customers, 240 products on 8 shelves; 8 of 10 events of a customer are on two shelves of "
    "theirs, a purchase follows a view one time in five, and one in 20 purchases goes back."
)
MUSIC = (
    "400 listeners, 288 artists of 6 genres; 3 of 4 plays of a listener are of one genre, and few "
    "artists have most plays."
)
SOCIAL = (
    "300 people in 6 circles; 3 of 4 artists that they hear are of the circle's genre, half of "
    "their friends are friends of a friend and most others of the circle, and 30 pairs are blocked."
)


def commerce(folder: Path, seed: int = 7) -> list[Path]:
    """Write log.csv and products.csv; see COMMERCE."""
    rng = np.random.default_rng(seed)
    shelf = np.arange(240) % len(SHELVES)
    fame = _fame(240)
    products = [
        (f"p{i}", f"{SHELVES[shelf[i]].title()} {THINGS[i // 8 % 8]} {i // 64 + 1}",
         SHELVES[shelf[i]], round(float(rng.lognormal(3, 0.6)), 2))
        for i in range(240)
    ]  # fmt: skip
    rows: list[tuple[object, ...]] = []
    for user in range(400):
        own = rng.choice(len(SHELVES), 2, replace=False)
        weight = fame * np.where(np.isin(shelf, own), 4 * 3, 1)
        for item in rng.choice(240, 25, p=weight / weight.sum()):
            time = START + int(rng.integers(180 * DAY))
            rows.append((f"c{user}", f"p{item}", "view", 1, time))
            if rng.random() < 0.3:
                rows.append((f"c{user}", f"p{item}", "cart", 1, time + 60))
            if rng.random() < 0.2:
                rows.append((f"c{user}", f"p{item}", "purchase", rng.integers(1, 3), time + 300))
                if rng.random() < 0.05:
                    rows.append((f"c{user}", f"p{item}", "return", 1, time + 9 * DAY))
    return [
        _write(folder / "log.csv", ("user", "item", "event", "quantity", "time"), rows),
        _write(folder / "products.csv", ("item", "title", "shelf", "price"), products),
    ]


def music(folder: Path, seed: int = 7) -> list[Path]:
    """Write plays.csv and artists.csv; see MUSIC."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"l{user}", f"a{artist}", plays, START + int(rng.integers(365 * DAY)))
        for user in range(400)
        for artist, plays in _heard(rng, user % len(GENRES), 288)
    ]
    return [
        _write(folder / "plays.csv", ("user", "artist", "plays", "time"), rows),
        _write(folder / "artists.csv", ("artist", "name", "genre"), _artists(288)),
    ]


def social(folder: Path, seed: int = 7) -> list[Path]:
    """Write plays.csv, friends.csv, blocks.csv, artists.csv and users.csv; see SOCIAL."""
    rng = np.random.default_rng(seed)
    n = 300
    plays = [
        (f"u{user}", f"a{artist}", count)
        for user in range(n)
        for artist, count in _heard(rng, user % len(GENRES), 192)
    ]
    friends: list[set[int]] = [set() for _ in range(n)]
    for _ in range(5):
        for user in rng.permutation(n):
            near = sorted({far for one in friends[user] for far in friends[one]} - {user})
            if near and rng.random() < 0.5:
                other = int(rng.choice(near))
            elif rng.random() < 0.85:
                other = int(rng.choice(np.arange(user % len(GENRES), n, len(GENRES))))
            else:
                other = int(rng.integers(n))
            if other != user:
                friends[user].add(other)
                friends[other].add(int(user))
    pairs = [(f"u{a}", f"u{b}") for a in range(n) for b in sorted(friends[a])]
    strangers = [(int(a), int(b)) for a, b in rng.integers(n, size=(60, 2)) if b not in friends[a]]
    blocks = [(f"u{a}", f"u{b}") for a, b in strangers if a != b][:30]
    names = [
        (f"u{i}", f"{PEOPLE[i % len(PEOPLE)]} {chr(65 + i // len(PEOPLE))}.") for i in range(n)
    ]
    return [
        _write(folder / "plays.csv", ("user", "artist", "plays"), plays),
        _write(folder / "friends.csv", ("user", "friend"), pairs),
        _write(folder / "blocks.csv", ("user", "blocked"), blocks),
        _write(folder / "artists.csv", ("artist", "name", "genre"), _artists(192)),
        _write(folder / "users.csv", ("user", "name"), names),
    ]


def _fame(n: int) -> np.ndarray:
    """(n,) how much each of n is asked for: few have most."""
    return 1 / (5 + np.arange(n)) ** 0.8


def _heard(rng: np.random.Generator, genre: int, n: int) -> Iterable[tuple[int, int]]:
    """Some of n artists, 3 of 4 of the genre, and how often each is played."""
    inside = np.arange(n) % len(GENRES) == genre
    weight = _fame(n) * np.where(inside, 3 * (len(GENRES) - 1), 1)
    chosen = rng.choice(n, 20, replace=False, p=weight / weight.sum())
    return zip(chosen.tolist(), (1 + rng.geometric(0.1, 20)).tolist(), strict=True)


def _artists(n: int) -> list[tuple[object, ...]]:
    names = [f"{a} {b}" for a in FIRST for b in SECOND]
    return [
        (f"a{i}", f"{names[i % len(names)]}{' ' + 'I' * (i // len(names) + 1)}",
         GENRES[i % len(GENRES)])
        for i in range(n)
    ]  # fmt: skip


def _write(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return path

"""Do real domains lose by a domain of noise, or by one that lies, beside them?

    python benchmarks/robustness.py [SET …] [--guests noise liar …] [--seeds N] [--pct]
        [--users N] [--rows FOLDER]

SET: music-book, music-book-thin (a fifth of the music), sport-phone, lastfm, amazon3. The system is
trained on the train events of the set, and again with a guest beside it, whose users are the set's:

  noise     as many events as the largest domain, of its users, on items drawn evenly
  popular   the same, its items shuffled over all of its events: popularity stays, taste is gone
  liar      a copy of it in which every user has somebody else's profile
  mirrored  a copy of it in which users have what they like least by the 16 first singular vectors
  crowd     five domains of noise at once

λ, ω and all other options are learned anew with the guest, on holdouts of train as always. Both
answer the same test rows of the real domains; the difference in NDCG has a 95 % interval by a
paired bootstrap over users, over all seeds together. PCT has the options that it learned inside the
fused model; --pct fits it alone. --users takes this many users of the set only. --rows keeps what
each test user got; what is there is not fitted again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import polars as pl
from scipy.sparse.linalg import svds

from m6rec.data.dataset import Dataset
from m6rec.data.schema import Domain
from m6rec.data.splits import Split
from m6rec.evaluation import evaluate
from m6rec.models.base import Model
from m6rec.models.default import M6Rec
from m6rec.models.fallback import Fallback
from m6rec.models.pct import Pct
from m6rec.models.popular import Popular
from m6rec.significance import paired
from m6rec.tracking import Run

SETS: dict[str, tuple[Callable[[int], Split], str, str]] = {  # split of a seed, metric, protocol
    "music-book": (lambda s: both(datasets.douban, s), "ndcg@20", "full"),
    "music-book-thin": (lambda s: datasets.douban(s, keep=0.2), "ndcg@20", "full"),
    "sport-phone": (lambda s: datasets.amazon_cdr("sport", "phone"), "ndcg@10", "sampled:999"),
    "lastfm": (datasets.lastfm, "ndcg@20", "full"),
    "amazon3": (lambda s: datasets.amazon3(), "ndcg@10", "full"),
}
GUESTS = ("noise", "popular", "liar", "mirrored", "crowd")
Pairs = tuple[np.ndarray, np.ndarray]  # users (N,), and items (N,) counted from 0


def both(load: Callable[..., Split], seed: int) -> Split:
    """Music and books of one division, both tested: its two targets hold out the same events."""
    music, book = load(seed), load(seed, target="book")
    test = datasets.union(music.test, book.test)
    return Split(train=music.train, test=test, context=music.train)


def some_users(split: Split, n: int, seed: int) -> Split:
    """Return the split of n random users alone."""
    chosen = np.random.default_rng([seed, 12]).permutation(split.train.n_users) < n
    train, test = (d.take(chosen[d.user]) for d in (split.train, split.test))
    return Split(train=train, test=test, context=train)


def largest(data: Dataset) -> tuple[Pairs, int]:
    """The events of the largest domain that is not made of people, and its number of items."""
    size = np.bincount(data.item_domain[data.item], minlength=data.n_domains)
    size = np.where([d.people for d in data.domains], 0, size)
    inside = data.item_domain == int(size.argmax())
    rows = inside[data.item]
    place = np.cumsum(inside) - 1
    return (data.user[rows], place[data.item[rows]]), int(inside.sum())


def noise(pairs: Pairs, n: int, rng: np.random.Generator) -> Pairs:
    return pairs[0], rng.integers(0, n, len(pairs[0]))


def popular(pairs: Pairs, n: int, rng: np.random.Generator) -> Pairs:
    return pairs[0], rng.permutation(pairs[1])


def liar(pairs: Pairs, n: int, rng: np.random.Generator) -> Pairs:
    users = np.unique(pairs[0])
    return rng.permutation(users)[np.searchsorted(users, pairs[0])], pairs[1]


def mirrored(pairs: Pairs, n: int, rng: np.random.Generator) -> Pairs:
    """Each user's items drawn with popularity × exp(−3 z), z their standardised liking."""
    users, row = np.unique(pairs[0], return_inverse=True)
    matrix = datasets.csr_array(
        (np.ones(len(row), np.float64), (row, pairs[1])), shape=(len(users), n)
    )
    degree = np.maximum(matrix.sum(axis=0), 1)
    left, sigma, right = svds(
        matrix.multiply(1 / np.sqrt(degree)).tocsr(), 16, v0=np.ones(min(matrix.shape))
    )
    count, found = np.bincount(row), []
    for at in range(0, len(users), 1000):
        liking = (left[at : at + 1000] * sigma) @ right
        z = (liking - liking.mean(axis=1, keepdims=True)) / liking.std(axis=1, keepdims=True)
        drawn = np.log(degree) - 3 * z + rng.gumbel(size=z.shape)
        order = np.argsort(-drawn, axis=1)
        found += [order[i, :c] for i, c in enumerate(count[at : at + 1000])]
    return np.repeat(users, count), np.concatenate(found)


KINDS = {"noise": noise, "popular": popular, "liar": liar, "mirrored": mirrored}


def joined(data: Dataset, name: str, pairs: Pairs, n: int) -> Dataset:
    """Return the data with a further domain of n items."""
    items = data.items.extended(pl.Series([f"{name}/{i}" for i in range(n)]))
    return Dataset.build(
        user=np.r_[data.user, pairs[0]],
        item=np.r_[data.item, data.n_items + pairs[1]],
        weight=np.r_[data.weight, np.ones(len(pairs[0]), np.float32)],
        event=np.r_[data.event, np.zeros(len(pairs[0]), np.int16)],
        users=data.users,
        items=items,
        domains=(*data.domains, Domain(name=name)),
        item_domain=np.r_[data.item_domain, np.full(n, data.n_domains)],
        events=data.events,
        item_text=None if data.item_text is None else data.item_text + ("",) * n,
        ordered=data.ordered,
    )


def with_guest(split: Split, guest: str, seed: int) -> Split:
    """Return the split with the guest's events in train; the test knows its items only."""
    pairs, n = largest(split.train)
    train, test = split.train, split.test
    for i in range(5 if guest == "crowd" else 1):
        rng = np.random.default_rng([seed, 11, i])
        told = KINDS["noise" if guest == "crowd" else guest](pairs, n, rng)
        train = joined(train, f"{guest}{i}", told, n)
        test = joined(test, f"{guest}{i}", (pairs[0][:0], pairs[1][:0]), n)
    return Split(train=train, test=test, context=train)


def answers(
    split: Split, seed: int, metric: str, protocol: str, alone: bool
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, object]]:
    """Fit; return what each test row got by model, and the ω and λ that were learned."""
    run = Run(seed=seed)
    recipe = Fallback(parts=(Pct(), Popular())) if alone else M6Rec(deep=False)
    model = recipe.fit(split.train, run)
    pct: Model = model.parts[0] if alone else model.parts[0].parts[0]
    answering = Fallback(parts=(pct.recipe, Popular()))
    answered = model if alone else answering.fit(split.train, run)
    models: dict[str, Model] = {"pct": answered} if alone else {"pct": answered, "fused": model}
    found = {}
    for name, one in models.items():
        rows = evaluate(one, split, metrics=(metric,), protocol=protocol, by=(), run=run).slices[
            "all"
        ]
        place = np.lexsort((np.arange(len(rows)), rows.user, rows.domain))
        found[name] = {
            "user": rows.user[place],
            "domain": rows.domain[place],
            "value": rows.values[metric][place],
        }
    names = [d.name for d in split.train.domains]
    learned: dict[str, object] = {
        "omega": {n: dict(o.omega) | {"warm": o.warm} for n, o in pct.recipe.domains.items()},
    }
    if not alone:
        blend = model.parts[0]
        learned["parts"] = [
            part.recipe.kind
            + ("" if (scope := getattr(part.recipe, "scope", "")) == "" else f" ({scope})")
            for part in blend.parts
        ]
        learned["sources"] = {
            part.recipe.kind: {**part.recipe.sources, "reg": getattr(part.recipe, "regs", {})}
            for part in blend.parts
            if getattr(part.recipe, "scope", "") == "auto"
        }
        learned["lambda"] = dict(zip(names, blend.weights.round(2).tolist(), strict=True))
    return found, learned


def measured(name: str, guest: str, seed: int, alone: bool, users: int, folder: Path) -> Path:
    """Return the file of what one fit gave, which is made where it is missing."""
    file = folder / f"{name}-{guest}-{seed}{'-pct' if alone else ''}-{users or 'all'}.npz"
    if file.exists():
        return file
    load, metric, protocol = SETS[name]
    split = some_users(load(seed), users, seed) if users else load(seed)
    if guest != "none":
        split = with_guest(split, guest, seed)
    began = time.process_time()
    found, learned = answers(split, seed, metric, protocol, alone)
    learned["seconds"] = round(time.process_time() - began)
    names = [d.name for d in split.train.domains]
    arrays = {f"{m}/{key}": v for m, table in found.items() for key, v in table.items()}
    np.savez(file, names=np.array(names), learned=json.dumps(learned), **arrays)
    print(f"{name}, {guest}, seed {seed}: {json.dumps(learned)}", flush=True)
    return file


def table(
    name: str, guests: list[str], seeds: range, alone: bool, users_kept: int, folder: Path
) -> None:
    """Print with less without, by model and real domain."""
    metric = SETS[name][1]
    print(f"\n**{name}**, {metric}, {len(seeds)} seed(s)\n")
    print("| guest | model | domain | rows | without | with | difference | 95 % interval | ω |")
    print("|---|---|---|---|---|---|---|---|---|")
    for guest in guests:
        pairs = [
            [np.load(measured(name, g, s, alone, users_kept, folder)) for g in ("none", guest)]
            for s in seeds
        ]
        n_real = len(pairs[0][0]["names"])
        for model in ("pct",) if alone else ("pct", "fused"):
            for d, domain in enumerate(pairs[0][0]["names"][:n_real].tolist()):
                columns: list[list[np.ndarray]] = [[], [], []]
                omegas = []
                for base, told in pairs:
                    at, on = (f[f"{model}/domain"] == d for f in (base, told))
                    assert (base[f"{model}/user"][at] == told[f"{model}/user"][on]).all()
                    columns[0].append(told[f"{model}/value"][on])
                    columns[1].append(base[f"{model}/value"][at])
                    columns[2].append(base[f"{model}/user"][at])
                    omega = json.loads(str(told["learned"]))["omega"][domain]
                    heard = [w for s, w in omega.items() if s != "warm" and s.startswith(guest)]
                    omegas.append(f"{max(heard, default=0):g}" + ("" if omega["warm"] else " cold"))
                a, b, users = map(np.concatenate, columns)
                found = paired(a, b, np.random.default_rng(0), cluster=users)
                mean = np.nanmean(b)
                low, high = found.low / mean, found.high / mean
                cells = [guest, model, domain, f"{len(a):,}", f"{mean:.4f}", f"{np.nanmean(a):.4f}"]
                cells += [f"{found.difference / mean:+.1%}", f"[{low:+.1%}, {high:+.1%}]"]
                print("|", " | ".join([*cells, ", ".join(omegas)]), "|", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], metavar="SET")
    parser.add_argument("--guests", nargs="+", choices=GUESTS, default=list(GUESTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pct", action="store_true", help="PCT alone")
    parser.add_argument("--users", type=int, default=0, help="of the set; 0 = all")
    parser.add_argument("--rows", type=Path, default=Path("/tmp/robustness"))
    given = parser.parse_args()
    given.rows.mkdir(parents=True, exist_ok=True)
    for one in given.sets or ["music-book", "music-book-thin", "sport-phone", "lastfm"]:
        table(one, given.guests, range(given.seeds), given.pct, given.users, given.rows)

"""What do 1 % of fake profiles that push one item change? Exposure of the item before and after.

    python benchmarks/poisoning.py [ml-100k lastfm] [--targets 5] [--share .01] [--copies .8]
        [--quick]

Fake users hold the target and as many fillers as the median user has items (Mobasher et al. 2007,
for events instead of ratings):

  random     fillers drawn evenly
  average    fillers drawn by popularity
  bandwagon  the ten most popular items, and even fillers
  copied     the same even fillers for all

Exposure: share of the real users who have the target in their top 10, of those who do not know it
yet; beside it, the share of the items unknown to a user that the target stands above, on average.
Targets are drawn from the items with 5 to 20 events. PCT's and λ's options are learned once on the
clean data and kept, so that the difference is the attack's; --quick takes PCT's defaults.
"caught": share of the fakes, and of the real users, whom the cleaning of [data.clean] drops:
max_events at ten times the median, and near_copies as given here.
"""

from __future__ import annotations

import argparse

import datasets
import numpy as np
import polars as pl

from m6rec.data.clean import Cleaner
from m6rec.data.dataset import Dataset
from m6rec.data.drops import Drops
from m6rec.data.fetch import fetch
from m6rec.data.schema import Clean
from m6rec.models.base import Model, Recipe
from m6rec.models.default import M6Rec
from m6rec.models.linear import Linear
from m6rec.models.neighbours import Neighbours
from m6rec.models.pct import Pct
from m6rec.models.popular import Popular
from m6rec.models.transfer import Local
from m6rec.rank import top_k
from m6rec.tracking import Run

K = 10
ATTACKS = ("random", "average", "bandwagon", "copied")


def ml100k() -> Dataset:
    """All ratings as events."""
    ratings = pl.read_csv(fetch("ml-100k", run=Run()) / "ratings.csv")
    return datasets.joined({"items": ratings.select(pl.nth(0, 1)).to_numpy()})


SETS = {
    "ml-100k": ml100k,
    "lastfm": lambda: datasets.joined({"items": _listens()}),
}


def _listens() -> np.ndarray:
    file = datasets.path("lastfm-hetrec/user_artists.dat")
    rows = pl.read_csv(file, separator="\t", columns=[0, 1], encoding="utf8-lossy").to_numpy()
    return rows[rows[:, 0] != 1]  # an invented example in the copies of these files


def poisoned(
    data: Dataset, attack: str, target: int, share: float, rng: np.random.Generator
) -> Dataset:
    """Return the data with fake users at the end."""
    n_fake = max(1, round(share * data.n_users))
    size = int(np.median(np.bincount(data.user)))
    degree = np.bincount(data.item, minlength=data.n_items).astype(float)
    top = np.argsort(-degree)[:K]
    fixed = np.r_[target, top] if attack == "bandwagon" else np.array([target])
    odds = degree if attack == "average" else np.ones(data.n_items)
    odds[fixed] = 0
    odds /= odds.sum()
    n = max(1, size - len(fixed))
    once = rng.choice(data.n_items, n, replace=False, p=odds)
    user, item = [], []
    for fake in range(n_fake):
        drawn = once if attack == "copied" else rng.choice(data.n_items, n, replace=False, p=odds)
        user.append(np.full(n + len(fixed), data.n_users + fake))
        item.append(np.r_[fixed, drawn])
    return Dataset.build(
        user=np.concatenate([data.user, *user]),
        item=np.concatenate([data.item, *item]),
        users=data.users.extended(pl.Series([f"fake {i}" for i in range(n_fake)])),
        items=data.items,
        domains=data.domains,
        item_domain=data.item_domain,
    )


def cleaned(data: Dataset, clean: Clean) -> Dataset:
    """Return the data without the users whom the step "bots" drops."""
    events = pl.DataFrame(
        {"user": data.user, "item": data.item, "domain": data.item_domain[data.item],
         "event": data.event, "time": data.time}
    )  # fmt: skip
    cleaner = Cleaner(clean, np.zeros(data.n_domains, np.bool_), lambda p, c: f"{p}{c}", Drops())
    kept = cleaner.bots(events)["user"].unique().to_numpy()
    return data.take(np.isin(data.user, kept))


def exposure(model: Model, data: Dataset, target: int, n_real: int) -> tuple[float, float]:
    """Return the share of real users with the target in their top 10, of those without it, and the
    mean share of the items they do not know that it stands above."""
    shown, above = [], []
    for at in range(0, n_real, 500):
        query = data.query(np.arange(at, min(at + 500, n_real)))
        new = query.history[:, [target]].toarray()[:, 0] == 0
        scores, seen = model.score(query)[new], query.seen[new]
        best, _ = top_k(scores, K, exclude=seen)
        shown.append((best == target).any(axis=1))
        scores[seen.nonzero()] = np.nan
        unseen = scores.shape[1] - np.diff(seen.indptr)
        above.append((scores < scores[:, [target]]).sum(axis=1) / unseen)
    return float(np.concatenate(shown).mean()), float(np.concatenate(above).mean())


def main(name: str, n_targets: int, share: float, copies: float, quick: bool) -> None:
    data, run, rng = SETS[name](), Run(), np.random.default_rng(0)
    degree = np.bincount(data.item, minlength=data.n_items)
    targets = rng.choice(np.flatnonzero((degree >= 5) & (degree <= 20)), n_targets, replace=False)
    pct = Pct(domains={"items": Local()}) if quick else Pct().fit(data, run).recipe
    parts = (pct, Neighbours(), Linear(), Popular())
    fused = M6Rec(parts=parts).fit(data, run).recipe
    recipes: dict[str, Recipe] = {
        "popular": Popular(), "neighbours": Neighbours(), "pct": pct, "fused": fused
    }  # fmt: skip
    print(f"\n**{name}**: {data.n_users:,} users, {len(data):,} events; {n_targets} targets;")
    print(f"exposure at {K} in %, mean (least, most) over targets; share stood above, in %\n")
    clean = Clean(max_events=10 * int(np.median(np.bincount(data.user))), near_copies=copies)
    base = {n: r.fit(data, run) for n, r in recipes.items()}
    before = {n: [exposure(m, data, t, data.n_users) for t in targets] for n, m in base.items()}
    print("| attack | caught of fakes, of others |", " | ".join(recipes), "|")
    print("|---|---|" + "---|" * len(recipes))
    print("| none | |", " | ".join(map(spread, before.values())), "|", flush=True)
    for attack in ATTACKS:
        after: dict[str, list[tuple[float, float]]] = {n: [] for n in recipes}
        caught = []
        for target in targets:
            told = poisoned(data, attack, target, share, np.random.default_rng(int(target)))
            kept = np.unique(cleaned(told, clean).user)
            fakes = told.n_users - data.n_users
            caught.append([1 - (kept >= data.n_users).sum() / fakes,
                           1 - (kept < data.n_users).sum() / data.n_users])  # fmt: skip
            for n, recipe in recipes.items():
                model = recipe.fit(told, run)
                after[n].append(exposure(model, told, target, data.n_users))
        rates = ", ".join(f"{c:.0%}" for c in np.mean(caught, axis=0))
        print(f"| {attack} | {rates} |", " | ".join(map(spread, after.values())), "|", flush=True)


def spread(values: list[tuple[float, float]]) -> str:
    each = 100 * np.array(values)
    shown, place = each.T
    return f"{shown.mean():.2f} ({shown.min():.2f}, {shown.max():.2f}), {place.mean():.1f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", metavar="SET", help=", ".join(SETS))
    parser.add_argument("--targets", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--copies", type=float, default=0.8, help="near_copies of [data.clean]")
    parser.add_argument("--quick", action="store_true", help="PCT's default options")
    given = parser.parse_args()
    for one in given.sets or list(SETS):
        main(one, given.targets, given.share, given.copies, given.quick)

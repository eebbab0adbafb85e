"""The benchmark sets of ../shared/data as splits, each with the protocol of its data README."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array, load_npz

from m6rec.data import twins
from m6rec.data.dataset import Dataset
from m6rec.data.schema import Domain, EventType
from m6rec.data.splits import Split, cold_item, leave_last
from m6rec.data.vocab import Vocab

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def path(name: str) -> Path:
    """Return the path of a set or file; ends the program in one sentence where it is missing."""
    found = DATA / name
    if not found.exists():
        sys.exit(f"{found} is missing: this benchmark needs the set {name.split('/')[0]}")
    return found


def pairs(name: str) -> np.ndarray:
    """Read the first two columns of a file of numbers: (N, 2) int64."""
    file = path(name)
    with file.open() as lines:
        separator = "\t" if "\t" in lines.readline() else " "
    table = pl.read_csv(file, has_header=False, separator=separator, columns=[0, 1])
    return table.to_numpy().astype(np.int64)


def lists(name: str) -> np.ndarray:
    """Read a file of ``user item item …`` lines as (N, 2) pairs, in the order of the file."""
    rows = [np.array(line.split(), dtype=np.int64) for line in path(name).open()]
    user = np.repeat([row[0] for row in rows if len(row)], [len(row) - 1 for row in rows])
    return np.column_stack([user, np.concatenate([row[1:] for row in rows])])


def joined(parts: dict[str, np.ndarray], ordered: bool = False) -> Dataset:
    """Return the domains as one dataset: name → (N, 2) of user keys (shared) and item ids."""
    names = list(parts)
    user = np.concatenate([parts[n][:, 0].astype(str) for n in names])
    item = np.concatenate([np.char.add(f"{n}/", parts[n][:, 1].astype(str)) for n in names])
    user_keys, user_code = np.unique(user, return_inverse=True)
    item_keys, item_code = np.unique(item, return_inverse=True)
    domain = np.array([names.index(key.split("/")[0]) for key in item_keys])
    return Dataset.build(
        user=user_code,
        item=item_code,
        users=Vocab(user_keys.tolist()),
        items=Vocab(item_keys.tolist()),
        domains=tuple(Domain(name=n) for n in names),
        item_domain=domain,
        ordered=ordered,
    )


def shuffled(train: Dataset, target: int, rng: np.random.Generator) -> Dataset:
    """Return train with a random permutation of which user owns the events outside target."""
    other = train.item_domain[train.item] != target
    user = np.where(other, rng.permutation(train.n_users)[train.user], train.user)
    return rebuilt(train, user)


def rebuilt(data: Dataset, user: np.ndarray) -> Dataset:
    return Dataset.build(
        user=user,
        item=data.item,
        users=data.users,
        items=data.items,
        domains=data.domains,
        item_domain=data.item_domain,
        ordered=data.ordered,
    )


def only(data: Dataset, domain: str) -> Dataset:
    """Return the events of one domain, same vocabularies (the single-domain baseline)."""
    return data.take(data.item_domain[data.item] == data.domain(domain))


def douban(
    seed: int,
    keep: float = 1.0,
    target: str = "music",
    cold: bool = False,
    shuffle_link: bool = False,
) -> Split:
    """Music and books of one set of people: random 80/20 of the events of both domains.

    The test holds the target's 20 %. keep: the share of the target's train that is kept.
    cold: half of the users lose their target train, and only they are tested. The source's
    train is its 80 %, so that both directions come from one division.
    """
    data = joined(
        {
            "music": lists("douban-music-book/Music_item_list_common.dat"),
            "book": lists("douban-music-book/Book_item_list_common.dat"),
        }
    )
    rng = np.random.default_rng([seed, 80])
    held = rng.random(len(data)) < 0.2
    aimed = data.item_domain[data.item] == data.domain(target)
    gone = np.zeros(len(data), np.bool_)
    if keep < 1:
        gone = aimed & (rng.random(len(data)) >= keep)
    tested = aimed & held
    if cold:
        half = (rng.random(data.n_users) < 0.5)[data.user]
        gone, tested = gone | (aimed & half), tested & half
    train = data.take(~held & ~gone)
    if shuffle_link:
        train = shuffled(train, data.domain(target), rng)
    return Split(train=train, test=data.take(tested), context=train)


def amazon_cdr(
    a: str = "sport",
    b: str = "cloth",
    target: str | None = None,
    drop_twins: bool = False,
    shuffle_link: int | None = None,
) -> Split:
    """Two Amazon domains of shared users; test rows whose user and item occur in that train.

    target: test this domain alone; needed by ``drop_twins`` (its twins leave the other
    domain's train; found on train and test together) and by ``shuffle_link`` (the seed of a
    permutation of the source's users). Rank with "sampled:999" over the domain's train items.
    """
    parts = {}
    for one, other in ((a, b), (b, a)):
        train, test = (
            pairs(f"amazon-cdr/{one}_{other}/train.txt"),
            pairs(f"amazon-cdr/{one}_{other}/test.txt"),
        )
        known = np.isin(test[:, 0], train[:, 0]) & np.isin(test[:, 1], train[:, 1])
        parts[one] = (train, test[known])
    split = given(parts)
    if target is None:
        return split
    train = split.train
    if drop_twins:
        found = twins.find_twins(union(split.train, split.test))
        train = twins.drop_twins(train, found, target)
    if shuffle_link is not None:
        rng = np.random.default_rng([shuffle_link, 7])
        train = shuffled(train, train.domain(target), rng)
    return Split(train=train, test=only(split.test, target), context=train)


def amazon_cold(a: str = "game", b: str = "video") -> tuple[Split, Split]:
    """Users unseen in the target domain: (valid, test) splits over the train of both domains.

    User ids below 2,179 are one person in both domains; the others are prefixed by domain.
    """

    def read(one: str, other: str, part: str) -> np.ndarray:
        rows = pairs(f"amazon-cold/{one}_{other}/{part}.txt").astype(object)
        rows[:, 0] = [str(u) if u < 2179 else f"{one}:{u}" for u in rows[:, 0]]
        return rows

    valid, test = (
        given({x: (read(x, y, "train"), read(x, y, part)) for x, y in ((a, b), (b, a))})
        for part in ("valid", "test")
    )
    return valid, test


def given(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> Split:
    """Return given train and test pairs of each domain as a split over one vocabulary."""
    whole = joined({name: np.concatenate(pair) for name, pair in parts.items()})
    sides = []
    for side in (0, 1):
        codes = [
            (
                whole.users.encode(parts[n][side][:, 0].astype(str)),
                whole.items.encode(f"{n}/{i}" for i in parts[n][side][:, 1]),
            )
            for n in parts
        ]
        sides.append(
            Dataset.build(
                user=np.concatenate([u for u, _ in codes]),
                item=np.concatenate([i for _, i in codes]),
                users=whole.users,
                items=whole.items,
                domains=whole.domains,
                item_domain=whole.item_domain,
            )
        )
    return Split(train=sides[0], test=sides[1], context=sides[0])


def union(a: Dataset, b: Dataset) -> Dataset:
    """Return the events of both, over their one vocabulary."""
    return Dataset.build(
        user=np.r_[a.user, b.user],
        item=np.r_[a.item, b.item],
        users=a.users,
        items=a.items,
        domains=a.domains,
        item_domain=a.item_domain,
    )


def yelp18() -> Split:
    """The LightGCN split; full ranking, recall@20 and NDCG@20."""
    return _matrices(
        csr_array(load_npz(path("yelp18/train.npz"))), csr_array(load_npz(path("yelp18/test.npz")))
    )


def _matrices(train: csr_array, test: csr_array) -> Split:
    n_users, n_items = train.shape

    def side(matrix: csr_array) -> Dataset:
        user, item = matrix.nonzero()
        return Dataset.build(user=user, item=item, users=n_users, items=n_items)

    data = side(train)
    return Split(train=data, test=side(test), context=data)


def ml1m() -> Split:
    """UltraGCN's split of MovieLens-1M; full ranking, recall@20 and NDCG@20."""
    sides = [lists(f"ml-1m/{part}.txt") for part in ("train", "test")]
    n_users, n_items = np.concatenate(sides).max(axis=0) + 1
    train, test = (
        Dataset.build(user=rows[:, 0], item=rows[:, 1], users=int(n_users), items=int(n_items))
        for rows in sides
    )
    return Split(train=train, test=test, context=train)


def beauty() -> Split:
    """Sequences in time order; the last event of each user is the test."""
    return leave_last(joined({"beauty": pairs("beauty/beauty.txt")}, ordered=True))


def amazon3(names: tuple[str, ...] = ("beauty", "sports", "toys")) -> Split:
    """Three domains joined by reviewer, or some of them; the last event of each user in each
    domain is the test."""
    parts = {}
    for name in names:
        rows = lists(f"amazon3/{name}/sequential.txt")
        person = json.loads(path(f"amazon3/{name}/datamaps.json").read_text())["id2user"]
        keys = np.array([person[str(u)] for u in rows[:, 0]], dtype=object)
        parts[name] = np.column_stack([keys, rows[:, 1].astype(object)])
    return leave_last(joined(parts, ordered=True), per="domain")


def lastfm(seed: int = 0, fraction: float = 0.2) -> Split:
    """Music (artists, with names) and social (other users) of the same users; random events held.

    A friendship stands in both directions in the file. Both are held, or none; parted, one would
    be read off the other.
    User 1 is an invented example in the copies of these files (the archive begins at user 2).
    """
    columns = {"separator": "\t", "columns": [0, 1], "encoding": "utf8-lossy", "quote_char": None}
    parts = {"music": "user_artists.dat", "social": "user_friends.dat"}
    rows = {n: pl.read_csv(path(f"lastfm-hetrec/{f}"), **columns) for n, f in parts.items()}
    data = joined({n: f.filter(pl.col("userID") != 1).to_numpy() for n, f in rows.items()})
    artists = pl.read_csv(path("lastfm-hetrec/artists.dat"), **columns)
    names = {f"music/{key}": name for key, name in artists.iter_rows()}
    text = tuple(names.get(key) or "" for key in data.items.keys.to_list())
    data = replace(
        data,
        item_text=text,
        domains=(Domain(name="music"), Domain(name="social", people=True)),
        events=(EventType(name="listen"), EventType(name="friend", mutual=True)),
        event=data.item_domain[data.item],
    )
    held = np.random.default_rng(seed).random(len(data)) < fraction
    return Split.by_mask(data, held[data.links])


def listens(seed: int = 0, fraction: float = 0.2) -> Split:
    """Artists of each listener, without names, those heard least first: an order where the file
    holds no times, for models of sequences. Random events held."""
    file = path("lastfm-hetrec/user_artists.dat")
    heard = pl.read_csv(file, separator="\t").filter(pl.col("userID") != 1)
    heard = heard.sort("userID", "weight", "artistID")
    data = joined({"music": heard.select("userID", "artistID").to_numpy()}, ordered=True)
    return Split.by_mask(data, np.random.default_rng(seed).random(len(data)) < fraction)


def games(cold: float = 0.0, seed: int = 0) -> Split:
    """Sequences with titles: leave-last, or a share of the items hidden from train and tested."""
    data = joined({"games": lists("games-titles/sequences.txt")}, ordered=True)
    table = pl.read_csv(path("games-titles/items.tsv"), separator="\t", quote_char=None)
    titles = {f"games/{key}": title for key, title in table.iter_rows()}
    text = tuple(titles.get(key) or "" for key in data.items.keys.to_list())
    data = replace(data, item_text=text)
    return cold_item(data, cold, np.random.default_rng(seed)) if cold else leave_last(data)


SETS = {
    "douban": lambda: douban(0),
    "sport-cloth": lambda: amazon_cdr("sport", "cloth"),
    "sport-phone": lambda: amazon_cdr("sport", "phone"),
    "cold-valid": lambda: amazon_cold()[0],
    "cold-test": lambda: amazon_cold()[1],
    "yelp18": yelp18,
    "ml-1m": ml1m,
    "beauty": beauty,
    "amazon3": amazon3,
    "lastfm": lastfm,
    "games": games,
}

if __name__ == "__main__":
    print(
        f"{'set':<12} {'users':>8} {'items':>8} {'train':>10} {'test':>8}   per domain (train/test)"
    )
    for name, load in SETS.items():
        s = load()
        n = s.train.n_domains
        each = [np.bincount(d.item_domain[d.item], minlength=n).tolist() for d in (s.train, s.test)]
        rows = ", ".join(
            f"{d.name} {x}/{y}" for d, x, y in zip(s.train.domains, *each, strict=True)
        )
        print(
            f"{name:<12} {s.train.n_users:>8} {s.train.n_items:>8} {len(s.train):>10} "
            f"{len(s.test):>8}   {rows}"
        )

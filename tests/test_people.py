"""Items that are people: nobody meets themselves, a friend again, or anybody across a block."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m6rec import config
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.prepare import Prepared, prepare
from m6rec.data.schema import DataConfig
from m6rec.data.splits import Split, SplitConfig, make_split
from m6rec.evaluation import evaluate
from m6rec.explanation import Ties
from m6rec.models.base import Model, Recipe
from m6rec.models.peers import Peers
from m6rec.tracking import Run

LINKS = ["a b", "b c", "c d", "d a", "e f", "f e", "a c"]
BLOCKS = ["a e"]
SONGS = ["a x", "a y", "b x", "c y", "c z", "e x", "e y", "f z"]


def prepared(folder: Path, mutual: bool = True, own: bool = False) -> Prepared:
    """Songs, links and blocks of a few people; nobody listens as g, whom b knows."""
    for name, rows in (("songs", SONGS), ("links", [*LINKS, "b g"]), ("blocks", BLOCKS)):
        lines = ["user,item", *(row.replace(" ", ",") for row in rows)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    table = {
        "domains": {
            "songs": {"interactions": "songs.csv"},
            "social": {
                "interactions": [
                    {"path": "links.csv", "event": "friend"},
                    {"path": "blocks.csv", "event": "block"},
                ],
                "people": True,
                "users": "own" if own else "shared",
            },
        },
        "events": {
            "event": {},
            "friend": {"mutual": mutual},
            "block": {"sign": "negative", "mutual": True},
        },
    }
    return prepare(config.from_table(DataConfig, table), folder, Run())


def links_of(data: Dataset) -> set[tuple[str, str]]:
    rows = data.item_domain[data.item] == data.domain("social")
    rows &= data.weight > 0
    users, items = data.users.decode(data.user[rows]), data.items.decode(data.item[rows])
    return {(u, i.removeprefix("social/")) for u, i in zip(users, items, strict=True)}


def test_a_mutual_link_holds_in_both_directions_and_once(tmp_path: Path) -> None:
    data = prepared(tmp_path).dataset
    pairs = {tuple(link.split()) for link in [*LINKS, "b g"]}
    assert links_of(data) == pairs | {(b, a) for a, b in pairs}
    assert (data.weight > 0).sum() == len(links_of(data)) + len(SONGS)
    assert links_of(prepared(tmp_path, mutual=False).dataset) == pairs


@pytest.mark.parametrize("own", [False, True])
def test_who_an_item_is(tmp_path: Path, own: bool) -> None:
    data = prepared(tmp_path, own=own).dataset
    keys = data.users.decode(np.maximum(data.person, 0))
    for item, person, key in zip(data.items.keys, data.person, keys, strict=True):
        domain, _, bare = item.partition("/")
        if domain == "songs":
            assert person == -1
        else:
            assert key == (f"social:{bare}" if own else bare)


def test_withheld_are_oneself_and_both_ends_of_a_block(tmp_path: Path) -> None:
    data = prepared(tmp_path).dataset
    query = data.query(np.arange(data.n_users))
    assert query.withheld is not None
    found = {
        user: {data.items.key(i) for i in query.withheld.indices[a:z]}
        for user, a, z in zip(
            data.users.keys, query.withheld.indptr, query.withheld.indptr[1:], strict=False
        )
    }
    assert found["a"] == {"social/a", "social/e"}
    assert found["e"] == {"social/a", "social/e"}
    assert found["b"] == {"social/b"}
    nobody = data.query(np.array([-1, 0])).withheld
    assert nobody is not None
    assert np.diff(nobody.indptr).tolist() == [0, 2]


def test_a_block_ends_with_a_newer_event(tmp_path: Path) -> None:
    data = prepared(tmp_path).dataset
    kinds = [event.name for event in data.events]
    a, e = data.users.code("a"), data.items.code("social/e")
    later = Dataset.build(
        user=np.r_[data.user, a], item=np.r_[data.item, e], weight=np.r_[data.weight, 1.0],
        event=np.r_[data.event, kinds.index("friend")], users=data.users, items=data.items,
        domains=data.domains, item_domain=data.item_domain, events=data.events,
    )  # fmt: skip
    assert later.kept_apart is not None
    assert later.kept_apart[[a]].indices.tolist() == [data.items.code("social/a")]


@pytest.mark.parametrize("kind", ["random", "k-fold", "cold-user", "leave-last"])
def test_no_split_parts_a_link(kind: str, tmp_path: Path) -> None:
    data = replace(prepared(tmp_path).dataset, ordered=True)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        split = make_split(data, SplitConfig(kind=kind, fraction=0.4, folds=3), rng)  # type: ignore[arg-type]
        for side in (split.train, split.context):
            assert not links_of(split.test) & {(b, a) for a, b in links_of(side)}
    part = holdout(data, np.random.default_rng(0), fraction=0.5)
    assert not links_of(part.test) & {(b, a) for a, b in links_of(part.train)}


class Everything(Model):
    """Scores each item by its code, whoever asks."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def score(self, query: object, items: np.ndarray | None = None) -> np.ndarray:
        codes = np.arange(self.n_items) if items is None else items
        return np.tile(codes.astype(np.float32), (len(query), 1))  # type: ignore[arg-type]

    def state(self) -> dict[str, np.ndarray]:
        return {}


def test_an_evaluation_ranks_neither_oneself_nor_blocked_people(tmp_path: Path) -> None:
    data = prepared(tmp_path).dataset
    asked = (data.user == data.users.code("a")) & (data.item == data.items.code("social/b"))
    test = data.take(asked)
    split = Split(train=data.take(data.weight < 0), test=test, context=data.take(data.weight < 0))
    found = evaluate(Everything(data.n_items), split, metrics=["mrr@10"])
    # g, f, d and c stand above b; a, the asker, and e, whom a blocked, do not count.
    assert found["mrr@10"] == pytest.approx(1 / 5)


def test_peers_are_those_who_share_the_rare(tmp_path: Path) -> None:
    data = prepared(tmp_path).dataset
    model = Peers(others=1.0, rarity=1.0, size=0.0).fit(data, Run())
    scores = model.score(data.query(data.users.encode(["e"])))[0]
    at = {key: float(scores[code]) for code, key in enumerate(data.items.keys)}
    # a has both songs of e: x is had by three, y by three, and e has two songs.
    assert at["social/a"] == pytest.approx(2 / 3 / np.sqrt(2))
    assert at["social/b"] == pytest.approx(1 / 3 / np.sqrt(2))
    # f is the only friend of e, and listens to z.
    assert at["songs/z"] == pytest.approx(1.0)
    assert at["songs/x"] == 0.0


def test_peers_abstain_where_there_is_nobody(tmp_path: Path) -> None:
    data = prepared(tmp_path).dataset
    model = Recipe.from_table({"kind": "peers", "others": 1.0, "rarity": 1.0, "size": 1.0})
    only_songs = data.take(data.item_domain[data.item] == data.domain("songs"))
    scores = model.fit(only_songs, Run()).score(only_songs.query(data.users.encode(["a"])))[0]
    known = {data.items.key(i) for i in np.flatnonzero(~np.isnan(scores))}
    assert known == {"social/a", "social/b", "social/c", "social/e", "social/f"}


def test_reasons_say_what_two_people_share(tmp_path: Path) -> None:
    data = prepared(tmp_path).dataset
    ties, code = Ties(data), data.items.code
    about_c = ties.between(code("social/c"))
    assert about_c(code("songs/y")) == "shared"
    assert about_c(code("social/b")) == "mutual"
    assert about_c(code("songs/x")) == "history"
    assert about_c(code("social/f")) == "contact"
    about_z = ties.between(code("songs/z"))
    assert about_z(code("social/c")) == "circle"
    assert about_z(code("social/b")) == "contact"
    assert about_z(code("songs/y")) == "history"


def test_people_are_nobodys_twins(tmp_path: Path) -> None:
    from m6rec.data.twins import TwinsConfig, find_twins

    data = prepared(tmp_path).dataset
    assert not len(find_twins(data, TwinsConfig(min_shared=1, jaccard=0.01, text="ignore")))

"""Runs whose items are people: who must not be shown to whom, and links that others made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from m6rec.data import people
from m6rec.data.dataset import Dataset
from m6rec.serving.live import Asker
from m6rec.store import Store


def selves(data: Dataset, user: str) -> list[str]:
    """Return the keys of the items that a user is, one in each domain of people."""
    return [people.item_of(domain, user) for domain in data.domains if domain.people]


def among_people(store: Store, data: Dataset, asker: Asker, user: str, until: int, n: int) -> Asker:
    """Return the asker with the links that others made to them, and with what is withheld:
    themselves, whom they blocked, and who blocked them.

    The newest event between two people, in each direction, counts: blocks however old they are,
    of the links that others made the newest n.
    """
    domains = [domain for domain in data.domains if domain.people]
    if not domains:
        return asker
    blocks = {e.name for e in data.events if e.mutual and e.sign == "negative"}
    bonds = {e.name for e in data.events if e.mutual and e.sign == "positive"}
    newest = dict(zip(asker.item, asker.type, strict=True))
    withheld = {*selves(data, user), *(key for key, kind in newest.items() if kind in blocks)}
    if blocks:
        withheld.update(key for key in store.standing_of(user, blocks, until) if key not in newest)
    rows = list(zip(asker.time, asker.item, asker.type, asker.value, strict=True))
    for domain in domains:
        mine = people.item_of(domain, user)
        blockers = store.standing_on(mine, blocks, until) if blocks else []
        withheld.update(people.item_of(domain, other) for other, *_ in blockers)
        links = store.standing_on(mine, bonds, until, n) if bonds else []
        made = [(at, people.item_of(domain, other), kind, v) for other, kind, v, at in links]
        rows += [row for row in made if row[1] not in newest]
    rows.sort(key=lambda row: row[0])
    time, item, kind, value = zip(*rows, strict=True) if rows else ((), (), (), ())
    return replace(asker, time=time, item=item, type=kind, value=value, withheld=sorted(withheld))


def without(data: Dataset, asker: Asker, users: Sequence[str]) -> list[str]:
    """Return the users whom the asker may see."""
    gone = {*asker.withheld}
    return [user for user in users if gone.isdisjoint(selves(data, user))]

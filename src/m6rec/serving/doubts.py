"""Events, and stores, that are taken as they are, and may yet be a slip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice

from m6rec.data.events import DEFAULT_EVENT
from m6rec.data.times import SMALL
from m6rec.errors import suggestion
from m6rec.serving.live import MICRO, Live
from m6rec.store import Event, Store

MOST = 20  # sentences about one request
SOME = 1_000  # items of a domain that are looked for in the store


def doubts(live: Live, store: Store, events: Sequence[Event]) -> list[str]:
    """Return a sentence for each: types that do not count, items that are new, ratings beyond
    those of the run, other values below 0, times before all logs."""
    found = chain(
        _uncounted(live, events), _new(live, store, events), _beyond(live, events), _old(events)
    )
    return [*islice(dict.fromkeys(found), MOST)]


def strangers(live: Live, store: Store) -> Iterator[str]:
    """Yield a sentence for each domain of a run of which the store has less than half the items."""
    fitted = (live.base or live.recommender).fitted
    for domain, items in fitted.items.group_by("domain", maintain_order=True):
        keys = items["key"].head(SOME).to_list()
        found = len(store.known_items(keys))
        if 2 * found < len(keys):
            yield (
                f'of the first {len(keys)} items of domain "{domain[0]}" the store has {found}, so '
                f"it is not that of run {live.name}, whose events do not count: name a --store "
                "that is new to take them in, or bring them in by `m6rec store import`"
            )


def _uncounted(live: Live, events: Sequence[Event]) -> Iterator[str]:
    """Where the run's TOML declares types, those that are none of them."""
    fitted = live.recommender.fitted
    known = [DEFAULT_EVENT, *(event.name for event in fitted.dataset.events)]
    if fitted.prepared.config.events:
        for name in sorted({event.type for event in events}.difference(known)):
            yield (
                f'events of type "{name}" are stored and do not count: the run does not know the '
                f"type{suggestion(name, known)}"
            )


def _new(live: Live, store: Store, events: Sequence[Event]) -> Iterator[str]:
    new = {event.item for event in events if event.item not in live.recommender.dataset.items}
    for key in sorted(new - store.known_items(new) if new else new):
        yield f'item "{key}" is new, and has no title, text or attributes: PUT /v1/items/{key}'


def _beyond(live: Live, events: Sequence[Event]) -> Iterator[str]:
    data = live.recommender.dataset
    feedback = {domain.name: domain.feedback for domain in data.domains}
    for event in events:
        if event.value is None:
            continue
        domain = event.item.partition("/")[0]
        scale = live.scales.get(data.domain(domain))
        if event.value < 0 and feedback.get(domain) == "implicit":
            yield (
                f'item "{event.item}": {event.value:g} is below 0 and counts like 0, as only seen; '
                "what was disliked is said by the type of the event"
            )
        elif scale and not scale[0] <= event.value <= scale[1]:
            yield (
                f'item "{event.item}": {event.value:g} lies beyond the ratings of the run, '
                f"{scale[0]:g} to {scale[1]:g}"
            )


def _old(events: Sequence[Event]) -> Iterator[str]:
    for event in events:
        if 0 < event.time < SMALL * MICRO:
            seconds = event.time / MICRO
            yield (
                f'item "{event.item}": time {seconds:.0f} lies in the years 1970 to 1973; send '
                'seconds since 1970, or a text such as "2025-03-01"'
            )

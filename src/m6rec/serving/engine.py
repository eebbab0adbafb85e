"""Recommendations from a live run and a store, without HTTP: what any number of workers do."""

from __future__ import annotations

import logging
import os
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from m6rec import artifacts, checks
from m6rec.arrays import Floats
from m6rec.artifacts import Fitted
from m6rec.candidates.shortlist import Found
from m6rec.data.query import Query
from m6rec.errors import M6RecError, QueryError
from m6rec.explanation import Explanation, explain
from m6rec.serving import pages
from m6rec.serving.asks import Answer, Ask, Ranked
from m6rec.serving.doubts import doubts, strangers
from m6rec.serving.given import Journal
from m6rec.serving.listing import Frame, framed, listed, scored, shortlist
from m6rec.serving.live import MICRO, Asker, Live
from m6rec.serving.nearest import Nearest
from m6rec.serving.people import among_people, selves, without
from m6rec.store import Event, Look, Store
from m6rec.wording import wording

MOST = 1_000  # items of one answer
EVENTS = 10_000  # newest events of a user that count, so that no busy one holds up the others
SPARE = 20  # users more than asked for, in the place of those who were deleted
LATE = 20  # users who came after the training, and items and events by which they are found
SKEW = 2.0  # seconds by which the clocks of machines that share a store may differ
FIRST, SECOND = "a", "b"  # arms of a comparison of two runs

log = logging.getLogger("m6rec")


class Engine:
    """One worker's view of a store and of the run that it serves.

    The store is the truth: it is asked for the events, the attributes and the new items at every
    request, so what one worker acknowledged counts in the next answer of any. A new run replaces
    the old one between two requests; a broken one is refused and the old one stays.

    rival: a second run that answers a ``share`` of the users, always the same ones. candidates:
    in the place of the runs' ``[rank] candidates``.
    """

    def __init__(
        self, store: Store, run: Path, rival: Path | None = None, share: float = 0.5,
        candidates: int | Literal["auto"] | None = None,
    ) -> None:  # fmt: skip
        self.store, self.share = store, share if rival else 0.0
        self.candidates = candidates
        self.journal = Journal(store)
        if store.empty():
            store.import_run(artifacts.load(run))
        self._lives = {FIRST: self._opened(run)}
        if rival:
            self._lives[SECOND] = self._opened(rival)
        self._changing = threading.Lock()
        self._making = threading.Lock()
        self._of_run: tuple[str, Nearest | None] = ("", None)

    def close(self) -> None:
        """Write down what is still to be written; the store stays open."""
        self.journal.close()

    @property
    def live(self) -> Live:
        """The run that answers now, with every item that the store has."""
        return self.live_of(FIRST)

    def live_of(self, arm: str, look: Look | None = None) -> Live:
        """Return the run of an arm, with every item that the store has, or had at that look."""
        if self._lives[arm].behind(look or self.store.look()):
            with self._changing:
                self._lives[arm] = self._lives[arm].caught_up(self.store)
        return self._lives[arm]

    @property
    def fitted(self) -> Fitted:
        """The run that answers, without asking the store for what is new."""
        return self._lives[FIRST].recommender.fitted

    @property
    def runs(self) -> dict[str, str]:
        """The name of each arm's run; one arm unless two runs are on trial."""
        return {arm: live.name for arm, live in self._lives.items()}

    def arm(self, user: str | None) -> str:
        """Return which arm answers a user: by a hash of the key, so the same in every worker."""
        if not self.share or user is None:
            return FIRST
        place = zlib.crc32(f"arm:{user}".encode()) / 2**32
        return SECOND if place < self.share else FIRST

    def reload(self, run: Path) -> str:
        """Serve another run from the next request on; returns its name. RunError, and the old one
        stays, where it cannot be loaded."""
        fresh = self._opened(run)
        with self._changing:
            self._lives[FIRST] = fresh
        return fresh.name

    def _opened(self, run: Path) -> Live:
        live = Live.open(run, self.store)
        base = live.base or live.recommender
        if self.candidates is not None:
            vars(base)["rank"] = replace(base.rank, candidates=self.candidates)
        shortlist(live)  # made now, and not in the first request
        for doubt in strangers(live, self.store):
            log.warning("%s", doubt)
        return live

    def recommend(self, asks: Sequence[Ask]) -> list[Answer | M6RecError]:
        """Answer requests together, without their reasons, which are the answers' to make; what is
        wrong with one does not touch the others."""
        answers: dict[int, Answer | M6RecError] = {}
        arms = [self.arm(ask.user) for ask in asks]
        for arm in sorted(set(arms)):
            places = [i for i, each in enumerate(arms) if each == arm]
            found = self._recommend(arm, [asks[i] for i in places])
            answers |= dict(zip(places, found, strict=True))
        return [answers[i] for i in range(len(asks))]

    def _recommend(self, arm: str, asks: Sequence[Ask]) -> list[Answer | M6RecError]:
        now = time.time()
        known = self._known(asks, now)
        live = self.live_of(arm, known)
        answers: list[Answer | M6RecError | None] = [None] * len(asks)
        good: dict[int, tuple[Asker, Frame]] = {}
        for i, ask in enumerate(asks):
            try:
                self._check(live, ask)
                asker = self._asker(live, ask, now, known)
                good[i] = asker, framed(live, ask, asker)
            except M6RecError as error:
                answers[i] = error
        if good:
            query = live.query([asker for asker, _ in good.values()], int(now))
            frames = [frame for _, frame in good.values()]
            found = scored(live, [asks[i] for i in good], frames, query)
            names, weights = live.parts(query)
            for b, (i, frame) in enumerate(zip(good, frames, strict=True)):
                given = frame, found[b], names, weights[b]
                try:
                    answers[i] = self._answer(live, arm, asks[i], query, b, *given, now)
                except M6RecError as error:
                    answers[i] = error
        return [answer for answer in answers if answer is not None]

    def explain(self, ask: Ask, items: Sequence[str]) -> list[Explanation]:
        """Return why each of these items has its score for the asker."""
        live = self.live_of(self.arm(ask.user))
        self._check(live, ask)
        codes = live.recommender.items(items)
        query = live.query([self._asker(live, ask, time.time())], int(time.time()))
        return self._why(live, query, codes[None], ask.language)

    def full_keys(self, items: Sequence[str]) -> list[str]:
        """Return "domain/key" of items that are named so, or by their keys alone where these are
        unique. Raises QueryError where it could be several, or where a new one has no domain."""
        live = self._lives[FIRST]
        known = live.recommender.dataset.items
        bare = {i for i in items if i not in known and i.partition("/")[0] not in live.domains}
        found = self.store.keys_by_bare(bare) if bare else {}
        return [self._full_key(i, found.get(i, ())) if i in bare else i for i in items]

    def _full_key(self, item: str, found: Sequence[str]) -> str:
        live = self._lives[FIRST]
        if len(found) == 1:
            return found[0]
        if found:
            raise QueryError(f'item "{item}" is in several domains; say which: {", ".join(found)}')
        if len(live.domains) == 1:
            return f"{live.domains[0]}/{item}"
        raise QueryError(
            f'item "{item}" is unknown; name a new one domain/key '
            f"(domains: {', '.join(live.domains)})"
        )

    def doubts(self, events: Sequence[Event]) -> list[str]:
        """Return a sentence for each thing about events, yet to be stored, that may be a slip."""
        return doubts(self._lives[FIRST], self.store, events)

    def seen(self, key: str) -> float | None:
        """Return the value of an event that says that an item was seen, and nothing else: 0, or
        none where values are ratings."""
        data = self._lives[FIRST].recommender.dataset
        code = data.items.code(key)
        return None if code >= 0 and data.explicit[code] else 0.0

    def title(self, key: str) -> str:
        """Return the title of an item, its key where it has none or is unknown."""
        live = self._lives[FIRST]
        code = live.recommender.dataset.items.code(key)
        return live.title(code) if code >= 0 else key

    def like_minded(self, user: str, k: int) -> list[tuple[str, float]]:
        """Return up to k other users and how alike their histories are, 0 to 1: users of the run,
        and of those who came later such as lately did something with what the user has."""
        live, now = self.live, time.time()
        asker = self._asker(live, Ask(user=user), now)
        history = live.query([asker], int(now)).history
        nearest = self._nearest(live)
        codes, likeness = nearest.best(history, k + SPARE, asker.code)
        keys = live.recommender.dataset.users.decode(codes)
        there = self.store.known_users(keys) - self.store.erased_users(keys)
        there &= {*without(live.recommender.dataset, asker, keys)}
        found = [(u, float(s)) for u, s in zip(keys, likeness, strict=True) if u in there]
        late = sorted(self._newcomers(live, asker, now) - {user})
        if late:
            asks = [Ask(user=each) for each in late]
            known = self._known(asks, now)
            askers = [self._asker(live, ask, now, known) for ask in asks]
            alike = nearest.cosines(history, live.query(askers, int(now)).history)
            found += [(u, float(s)) for u, s in zip(late, alike, strict=True) if s > 0]
        return sorted(found, key=lambda pair: -pair[1])[:k]

    def _newcomers(self, live: Live, asker: Asker, now: float) -> set[str]:
        """Up to LATE users that the run has not, of the newest events of the newest items."""
        known, found = live.recommender.dataset.users, set[str]()
        for item in dict.fromkeys(reversed(asker.item[-LATE:])):
            events, _ = self.store.events(items=[item], until=_until(now), n=LATE)
            found |= {event.user for event in events if event.user not in known}
            if len(found) >= LATE:
                break
        return set(sorted(found)[:LATE])

    def withheld(self, user: str) -> Sequence[str]:
        """Return the keys of items that no list for a user may hold: where items are people,
        themselves and who is kept from them by a block."""
        return self._asker(self.live, Ask(user=user), time.time()).withheld

    def erase(self, user: str) -> dict[str, int]:
        """Erase every trace of a user from the store; where items are people, of them as such."""
        return self.store.delete_user(user, selves(self.live.recommender.dataset, user))

    def merge(self, source: str, into: str) -> int:
        """Make a user part of another, where items are people as such too; see the store."""
        data = self.live.recommender.dataset
        pairs = zip(selves(data, source), selves(data, into), strict=True)
        return self.store.merge_users(source, into, list(pairs))

    def search(self, words: str, domain: str | None, n: int) -> list[dict[str, str]]:
        """Return up to n items whose title holds these words: item, domain, title."""
        live = self.live
        allowed = live.allowed(domain, None)
        found = live.recommender.search(words, allowed, n)
        return found.select("item", "domain", "title").to_dicts()

    def _nearest(self, live: Live) -> Nearest:
        """Of the run's own events, so it is made once for a run."""
        with self._making:
            name, nearest = self._of_run
            if nearest is None or name != live.name:
                nearest = Nearest(live.recommender.dataset)
                self._of_run = live.name, nearest
            return nearest

    def _check(self, live: Live, ask: Ask) -> None:
        wording(ask.language)
        if not 1 <= ask.k <= MOST:
            raise QueryError(f"k = {ask.k}: must be 1 to {MOST}")
        for name in ("diversity", "explore"):
            if not 0 <= (getattr(ask, name) or 0) <= 1:
                raise QueryError(f"{name} = {getattr(ask, name)}: must be 0 to 1")
        if ask.offset < 0:
            raise QueryError(f"offset = {ask.offset}: must not be negative")
        if ask.attributes is not None:
            checks.user_attributes(live.recommender.fitted.prepared.users, ask.attributes)
        live.allowed(ask.domain, ask.filter, ask.categories)

    def _known(self, asks: Sequence[Ask], now: float) -> Look:
        """What the store has of the users who ask."""
        keys = [ask.user for ask in asks if ask.user is not None]
        return self.store.look(keys, _until(now), EVENTS)

    def _asker(self, live: Live, ask: Ask, now: float, known: Look | None = None) -> Asker:
        columns: dict[str, list[Any]] = {"item": [], "type": [], "value": [], "time": []}
        code, attributes = -1, ask.attributes
        if ask.user is not None:
            look = known or self._known([ask], now)
            past, user = look.histories[ask.user], look.users.get(ask.user)
            columns = {name: list(getattr(past, name)) for name in columns}
            if user is not None:
                code = live.recommender.dataset.users.code(ask.user)
                if code >= 0 and user.rev and self.store.erased_users([ask.user]):
                    code = -1  # somebody else had the key
                if attributes is None and (code < 0 or user.rev):
                    attributes = live.of_users(user.attributes)
        data = live.recommender.dataset
        for name, value in ask.history.items():
            columns["item"].append(data.items.key(live.recommender.items([name])[0]))
            columns["type"].append("")
            columns["value"].append(value)
            columns["time"].append(_until(now))
        for event in sorted(ask.events, key=lambda event: event.time):
            for name in columns:
                columns[name].append(getattr(event, name))
        asker = Asker(**columns, code=code, attributes=attributes, text=ask.text)
        if ask.user is None:
            return asker
        return among_people(self.store, data, asker, ask.user, _until(now), EVENTS)

    def _answer(
        self,
        live: Live,
        arm: str,
        ask: Ask,
        query: Query,
        b: int,
        frame: Frame,
        found: Found,
        names: Sequence[str],
        weights: Floats,
        now: float,
    ) -> Answer:
        data = live.recommender.dataset
        request = os.urandom(16).hex()
        made = listed(live, ask, frame, found, int(request, 16))
        lists = made.lists
        codes = lists.items[0][lists.items[0] >= 0]
        reasons = partial(self._why, live, query.at([b]), codes[None], ask.language)
        keys = data.items.decode(codes)
        items = tuple(
            Ranked(
                item=key,
                domain=live.domains[int(data.item_domain[code])],
                title=live.title(code),
                score=float(lists.scores[0, place]),
                explored=bool(lists.explored[0, place]),
            )
            for place, (code, key) in enumerate(zip(codes.tolist(), keys, strict=True))
        )
        answer = Answer(
            request=request,
            run=live.name,
            arm=arm if self.share else "",
            user=ask.user,
            history=int(query.history.indptr[b + 1] - query.history.indptr[b]),
            items=items,
            parts=_lambdas(live, names, weights, {item.domain for item in items}),
            page=pages.token(np.concatenate([made.shown, pages.fingerprints(keys)]))
            if len(codes) == ask.k
            else "",
            confidence=None if made.sure is None or np.isnan(made.sure) else made.sure,
            reasons=reasons if ask.explain else None,
        )
        self.journal.note(answer, now)
        return answer

    @staticmethod
    def _why(live: Live, query: Query, codes: Any, language: str) -> list[Explanation]:
        asked = live.recommender
        return explain(asked.model, query, codes, live.title, language, asked.dataset)[0]


def _until(now: float) -> int:
    """The time, in microseconds, up to which events count in a request of this moment."""
    return int((now + SKEW) * MICRO)


def _lambdas(
    live: Live, names: Sequence[str], weights: Floats, domains: set[str]
) -> Mapping[str, Mapping[str, float]]:
    return {
        domain: {n: round(float(w), 4) for n, w in zip(names, weights[d], strict=True)}
        for d, domain in enumerate(live.domains)
        if names and domain in domains
    }

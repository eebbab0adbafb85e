"""Recommendations from a live run and a store, without HTTP: what any number of workers do."""

from __future__ import annotations

import threading
import time
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m6rec import artifacts
from m6rec.arrays import Floats, Scores
from m6rec.data.query import Query
from m6rec.errors import M6RecError, QueryError
from m6rec.explanation import Explanation, explain
from m6rec.models.confident import ConfidentModel
from m6rec.rank import no_items, rank, with_items, with_twins
from m6rec.serving import pages
from m6rec.serving.asks import Answer, Ask, Ranked
from m6rec.serving.given import Journal
from m6rec.serving.live import MICRO, Asker, Live
from m6rec.serving.nearest import Nearest
from m6rec.serving.people import among_people, selves, without
from m6rec.store import Store
from m6rec.wording import wording

MOST = 1_000  # items of one answer
SPARE = 20  # users more than asked for, in the place of those who were deleted
SKEW = 2.0  # seconds by which the clocks of machines that share a store may differ
FIRST, SECOND = "a", "b"  # arms of a comparison of two runs


class Engine:
    """One worker's view of a store and of the run that it serves.

    The store is the truth: it is asked for the events, the attributes and the new items at every
    request, so what one worker acknowledged counts in the next answer of any. A new run replaces
    the old one between two requests; a broken one is refused and the old one stays.

    rival: a second run that answers a ``share`` of the users, always the same ones.
    """

    def __init__(
        self, store: Store, run: Path, rival: Path | None = None, share: float = 0.5
    ) -> None:
        self.store, self.share = store, share if rival else 0.0
        self.journal = Journal(store)
        if store.empty():
            store.import_run(artifacts.load(run))
        self._lives = {FIRST: Live.open(run, store)}
        if rival:
            self._lives[SECOND] = Live.open(rival, store)
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

    def live_of(self, arm: str) -> Live:
        """Return the run of an arm, with every item that the store has."""
        if self._lives[arm].behind(self.store):
            with self._changing:
                self._lives[arm] = self._lives[arm].caught_up(self.store)
        return self._lives[arm]

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
        fresh = Live.open(run, self.store)
        with self._changing:
            self._lives[FIRST] = fresh
        return fresh.name

    def recommend(self, asks: Sequence[Ask]) -> list[Answer | M6RecError]:
        """Answer requests together; what is wrong with one does not touch the others."""
        answers: dict[int, Answer | M6RecError] = {}
        arms = [self.arm(ask.user) for ask in asks]
        for arm in sorted(set(arms)):
            places = [i for i, each in enumerate(arms) if each == arm]
            found = self._recommend(arm, [asks[i] for i in places])
            answers |= dict(zip(places, found, strict=True))
        return [answers[i] for i in range(len(asks))]

    def _recommend(self, arm: str, asks: Sequence[Ask]) -> list[Answer | M6RecError]:
        live, now = self.live_of(arm), time.time()
        askers: list[Asker | M6RecError] = []
        for ask in asks:
            try:
                self._check(live, ask)
                askers.append(self._asker(live, ask, now))
            except M6RecError as error:
                askers.append(error)
        good = [a for a in askers if isinstance(a, Asker)]
        if not good:
            return [a for a in askers if isinstance(a, M6RecError)]
        query = live.query(good, int(now))
        scores = live.recommender.model.score(query)
        names, weights = live.parts(query)
        answers: list[Answer | M6RecError] = []
        b = 0
        for ask, asker in zip(asks, askers, strict=True):
            if isinstance(asker, M6RecError):
                answers.append(asker)
                continue
            one = slice(b, b + 1)
            b += 1
            try:
                given = query.take(one), asker, scores[one], names, weights[one]
                answers.append(self._answer(live, arm, ask, *given, now))
            except M6RecError as error:
                answers.append(error)
        return answers

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
        """Return up to k other users of the run and how alike their histories are, 0 to 1."""
        live, now = self.live, time.time()
        asker = self._asker(live, Ask(user=user), now)
        history = live.query([asker], int(now)).history
        codes, likeness = self._nearest(live).best(history, k + SPARE, asker.code)
        keys = live.recommender.dataset.users.decode(codes)
        there = self.store.known_users(keys) - self.store.erased_users(keys)
        there &= {*without(live.recommender.dataset, asker, keys)}
        found = [(u, float(s)) for u, s in zip(keys, likeness, strict=True) if u in there]
        return found[:k]

    def withheld(self, user: str) -> Sequence[str]:
        """Return the keys of items that no list for a user may hold: where items are people,
        themselves and who is kept from them by a block."""
        return self._asker(self.live, Ask(user=user), time.time()).withheld

    def erase(self, user: str) -> dict[str, int]:
        """Erase every trace of a user from the store; where items are people, of them as such."""
        counts = self.store.delete_user(user)
        for key in selves(self.live.recommender.dataset, user):
            for name, n in self.store.delete_item(key).items():
                counts[name] = counts.get(name, 0) + n
        return counts

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
        live.allowed(ask.domain, ask.filter, ask.categories)

    def _asker(self, live: Live, ask: Ask, now: float) -> Asker:
        until = int((now + SKEW) * MICRO)
        columns: dict[str, list[Any]] = {"item": [], "type": [], "value": [], "time": []}
        code, attributes = -1, ask.attributes
        if ask.user is not None:
            past = self.store.history(ask.user, until)
            columns = {name: list(getattr(past, name)) for name in columns}
            user = self.store.user(ask.user)
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
            columns["time"].append(until)
        for event in sorted(ask.events, key=lambda event: event.time):
            for name in columns:
                columns[name].append(getattr(event, name))
        asker = Asker(**columns, code=code, attributes=attributes, text=ask.text)
        return asker if ask.user is None else among_people(self.store, data, asker, ask.user, until)

    def _answer(
        self,
        live: Live,
        arm: str,
        ask: Ask,
        query: Query,
        asker: Asker,
        scores: Scores,
        names: Sequence[str],
        weights: Floats,
        now: float,
    ) -> Answer:
        recommender, data = live.recommender, live.recommender.dataset
        request = uuid.uuid4().hex
        allowed = live.allowed(ask.domain, ask.filter, ask.categories)
        spread = float(np.nanstd(scores[:, allowed])) if ask.boosts and allowed.any() else 0.0
        for boost in ask.boosts:
            lifted = np.float32(boost.by * spread) * live.held(boost.filter).astype(np.float32)
            scores = scores + lifted
        shown = pages.shown(ask.page)
        if len(shown):
            allowed = allowed & ~np.isin(pages.fingerprints(data.items.keys), shown)
        past = data.items.encode(asker.item)[None]  # events of weight 0 too: those were seen
        exclude = with_items(query.seen, past)
        if ask.seen:
            exclude = no_items(data.n_items) if query.withheld is None else query.withheld
        if ask.exclude:
            exclude = with_items(exclude, recommender.items(ask.exclude)[None])
        if len(recommender.fitted.twins):
            exclude = with_twins(exclude, recommender.fitted.twins)
        usual = recommender.rank
        diversity = usual.diversity if ask.diversity is None else ask.diversity
        explore = usual.explore if ask.explore is None else ask.explore
        lists = rank(
            scores, ask.k, exclude=exclude, allowed=allowed,
            offset=min(ask.offset, data.n_items), diversity=diversity,
            alike=live.alike, explore=explore,
            rng=np.random.default_rng(int(request, 16)),
        )  # fmt: skip
        codes = lists.items[0][lists.items[0] >= 0]
        why = self._why(live, query, codes[None], ask.language) if ask.explain else None
        keys = data.items.decode(codes)
        model = live.recommender.model
        sure = None
        if isinstance(model, ConfidentModel):
            shut = ~allowed | (exclude[[0]].toarray()[0] != 0)
            sure = float(model.confidence(np.where(shut, np.float32(np.nan), scores))[0])
        items = tuple(
            Ranked(
                item=key,
                domain=live.domains[int(data.item_domain[code])],
                title=live.title(code),
                score=float(lists.scores[0, place]),
                explored=bool(lists.explored[0, place]),
                why=why[place] if why else None,
            )
            for place, (code, key) in enumerate(zip(codes.tolist(), keys, strict=True))
        )
        answer = Answer(
            request=request,
            run=live.name,
            arm=arm if self.share else "",
            user=ask.user,
            history=int(np.diff(query.history.indptr)[0]),
            items=items,
            parts=_lambdas(live, names, weights[0], {item.domain for item in items}),
            page=pages.token(np.r_[shown, pages.fingerprints(keys)]) if len(codes) == ask.k else "",
            confidence=None if sure is None or np.isnan(sure) else sure,
        )
        self.journal.note(answer, now)
        return answer

    @staticmethod
    def _why(live: Live, query: Query, codes: Any, language: str) -> list[Explanation]:
        asked = live.recommender
        return explain(asked.model, query, codes, live.title, language, asked.dataset)[0]


def _lambdas(
    live: Live, names: Sequence[str], weights: Floats, domains: set[str]
) -> Mapping[str, Mapping[str, float]]:
    return {
        domain: {n: round(float(w), 4) for n, w in zip(names, weights[d], strict=True)}
        for d, domain in enumerate(live.domains)
        if names and domain in domains
    }

"""The bodies of /v1: what comes in is checked, what goes out is documented."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Tag

from m6rec.explanation import Explanation
from m6rec.serving.asks import Answer, Ask, Boost
from m6rec.serving.reading import BY_SHAPE, LIST, OBJECT, as_any
from m6rec.store import Event, Item, User

EMPTY = (
    "no item is left: the run knows nothing of this request (a model with seeds, such as m6rec, "
    "answers anybody), or domain, filter, history and earlier pages leave none"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMED = 5  # reasons of an item in a list; /v1/explain gives all
NO_NUL = r"^[^\x00]*$"
Key = Annotated[str, Field(min_length=1, max_length=512, pattern=NO_NUL)]
ItemKey = Annotated[str, Field(min_length=1, max_length=512, pattern=NO_NUL, examples=["films/50"])]
Language = Literal["en", "zh"]
LONGEST = Field(max_length=10_000)  # of a history
Items = Annotated[list[ItemKey], LONGEST, Tag(LIST)]
Rating = Annotated[float, Field(ge=-1e9, le=1e9)]
Rated = Annotated[dict[ItemKey, Rating | None], LONGEST, Tag(OBJECT)]


class Body(BaseModel):
    """A body with no other fields than these."""

    model_config = ConfigDict(extra="forbid")


class BoostBody(Body):
    """Moves the items that ``filter`` lets through by so many deviations of the scores."""

    filter: str = Field(max_length=4000, examples=["price < 50"])
    by: float = Field(ge=-100, le=100, examples=[0.5])


class Asked(Body):
    """Who asks: a user of the store, a history, attributes, words, or several of them."""

    user: Key | None = Field(
        None, examples=["42"], description="Key; their events in the store are their history."
    )
    history: Annotated[Items | Rated, BY_SHAPE] = Field(
        default_factory=list, examples=[["Alien (1979)"]], json_schema_extra=as_any,
        description="Items (key or title) that count as liked now; or item to rating.",
    )  # fmt: skip
    attributes: dict[str, Any] | None = Field(
        None, examples=[{"age": 25}], description="Of somebody new, or in place of the stored ones."
    )
    text: str | None = Field(
        None, max_length=10_000, examples=["a film about space"],
        description="A question, a search, a profile.",
    )  # fmt: skip
    language: Language = Field("en", description="Of the sentences that say why.")

    def ask(self, **others: Any) -> Ask:
        """Return the request of the engine."""
        liked = self.history
        return Ask(
            user=self.user,
            history=liked if isinstance(liked, dict) else dict.fromkeys(liked),
            attributes=self.attributes,
            text=self.text,
            language=self.language,
            **others,
        )


class RecommendBody(Asked):
    """A request for recommendations."""

    domain: str | None = Field(None, examples=["films"], description="Only items of it.")
    filter: str | None = Field(
        None, max_length=4000, examples=['"Comedy" in genres'],
        description="Only items for which this holds; over item attributes.",
    )  # fmt: skip
    boost: list[BoostBody] = Field(
        default_factory=list, max_length=20,
        description="`filter` and `by`: moves items by so many deviations of the scores.",
    )  # fmt: skip
    exclude: list[ItemKey] = Field(
        default_factory=list, max_length=10_000, description="Items that are left out."
    )
    seen: bool = Field(False, description="Whether items of the history may come again.")
    k: int = Field(10, ge=1, le=1000, description="How many items, at most 1000.")
    page: str = Field("", max_length=40_000, description="As the last answer gave it: go on there.")
    diversity: float | None = Field(
        None, ge=0, le=1, description="0 … 1, by how much likeness costs; else as of the run."
    )
    explore: float | None = Field(
        None, ge=0, le=1, description="Share of random items, 0 … 1; else as of the run."
    )
    explain: bool = Field(True, description="Whether reasons come with the items.")

    def request(self) -> Ask:
        """Return the request of the engine."""
        return self.ask(
            domain=self.domain or None,
            filter=self.filter or None,
            boosts=tuple(Boost(filter=b.filter, by=b.by) for b in self.boost),
            exclude=tuple(self.exclude),
            seen=self.seen,
            k=self.k,
            page=self.page,
            diversity=self.diversity,
            explore=self.explore,
            explain=self.explain,
        )


class ExplainBody(Asked):
    """A question why items have their scores."""

    items: list[ItemKey] = Field(
        min_length=1, max_length=100, description="Keys or titles, at most 100."
    )


class EventBody(Body):
    """Something that a user did with an item."""

    user: Key = Field(examples=["42"])
    item: ItemKey
    type: Annotated[str, Field(min_length=1, max_length=100)] = "event"
    value: float | None = Field(
        None, ge=-1e9, le=1e9, description="A rating, count or sum; 0 = it was only seen."
    )
    time: datetime | None = Field(
        None, ge=EPOCH, description="Now where left out; in future: not yet."
    )
    id: Key | None = Field(None, description="Sent twice with the same id, it counts once.")
    request: str | None = Field(None, max_length=64, description="Of the list it came from.")

    def event(self, item: str, now: int) -> Event:
        """Return it for the store, with the item's key."""
        return Event(
            user=self.user, item=item, type=self.type, value=self.value,
            time=now if self.time is None else micro(self.time),
            key=self.id, request=self.request,
        )  # fmt: skip


class UserBody(Body):
    """What is known of a user."""

    attributes: dict[str, Any] = Field(default_factory=dict, examples=[{"age": 25}])

    def stored(self, key: str) -> User:
        return User(key=key, attributes=self.attributes)


class ItemBody(Body):
    """What is known of an item."""

    title: str = Field("", max_length=2000)
    text: str = Field("", max_length=100_000)
    attributes: dict[str, Any] = Field(default_factory=dict, examples=[{"price": 9.5}])
    hidden: bool = False

    def stored(self, key: str) -> Item:
        return Item(
            key=key, title=self.title, text=self.text,
            attributes=self.attributes, hidden=self.hidden,
        )  # fmt: skip


class SeedsBody(Body):
    """Items to choose from before anything is known of somebody."""

    items: list[ItemKey] = Field(max_length=1000, description="Keys, the first one first.")


class Reason(BaseModel):
    """One contribution to a score, in its units; share: of all, below 0 = against the item."""

    kind: str
    label: str
    value: float
    share: float
    parts: dict[str, float]


class RankedBody(BaseModel):
    """One item of a list, best first."""

    item: str
    domain: str
    title: str
    score: float
    explored: bool
    because: str | None = None
    reasons: list[Reason] | None = None


class AnswerBody(BaseModel):
    """A list. request: send it back with the events that follow. arm: of two runs that are
    compared, which. parts: λ by domain and part. warnings: why there is no item."""

    request: str
    run: str
    arm: str
    user: str | None
    history: int
    items: list[RankedBody]
    parts: dict[str, dict[str, float]]
    page: str
    warnings: list[str]


class WhyBody(BaseModel):
    """Why an item has its score. unexplained: what the reasons do not add up to."""

    item: str
    score: float | None
    unexplained: float
    because: str
    reasons: list[Reason]


class AddedBody(BaseModel):
    """added: of the events that were got, those that the store did not have. warnings: what may
    be a slip: types that do not count, items that are new, ratings beyond those of the run,
    times before 1973."""

    added: int
    got: int
    warnings: list[str]


class SeenBody(BaseModel):
    """An event of a user."""

    item: str
    title: str
    type: str
    value: float | None
    time: str | None


class StoredUser(BaseModel):
    """A user as stored."""

    user: str
    attributes: dict[str, Any]


class StoredItem(BaseModel):
    """An item as stored."""

    item: str
    title: str
    text: str
    attributes: dict[str, Any]
    hidden: bool


class FoundItem(BaseModel):
    """An item that a search found."""

    item: str
    domain: str
    title: str


class ErasedBody(BaseModel):
    """erased: rows by table. runs: names of the runs that still hold the key."""

    erased: dict[str, int]
    runs: list[str]


class MergedBody(BaseModel):
    """moved: events that changed hands."""

    moved: int


class ReloadedBody(BaseModel):
    """The run that answers from now on."""

    run: str


class ArmBody(BaseModel):
    """One run of two. hit_rate: share of requests that got an event, with its 95 % interval."""

    users: int
    requests: int
    hit_rate: float | None
    low: float | None
    high: float | None


class DifferenceBody(BaseModel):
    """Hit rate of b less that of a, with its 95 % interval and two-sided p."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None


class TrialBody(BaseModel):
    """Two runs beside each other."""

    arms: dict[str, ArmBody]
    difference: DifferenceBody
    verdict: str


class DriftBody(BaseModel):
    """One domain. items, scores: population stability index, from 0.25 on another distribution.
    unknown: share of events on items unknown in training. hits: change of the hit rate, with its
    95 % interval. null: too little to say."""

    domain: str
    events: int
    items: float | None
    unknown: float | None
    scores: float | None
    hits: list[float] | None
    warnings: list[str]


class ErrorBody(BaseModel):
    """What is wrong, in one sentence."""

    error: str
    code: str


def answer(found: Answer) -> dict[str, Any]:
    """Return an answer as plain data, as AnswerBody documents it."""
    items = []
    for each in found.items:
        row: dict[str, Any] = {
            "item": each.item,
            "domain": each.domain,
            "title": each.title,
            "score": each.score,
            "explored": each.explored,
        }
        if each.why is not None:
            row |= why(each.why, NAMED)
        items.append(row)
    return {
        "request": found.request,
        "run": found.run,
        "arm": found.arm,
        "user": found.user,
        "history": found.history,
        "items": items,
        "parts": found.parts,
        "page": found.page,
        "warnings": [] if items else [EMPTY],
    }


def why(found: Explanation, most: int | None = None) -> dict[str, Any]:
    """Return the sentence and the reasons as plain data, the first ``most`` of them."""
    table = found.to_json()
    return {"because": table["because"], "reasons": table["contributions"][:most]}


def micro(time: datetime) -> int:
    """Return microseconds since 1970; a time without a zone is UTC."""
    zoned = time if time.tzinfo else time.replace(tzinfo=UTC)
    return (zoned - EPOCH) // timedelta(microseconds=1)

"""The bodies of /api: what comes in is checked, what goes out is documented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_pascal

from m6rec.serving.api_gorse import times
from m6rec.store import Event, Feedback, Item, User

Id = Annotated[str, Field(min_length=1, max_length=512)]
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]
LABELS = "labels"  # attribute of labels that are a list, not a table
APART = ("title", "text")  # labels that are fields of an item of their own


class Body(BaseModel):
    """A body in Go's names; fields that it does not know are left out, as Gorse does."""

    model_config = ConfigDict(alias_generator=to_pascal, populate_by_name=True)


class UserBody(Body):
    """A user. Labels: a list, or a table of attributes."""

    user_id: Id
    labels: Any = None
    comment: Text = ""

    def stored(self) -> User:
        """Return it for the store."""
        return User(key=self.user_id, attributes=attributes(self.labels), comment=self.comment)


class ItemBody(Body):
    """An item. Labels: a list, or a table of attributes, among them title and text."""

    item_id: Id
    is_hidden: bool | None = False
    categories: list[Id] | None = None
    timestamp: str | None = None
    labels: Any = None
    comment: Text = ""

    def stored(self, key: str) -> Item:
        """Return it for the store, under its full key."""
        return Item(
            key=key,
            hidden=bool(self.is_hidden),
            categories=tuple(self.categories or ()),
            time=times.micro(self.timestamp),
            comment=self.comment,
            **described(self.labels),
        )


class UserPatch(Body):
    """What changes of a user; null = nothing."""

    labels: Any = None
    comment: str | None = None

    def changes(self) -> dict[str, Any]:
        """Return the fields of the store that change."""
        found: dict[str, Any] = {}
        if self.labels is not None:
            found["attributes"] = attributes(self.labels)
        if self.comment is not None:
            found["comment"] = self.comment
        return found


class ItemPatch(Body):
    """What changes of an item; null = nothing."""

    is_hidden: bool | None = None
    categories: list[Id] | None = None
    timestamp: str | None = None
    labels: Any = None
    comment: str | None = None

    def changes(self) -> dict[str, Any]:
        """Return the fields of the store that change."""
        found = {
            "hidden": self.is_hidden,
            "categories": None if self.categories is None else tuple(self.categories),
            "time": times.micro(self.timestamp),
            "comment": self.comment,
        }
        if self.labels is not None:
            found |= described(self.labels)
        return {name: value for name, value in found.items() if value is not None}


class SessionBody(Body):
    """Something that somebody did with an item; who it was does not matter."""

    feedback_type: Annotated[str, Field(min_length=1, max_length=100)]
    item_id: Id
    value: float | None = Field(None, ge=-1e9, le=1e9)
    timestamp: str | None = None
    comment: Text = ""

    def event(self, user: str, item: str, now: int) -> Event:
        """Return it for the store. Without a value, or with 0, as clients send it who have none,
        it is one plain event."""
        time = times.micro(self.timestamp)
        return Event(
            user=user, item=item, type=self.feedback_type, value=self.value or None,
            time=now if time is None else time, comment=self.comment,
        )  # fmt: skip


class FeedbackBody(SessionBody):
    """Something that a user did with an item."""

    user_id: Id


class UserShown(Body):
    """A user as stored."""

    user_id: str
    labels: Any
    comment: str


class ItemShown(Body):
    """An item as stored. Among its categories is its domain, if there are several."""

    item_id: str
    is_hidden: bool
    categories: list[str]
    timestamp: str
    labels: Any
    comment: str


class FeedbackShown(Body):
    """All events of one type, user and item. Value: their sum, where one without a value
    counts 1. Timestamp, Updated: of the first and of the latest one."""

    feedback_type: str
    user_id: str
    item_id: str
    value: float
    timestamp: str
    updated: str
    comment: str


class UsersPage(Body):
    """Users by key. Cursor: of the next page, "" at the end."""

    cursor: str
    users: list[UserShown]


class ItemsPage(Body):
    """Items by key. Cursor: of the next page, "" at the end."""

    cursor: str
    items: list[ItemShown]


class FeedbackPage(Body):
    """Feedback by user, item and type. Cursor: of the next page, "" at the end."""

    cursor: str
    feedback: list[FeedbackShown]


class Score(Body):
    """An item, or a user, of a list, best first."""

    id: str
    score: float


class Success(Body):
    """How many rows were written."""

    row_affected: int


class Health(Body):
    """Whether the store answers; there is no cache, so the store is shown as both."""

    ready: bool
    data_store_error: str | None
    cache_store_error: str | None
    data_store_connected: bool
    cache_store_connected: bool


def attributes(labels: Any) -> dict[str, Any]:
    """Return labels as attributes; a list of them is one attribute."""
    if labels is None:
        return {}
    return labels if isinstance(labels, dict) else {LABELS: labels}


def described(labels: Any) -> dict[str, Any]:
    """Return the title, text and attributes of an item with these labels."""
    found = attributes(labels)
    apart = {name: found[name] for name in APART if isinstance(found.get(name), str)}
    rest = {name: value for name, value in found.items() if name not in apart}
    return dict.fromkeys(APART, "") | apart | {"attributes": rest}


def labels(found: Mapping[str, Any]) -> Any:
    """Return attributes as labels; the inverse of ``attributes``."""
    if not found:
        return None
    return found[LABELS] if set(found) == {LABELS} else found


def user(found: User) -> dict[str, Any]:
    """Return a user as plain data, as UserShown documents it."""
    return {
        "UserId": found.key,
        "Labels": labels(found.attributes),
        "Comment": found.comment,
    }


def item(found: Item, id: str, domains: Sequence[str]) -> dict[str, Any]:
    """Return an item as plain data, as ItemShown documents it."""
    domain = found.key.partition("/")[0]
    silent = len(domains) < 2 or domain in found.categories
    apart = {name: getattr(found, name) for name in APART if getattr(found, name)}
    return {
        "ItemId": id,
        "IsHidden": found.hidden,
        "Categories": [*([] if silent else [domain]), *found.categories],
        "Timestamp": times.rfc3339(found.time),
        "Labels": labels({**apart, **found.attributes}),
        "Comment": found.comment,
    }


def feedback(found: Feedback, id: str) -> dict[str, Any]:
    """Return feedback as plain data, as FeedbackShown documents it."""
    return {
        "FeedbackType": found.type,
        "UserId": found.user,
        "ItemId": id,
        "Value": found.value,
        "Timestamp": times.rfc3339(found.first if found.first >= 0 else None),
        "Updated": times.rfc3339(found.time if found.time >= 0 else None),
        "Comment": found.comment,
    }

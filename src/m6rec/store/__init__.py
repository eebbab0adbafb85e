"""The event store; needs the extra ``serve``, so it is imported only where a store is used."""

from m6rec.store.checks import digest
from m6rec.store.look import Look
from m6rec.store.records import (
    Alert,
    ApiKey,
    Delivery,
    Event,
    Feedback,
    Given,
    History,
    Hits,
    Item,
    User,
)
from m6rec.store.store import Store

__all__ = [
    "Alert",
    "ApiKey",
    "Delivery",
    "Event",
    "Feedback",
    "Given",
    "History",
    "Hits",
    "Item",
    "Look",
    "Store",
    "User",
    "digest",
]

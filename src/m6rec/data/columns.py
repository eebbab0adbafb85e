"""Which column plays which part: as configured, else guessed by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from m6rec.data.schema import Columns, Role
from m6rec.errors import DataError, suggestion

GUESSES: dict[str, tuple[str, ...]] = {  # part → names, letters and digits only, best first
    "user": ("user", "userid", "uid", "customer", "customerid", "visitor", "visitorid", "member",
             "memberid", "account", "accountid", "client", "clientid", "reviewer", "reviewerid",
             "buyer", "buyerid", "person", "personid", "listener", "listenerid", "reader",
             "readerid", "viewer", "viewerid", "player", "playerid", "follower", "followerid",
             "subscriber", "subscriberid", "sessionid", "u"),
    "item": ("item", "itemid", "iid", "product", "productid", "sku", "asin", "parentasin", "movie",
             "movieid", "film", "filmid", "article", "articleid", "book", "bookid", "isbn", "song",
             "songid", "track", "trackid", "artist", "artistid", "video", "videoid", "news",
             "newsid", "business", "businessid", "listing", "listingid", "content", "contentid",
             "episode", "episodeid", "podcast", "podcastid", "show", "showid", "game", "gameid",
             "recipe", "recipeid", "post", "postid", "followee", "followeeid", "followed",
             "followedid", "i"),
    "value": ("value", "rating", "score", "stars", "weight", "count", "plays", "playcount",
              "quantity", "qty", "overall"),
    "time": ("time", "timestamp", "ts", "date", "datetime", "eventtime", "createdat", "created",
             "boughtat", "purchasedat", "orderedat", "orderdate", "purchasedate", "viewedat",
             "unixreviewtime", "datum", "t"),
    "event": ("event", "eventtype", "type", "action", "behavior", "behaviour", "behaviortype"),
    "domain": ("domain", "category", "market", "site", "vertical", "channel"),
    "person": ("person", "personid", "identity", "globaluser", "globaluserid"),
    "hidden": ("hidden", "ishidden", "offline", "discontinued"),
}  # fmt: skip
TEXTS = ("title", "movietitle", "name", "productname", "itemname", "headline", "question", "text",
         "description", "abstract", "summary")  # fmt: skip
MOMENT = re.compile(r"\w(_at|At)(_?(s|ms|us|ns))?$")  # played_at, startedAt, seen_at_ms
PARTS: dict[Role, tuple[str, ...]] = {
    "interactions": ("user", "item", "value", "time", "event", "domain"),
    "items": ("item", "domain", "hidden"),
    "users": ("user", "domain"),
    "links": ("domain", "user", "person"),
}
NEEDED: dict[Role, tuple[str, ...]] = {
    "interactions": ("user", "item"),
    "items": ("item",),
    "users": ("user",),
    "links": ("domain", "user", "person"),
}
EXACT = ("domain",)  # of interactions and items only guessed by this very name


def simple(name: str) -> str:
    """Return the letters and digits of a name in lower case."""
    return re.sub(r"[\W_]", "", name.lower())


def resolve(
    names: Sequence[str], own: Columns, general: Columns, role: Role, table: str
) -> dict[str, str]:
    """Return part → column of one table; parts that it lacks are left out.

    own: columns given for this table; general: for all tables, which outside of interactions
    bind only where they exist. Raises DataError that names the table, the missing column and
    the columns that exist.
    """
    found: dict[str, str] = {}
    for part in PARTS[role]:
        asked = getattr(own, part)
        if asked is None and (role == "interactions" or getattr(general, part) in ("", *names)):
            asked = getattr(general, part)
        if asked == "":
            continue
        if asked is not None:
            if asked not in names:
                raise missing(table, part, asked, names)
            found[part] = asked
            continue
        guess = _guess(part, role, names, set(found.values()))
        if guess is not None:
            found[part] = guess
    for part in NEEDED[role]:
        if part not in found:
            raise missing(table, part, None, names)
    return found


def guessed(names: Sequence[str], role: Role) -> dict[str, str]:
    """Return part → column as its name says; parts that no column looks like are left out."""
    found: dict[str, str] = {}
    for part in PARTS[role]:
        guess = _guess(part, role, names, set(found.values()))
        if guess is not None:
            found[part] = guess
    return found


def texts(names: Sequence[str], own: Columns, general: Columns, table: str) -> list[str]:
    """Return the text columns of an item table, in the order in which they are joined."""
    asked = general.text if own.text is None else own.text
    if asked is None:
        known = [name for name in names if simple(name) in TEXTS]
        return sorted(known, key=lambda name: TEXTS.index(simple(name)))
    for name in asked:
        if name and name not in names:
            raise missing(table, "text", name, names)
    return [name for name in asked if name]


def missing(table: str, part: str, asked: str | None, names: Sequence[str]) -> DataError:
    """Return the error for a column that is not there."""
    there = ", ".join(names)
    if asked is not None:
        return DataError(
            f'{table}: there is no column "{asked}" ({part}){suggestion(asked, names)} '
            f"(columns: {there})"
        )
    known = {word for words in GUESSES.values() for word in words}
    hint = "" if any(simple(n) in known for n in names) else '; no header? names = ["user", "item"]'
    return DataError(
        f"{table}: no column looks like the {part}; write "
        f'[data.columns] {part} = "…" (columns: {there}{hint})'
    )


def _guess(part: str, role: Role, names: Sequence[str], taken: set[str]) -> str | None:
    words = GUESSES[part]
    if part == "domain" and role != "links":
        words = EXACT
    if part in NEEDED[role] and role in ("items", "users"):
        words = (*words, "id", "key", "code")
    by_name = {simple(name): name for name in reversed(names) if name not in taken}
    if part == "time":
        words = (*words, *(simple(name) for name in names if MOMENT.search(name)))
    return next((by_name[word] for word in words if word in by_name), None)

"""What a configuration says of the data: tables, columns, event types, domains, cleaning."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from m6rec import config
from m6rec.data.features import FeatureSpec, Selection
from m6rec.data.notation import is_form
from m6rec.errors import ConfigError

Format = Literal["auto", "csv", "jsonl", "parquet", "recbole", "movielens", "sequence", "npz"]
Role = Literal["interactions", "items", "users", "links"]


@dataclass(frozen=True, kw_only=True)
class EventOptions:
    """How one type of event counts.

    weight: what one event adds to the history weight of its item (times its value, if any).
    sign: "negative" events (dislike, hide, return) exclude the item and train as target 0.
    cap: greatest total weight of one user's events of this type on one item; None = no cap.
    half_life: days after which the weight has halved; None = never.
    mutual: between people (see ``people`` of a domain): a positive event holds in both directions,
        such as friendship; a negative one is a block, which keeps each from the other.
    """

    weight: float = 1.0
    sign: Literal["positive", "negative"] = "positive"
    cap: float | None = None
    half_life: float | None = None
    mutual: bool = False

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ValueError(f'weight = {self.weight}: must be above 0; use sign = "negative"')
        if self.half_life is not None and self.half_life <= 0:
            raise ValueError(f"half_life = {self.half_life}: must be above 0 days")


@dataclass(frozen=True, kw_only=True)
class EventType(EventOptions):
    """An event type with its name, as in the data's event column."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One product line.

    name: short, without "/".
    users: "shared" = the same user key is one person across shared domains; "own" = namespaced.
    feedback: "implicit" = rank items; "explicit" = values are ratings to be predicted.
    people: an item is the person of that key, so events here are links between people.
    """

    name: str
    users: Literal["shared", "own"] = "shared"
    feedback: Literal["implicit", "explicit"] = "implicit"
    people: bool = False

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name:
            raise ValueError(f'domain name "{self.name}": must be non-empty and without "/"')


class Names(tuple[str, ...]):
    """One name or a list of names."""

    @classmethod
    def from_table(cls, value: Any, where: str) -> Self:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, (list, tuple)) or not all(isinstance(n, str) for n in names):
            raise ConfigError(f"{where} = {value!r}: must be a string or a list of strings")
        return cls(names)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which column plays which part; a part left out is guessed by name, "" = there is none.

    user, item: keys. value: rating, count or amount. time: unix seconds, ms or µs, ISO text,
    or days such as 20250301.
    event: event type. domain: product line. person: of a link table.
    text: item texts, joined in this order. hidden: true for items that are never recommended.
    """

    user: str | None = None
    item: str | None = None
    value: str | None = None
    time: str | None = None
    event: str | None = None
    domain: str | None = None
    person: str | None = None
    text: Names | None = None
    hidden: str | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """One file or SQL query.

    path: file, relative to the TOML. sql: database URL ("sqlite:///shop.db",
    "postgresql://…"; $NAME is taken from the environment), with ``query``.
    format: by the file's name where "auto". delimiter, encoding: of text files; the
    delimiter is sniffed where left out. names: column names of a file without a header.
    decimal: mark before the decimals of numbers in text. time_format: how times are written, as
    in "%d.%m.%Y %H:%M" (strftime), where they are neither numbers nor ISO dates.
    domain, event: of every row, where the table has no such column.
    ordered: the rows of a user stand oldest first, though there are no times.
    """

    path: str = ""
    sql: str = ""
    query: str = ""
    format: Format = "auto"
    delimiter: str | None = None
    encoding: str = "utf-8"
    names: tuple[str, ...] = ()
    decimal: Literal[".", ","] = "."
    time_format: str = ""
    domain: str = ""
    event: str = ""
    ordered: bool = False
    columns: Columns = Columns()

    def __post_init__(self) -> None:
        if bool(self.path) == bool(self.sql):
            raise ValueError("a table needs either path, or sql with query")
        if self.sql and not self.query:
            raise ValueError(f'sql = "{self.sql}": needs query = "select …"')
        if self.time_format and not is_form(self.time_format):
            raise ValueError(
                f'time_format = "{self.time_format}": must say a whole date, as in '
                '"%d.%m.%Y %H:%M" for 17.02.2025 17:11'
            )

    @property
    def name(self) -> str:
        """What messages call this table; never with a password."""
        return self.path or re.sub(r"//[^/@]*@", "//", self.sql)


class Tables(tuple[Table, ...]):
    """A path, a table, or a list of these."""

    @classmethod
    def from_table(cls, value: Any, where: str) -> Self:
        single = not isinstance(value, (list, tuple))
        entries = [value] if single else value
        return cls(
            config.from_table(
                Table,
                {"path": entry} if isinstance(entry, str) else entry,
                where if single else f"{where}[{i}]",
            )
            if not isinstance(entry, Table)
            else entry
            for i, entry in enumerate(entries)
        )


NO_TABLES = Tables()


@dataclass(frozen=True, kw_only=True)
class DomainOptions:
    """One product line, named by its key; its tables may stand here.

    users: "shared" = the same user key is one person across shared domains; "own" = namespaced.
    feedback: "implicit" = rank items; "explicit" = values are ratings to be predicted; as
        ``[data] feedback`` where left out.
    people: an item is the person of that key: friends, followers, members. Nobody is
        recommended to themselves.
    """

    users: Literal["shared", "own"] = "shared"
    feedback: Literal["implicit", "explicit"] | None = None
    people: bool = False
    interactions: Tables = NO_TABLES
    items: Tables = NO_TABLES


@dataclass(frozen=True, kw_only=True)
class DomainFrom:
    """Derive the domain of an item from an attribute of the item table.

    groups: domain → values of ``column``. A many-valued item belongs to the first group, in
    the order declared, that holds one of its values; without any, to ``other`` ("" = dropped).
    """

    column: str
    groups: Mapping[str, tuple[str, ...]]
    other: str = ""


@dataclass(frozen=True, kw_only=True)
class Clean:
    """Which rows to drop; each step is reported.

    duplicates: of one user, item and event type: keep the "last", the "sum" or the "max" of
    values, or "all"; "auto" keeps the last rating in explicit domains, and elsewhere drops
    only rows that repeat the same time.
    min_value, max_value: range of values. min_time, max_time: ISO dates; times before 1970 or
    in the future are always dropped.
    core_users, core_items: k-core: fewest events of a user and of an item in a domain.
    max_events, max_per_day: users with more events in all, or on one day, are taken for bots.
    near_copies: likeness (Jaccard index of their items) from which two users are copies; users of
        at least 5 items with two such copies are taken for bots.
    session_gap: minutes without events that end a session. min_session, max_session: events
    of a session; shorter ones are dropped, longer ones lose their oldest events.
    """

    duplicates: Literal["auto", "last", "sum", "max", "all"] = "auto"
    min_value: float | None = None
    max_value: float | None = None
    min_time: str | None = None
    max_time: str | None = None
    core_users: int = 0
    core_items: int = 0
    max_events: int | None = None
    max_per_day: int | None = None
    near_copies: float | None = None
    session_gap: float = 30.0
    min_session: int = 0
    max_session: int | None = None

    def __post_init__(self) -> None:
        if self.session_gap <= 0:
            raise ValueError(f"session_gap = {self.session_gap}: must be above 0 minutes")
        if self.near_copies is not None and not 0 < self.near_copies <= 1:
            raise ValueError(
                f"near_copies = {self.near_copies}: must be above 0 and at most 1, such as 0.8"
            )


@dataclass(frozen=True, kw_only=True)
class FeatureTables:
    """How attribute columns are used, by column; those left out are guessed.

    select: keeps only the columns that vary and tell something of the target on train.
    derived: also gives items their popularity, age and freshness as attributes, and users the
        activity, frequency, recency, diversity, mean value and price level of their history, as
        of each request.
    price: item column that the price level is the mean of; without it there is none.
    group: item column whose values count for diversity, of several in a cell the first; the
        domains where left out.
    """

    users: Mapping[str, FeatureSpec] = field(default_factory=dict)
    items: Mapping[str, FeatureSpec] = field(default_factory=dict)
    select: Selection | None = None
    derived: bool = False
    price: str | None = None
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The ``[data]`` table of an experiment.

    interactions, items, users, links: a path, a table, or a list of these; only interactions
    are needed, here or in the domains. links: domain, user, person: who is whom.
    domains, events: options by name; names found only in the data get the defaults, but once
    events are declared, rows of any other type are dropped (and reported).
    feedback: of domains that do not say.
    tz: zone of times without one. strict: a bad row stops the load.
    """

    interactions: Tables = NO_TABLES
    items: Tables = NO_TABLES
    users: Tables = NO_TABLES
    links: Tables = NO_TABLES
    columns: Columns = Columns()
    domains: Mapping[str, DomainOptions] = field(default_factory=dict)
    events: Mapping[str, EventOptions] = field(default_factory=dict)
    domain_from: DomainFrom | None = None
    features: FeatureTables = FeatureTables()
    feedback: Literal["implicit", "explicit"] = "implicit"
    clean: Clean = Clean()
    tz: str = "UTC"
    strict: bool = False

    def __post_init__(self) -> None:
        for name in self.domains:
            Domain(name=name)
        try:
            ZoneInfo(self.tz)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f'tz = "{self.tz}": no such time zone; e.g. "Asia/Shanghai"') from None

    def tables(self, role: Role) -> list[Table]:
        """Return all tables of a role, those of domains with their domain filled in."""
        found = list(getattr(self, role))
        if role in ("interactions", "items"):
            for name, options in self.domains.items():
                found += [replace(table, domain=name) for table in getattr(options, role)]
        return found

    def domain(self, name: str) -> Domain:
        """Return a domain with its options."""
        options = self.domains.get(name, DomainOptions())
        feedback = options.feedback or self.feedback
        return Domain(name=name, users=options.users, feedback=feedback, people=options.people)

    def event_type(self, name: str) -> EventType:
        """Return an event type with its options."""
        options = self.events.get(name, EventOptions())
        return EventType(
            **{f.name: getattr(options, f.name) for f in fields(EventOptions)}, name=name
        )

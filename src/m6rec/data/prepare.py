"""Raw tables → an encoded Dataset and its catalogue: read, check, clean, identify, encode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from m6rec.arrays import Array, Ids, Mask
from m6rec.data import catalogue, events, readers
from m6rec.data.clean import Cleaner
from m6rec.data.dataset import Dataset
from m6rec.data.drops import Drops
from m6rec.data.events import Codes
from m6rec.data.identity import Pairs, item_keys, person_keys, place_items, place_users
from m6rec.data.people import mirrored
from m6rec.data.schema import DataConfig, Domain, EventType, Role, Table
from m6rec.data.vocab import Vocab
from m6rec.errors import DataError, suggestion
from m6rec.tracking import Run

Loaded = tuple[Table, pl.LazyFrame]
ROLES: tuple[Role, ...] = ("interactions", "items", "users", "links")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """What a configuration's tables hold.

    dataset: all events, encoded; without feature blocks, which are fitted on train only.
    users: n_users rows in code order: key, and the raw attributes.
    items: n_items rows in code order: key, domain, title, hidden, and the raw attributes.
    drops: what was left out, and why.
    """

    dataset: Dataset
    users: pl.DataFrame
    items: pl.DataFrame
    drops: Drops
    config: DataConfig


def prepare(config: DataConfig, base: Path, run: Run) -> Prepared:
    """Read, clean and encode the tables of a configuration; paths are relative to ``base``.

    Raises DataError in one sentence where a table cannot be used.
    """
    drops = Drops(config.strict)
    tables = {
        role: [(table, readers.read(table, base, drops)) for table in config.tables(role)]
        for role in ROLES
    }
    return encode(config, tables, drops, run)


def encode(
    config: DataConfig, tables: Mapping[Role, Sequence[Loaded]], drops: Drops, run: Run
) -> Prepared:
    """Encode tables that were read already: role → (table, frame with ``delimited.ROW``)."""
    if not tables["interactions"]:
        raise DataError('[data]: no interactions; say interactions = "log.csv"')
    codes = Codes()
    items = catalogue.load_items(tables.get("items", ()), config, drops)
    users = catalogue.load_users(tables.get("users", ()), config, drops)
    links = catalogue.load_links(tables.get("links", ()), config, drops)
    log = _load_log(config, tables["interactions"], items, codes, drops, run)
    log = mirrored(log, config, codes)

    domains = _domains(config, log, items, codes, drops)
    types = tuple(config.event_type(name) for name in _order(config.events, log, "event", codes))
    log = log.with_columns(
        _recoded(log, "domain", [d.name for d in domains], codes),
        _recoded(log, "event", [t.name for t in types], codes),
    )
    rated = np.array([d.feedback == "explicit" for d in domains])
    ordered = _ordered(log, tables["interactions"], drops)

    people = Pairs.of(log["domain"], log["user"], len(domains), codes.names("user"), "user")
    things = Pairs.of(log["domain"], log["item"], len(domains), codes.names("item"), "item")
    seen_people, seen_things = people.frame(domains), things.frame(domains)
    items = place_items(items, seen_things, domains, drops)
    users = place_users(users, links, config, domains)
    person = person_keys(seen_people, links, domains)
    user_keys = pl.concat([person, users["key"]]).unique().sort()
    keyed = _catalogue_keys(pl.concat([seen_things, items.select("domain", "item")]), domains)
    log = log.with_columns(
        pl.Series("user", people.encode(_positions(person, user_keys))),
        pl.Series("item", things.encode(_positions(item_keys(seen_things), keyed["key"]))),
    )
    del people, things

    names = {"user": user_keys, "item": keyed["key"]}
    cleaner = Cleaner(config.clean, rated, lambda part, code: names[part][code], drops)
    before = cleaner.apart(log)
    log = cleaner.k_core(before)
    if not log.height:
        raise DataError("no event is left after cleaning; loosen [data.clean]")
    drops.kept = log.height
    user, user_keys = _compact(before["user"], log["user"], user_keys, users["key"], config)
    item, item_names = _compact(before["item"], log["item"], keyed["key"], item_keys(items), config)
    keyed = keyed.join(item_names.to_frame(), on="key", how="semi", maintain_order="left")
    items = _aligned(keyed["key"], items.with_columns(item_keys(items)).drop("domain", "item"))
    items = items.with_columns(pl.col("text").fill_null(""), pl.col("hidden").fill_null(False))
    items.insert_column(1, keyed["domain"])
    dataset = Dataset.build(
        user=user,
        item=item,
        users=Vocab(user_keys),
        items=Vocab(keyed["key"]),
        weight=_weights(log, types, rated),
        time=log["time"].to_numpy(),
        event=log["event"].to_numpy(),
        domains=domains,
        item_domain=_positions(keyed["domain"], pl.Series([d.name for d in domains])),
        events=types,
        item_text=tuple(items["text"]) if (items["text"] != "").any() else None,
        hidden=items["hidden"].to_numpy(),
        ordered=ordered,
    )
    return Prepared(
        dataset=dataset,
        users=_aligned(user_keys, users),
        items=items.drop("text"),
        drops=drops,
        config=config,
    )


def _load_log(
    config: DataConfig,
    tables: Sequence[Loaded],
    items: pl.DataFrame,
    codes: Codes,
    drops: Drops,
    run: Run,
) -> pl.DataFrame:
    """All interaction tables below each other."""
    item_domain = domain_of_items(items, codes)
    frames = []
    with run.progress("read", len(tables)) as advance:
        for table, frame in tables:
            frames.append(events.load(table, frame, config, codes, item_domain, drops))
            advance(1)
    return pl.concat(frames, how="diagonal") if len(frames) > 1 else frames[0]


def domain_of_items(items: pl.DataFrame, codes: Codes) -> pl.DataFrame | None:
    """(item, domain) codes of items whose key is of one domain; None where there are none."""
    of_item = items.filter(pl.col("domain").is_not_null()).unique("item", keep="none")
    if not of_item.height:
        return None
    coded = [codes.encode(part, of_item[part]).alias(part) for part in ("item", "domain")]
    return pl.DataFrame(coded)


def _order(declared: Iterable[str], log: pl.DataFrame, part: str, codes: Codes) -> list[str]:
    """Names that occur or are declared: declared ones first, the others sorted."""
    found = codes.names(part).gather(log[part].unique()).to_list()
    return list(dict.fromkeys([*declared, *sorted(found)]))


def _domains(
    config: DataConfig, log: pl.DataFrame, items: pl.DataFrame, codes: Codes, drops: Drops
) -> tuple[Domain, ...]:
    declared = [*config.domains, *(config.domain_from.groups if config.domain_from else ())]
    found = [*_order((), log, "domain", codes), *items["domain"].drop_nulls().unique().sort()]
    names = list(dict.fromkeys([*declared, *found]))
    for name in dict.fromkeys(declared):
        if name not in found:
            near = suggestion(name, set(found) - {*declared})
            drops.note(f'domain "{name}" is declared, but has neither events nor items{near}')
    try:
        return tuple(config.domain(name) for name in names)
    except ValueError as error:
        raise DataError(f"domain column: {error}") from None


def _recoded(log: pl.DataFrame, part: str, names: list[str], codes: Codes) -> pl.Series:
    """Codes of one load → positions in ``names``."""
    position = _positions(codes.names(part), pl.Series(names, dtype=pl.String))
    return pl.Series(part, position.astype(np.int16)[log[part].to_numpy()])


def _ordered(log: pl.DataFrame, tables: Sequence[Loaded], drops: Drops) -> bool:
    if (log["time"] >= 0).any():
        return True
    ordered = all(table.ordered for table, _ in tables)
    meaning = "counts as oldest first" if ordered else "is not taken for time order"
    drops.note(f"no times: file order is kept and {meaning} (ordered = {str(ordered).lower()})")
    return ordered


def _catalogue_keys(pairs: pl.DataFrame, domains: Sequence[Domain]) -> pl.DataFrame:
    """Distinct item pairs as key and domain, sorted by domain, then key."""
    rank = {d.name: i for i, d in enumerate(domains)}
    order = pl.col("domain").replace_strict(rank, return_dtype=pl.Int32)
    frame = pairs.unique().sort(order, "item")
    return pl.DataFrame([item_keys(frame), frame["domain"]])


def _positions(keys: pl.Series, vocabulary: pl.Series) -> Ids:
    """(n,) int32: where each key stands in a vocabulary, -1 where it does not."""
    places = pl.DataFrame({"key": vocabulary}).with_row_index("place")
    found = pl.DataFrame({"key": keys}).join(places, on="key", how="left", maintain_order="left")
    return found["place"].cast(pl.Int32).fill_null(-1).to_numpy()


def _compact(
    before: pl.Series, after: pl.Series, keys: pl.Series, listed: pl.Series, config: DataConfig
) -> tuple[Ids, pl.Series]:
    """Drop keys that cleaning left without events, unless a table lists them.

    A k-core also drops the listed ones that it emptied. Returns new codes and keys.
    """
    codes = after.to_numpy()
    used = np.bincount(codes, minlength=len(keys)) > 0
    cold = _positions(listed, keys)
    if config.clean.core_users > 1 or config.clean.core_items > 1:
        cold = cold[np.bincount(before.to_numpy(), minlength=len(keys))[cold] == 0]
    used[cold] = True
    if used.all():
        return codes, keys
    return (np.cumsum(used, dtype=np.int32) - 1)[codes], keys.filter(pl.Series(used))


def _aligned(keys: pl.Series, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of a frame in the order of the keys; nulls where it has none."""
    return keys.to_frame("key").join(frame, on="key", how="left", maintain_order="left")


def _weights(log: pl.DataFrame, types: Sequence[EventType], rated: Mask) -> Array:
    """(N,) float32 ratings, or type weight × value, below 0 for negative types."""
    of_type = np.array([t.weight if t.sign == "positive" else -t.weight for t in types], np.float32)
    weight = of_type[log["event"].to_numpy()]
    if "value" in log.columns:
        value = log["value"].fill_null(1.0).to_numpy()
        weight = np.where(rated[log["domain"].to_numpy()], value, weight * value)
    return np.asarray(weight, dtype=np.float32)

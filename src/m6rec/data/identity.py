"""Who is who: (domain, raw key) pairs → one sorted vocabulary of items and one of people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from m6rec.arrays import Array, Ids
from m6rec.data.drops import SAMPLES, Drops
from m6rec.data.schema import DataConfig, Domain
from m6rec.errors import DataError

DENSE = 1 << 28  # greatest size of a look-up table over (domain, key) pairs


@dataclass(frozen=True, eq=False)
class Pairs:
    """The distinct (domain, raw code) pairs of an event log.

    pair: (N,) int64 = domain · len(names) + raw code. distinct: its sorted distinct values.
    names: raw key of each code. part: "user" or "item".
    """

    pair: Array
    distinct: Array
    names: pl.Series
    part: str

    @classmethod
    def of(cls, domain: pl.Series, code: pl.Series, n: int, names: pl.Series, part: str) -> Pairs:
        """Collect the pairs of two event columns; ``n`` domains."""
        n_codes = len(names)
        pair = domain.to_numpy().astype(np.int64)
        pair *= n_codes
        pair += code.to_numpy()
        if n * n_codes > DENSE:
            return cls(pair, np.unique(pair), names, part)
        seen = np.zeros(n * n_codes, np.bool_)
        seen[pair] = True
        return cls(pair, np.flatnonzero(seen), names, part)

    def frame(self, domains: Sequence[Domain]) -> pl.DataFrame:
        """Return the distinct pairs as names: domain and ``part``."""
        domain, code = np.divmod(self.distinct, len(self.names))
        of_domain = pl.Series([d.name for d in domains]).gather(domain)
        return pl.DataFrame({"domain": of_domain, self.part: self.names.gather(code)})

    def encode(self, codes: Ids) -> Ids:
        """Return (N,) int32: for every event, the entry of ``codes`` of its distinct pair."""
        size = int(self.distinct[-1]) + 1
        if size > DENSE:
            return codes[np.searchsorted(self.distinct, self.pair)]
        table = np.full(size, -1, np.int32)
        table[self.distinct] = codes
        return table[self.pair]


def item_keys(frame: pl.DataFrame) -> pl.Series:
    """Return "domain/key" of a frame of domain and item."""
    return frame.select((pl.col("domain") + "/" + pl.col("item")).alias("key")).to_series()


def person_keys(frame: pl.DataFrame, links: pl.DataFrame, domains: Sequence[Domain]) -> pl.Series:
    """Return the person of a frame of domain (null = shared) and user.

    A linked user is the person of the link table; else an own user is "domain:user", a shared
    one the key itself.
    """
    own = [d.name for d in domains if d.users == "own"]
    linked = frame.join(links, on=["domain", "user"], how="left", maintain_order="left")
    user = pl.col("user")
    alone = pl.when(pl.col("domain").is_in(own)).then(pl.col("domain") + ":" + user)
    return linked.select(pl.coalesce("person", alone, user).alias("key")).to_series()


def place_items(
    items: pl.DataFrame, seen: pl.DataFrame, domains: Sequence[Domain], drops: Drops
) -> pl.DataFrame:
    """Give item rows without a domain the domains in which their key has events.

    seen: distinct domain and item of the log. With a single domain every row belongs to it;
    else a row without events is dropped and reported.
    """
    open_rows = items.filter(pl.col("domain").is_null())
    if not open_rows.height:
        return items
    if len(domains) == 1:
        return items.with_columns(pl.col("domain").fill_null(domains[0].name))
    placed = open_rows.drop("domain").join(seen, on="item", how="left", maintain_order="left")
    lost = placed.filter(pl.col("domain").is_null())
    samples = lost.select("item").head(SAMPLES).to_dicts()
    drops.add("domain", "items", "neither a domain nor events", lost.height, samples)
    placed = placed.filter(pl.col("domain").is_not_null()).select(items.columns)
    return pl.concat([items.filter(pl.col("domain").is_not_null()), placed])


def place_users(
    users: pl.DataFrame, links: pl.DataFrame, config: DataConfig, domains: Sequence[Domain]
) -> pl.DataFrame:
    """Return key and attributes, one row a person; of several values the last one counts."""
    unplaced = bool(users["domain"].null_count())
    if unplaced and all(d.users == "own" for d in domains):
        if len(domains) > 1:
            raise DataError(
                f"{', '.join(t.name for t in config.users) or 'users'}: all domains have users of "
                'their own, so each row needs one: say domain = "…" or columns.domain'
            )
        users = users.with_columns(pl.col("domain").fill_null(domains[0].name))
    keyed = users.with_columns(person_keys(users, links, domains)).drop("user", "domain")
    if keyed["key"].is_duplicated().any():
        keyed = keyed.group_by("key", maintain_order=True).agg(pl.all().drop_nulls().last())
    return keyed

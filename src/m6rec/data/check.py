"""Statistics of prepared data: what is there, how domains overlap, what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from m6rec.data.attributes import Attributes, attributes
from m6rec.data.dataset import Dataset
from m6rec.data.features import guess
from m6rec.data.notation import pointed
from m6rec.data.prepare import Prepared
from m6rec.data.splits import SplitConfig, target_code
from m6rec.data.twins import TwinsConfig, find_twins


@dataclass(frozen=True, kw_only=True)
class DomainStats:
    """One domain.

    density: share of (active user, item) cells with an event. cold_items: items without
    events. with_text, with_attributes: shares of its items. values: least, mean and greatest
    value of explicit domains, else None.
    """

    name: str
    feedback: str
    users: int
    items: int
    events: int
    negative: int
    density: float
    cold_items: int
    hidden: int
    with_text: float
    with_attributes: float
    values: tuple[float, float, float] | None


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Users active in two domains; share: of the users of the smaller one."""

    first: str
    second: str
    users: int
    share: float
    twins: int


@dataclass(frozen=True, kw_only=True)
class AttributeStats:
    """One attribute column of the "users" or "items".

    kind: what it was read as: number, time, category, list or text. missing: share of the rows.
    odd: of text of which most values are numbers, the first that is none; else "".
    """

    of: str
    name: str
    kind: str
    missing: float
    odd: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """Plain figures of a Prepared.

    span: first and last time in unix seconds, None without times. users_with_attributes: share.
    event_types: name → events. notes: what a reader should know.
    """

    users: int
    items: int
    events: int
    dropped: int
    ordered: bool
    span: tuple[int, int] | None
    cold_users: int
    users_with_attributes: float
    event_types: dict[str, int]
    domains: tuple[DomainStats, ...]
    attributes: tuple[AttributeStats, ...]
    overlaps: tuple[Overlap, ...]
    twins: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self)


def check(prepared: Prepared, twins: TwinsConfig | None = None) -> Report:
    """Count what a Prepared holds; the strongest 20 twins are named."""
    data = prepared.dataset
    active = np.zeros((data.n_users, data.n_domains), np.bool_)
    active[data.user, data.item_domain[data.item]] = True
    timed = data.time[data.time >= 0]
    twins = twins or TwinsConfig()
    pairs = find_twins(data, twins)
    domains = _domains(prepared, active)
    overlaps = _overlaps(data, active, pairs.first, pairs.second)
    counts = np.bincount(data.event, minlength=len(data.events))
    return Report(
        users=data.n_users,
        items=data.n_items,
        events=len(data),
        dropped=prepared.drops.count(),
        ordered=data.ordered,
        span=(int(timed.min()), int(timed.max())) if len(timed) else None,
        cold_users=int((~active.any(axis=1)).sum()),
        users_with_attributes=_filled(attributes(prepared.users)).mean().item()
        if data.n_users
        else 0.0,
        event_types={t.name: int(n) for t, n in zip(data.events, counts, strict=True)},
        domains=domains,
        attributes=(*_columns("items", prepared), *_columns("users", prepared)),
        overlaps=overlaps,
        twins=tuple(
            (data.items.key(a), data.items.key(b))
            for a, b in zip(pairs.first[:20], pairs.second[:20], strict=True)
        ),
        notes=(*prepared.drops.notes, *_notes(domains, overlaps, twins)),
    )


def agree(prepared: Prepared, split: SplitConfig | None) -> None:
    """Refuse what training would refuse: features of columns, or a split by a domain, that are
    not there."""
    options = prepared.config
    plain = replace(options, features=replace(options.features, select=None))
    Attributes.fit(replace(prepared, config=plain), prepared.dataset)
    if split is not None and split.kind == "target-domain":
        target_code(prepared.dataset, split.target)


def _domains(prepared: Prepared, active: Any) -> tuple[DomainStats, ...]:
    data = prepared.dataset
    of_event = data.item_domain[data.item]
    per_item = np.bincount(data.item, minlength=data.n_items)
    cells = np.bincount(data.item_domain[data.matrix.indices], minlength=data.n_domains)
    text = np.array([bool(t) for t in data.item_text or [""] * data.n_items], np.bool_)
    filled = _filled(attributes(prepared.items))
    found = []
    for code, domain in enumerate(data.domains):
        of_item, rows = data.item_domain == code, of_event == code
        users, items = int(active[:, code].sum()), int(of_item.sum())
        weight = data.weight[rows]
        rated = domain.feedback == "explicit" and len(weight) > 0
        found.append(
            DomainStats(
                name=domain.name,
                feedback=domain.feedback,
                users=users,
                items=items,
                events=int(rows.sum()),
                negative=0 if domain.feedback == "explicit" else int((weight < 0).sum()),
                density=float(cells[code]) / max(1, users * items),
                cold_items=int((of_item & (per_item == 0)).sum()),
                hidden=int((of_item & data.hidden).sum()),
                with_text=float(text[of_item].mean()) if items else 0.0,
                with_attributes=float(filled[of_item].mean()) if items else 0.0,
                values=(float(weight.min()), float(weight.mean()), float(weight.max()))
                if rated
                else None,
            )
        )
    return tuple(found)


def _overlaps(data: Dataset, active: Any, first: Any, second: Any) -> tuple[Overlap, ...]:
    common = active.T.astype(np.int64) @ active
    twins = np.zeros((data.n_domains, data.n_domains), np.int64)
    np.add.at(twins, (data.item_domain[first], data.item_domain[second]), 1)
    return tuple(
        Overlap(
            first=data.domains[a].name,
            second=data.domains[b].name,
            users=int(common[a, b]),
            share=float(common[a, b] / max(1, min(common[a, a], common[b, b]))),
            twins=int(twins[a, b] + twins[b, a]),
        )
        for a in range(data.n_domains)
        for b in range(a + 1, data.n_domains)
    )


def _columns(of: Literal["items", "users"], prepared: Prepared) -> Iterator[AttributeStats]:
    specs = getattr(prepared.config.features, of)
    for column in attributes(getattr(prepared, of)):
        spec = specs.get(column.name) or guess(column)
        kind = _KINDS.get(spec.kind, "text")
        if column.dtype.is_numeric():
            kind = "number"
        elif column.dtype.is_temporal():
            kind = "time"
        text = column.dtype == pl.String
        filled = column.str.strip_chars().replace("", None) if text else column
        yield AttributeStats(
            of=of,
            name=column.name,
            kind=kind,
            missing=filled.null_count() / max(1, len(filled)),
            odd=_odd(filled.drop_nulls()) if text else "",
        )


_KINDS = {"categorical": "category", "multi": "list"}


def _odd(text: pl.Series) -> str:
    """The first value that is no number where most are, with a point or a comma."""
    number = pl.col(text.name).cast(pl.Float64, strict=False)
    either = pointed(pl.col(text.name), ",").cast(pl.Float64, strict=False)
    none = text.to_frame().filter(number.is_null())
    most = text.to_frame().filter(number.is_not_null() | either.is_not_null())
    return str(none.item(0, 0)) if none.height and most.height > len(text) / 2 else ""


def _filled(frame: pl.DataFrame) -> Any:
    """(n,) rows with any attribute."""
    if not frame.width:
        return np.zeros(frame.height, np.bool_)
    return frame.select(pl.any_horizontal(pl.all().is_not_null())).to_series().to_numpy()


def _notes(
    domains: Sequence[DomainStats], overlaps: Sequence[Overlap], twins: TwinsConfig
) -> list[str]:
    notes = []
    for pair in overlaps:
        if not pair.users:
            notes.append(
                f"{pair.first} and {pair.second} share no user: only texts and attributes join them"
            )
        if pair.twins:
            notes.append(
                f"{pair.first} and {pair.second} list {pair.twins} products twice (twins): "
                + _TWINS[twins.action]
            )
    if not any(domain.with_text for domain in domains):
        some = any(domain.with_attributes for domain in domains)
        how = "scored by attributes only" if some else "not scored: they have no attributes either"
        notes.append(f"no item has a text: new items are {how}")
    return notes


_TWINS = {
    "report": "link or drop them, or an evaluation flatters transfer",
    "link": "whoever had one is not recommended the other ([twins] action)",
    "drop": "those of other domains lose their events ([twins] action)",
}

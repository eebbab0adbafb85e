"""A run as one HTML page for people: data, figures with intervals, weights, lists, settings."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from m6rec import __version__, config
from m6rec.data.query import ACTIVITY_NAMES
from m6rec.data.select import Figure as Selected
from m6rec.learned import learned
from m6rec.metrics import parse
from m6rec.pipeline import Trained
from m6rec.results import OVERALL, PER_PAIR, Evaluation, compare

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE = "report.html"
NOT_DOMAINS = ("activity", "cold", "warm")  # how the names of other slices begin
PLOTTED = 6  # most domains whose λ are drawn; the table has all
COLOURS = ("#1f6feb", "#98a2b3", "#d08c3f", "#4f9d69", "#a35fb0", "#c45252", "#5bb5c9", "#8a6d3b")


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page: a heading, a sentence, and a table or lists under it."""

    heading: str
    text: str = ""
    frame: pl.DataFrame | None = None


def write(trained: Trained, folder: Path, sections: Sequence[Section] = ()) -> Path:
    """Write report.html, and its plots as plots/*.png; returns the page's path."""
    plots = {name: draw for name, draw in _plots(trained) if draw is not None}
    (folder / "plots").mkdir(exist_ok=True)
    images = {}
    for name, figure in plots.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=144, bbox_inches="tight")
        (folder / "plots" / f"{name}.png").write_bytes(buffer.getvalue())
        images[name] = base64.b64encode(buffer.getvalue()).decode()
    table = trained.fitted.config
    name = str(table.get("name", "run"))
    data = trained.stage.prepared.dataset
    lead = (
        f"{len(data):,} events of {data.n_users:,} users on {data.n_items:,} items in "
        f"{data.n_domains} domain{'s' if data.n_domains != 1 else ''}; model "
        f"{trained.fitted.model.recipe.kind}; seed {table.get('seed', 0)}; m6rec {__version__}"
    )
    page = Template(files("m6rec").joinpath(FILE).read_text(encoding="utf-8")).substitute(
        title=escape(f"M6-Rec: {name}"),
        lead=escape(lead),
        body="\n".join(_body(trained, images, sections)),
    )
    path = folder / FILE
    path.write_text(page, encoding="utf-8")
    return path


def _body(
    trained: Trained, images: Mapping[str, str], sections: Sequence[Section]
) -> Iterable[str]:
    first = next(iter(trained.evaluations.values()))
    yield _h2("How good it is")
    left_out = trained.stage.left_out
    twins = f"; {left_out:,} that twin something in the history are left out" if left_out else ""
    yield _p(
        f"Each of {len(first.slices['all']):,} test rows (a user in a domain) is asked once, "
        f"protocol {first.protocol}. ± is half of the 95 % interval, users drawn with "
        f"replacement{twins}."
    )
    yield _table(evaluation_frame(trained.evaluations), best=True)
    if sentence := verdict(trained.evaluations):
        yield f"<p>{escape(sentence)}</p>"
    yield from _images(images, "models")
    if len(first.slices) > 1:
        yield _h2("Where it is good")
        yield from _images(images, "activity")
        own = next(iter(trained.evaluations))
        yield _table(slice_frame(trained.evaluations[own]))
    names = [domain.name for domain in trained.stage.prepared.dataset.domains]
    for found in learned(trained.fitted.model, names):
        yield _h2(found.heading)
        yield _p(found.text)
        if found.symbol == "λ":
            yield from _images(images, "weights")
        yield _table(found.frame)
    for section in sections:
        yield _h2(section.heading)
        if section.text:
            yield _p(section.text)
        if section.frame is not None:
            yield _table(section.frame)
    yield _h2("The data")
    yield from _images(images, "data")
    drops = trained.stage.prepared.drops.rows()
    if drops:
        yield "<h3>Left out</h3>"
        heads = ("step", "table", "why", "rows", "for example")
        yield _table(pl.DataFrame(drops, schema=heads, orient="row"))
    if figures := trained.fitted.attributes.figures:
        yield "<h3>Features that were kept</h3>"
        yield _table(selection_frame(figures))
    yield _h2("Settings")
    yield f"<pre>{escape(config.dumps(dict(trained.fitted.config)))}</pre>"


def evaluation_frame(evaluations: Mapping[str, Evaluation]) -> pl.DataFrame:
    """Return one row a model: each metric over all rows as "0.1482 ±0.0090"."""
    rows = []
    for name, found in evaluations.items():
        line = found.to_json()["slices"]["all"]
        rows.append({"model": name, **{m: figure(line[m]) for m in found.metrics}})
    return pl.DataFrame(rows)


def selection_frame(figures: Sequence[Selected]) -> pl.DataFrame:
    """Return one row a feature column: what selection measured, and whether it was kept."""
    return pl.DataFrame(
        [
            {
                "of": f.of,
                "column": f.name,
                "variance": f"{f.variance:.4f}",
                "information": f"{f.information:.4f}",
                "kept": "yes" if f.kept else "no",
            }
            for f in figures
        ]
    )


def verdict(evaluations: Mapping[str, Evaluation]) -> str:
    """Return one sentence: the first model against the best of the others, with its interval."""
    own, *others = evaluations
    metric = evaluations[own].metrics[0]
    if not others or parse(metric)[0] in OVERALL:
        return ""
    sign = -1 if parse(metric)[0] in PER_PAIR else 1  # of errors, less is better
    best = max(others, key=lambda name: sign * evaluations[name][metric])
    found = compare(evaluations[own], evaluations[best], metric)[0]
    if np.isnan(found.p):
        return f"Too few users were tested to tell whether {own} is better than {best} on {metric}."
    p = f"p = {found.p:.3f}" if found.p >= 0.001 else "p < 0.001"
    size = f"{abs(found.difference):.4f}"
    if float(size) == 0:
        relation, size = "level with", ""
    else:
        relation = "better than" if sign * found.difference > 0 else "worse than"
        size = f", by {size}"
    chance = " This may be chance." if size and found.low <= 0 <= found.high else ""
    return (
        f"On {metric}, {own} is {relation} {best}, the best of the others{size} "
        f"(95 % interval of the difference "
        f"{found.low:+.4f} … {found.high:+.4f}, {p}, paired bootstrap over users).{chance}"
    )


def slice_frame(found: Evaluation) -> pl.DataFrame:
    """Return one row a slice: its size, and each metric as "0.1482 ±0.0090"."""
    slices = found.to_json()["slices"]
    return pl.DataFrame(
        [
            {"slice": name, "rows": line["rows"], **{m: figure(line[m]) for m in found.metrics}}
            for name, line in slices.items()
        ]
    )


def figure(entry: Mapping[str, float]) -> str:
    """Return "0.1482 ±0.0090" of a metric: its value and half of its interval."""
    if "value" not in entry:
        return "–"
    text = f"{entry['value']:.4f}"
    return text + (f" ±{(entry['high'] - entry['low']) / 2:.4f}" if "low" in entry else "")


def _plots(trained: Trained) -> Iterable[tuple[str, Figure | None]]:
    yield "models", _models_plot(trained.evaluations)
    yield "activity", _activity_plot(trained.evaluations)
    yield "weights", _weights_plot(trained)
    yield "data", _data_plot(trained)


def _models_plot(evaluations: Mapping[str, Evaluation]) -> Figure:
    """The first metric of every model, over all rows and in each domain, with intervals."""
    tables = {name: found.to_json()["slices"] for name, found in evaluations.items()}
    first = next(iter(evaluations.values()))
    metric = first.metrics[0]
    own = next(iter(tables.values()))
    parts = [p for p in own if p == "all" or not p.startswith(NOT_DOMAINS)]
    figure, axes = _figure(len(parts), 0.4 * len(tables) + 1.2)
    for axis, part in zip(axes, parts, strict=True):
        for y, slices in enumerate(tables.values()):
            entry = slices.get(part, {}).get(metric, {})
            if "value" in entry:
                x, colour = entry["value"], COLOURS[0] if y == 0 else COLOURS[1]
                if "low" in entry:
                    axis.plot([entry["low"], entry["high"]], [y, y], color=colour, lw=2.5)
                axis.plot([x], [y], "o", color=colour, ms=7)
                axis.annotate(
                    f"{x:.3f}", (x, y), xytext=(0, 8), textcoords="offset points", ha="center",
                    fontsize=8, color=colour,
                )  # fmt: skip
        axis.set_title("all" if part == "all" else part, fontsize=10, loc="left")
        axis.set_yticks(range(len(tables)), list(tables))
        axis.set_ylim(len(tables) - 0.4, -0.7)
        axis.margins(x=0.15)
        axis.set_xlabel(metric, fontsize=9)
    for axis in axes[1:]:
        axis.tick_params(labelleft=False)
    return figure


def _activity_plot(evaluations: Mapping[str, Evaluation]) -> Figure | None:
    """The first metric against how much history a user has in the domain."""
    first = next(iter(evaluations.values()))
    metric = first.metrics[0]
    buckets = [n for n in ACTIVITY_NAMES if f"activity {n}" in first.slices]
    if len(buckets) < 2:
        return None
    figure, (axis,) = _figure(1, 2.8, width=6.0)
    for i, (name, found) in enumerate(evaluations.items()):
        slices = found.to_json()["slices"]
        entries = [slices.get(f"activity {n}", {}).get(metric, {}) for n in buckets]
        known = [(x, e) for x, e in enumerate(entries) if "value" in e]
        colour = COLOURS[i % len(COLOURS)]
        xs, ys = [x for x, _ in known], [e["value"] for _, e in known]
        axis.plot(xs, ys, "o-", color=colour, label=name, lw=2 if i == 0 else 1.3)
        if all("low" in e for _, e in known):
            low, high = [e["low"] for _, e in known], [e["high"] for _, e in known]
            axis.fill_between(xs, low, high, color=colour, alpha=0.12, lw=0)
    axis.set_xticks(range(len(buckets)), buckets)
    axis.set_xlabel("items in the user's history of the domain", fontsize=9)
    axis.set_ylabel(metric, fontsize=9)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _weights_plot(trained: Trained) -> Figure | None:
    """λ of each part against how much history a user has, a plot for each domain."""
    names = [domain.name for domain in trained.stage.prepared.dataset.domains]
    tables = (found.frame for found in learned(trained.fitted.model, names) if found.symbol == "λ")
    frame = next(tables, None)
    if frame is None:
        return None
    shown, parts = names[:PLOTTED], frame.columns[2:]
    figure, axes = _figure(len(shown), 2.4)
    for axis, domain in zip(axes, shown, strict=True):
        rows = frame.filter(pl.col("domain") == domain)
        x, below = np.arange(len(rows)), np.zeros(len(rows))
        for i, part in enumerate(parts):
            value = rows[part].cast(pl.Float64).to_numpy()
            axis.bar(x, value, 0.8, below, color=COLOURS[i % len(COLOURS)], label=part)
            below = below + value
        axis.set_title(domain, fontsize=10, loc="left")
        axis.set_xticks(x, [name.replace(" ", "\n") for name in rows["history"]])
        axis.set_ylim(0, 1)
        axis.grid(visible=False)
    axes[0].set_ylabel("λ", fontsize=9)
    for axis in axes[1:]:
        axis.tick_params(labelleft=False)
    axes[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _data_plot(trained: Trained) -> Figure:
    """How events spread over the items of each domain, from the best known to the least."""
    data = trained.stage.prepared.dataset
    figure, (axis,) = _figure(1, 2.8, width=6.0)
    counts = np.bincount(data.item, minlength=data.n_items)
    for code, domain in enumerate(data.domains):
        of = np.sort(counts[data.item_domain == code])[::-1]
        of = of[of > 0]
        label = f"{domain.name}: {of.sum():,} events on {len(of):,} items"
        axis.plot(np.arange(1, len(of) + 1), of, color=COLOURS[code % len(COLOURS)], label=label)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("items, best known first", fontsize=9)
    axis.set_ylabel("events", fontsize=9)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _figure(n: int, height: float, width: float = 0.0) -> tuple[Figure, list[Axes]]:
    """A figure of n axes side by side, without a display."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width or min(12.0, 2.6 * n + 1.4), height), layout="constrained")
    axes = list(figure.subplots(1, n, squeeze=False)[0])
    for axis in axes:
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
        axis.tick_params(labelsize=9, colors="#475467")
        axis.grid(axis="x", color="#eef0f3")
        axis.set_axisbelow(True)
    return figure, axes


def _table(frame: pl.DataFrame, best: bool = False) -> str:
    """An HTML table; numbers to the right. best: the first row stands out."""
    marks = [' class="number"' if dtype.is_numeric() else "" for dtype in frame.dtypes]
    head = "".join(f"<th{m}>{escape(n)}</th>" for n, m in zip(frame.columns, marks, strict=True))
    rows = []
    for i, row in enumerate(frame.iter_rows()):
        cells = "".join(f"<td{m}>{escape(_cell(v))}</td>" for v, m in zip(row, marks, strict=True))
        rows.append(f"<tr{' class=best' if best and i == 0 else ''}>{cells}</tr>")
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _images(images: Mapping[str, str], name: str) -> Iterable[str]:
    if name in images:
        width = "" if name in ("models", "weights") else ' class="narrow"'
        yield f'<img{width} alt="{name}" src="data:image/png;base64,{images[name]}">'


def _h2(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def _p(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'

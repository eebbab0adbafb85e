"""Export: a run whose towers are ONNX graphs, measured against the run that it is made of."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from m6rec import artifacts, config
from m6rec.arrays import Scores
from m6rec.artifacts import Fitted
from m6rec.data.splits import Split, leave_last
from m6rec.errors import RunError
from m6rec.metrics import ranked
from m6rec.models.base import Model
from m6rec.models.compose import Blend, BlendModel
from m6rec.models.default import M6Rec
from m6rec.models.fallback import Fallback
from m6rec.models.onnx import WRITABLE, OnnxModel

ASKED = 2000  # most users whose scores are compared
BATCH = 256
EQUAL = 1e-4  # greatest difference of a float32 score, as a share of the row's greatest
METRIC = "ndcg@10"
NEEDED = ("torch", "onnx", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Report:
    """One part of a run, before and after.

    part: where it stands in the model, such as "1" in a blend, "" = the whole model. file: of the
    graph. bytes_before, bytes_after: of all arrays. difference: the greatest of two scores, as a
    share of the row's greatest; mean_difference: the mean of that. before, after: NDCG@10 of the
    newest event of users who are asked without it. The model has seen it in training, so only the
    difference of the two says something.
    """

    part: str
    file: str
    int8: bool
    users: int
    bytes_before: int
    bytes_after: int
    difference: float
    mean_difference: float
    before: float
    after: float


def export(fitted: Fitted, out: Path, int8: bool = False) -> list[Report]:
    """Write a run like this one whose towers are ONNX graphs: the new run directory ``out``.

    It opens where torch is not installed. Beside what every run holds it has the graphs,
    ``towers.onnx`` or ``towers-PART.onnx``, and ``export.json``, the reports. Raises RunError
    where the run has no towers, a package is missing, ``out`` exists, or float32 scores differ.
    """
    if out.exists():
        raise RunError(f"{out}: exists already; choose another folder with --out")
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise RunError(f'export needs {" and ".join(missing)}: pip install "m6rec[export]"')
    found = list(parts(fitted.model))
    if not found:
        kind = fitted.model.recipe.kind
        raise RunError(
            f'{fitted.path}: its model "{kind}" has no towers; there is nothing to export'
        )
    from m6rec.models.onnx_graph import converted

    made = {place: converted(model, int8) for place, model in found}
    split = newest(fitted)
    reports = [measured(place, model, made[place], split) for place, model in found]
    model = replaced(fitted.model, made)
    table = {**fitted.config, "model": config.to_table(model.recipe)}
    new = replace(fitted, model=model, config=table, path=out)
    with artifacts.draft(out.parent) as folder:
        for report in reports:
            graph = made[report.part].state()["graph"]
            (folder / report.file).write_bytes(graph.tobytes())
        rows = [config.to_table(report) for report in reports]
        (folder / "export.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        artifacts.write(new, folder)
        artifacts.publish(folder, out)
    return reports


def parts(model: Model, place: str = "") -> Iterator[tuple[str, Model]]:
    """Yield the towers of a model and where each stands, such as "0/2"."""
    if model.recipe.kind in WRITABLE:
        yield place, model
    elif isinstance(model, BlendModel):
        for i, part in enumerate(model.parts):
            yield from parts(part, f"{place}/{i}" if place else str(i))


def replaced(model: Model, made: Mapping[str, Model], place: str = "") -> Model:
    """Return the model with the parts at these places replaced."""
    if place in made:
        return made[place]
    if not isinstance(model, BlendModel):
        return model
    inside = [
        replaced(part, made, f"{place}/{i}" if place else str(i))
        for i, part in enumerate(model.parts)
    ]
    recipe = model.recipe
    assert isinstance(recipe, (Blend, Fallback, M6Rec))
    named = inside
    if isinstance(recipe, M6Rec):  # whose recipe names the parts of the blend in it
        blend = inside[0]
        assert isinstance(blend, BlendModel)
        named = list(blend.parts)
    return model.with_parts(replace(recipe, parts=tuple(each.recipe for each in named)), inside)


def newest(fitted: Fitted) -> Split:
    """Ask users without their newest event, which is the answer."""
    data = fitted.dataset
    if data.ordered:
        return leave_last(data)
    rng = np.random.default_rng(0)
    return Split.by_mask(data, rng.random(len(data)) < 0.1)


def measured(place: str, model: Model, made: OnnxModel, split: Split) -> Report:
    """Compare the scores of a part; RunError where they are float32 and not equal."""
    targets = split.test.positives
    users = np.flatnonzero(np.diff(targets.indptr))
    users = np.sort(np.random.default_rng(0).permutation(users)[:ASKED])
    apart: list[Scores] = []
    moments = split.moments()
    values: list[list[Any]] = [[], []]
    for at in range(0, len(users), BATCH):
        rows = users[at : at + BATCH]
        query = split.context.query(rows, moments[rows])
        scores = [each.score(query) for each in (model, made)]
        size = np.nan_to_num(np.abs(scores[0])).max(axis=1, initial=1e-9)
        change = np.nan_to_num(np.abs(scores[1] - scores[0])).max(axis=1, initial=0)
        apart.append((change / size).astype(np.float32))
        for kept, each in zip(values, scores, strict=True):
            kept.append(ranked(each, csr_array(targets[rows]), query.seen).metric(METRIC))
    differences = np.concatenate(apart) if apart else np.zeros(1, np.float32)
    report = Report(
        part=place,
        file=f"towers-{place.replace('/', '-')}.onnx" if place else "towers.onnx",
        int8=made.recipe.int8,
        users=len(users),
        bytes_before=sum(array.nbytes for array in model.state().values()),
        bytes_after=sum(array.nbytes for array in made.state().values()),
        difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        before=_mean(values[0]),
        after=_mean(values[1]),
    )
    if not report.int8 and report.difference > EQUAL:
        raise RunError(f"part {place or 'towers'}: the graph scores {report.difference:.1e} apart")
    return report


def _mean(values: list[Any]) -> float:
    return float(np.nan_to_num(np.concatenate(values)).mean()) if values else 0.0

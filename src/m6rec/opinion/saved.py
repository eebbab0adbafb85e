"""Fitted forecasters in one file, arrays and options, so that a watch need not fit them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from m6rec import config
from m6rec.arrays import State, nest, unnest
from m6rec.errors import RunError
from m6rec.opinion.forecast import Forecaster, Forecasting

FORMAT = "1"


def save(
    path: Path, models: Mapping[str, Forecaster], entities: tuple[str, ...], hours: float
) -> None:
    """Write measure → forecaster as .safetensors, whole or not at all."""
    from safetensors.numpy import save as packed

    state: State = {}
    options = Forecasting()
    for measure, model in models.items():
        state |= nest(measure, model.state())
        options = model.options
    about = {
        "format": FORMAT,
        "measures": json.dumps(list(models)),
        "entities": json.dumps(entities),
        "hours": repr(hours),
        "options": json.dumps(config.to_table(options)),
    }
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(packed({k: np.ascontiguousarray(v) for k, v in state.items()}, about))
    part.replace(path)


def load(path: Path, entities: tuple[str, ...], hours: float) -> dict[str, Forecaster]:
    """Read what ``save`` wrote. Raises RunError where it is damaged, or of other entities or
    windows than those that are to be forecast."""
    from safetensors import SafetensorError, safe_open

    again = "write it again with `m6rec opinion train`"
    try:
        with safe_open(str(path), "numpy") as file:
            about = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}
        if about.get("format") != FORMAT:
            raise RunError(f"{path}: is no file of forecasters of this version; {again}")
        options = config.from_table(Forecasting, json.loads(about["options"]))
        measures, known = (json.loads(about[name]) for name in ("measures", "entities"))
        fitted = {m: Forecaster.restore(options, unnest(m, state)) for m in measures}
    except FileNotFoundError:
        raise RunError(f"{path}: no such file; {again}") from None
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise RunError(f"{path}: damaged ({error}); {again}") from None
    if tuple(known) != entities or float(about["hours"]) != hours:
        odd = sorted(set(known) ^ set(entities))
        what = f"other entities ({', '.join(odd[:3])})" if odd else f"{about['hours']}-hour windows"
        raise RunError(f"{path}: was fitted on {what}; {again}")
    return fitted

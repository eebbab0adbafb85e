"""Array types and the two conventions of the whole package: -1 = unknown, NaN = abstain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Ids = npt.NDArray[np.signedinteger[Any]]  # integer codes or unix seconds; -1 = unknown
Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]  # higher is better; NaN = the model abstains
Mask = npt.NDArray[np.bool_]
State = dict[str, Array]  # a fitted model, arrays only


def nest(prefix: str, state: Mapping[str, Array]) -> State:
    """Return the state with every name put under ``prefix/``."""
    return {f"{prefix}/{name}": value for name, value in state.items()}


def unnest(prefix: str, state: Mapping[str, Array]) -> State:
    """Return the part of the state under ``prefix/``, with the prefix taken off."""
    start = f"{prefix}/"
    return {name[len(start) :]: value for name, value in state.items() if name.startswith(start)}

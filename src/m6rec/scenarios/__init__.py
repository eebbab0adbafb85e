"""Ready experiments and presets of lines of business, as TOML."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from m6rec.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from m6rec.data.preset import Preset

PRESETS = ("commerce", "video", "music", "social")  # what `m6rec init --scenario` knows


def preset(name: str) -> Preset:
    """Return a preset by its name; ConfigError where there is none of that name."""
    from m6rec.data.preset import Preset

    if name not in PRESETS:
        raise ConfigError(
            f'scenario "{name}" is unknown{suggestion(name, PRESETS)} (known: {", ".join(PRESETS)})'
        )
    text = files("m6rec.scenarios").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return Preset.read(name, text)

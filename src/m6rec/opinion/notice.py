"""What stands on every screen, answer and output of the opinion monitor."""

from __future__ import annotations

from collections.abc import Mapping

NOTICE: Mapping[str, str] = {
    "en": "This is information, not advice.",
    "zh": "仅供参考，不构成投资建议。",
}

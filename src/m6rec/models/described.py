"""φ: what is known of items beside their events, of those at the fit and of later ones."""

from __future__ import annotations

import numpy as np

from m6rec.arrays import Floats
from m6rec.data.dataset import Dataset
from m6rec.text import FittedText, TextEncoder
from m6rec.tracking import Run


def described(
    data: Dataset, encoder: TextEncoder | None, run: Run, long: bool = False
) -> tuple[Floats, FittedText | None]:
    """Return φ (n_items, p), attribute blocks and text vectors side by side, and the encoder as
    fitted on the texts; p may be 0.

    encoder: of texts, None = they are left out. long: text columns are of deviation about 1, not
    rows of length 1.
    """
    blocks = [block for _, block in sorted(data.item_features.items())]
    fitted = None
    if data.item_text is not None and encoder is not None:
        fitted, vectors = encoder.fit_encode(data.item_text, run)
        blocks.append(_lengthened(vectors) if long else vectors)
    return _joined(data.n_items, blocks), fitted


def described_later(
    data: Dataset, first: int, encoder: FittedText | None, long: bool = False
) -> Floats:
    """Return φ of the items from code ``first`` on, which came after the fit."""
    blocks = [block for _, block in sorted(data.new_item_features(first).items())]
    if encoder is not None:
        texts = data.item_text or ("",) * data.n_items
        vectors = encoder.encode(texts[first:])
        blocks.append(_lengthened(vectors) if long else vectors)
    return _joined(data.n_items - first, blocks)


def _lengthened(vectors: Floats) -> Floats:
    return vectors * np.float32(np.sqrt(vectors.shape[1]))


def _joined(n: int, blocks: list[Floats]) -> Floats:
    return np.hstack([np.zeros((n, 0), np.float32), *blocks]).astype(np.float32)

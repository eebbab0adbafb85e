"""faiss's inverted lists over short vectors, for catalogues too large to be read each time."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from m6rec.arrays import Floats, Ids, Mask
from m6rec.candidates.sketch import Sketch
from m6rec.errors import ConfigError

LISTS = 2  # × √n lists
TAUGHT, ROUNDS = 40, 10  # vectors a list from which the lists are learned, and rounds of k-means
SEARCHED = 0.25  # share of the lists that a request reads; large items hide in far lists
Index = Literal["auto", "scan", "ivf"]
FEWEST = 50_000  # items of a group below which it is read whole


def library() -> Any:
    """Return faiss; ConfigError where it is missing."""
    try:
        import faiss
    except ImportError:
        raise ConfigError(
            'rank.index = "ivf" needs faiss, which is not installed: pip install "m6rec[ann]", '
            'or set rank.index = "scan"'
        ) from None
    return faiss


class Lists:
    """One inverted file (IVF, 8 bits a number, inner product) for each large group of items.

    Built from the arrays when a run is opened and never read from a file, since faiss's files
    are not safe where they come from somebody else.
    """

    def __init__(self, sketch: Sketch, share: float = SEARCHED) -> None:
        self.sketch, self.share = sketch, share
        self.inside: dict[int, Ids] = {}
        self.indexes: dict[int, Any] = {}
        faiss = library()
        for g in np.unique(sketch.group).tolist():
            self.inside[g] = np.flatnonzero(sketch.group == g).astype(np.int64)
            if len(self.inside[g]) >= FEWEST:
                self.indexes[g] = self._built(faiss, sketch.rows.take(self.inside[g]).matrix)

    def _built(self, faiss: Any, rows: Floats) -> Any:
        n, dim = rows.shape
        n_lists = int(LISTS * np.sqrt(n))
        coarse = faiss.IndexFlatIP(dim)
        index = faiss.IndexIVFScalarQuantizer(
            coarse, dim, n_lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.niter = ROUNDS
        taught = np.random.default_rng(0).permutation(n)[: TAUGHT * n_lists]
        index.train(rows[np.sort(taught)])
        index.add(rows)
        return index

    def found(self, vectors: Floats, n: int, allowed: Mask) -> Ids:
        """Return codes of about the n best items of each group for its vector (G, dim), and all
        of small groups; allowed: (n_items,)."""
        faiss = library()
        some = []
        for g, inside in self.inside.items():
            index = self.indexes.get(g)
            if index is None:
                some.append(inside[allowed[inside]])
                continue
            bits = np.packbits(allowed[inside], bitorder="little")
            among = None if allowed[inside].all() else faiss.IDSelectorBitmap(bits)
            probes = max(1, int(self.share * index.nlist))
            how = faiss.SearchParametersIVF(sel=among, nprobe=probes)
            _, place = index.search(vectors[[g]], min(n, len(inside)), params=how)
            some.append(inside[place[0][place[0] >= 0]])
        return np.concatenate(some)

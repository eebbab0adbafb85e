"""Collaborative filtering on the question–answer matrix: what helped those who asked alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
from scipy.sparse import csr_array, vstack

from m6rec.arrays import Array, Floats, Ids, Mask, Scores, State, nest, unnest
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import familiar, holdout
from m6rec.data.query import Query
from m6rec.data.splits import Split
from m6rec.metrics import ranked
from m6rec.models.additive import Reasons
from m6rec.models.base import Model, Reason, Recipe
from m6rec.models.kernels import row_of
from m6rec.models.text import Text, TextModel, spoken
from m6rec.text import Choice
from m6rec.tracking import Run

LEAST = 1e-4  # share of the neighbourhood up to which a score grows evenly, above it by logarithm
NAMED = 8  # past questions that are reasons of their own
BATCH = 1024
ASKED = 2_000  # users of a holdout that options are chosen by
GRID = (8.0, 12.0, 18.0, 27.0)  # sharpness


@dataclass(frozen=True, kw_only=True)
class Questions(Recipe):
    """Score an item by how much it helped those whose words are nearest to the request's.

    A row of the matrix is a user of train: a past question, by its words, or somebody without
    words, by the texts of what they liked. Neighbour q weighs a_q = exp(sharpness · cosine) as a
    share of all rows, so that the nearest rows together are a pseudo-history; then
    score_i = asinh(Σ_q a_q R_qi / 1e-4), about the logarithm of item i's share. What did not help
    counts below 0. Rows can be added without a fit. Abstains on items that no row knows.

    encoder, dim, half_life, history: how requests are read; see "text". sharpness: the greater,
    the fewer neighbours count; "auto" = chosen on a holdout.
    """

    kind: ClassVar[str] = "questions"
    encoder: Choice = "auto"
    dim: int | None = None
    half_life: float | None = 20.0
    history: float = 0.3
    sharpness: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        self._reader()
        if self.sharpness != "auto" and self.sharpness <= 0:
            raise ValueError(f"sharpness = {self.sharpness}: must be above 0")

    def choose(self, split: Split, run: Run) -> Self:
        if self.sharpness != "auto":
            return self
        model = replace(self, sharpness=GRID[0]).fit(split.train, run)
        judge, values = Judge(model.reader, split, run), []
        for each in GRID:
            tried = copy(model)
            tried.recipe = replace(model.recipe, sharpness=each)
            values.append(judge(tried.scores_of))
            run.log(kind=self.kind, option="sharpness", value=each, ndcg=values[-1])
        return replace(self, sharpness=GRID[int(np.argmax(values))])

    def fit(self, train: Dataset, run: Run) -> QuestionsModel:
        if self.sharpness == "auto":
            return self.choose(holdout(train, run.rng("holdout")), run).fit(train, run)
        reader = self._reader().fit(train, run)
        users = np.unique(train.user)
        parts = [past(reader, train, users[at : at + BATCH]) for at in range(0, len(users), BATCH)]
        answers = csr_array(train.matrix[users])
        answers.data[train.explicit[answers.indices]] = 0
        texts = train.user_text or ("",) * train.n_users
        fixed = replace(self, encoder=reader.recipe.encoder)
        nobody = np.zeros((0, reader.encoder.dim), np.float32)
        rows = np.concatenate([*parts, nobody])
        return QuestionsModel(
            fixed, reader, rows, answers, users.astype(np.int64),
            tuple(texts[u] for u in users.tolist()), train.explicit,
        )  # fmt: skip

    def restore(self, state: State) -> QuestionsModel:
        reader = self._reader().restore(unnest("reader", state))
        rows = state["rows"]
        parts = state["data"], state["indices"], state["indptr"]
        answers = csr_array(parts, shape=(len(rows), reader.n_items))
        explicit = state.get("explicit", np.zeros(reader.n_items)).astype(np.bool_)
        return QuestionsModel(self, reader, rows, answers, state["user"], unpacked(state), explicit)

    def _reader(self) -> Text:
        return Text(
            encoder=self.encoder, dim=self.dim, half_life=self.half_life, history=self.history
        )


def past(reader: TextModel, train: Dataset, users: Ids) -> Floats:
    """Return (B, dim) vectors of past requests: of words, where these users came with some (not
    of what answered them), else of what they liked."""
    query = train.query(users)
    h = query.history
    silent = ~train.worded[users]
    data = np.where(silent[row_of(h)], h.data, 0).astype(np.float32)
    kept = csr_array((data, h.indices, h.indptr), shape=h.shape)
    return reader.embed_query(replace(query, history=kept), 0)


class Judge:
    """NDCG@20 of a holdout whose requests are read once, however often it is asked; of items that
    have events in its train (``familiar``)."""

    def __init__(self, reader: TextModel, split: Split, run: Run) -> None:
        split = familiar(split)
        train, users = split.train, np.unique(split.test.user)
        if len(users) > ASKED:
            users = np.sort(run.rng("search").choice(users, ASKED, replace=False))
        self.query = split.context.query(users, split.moments()[users])
        self.asked = reader.embed_query(self.query, 0)
        self.targets = csr_array(split.test.positives[users])
        self.allowed = ~(train.hidden | train.explicit)

    def __call__(self, scores_of: Callable[[Query, Floats], Scores]) -> float:
        scores = scores_of(self.query, self.asked)
        rows = ranked(scores, self.targets, self.query.seen, self.allowed)
        found = rows.metric("ndcg@20")
        return float(np.nanmean(found)) if np.isfinite(found).any() else 0.0


class QuestionsModel(Model):
    """rows: (R, dim) vectors of past requests, of length 1 or 0. answers: (R, n_items) what helped
    each; user: (R,) their codes, -1 = came later; texts: their words; explicit: (n_items,) rated
    items, which answer nothing."""

    recipe: Questions

    def __init__(
        self, recipe: Questions, reader: TextModel, rows: Floats, answers: csr_array, user: Ids,
        texts: tuple[str, ...], explicit: Mask,
    ) -> None:  # fmt: skip
        self.recipe, self.reader, self.rows, self.explicit = recipe, reader, rows, explicit
        self.answers, self.user, self.texts = answers, user, texts
        self.n_items = reader.n_items
        told = answers.data != 0
        self.trained: Mask = np.bincount(answers.indices[told], minlength=self.n_items) > 0

    def score(self, query: Query, items: Ids | None = None) -> Scores:
        scores = self.scores_of(query, self.reader.embed_query(query, 0))
        return scores if items is None else scores[:, items]

    def scores_of(self, query: Query, asked: Floats) -> Scores:
        """Return (B, n_items) scores of requests that were read as these vectors (B, dim)."""
        scores = np.arcsinh(self._shares(query, asked) @ self.answers / LEAST).astype(np.float32)
        scores[~spoken(asked)] = np.nan
        scores[:, ~self.trained] = np.nan
        return scores

    def reads(self, query: Query) -> Mask:
        return self.reader.reads(query)

    def update(self, dataset: Dataset) -> Self:
        a = self.answers
        wider = csr_array((a.data, a.indices, a.indptr), shape=(a.shape[0], dataset.n_items))
        reader = self.reader.update(dataset)
        return type(self)(
            self.recipe, reader, self.rows, wider, self.user, self.texts, dataset.explicit
        )

    def heard(self, users: Ids, texts: Sequence[str], answers: csr_array) -> Self:
        known = np.isin(self.user, users[users >= 0])
        again = np.isin(np.array(self.texts, np.str_), np.array(texts, np.str_)) & (self.user < 0)
        kept = np.flatnonzero(~(known | again))
        answers = answers.copy()
        answers.data[self.explicit[answers.indices]] = 0
        return type(self)(
            self.recipe,
            self.reader,
            np.concatenate([self.rows[kept], self.reader.encoder.encode(texts)]),
            csr_array(vstack([self.answers[kept], answers], format="csr")),
            np.concatenate([self.user[kept], users]),
            (*(self.texts[i] for i in kept.tolist()), *texts),
            self.explicit,
        )

    def related(self, query: Query, k: int) -> list[list[tuple[str, float]]]:
        """Return, for each request, up to k different past questions and their cosine, nearest
        first."""
        asked = self.reader.embed_query(query, 0)
        cosine = asked @ self.rows.T
        found: list[list[tuple[str, float]]] = []
        for b, row in enumerate(cosine):
            said = (query.text[b] if query.text else "").casefold().strip()
            near: dict[str, float] = {}
            for q in np.argsort(-row, kind="stable").tolist() if spoken(asked)[b] else []:
                text = self.texts[q]
                if text and text.casefold().strip() != said:
                    near.setdefault(text, float(row[q]))
                if len(near) == k:
                    break
            found.append(list(near.items()))
        return found

    def explain(self, query: Query, items: Ids) -> Reasons:
        shares = self._shares(query, self.reader.embed_query(query, 0))
        scores = self.score(query)
        columns = self.answers.tocsc()
        reasons: Reasons = []
        for b, row in enumerate(np.asarray(items)):
            cells: list[list[Reason]] = [[] for _ in row]
            for c, item in enumerate(row.tolist()):
                if item >= 0 and not np.isnan(scores[b, item]):
                    of = slice(columns.indptr[item], columns.indptr[item + 1])
                    q = columns.indices[of]
                    cells[c] = self._told(q, shares[b, q] * columns.data[of], scores[b, item])
            reasons.append(cells)
        return reasons

    def _told(self, rows: Ids, parts: Array, score: float) -> list[Reason]:
        """A score, split as the rows (n,) add up to its share."""
        total = parts.sum()
        if total == 0:
            return [Reason(kind="bias", value=float(score), name="average")]
        values = parts * (score / total)
        named = [i for i in np.argsort(-np.abs(parts), kind="stable") if self.texts[rows[i]]]
        told = [
            Reason(kind="question", value=float(values[i]), name=self.texts[rows[i]])
            for i in named[:NAMED]
        ]
        for others, name in (
            (named[NAMED:], "{} similar questions"),
            ([i for i, q in enumerate(rows.tolist()) if not self.texts[q]], "{} similar users"),
        ):
            if others:
                value = float(values[others].sum())
                told.append(Reason(kind="other", value=value, name=name.format(len(others))))
        return told

    def _shares(self, query: Query, asked: Floats) -> Floats:
        """(B, R) share of each row in the neighbourhood; of an asker's own row none."""
        assert self.recipe.sharpness != "auto"
        near = np.float32(self.recipe.sharpness) * (asked @ self.rows.T)
        near[:, ~spoken(self.rows)] = -np.inf
        own = (query.user[:, None] == self.user) & (query.user >= 0)[:, None]
        near[own] = -np.inf
        top = near.max(axis=1, keepdims=True, initial=-np.inf)
        weight = np.exp(near - np.where(np.isfinite(top), top, 0))
        total = weight.sum(axis=1, keepdims=True)
        found: Floats = weight / np.where(total > 0, total, 1)
        return found

    def state(self) -> State:
        a = self.answers
        return {
            "rows": self.rows,
            "user": self.user,
            "data": a.data,
            "indices": a.indices,
            "indptr": a.indptr,
            "explicit": self.explicit.astype(np.int8),
            **packed(self.texts),
            **nest("reader", self.reader.state()),
        }


def packed(texts: Sequence[str]) -> State:
    """Return texts as arrays: their bytes, and where each ends."""
    raw = [text.encode("utf-8", "surrogatepass") for text in texts]
    ends = np.cumsum([len(each) for each in raw], dtype=np.int64)
    return {"texts": np.frombuffer(b"".join(raw), np.uint8), "ends": ends}


def unpacked(state: State) -> tuple[str, ...]:
    """Return the texts that ``packed`` made arrays of."""
    whole, ends = state["texts"].tobytes(), state["ends"].tolist()
    starts = [0, *ends[:-1]]
    return tuple(
        whole[a:b].decode("utf-8", "surrogatepass") for a, b in zip(starts, ends, strict=True)
    )

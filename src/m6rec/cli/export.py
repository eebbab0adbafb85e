"""The verb ``export``: a run for machines without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m6rec import artifacts, config
from m6rec.cli import show
from m6rec.cli.ask import Which
from m6rec.cli.data import Json
from m6rec.errors import ConfigError

EXAMPLES = show.examples(
    "m6rec export current --onnx", "m6rec export current --onnx --int8 --out /srv/small"
)


def export(
    run: Which,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write towers as ONNX graphs.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="As --onnx, in 8-bit whole numbers.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="By default RUN-onnx or RUN-int8."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a run that needs no torch.

    Its deep models are ONNX graphs. Says how much their scores and their ranking change.
    """
    from m6rec.export import export as write

    if not (onnx or int8):
        raise ConfigError("export: say as what: --onnx, or --int8")
    path = artifacts.resolve(run)
    target = out or path.with_name(f"{path.name}-{'int8' if int8 else 'onnx'}")
    reports = write(artifacts.load(path), target, int8)
    if json:
        show.as_json({"run": str(target), "parts": [config.to_table(each) for each in reports]})
        return
    for each in reports:
        show.heading(f"{each.file}: {each.users:,} users asked without their newest event")
        show.table(
            ("", "before", "after"),
            [
                ("bytes", each.bytes_before, each.bytes_after),
                ("ndcg@10, of an event seen in training", each.before, each.after),
            ],
        )
        show.line(f"Greatest difference of a score: {each.difference:.1e} of the row's greatest.")
    show.whole(f'{target}: written; m6rec.open("{target}") needs no torch')

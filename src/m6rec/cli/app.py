"""The command ``m6rec``: every verb of the package, for people and for programs."""

from __future__ import annotations

import os
import sys

import typer

from m6rec import __version__
from m6rec.cli import (
    answer,
    ask,
    data,
    demo,
    doctor,
    export,
    opinion,
    serve,
    store,
    training,
)
from m6rec.errors import M6RecError, sentence

app = typer.Typer(
    name="m6rec",
    help="From the logs of all your domains to explained recommendations.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"m6rec {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


for verb, epilog in (
    (demo.demo, demo.EXAMPLES),
    (data.fetch, data.FETCH),
    (data.init, data.INIT),
    (data.check, data.CHECK),
    (data.prepare, data.PREPARE),
    (training.train, training.TRAIN),
    (training.evaluate, training.EVALUATE),
    (training.compare, training.COMPARE),
    (ask.recommend, ask.RECOMMEND),
    (ask.similar, ask.SIMILAR),
    (ask.score, ask.SCORE),
    (ask.explain, ask.EXPLAIN),
    (answer.answer, answer.EXAMPLES),
    (training.tune, training.TUNE),
    (export.export, export.EXAMPLES),
    (serve.serve, serve.SERVE),
    (serve.retrain, serve.RETRAIN),
    (serve.keys, serve.KEYS),
    (store.store, store.EXAMPLES),
    (doctor.doctor, doctor.EXAMPLES),
):
    app.command(epilog=epilog)(verb)
app.add_typer(opinion.app, name="opinion")


def main() -> None:
    """Run the command; an error that a user can mend is one sentence and exit status 2."""
    try:
        app()
    except (M6RecError, OSError) as error:
        if os.environ.get("M6REC_DEBUG"):
            raise
        typer.echo(f"m6rec: {sentence(error)}", err=True)
        sys.exit(2)

"""The verb ``answer``: a question in words, answered by a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from m6rec.cli import show
from m6rec.cli.ask import MOST, DomainName, Filter, Language, User, Which
from m6rec.cli.data import Json
from m6rec.errors import QueryError
from m6rec.recommender import Recommender

if TYPE_CHECKING:
    from m6rec.support.answers import Reply

EXAMPLES = show.examples(
    'm6rec answer current "My parcel has not arrived yet"',
    'm6rec answer current "路由器怎么安装" --language zh -k 5 --json',
)


def answer(
    run: Which,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="In words.")],
    user: User = None,
    domain: DomainName = None,
    filter: Filter = None,
    k: Annotated[int, typer.Option("-k", min=1, max=MOST, help="Number of answers.")] = 3,
    language: Language = "en",
    json: Json = False,
) -> None:
    """Answer a question in words.

    Says how sure it is, and whether a person should answer instead.
    """
    from m6rec.support.answers import ask, reads

    asked = Recommender.open(run)
    if not reads(asked.model):
        raise QueryError(
            f'{run}: no part of the run reads words; train with one, such as kind = "text"'
        )
    said = ask(asked, question, user=user, domain=domain, filter=filter, k=k, language=language)
    if json:
        show.as_json(
            {
                "question": said.question,
                "answers": [
                    {name: getattr(each, name) for name in each.__slots__} for each in said.answers
                ],
                "confidence": said.confidence,
                "threshold": said.threshold,
                "escalate": said.escalate,
                "related": said.related,
            }
        )
        return
    show_reply(said)


def show_reply(said: Reply) -> None:
    """Print a reply for a person."""
    sure = "" if said.confidence is None else f" ({said.confidence:.0%} sure)"
    if said.escalate:
        show.line(f"A person should answer this{sure}.")
        if said.answers and said.confidence is None:
            show.note("the run had too few questions to learn how sure it may be")
    if said.answers:
        first = said.answers[0]
        show.line(f"{first.title}{'' if said.escalate else sure}")
        show.line(first.passage)
        show.note(f"[{first.item}] {first.because}")
    rows = [(each.item, each.title, each.score) for each in said.answers[1:]]
    if rows:
        show.table(("item", "next best", "score"), rows)
    if said.related:
        show.note("others asked: " + " · ".join(said.related))

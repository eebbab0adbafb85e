"""The support desk: a question, its answers with their sources, and whether they helped."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from m6rec.serving import answering
from m6rec.serving.api_v1 import Here
from m6rec.serving.asks import Ask
from m6rec.serving.service import Service
from m6rec.serving.web import render
from m6rec.serving.web.entry import Form
from m6rec.serving.web.render import first_of, url

SHOWN = 4  # answers
EXAMPLES = 6  # questions that are offered
router = APIRouter(include_in_schema=False)


@router.get("/support")
async def desk(
    request: Request,
    here: Here,
    question: Annotated[str, Query(max_length=4000)] = "",
    user: Annotated[str, Query(max_length=512)] = "",
    thanks: str = "",
) -> Response:
    """The page, with answers where a question was asked."""
    tongue, question = render.language(request), question.strip()
    able = await here.run(answering.answers, here)
    found = said = draft = None
    if able and question:
        ask = Ask(user=user.strip() or None, text=question, k=SHOWN, seen=True, language=tongue)
        found, said = await answering.answer(here, question, ask)
        draft = await answering.drafted(here, said, tongue)
    return render.page(
        request,
        "support.html",
        able=able,
        question=question,
        user=user.strip(),
        said=said,
        draft=draft,
        request_id=found.request if found else "",
        thanks=bool(thanks),
        examples=[] if question or not able else await here.run(examples, here),
    )


@router.post("/support/helped")
async def helped(here: Here, fields: Form) -> Response:
    """Store whether an answer helped; the page that follows heeds it already."""
    question, item, user = (first_of(fields, name) for name in ("question", "item", "user"))
    if not question or not item:
        raise HTTPException(400)
    good = first_of(fields, "helped") == "yes"
    told = first_of(fields, "request") or None
    await answering.learned(here, question, item, good, user or None, told)
    return RedirectResponse(url("/support", question=question, user=user, thanks="1"), 303)


def examples(here: Service) -> list[str]:
    """Return some past questions of the run, spread over all."""
    texts = here.engine.live.recommender.dataset.user_text or ()
    asked = [text for text in texts if text]
    step = max(1, len(asked) // EXAMPLES)
    return asked[step // 2 :: step][:EXAMPLES]

"""Customer service, /v1/answer: a question in words, and whether the answer helped."""

from __future__ import annotations

from fastapi import APIRouter, Response

from m6rec.serving import answering, schemas_support
from m6rec.serving.api_v1 import PROBLEMS, Here, as_json
from m6rec.serving.asks import Ask
from m6rec.serving.reading import KNOWN
from m6rec.serving.schemas_support import HelpedBody, LearnedBody, QuestionBody, ReplyBody

router = APIRouter(prefix="/v1", responses=PROBLEMS, tags=["support"], dependencies=[KNOWN])


@router.post("/answer", response_model=ReplyBody)
async def answer(body: QuestionBody, here: Here) -> Response:
    """Answer a question: ranked answers with their best passages, how sure, and whether a person
    should answer instead."""
    ask = Ask(
        user=body.user,
        text=body.question,
        domain=body.domain or None,
        filter=body.filter or None,
        k=body.k,
        seen=True,
        language=body.language,
    )
    found, said = await answering.answer(here, body.question, ask)
    draft = await answering.drafted(here, said, body.language) if body.draft else None
    return as_json(schemas_support.reply(found, said, draft))


@router.post("/answer/helped", response_model=LearnedBody)
async def helped(body: HelpedBody, here: Here) -> Response:
    """Say that an answer helped, or did not; the next answer to such a question heeds it."""
    await answering.learned(here, body.question, body.item, body.helped, body.user, body.request)
    return as_json({"learned": True})

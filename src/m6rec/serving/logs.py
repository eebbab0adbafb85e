"""The service's log: lines for people, or JSON for machines; never a key, a user or a query."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

REQUESTS = logging.getLogger("m6rec.requests")  # one line a request, at level INFO
FIELDS = ("route", "status", "ms")  # of such a line
Form = Literal["text", "json"]


class Json(logging.Formatter):
    """One JSON object a line: time, level, message, and what a request says of itself."""

    def format(self, record: logging.LogRecord) -> str:
        row = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        row |= {name: vars(record)[name] for name in FIELDS if name in vars(record)}
        if record.exc_info:
            row["trace"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False, default=str)


def set_up(form: Form, requests: bool) -> None:
    """Have the service's log written to stderr; requests: with a line for each request."""
    log = logging.getLogger("m6rec")
    for old in log.handlers[:]:
        log.removeHandler(old)
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(Json() if form == "json" else plain)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    REQUESTS.setLevel(logging.INFO if requests else logging.WARNING)

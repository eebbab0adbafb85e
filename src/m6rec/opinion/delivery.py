"""Alerts on their way out: to the log and to a webhook, signed, tried again, never lost."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from m6rec.opinion.notice import NOTICE

if TYPE_CHECKING:
    from m6rec.store import Store
    from m6rec.store.records import Alert

SECRET = "M6REC_WEBHOOK_SECRET"
LOG = logging.getLogger("m6rec.opinion")


@dataclass(frozen=True, kw_only=True)
class Delivering:
    """Where alerts go, besides the store and its page.

    log: write each as one line of JSON to the log "m6rec.opinion".
    webhook: URL that each is sent to by POST; none if left out. The environment variable
        M6REC_WEBHOOK_SECRET holds the key of its signature.
    timeout: seconds to wait for the webhook.
    first, most: seconds until an alert that was not taken is tried again: ``first``, then twice
        as long each time, up to ``most``, without end.
    """

    log: bool = True
    webhook: str = ""
    timeout: float = 10.0
    first: int = 10
    most: int = 3600

    def __post_init__(self) -> None:
        if self.webhook and urlsplit(self.webhook).scheme not in ("http", "https"):
            raise ValueError(f'webhook = "{self.webhook}": must start with https:// or http://')
        if self.timeout <= 0 or self.first < 1 or self.most < self.first:
            raise ValueError("timeout must be above 0, first at least 1, most at least first")

    @property
    def sinks(self) -> tuple[str, ...]:
        """What the store is to keep each new alert for, until it is delivered."""
        return ("log",) * self.log + ("webhook",) * bool(self.webhook)


def deliver(
    store: Store, options: Delivering, now: int, environ: Mapping[str, str] = os.environ
) -> tuple[int, int]:
    """Send what is due to its sinks; returns how many were taken and how many were not.

    An alert leaves the outbox only after its sink took it; whoever dies in between sends it
    again, with the same key. Call it every few seconds, from as many processes as you like.
    """
    counts = [0, 0]
    lease = int(options.timeout) + 60
    while found := store.alerts.claim(now, lease=lease, n=20):
        for delivery in found:
            alert, sink = delivery.alert, delivery.sink
            error = _send(alert, sink, options, now, environ.get(SECRET, ""))
            if error is None:
                store.alerts.delivered(alert.key, sink, now)
            else:
                wait = min(options.first * 2 ** min(delivery.attempts - 1, 30), options.most)
                store.alerts.failed(alert.key, sink, now + wait, error)
            counts[error is not None] += 1
    return counts[0], counts[1]


def body(alert: Alert) -> dict[str, Any]:
    """Return what is sent of an alert."""
    told = {name: value for name, value in asdict(alert).items() if name != "acknowledged"}
    return told | {"notice": NOTICE["en"]}


def signature(content: bytes, time: int, secret: str) -> str:
    """Return the header ``M6Rec-Signature``: "t=TIME,v1=HEX", HMAC-SHA256 of "TIME." + body."""
    code = hmac.new(secret.encode(), f"{time}.".encode() + content, hashlib.sha256)
    return f"t={time},v1={code.hexdigest()}"


def verify(content: bytes, header: str, secret: str, now: int, tolerance: int = 300) -> bool:
    """Return whether a receiver may trust a request: made with the secret, and not long ago."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    if not parts.get("t", "").isdigit() or abs(now - int(parts["t"])) > tolerance:
        return False
    return hmac.compare_digest(signature(content, int(parts["t"]), secret), header)


def _send(alert: Alert, sink: str, options: Delivering, now: int, secret: str) -> str | None:
    """Return None if the sink took it, else why not."""
    content = json.dumps(body(alert), ensure_ascii=False).encode()
    if sink == "log":
        LOG.warning(content.decode())
        return None
    if not options.webhook:
        return f'there is no sink "{sink}" in the configuration any more'
    headers = {"Content-Type": "application/json", "M6Rec-Alert": alert.key}
    if secret:
        headers["M6Rec-Signature"] = signature(content, now, secret)
    request = urllib.request.Request(options.webhook, content, headers, method="POST")
    try:
        with _OPENER.open(request, timeout=options.timeout) as answer:
            answer.read(1)
    except urllib.error.HTTPError as error:
        error.close()
        return f"answered {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))[:200]
    return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is no acknowledgement, and may lead where nobody meant to send alerts."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)

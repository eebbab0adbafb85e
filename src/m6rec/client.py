"""A typed client of the service: the verbs of /v1 with plain values. Needs the extra `client`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2 as httpx

from m6rec.errors import ServiceError


class Client:
    """Talks to one service; safe to share between threads. A context manager, or call ``close``.

    url: such as "http://127.0.0.1:8088". key: API key, where the service asks for one.
    timeout: seconds. Every method raises ServiceError, which holds the service's own sentence,
    the status and the code.
    """

    def __init__(self, url: str = "http://127.0.0.1:8088", key: str = "", timeout: float = 10.0):
        headers = {"X-API-Key": key} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def recommend(self, user: str | None = None, **options: Any) -> dict[str, Any]:
        """Return a list: request, run, items with reasons, parts with λ, page. options: the fields
        of ``POST /v1/recommend``, such as history, text, domain, filter, k, page, explain."""
        found: dict[str, Any] = self._call("POST", "/v1/recommend", {"user": user, **options})
        return found

    def explain(
        self, items: Sequence[str], user: str | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        """Return for each item its score and all reasons."""
        body = {"items": list(items), "user": user, **options}
        found: list[dict[str, Any]] = self._call("POST", "/v1/explain", body)
        return found

    def similar(self, item: str, **options: Any) -> dict[str, Any]:
        """Return a list of what goes with an item. options: domain, filter, k, explain."""
        found: dict[str, Any] = self._call("GET", "/v1/similar", None, {"item": item, **options})
        return found

    def event(self, user: str, item: str, type: str = "event", **more: Any) -> int:
        """Store one event; once this returns, it is on disk. more: value, time, id, request."""
        return self.events([{"user": user, "item": item, "type": type, **more}])

    def events(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Store events, all or none; returns how many were new. Warns of likely slips."""
        found = self._call("POST", "/v1/events", list(events))
        for warning in found.get("warnings", ()):
            warnings.warn(warning, stacklevel=2)
        added: int = found["added"]
        return added

    def history(self, user: str, n: int = 100) -> list[dict[str, Any]]:
        """Return the newest events of a user, newest first."""
        found: list[dict[str, Any]] = self._call("GET", "/v1/events", None, {"user": user, "n": n})
        return found

    def put_user(self, user: str, attributes: Mapping[str, Any]) -> None:
        """Store a user's attributes."""
        self._call("PUT", f"/v1/users/{_quoted(user)}", {"attributes": dict(attributes)})

    def delete_user(self, user: str) -> dict[str, Any]:
        """Erase every trace of a user; returns what was erased, and the runs that hold the key."""
        found: dict[str, Any] = self._call("DELETE", f"/v1/users/{_quoted(user)}")
        return found

    def put_item(self, item: str, **fields: Any) -> None:
        """Store an item ("domain/key"). fields: title, text, attributes, hidden."""
        self._call("PUT", f"/v1/items/{_quoted(item)}", fields)

    def patch_item(self, item: str, **fields: Any) -> None:
        """Change these fields of an item and leave the others as they are."""
        self._call("PATCH", f"/v1/items/{_quoted(item)}", fields)

    def delete_item(self, item: str) -> None:
        """Remove an item."""
        self._call("DELETE", f"/v1/items/{_quoted(item)}")

    def ready(self) -> dict[str, Any]:
        """Return which run answers; ServiceError of status 503 where the service is not ready."""
        found: dict[str, Any] = self._call("GET", "/v1/health/ready")
        return found

    def models(self) -> dict[str, Any]:
        """Return the run that answers: metrics, λ, ω, and the other runs."""
        found: dict[str, Any] = self._call("GET", "/v1/models")
        return found

    def _call(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            answer = self._http.request(method, path, json=body, params=query)
        except httpx.HTTPError as error:
            raise ServiceError(f"{self._http.base_url}: does not answer: {error}") from error
        if answer.is_success:
            return answer.json()
        try:
            told = answer.json()
            message, code = str(told["error"]), str(told["code"])
        except (ValueError, KeyError, TypeError):
            message, code = answer.text[:200], ""
        raise ServiceError(message, answer.status_code, code)


def _quoted(key: str) -> str:
    return quote(key, safe="")

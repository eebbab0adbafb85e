"""The exceptions of m6rec. Each message says what is wrong, where, and how to fix it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable

CLIPPED = 60  # characters of a value in a sentence


class M6RecError(Exception):
    """Base of every error that a user can cause and mend."""


class ConfigError(M6RecError):
    """A configuration has an unknown key or a value that does not fit."""


class DataError(M6RecError):
    """A file, table or frame cannot be used as it is."""


class RunError(M6RecError):
    """A saved run is missing, damaged or newer than this version."""


class ServiceError(M6RecError):
    """A service refused a request, or did not answer. status: of HTTP, 0 = no answer; code: of
    the service."""

    def __init__(self, message: str, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class StoreError(M6RecError):
    """The event store cannot be opened, or cannot take or do what it is given."""


class ClusterError(M6RecError):
    """The machines of a cluster lost the same work again and again."""


class QueryError(M6RecError):
    """A request names a user, item or domain that does not fit the model."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``'; did you mean "x"?'`` for the nearest known word, else an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def written(value: object) -> str:
    """Return a value that was given, as JSON and not all of it where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= CLIPPED else f"{text[:CLIPPED]}…"


def sentence(error: Exception) -> str:
    """Return what is wrong; of a file that the system refuses, its name and what to do."""
    if not isinstance(error, OSError) or not error.filename:
        return str(error)
    return f"{error.filename}: {_CAUSES.get(type(error), error.strerror)}"


_CAUSES: dict[type[OSError], str] = {
    FileNotFoundError: "does not exist, and cannot be made there; check the path",
    FileExistsError: "is a file, and a folder is needed; choose another path",
    IsADirectoryError: "is a folder, and a file is needed; choose another path",
    NotADirectoryError: "has a file where a folder must be; choose another path",
    PermissionError: "may not be read or written by you; choose another path",
}

"""Questions that were answered since a run was trained: its model takes them in as new rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scipy.sparse import csr_array

from m6rec.artifacts import Fitted
from m6rec.models.base import Hears, heard
from m6rec.store import Store, digest


@dataclass(frozen=True, eq=False)
class Heard:
    """What a run has heard. rev: of the users in the store up to which it did. words: of the
    questions, by the key of the user that each is."""

    rev: int = 0
    words: Mapping[str, str] = field(default_factory=dict)


def columns(fitted: Fitted) -> tuple[str, ...]:
    """Return the attributes of users that are words of theirs; none if the model hears nothing."""
    return fitted.attributes.users.text_columns if isinstance(fitted.model, Hears) else ()


def said(attributes: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return the words among a user's attributes."""
    told = [str(attributes[name]).strip() for name in names if attributes.get(name)]
    return " ".join(told)


def news(store: Store, known: Heard, names: tuple[str, ...]) -> tuple[Heard, list[str], bool]:
    """Return what is heard now, the keys of what is new or changed, and whether some are gone."""
    rev, users, gone = store.changed_users(known.rev)
    come = {user.key: text for user in users if (text := said(user.attributes, names))}
    lost = {key for key in known.words if digest(key) in gone} - come.keys()
    kept = {key: text for key, text in known.words.items() if key not in lost}
    return Heard(rev, {**kept, **come}), list(come), bool(lost)


def taught(fitted: Fitted, questions: Mapping[str, str], answers: csr_array) -> Fitted:
    """Return a run whose model knows these questions (key → words) and what helped, (Q, n_items)
    weights."""
    data = fitted.dataset
    codes = data.users.encode(questions)
    made = replace(fitted, model=heard(fitted.model, codes, list(questions.values()), answers))
    vars(made)["dataset"] = data
    return made

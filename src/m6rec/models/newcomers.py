"""How much attributes alone tell of a new user: the ridge of PCT's map A, by users held out."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from m6rec.arrays import Array
from m6rec.checkpoint import NOWHERE, Saved
from m6rec.data.dataset import Dataset
from m6rec.data.splits import cold_user
from m6rec.models.entries import Events
from m6rec.models.judges import HOLDOUTS, ROWS, Judge
from m6rec.models.pct_model import PctModel, user_features
from m6rec.models.popular import Popular
from m6rec.models.ridge import ridge
from m6rec.tracking import Run

RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
SHARE = 0.2  # of the users, hidden at once


def learn_ridges(
    train: Dataset,
    fit: Callable[[Dataset], PctModel],
    names: Iterable[str],
    run: Run,
    saved: Saved = NOWHERE,
) -> dict[str, float]:
    """Return the ridge of A in each of these domains by which new users are served best.

    fit: part of train → the model of it, every domain alone. Users are hidden whole, in up to
    ``HOLDOUTS`` draws where they are few; each draw takes one fit, after which only A is learned
    for each ridge. Explicit domains, and data whose users have no attributes, have none.
    saved: where what each draw says is kept.
    """
    wanted = set(names)
    places = [
        d
        for d, domain in enumerate(train.domains)
        if domain.name in wanted and domain.feedback == "implicit"
    ]
    hidden = SHARE * len(np.unique(train.user))
    if not places or hidden < 1 or not any(block.any() for block in train.user_attributes.values()):
        return {}
    values = np.zeros((train.n_domains, len(RIDGES)))
    for r in range(1 if hidden >= ROWS else HOLDOUTS):
        kept = saved.part(str(r))
        if held := kept.read():
            values = held["values"]
            continue
        rng = run.rng("new users", str(r))
        split = cold_user(train, SHARE, rng, context=0.0)
        popular = Popular().fit(split.train, run)
        judge, model = Judge(split, popular, rng, run.pool), fit(split.train)
        for d in places:
            for i, told in enumerate(informed(model, split.train, d)):
                values[d, i] += judge(told, d).sum()
        kept.write({"values": values.copy()})
    return {train.domains[d].name: RIDGES[int(values[d].argmax())] for d in places}


def informed(model: PctModel, train: Dataset, domain: int) -> Iterable[PctModel]:
    """Yield the model with A of one domain, alone, learned with each of ``RIDGES``."""
    state, name = model.state(), f"own/prior/{domain}"
    part = Events.of(train.matrix, model.item_domain, domain)
    known = model.known(user_features(train.user_features, train.n_users, True), part)
    users = model.solve_users("own", domain, part, known @ state[name])
    active = part.count > 0
    weight: Array = model.strength(domain, part.count[active])
    for strength in RIDGES:
        prior = ridge(known[active], users[active], weight, strength)
        yield PctModel(model.recipe, {**state, name: prior}, model.confidence, model.attributes)

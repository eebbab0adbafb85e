"""PCT: transfer where it helps, none where it does not, and users and items never seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from m6rec.data.behaviour import Behaviour
from m6rec.data.dataset import Dataset
from m6rec.data.holdout import holdout
from m6rec.data.schema import Domain, EventType, FeatureTables
from m6rec.data.splits import Split, cold_user
from m6rec.errors import ConfigError
from m6rec.models import pct, transfer
from m6rec.models.entries import Events
from m6rec.models.judges import Judge, Judges, gain
from m6rec.models.newcomers import learn_ridges
from m6rec.models.pct import Pct
from m6rec.models.pct_model import PctModel
from m6rec.models.popular import Popular
from m6rec.models.transfer import Local, left_out, likely_sources
from m6rec.tracking import Run
from world import GROUPS, own_group_share, world

OPTIONS = {"films": Local(reg=0.5, nu=0.5), "books": Local(reg=0.5, nu=0.5)}
SHARED = {
    "films": replace(OPTIONS["films"], omega={"books": 1.0}),
    "books": replace(OPTIONS["books"], omega={"films": 1.0}),
}
COLD = {name: replace(local, warm=False) for name, local in SHARED.items()}


def without_books(data: Dataset, users: np.ndarray) -> Split:
    """The books of these users are the test; their films stay."""
    return Split.by_mask(data, (data.item >= data.n_items // 2) & np.isin(data.user, users))


def bare(data: Dataset) -> Dataset:
    """Without attributes and text, so that only behaviour can inform."""
    return replace(data, user_attributes={}, item_attributes={}, item_text=None)


def share(model_scores: np.ndarray, users: np.ndarray, items: np.ndarray) -> float:
    seen = np.zeros_like(model_scores, dtype=bool)
    seen[:, np.setdiff1d(np.arange(model_scores.shape[1]), items)] = True
    return own_group_share(model_scores, users, seen)


def test_films_tell_the_books_of_a_user_without_books() -> None:
    users = np.arange(20)
    split = without_books(bare(world(n_users=200)), users)
    books = np.arange(20, 40)
    query = split.train.query(users)
    informed = Pct(dim=16, domains=SHARED).fit(split.train, Run()).score(query)
    assert share(informed, users, books) > 0.9
    alone = Pct(dim=16, domains=OPTIONS).fit(split.train, Run()).score(query)
    assert np.isnan(alone[:, books]).all()  # nothing is known of them there


def test_sources_may_inform_only_those_without_history() -> None:
    data = bare(world(n_users=200))
    split = without_books(data, np.arange(20))
    model = Pct(dim=16, domains=COLD).fit(split.train, Run())
    alone = Pct(dim=16, domains=OPTIONS).fit(split.train, Run())
    books, warm = np.arange(20, 40), split.train.query(np.arange(50, 90))
    np.testing.assert_allclose(model.score(warm), alone.score(warm), atol=1e-5)
    scores = model.score(split.train.query(np.arange(20)))
    assert share(scores, np.arange(20), books) > 0.9
    items = np.tile(books[:3], (20, 1))
    reasons = model.explain(split.train.query(np.arange(20)), items)
    total = np.array([[sum(r.value for r in cell) for cell in row] for row in reasons])
    np.testing.assert_allclose(total, scores[:, books[:3]], atol=1e-4)


def test_omega_is_learned_and_is_zero_for_a_stranger_domain() -> None:
    data = bare(world(n_users=300))
    books = data.item >= data.n_items // 2
    rng = np.random.default_rng(3)
    stranger = np.where(books, data.user, rng.permutation(data.n_users)[data.user])
    noise = Dataset.build(
        user=stranger, item=data.item, users=data.users, items=data.items,
        domains=data.domains, item_domain=data.item_domain, ordered=False,
    )  # fmt: skip
    thin = np.ones(len(data), np.bool_)
    thin[books] = rng.random(books.sum()) < 0.35
    learned = Pct(dim=16).fit(data.take(thin), Run(seed=2)).recipe
    assert isinstance(learned, Pct)
    assert learned.domains["books"].omega["films"] > 0
    stranger_learned = Pct(dim=16).fit(noise, Run(seed=2)).recipe
    assert isinstance(stranger_learned, Pct)
    books = stranger_learned.domains["books"]
    assert not (books.omega and books.warm)


def test_a_new_item_is_placed_by_its_text_and_attributes() -> None:
    data = world()
    new = np.array([3, 17, 22, 36])
    split = Split.by_mask(data, np.isin(data.item, new))
    query = split.train.query(np.arange(40))
    scores = Pct(dim=16, domains=OPTIONS).fit(split.train, Run()).score(query, new)
    best = new[scores.argmax(axis=1)] % GROUPS
    assert (best == np.arange(40) % GROUPS).mean() > 0.7  # chance is 1/4
    blind = Pct(dim=16, domains=OPTIONS, attributes=False).fit(split.train, Run())
    assert np.isnan(blind.score(query, new)).all()


@pytest.mark.parametrize("options", [OPTIONS, SHARED, COLD])
def test_a_new_user_is_placed_by_attributes_alone(options: dict[str, Local]) -> None:
    data = world()
    query = data.query(np.full(GROUPS, -1))
    query = replace(query, features={"taste": np.eye(GROUPS, dtype=np.float32)})
    model = Pct(dim=16, domains=options).fit(data, Run())
    scores = model.score(query)
    nothing = np.zeros(scores.shape, dtype=bool)
    assert own_group_share(scores, np.arange(GROUPS), nothing) > 0.9
    reasons = model.explain(query, np.tile(np.arange(data.n_items), (GROUPS, 1)))
    total = [[sum(r.value for r in cell) for cell in row] for row in reasons]
    np.testing.assert_allclose(total, scores, atol=1e-4)


def test_attributes_without_meaning_do_not_mislead_about_new_users() -> None:
    rng = np.random.default_rng(0)
    liked = 0.8 / (1 + np.arange(40) % 20) ** 0.5
    user, item = np.nonzero(rng.random((240, 40)) < liked)
    data = replace(
        Dataset.build(
            user=user, item=item, users=240, items=40, domains=world().domains,
            item_domain=(np.arange(40) >= 20).astype(np.int16),
        ),
        user_attributes={"noise": rng.standard_normal((240, 60)).astype(np.float32)},
    )  # fmt: skip
    split = cold_user(data, 0.25, rng, context=0.0)
    query = split.context.query(np.unique(split.test.user))
    recipe = Pct(dim=8, domains=OPTIONS, transfer=False)
    ridges = learn_ridges(split.train, lambda part: recipe.fit(part, Run()), OPTIONS, Run())
    assert min(ridges.values()) >= 30
    learned = {name: replace(local, ridge=ridges[name]) for name, local in OPTIONS.items()}

    def popular(domains: dict[str, Local]) -> float:
        """The share of the films that most people like, 0 to 4, among the first five."""
        films = replace(recipe, domains=domains).fit(split.train, Run()).score(query)[:, :20]
        return float((np.argsort(-films, axis=1)[:, :5] < 5).mean())

    assert popular(learned) > popular(OPTIONS) + 0.1


def test_attributes_with_meaning_are_still_trusted() -> None:
    split = cold_user(world(n_users=160), 0.25, np.random.default_rng(1), context=0.0)
    users = np.unique(split.test.user)
    model = Pct(dim=8).fit(split.train, Run())
    assert isinstance(model.recipe, Pct)
    assert all(local.ridge is not None for local in model.recipe.domains.values())
    scores = model.score(split.context.query(users))
    assert own_group_share(scores, users, np.zeros(scores.shape, np.bool_)) > 0.85


def test_the_ridge_of_attributes_is_learned_only_where_it_is_open_and_there_are_some() -> None:
    data = world()
    cases = [
        (Pct(dim=4), bare(data)),
        (Pct(dim=4, attributes=False), data),
        (Pct(dim=4, domains=OPTIONS), data),
        (Pct(dim=4), world(explicit=True)),
    ]
    for recipe, train in cases:
        found = recipe.choose(holdout(train, np.random.default_rng(0)), Run())
        assert [local.ridge for local in found.domains.values()] == [None, None]


def test_a_ridge_of_attributes_leaves_what_domains_tell_of_each_other() -> None:
    """Only A is shrunk: without meaning to attributes, B still finds the books by the films."""
    users = np.arange(20)
    split = without_books(world(n_users=200), users)
    books = np.arange(20, 40)
    query = replace(split.train.query(users), features={"taste": np.zeros((20, 4), np.float32)})
    deaf = {name: replace(local, ridge=1e6) for name, local in SHARED.items()}
    scores = Pct(dim=16, domains=deaf).fit(split.train, Run()).score(query)
    assert share(scores, users, books) > 0.9


def test_a_run_from_before_the_prior_of_strangers_still_answers() -> None:
    data = world()
    model = Pct(dim=8, domains=SHARED).fit(data, Run())
    older = {n: a for n, a in model.state().items() if not n.startswith("full/alone/")}
    query = data.query(np.arange(6))
    np.testing.assert_array_equal(model.recipe.restore(older).score(query), model.score(query))


def test_of_whom_nothing_but_age_is_known_is_taken_for_the_average_user() -> None:
    """The active like more of everything, so that films tell how many books somebody likes; that
    a new user has no films yet does not mean that they like few books."""
    rng = np.random.default_rng(0)
    liked, active = 1 / (1 + np.arange(40) % 20) ** 0.5, rng.uniform(0.1, 1.0, (200, 1))
    user, item = np.nonzero(rng.random((200, 40)) < active * liked)
    data = replace(
        Dataset.build(
            user=user, item=item, users=200, items=40, domains=world().domains,
            item_domain=(np.arange(40) >= 20).astype(np.int16),
        ),
        user_attributes={"age": rng.standard_normal((200, 1)).astype(np.float32)},
    )  # fmt: skip
    new = replace(data.query(np.array([-1])), features={"age": np.array([[0.01]], np.float32)})
    for options in (OPTIONS, SHARED, COLD):
        model = Pct(dim=4, domains=options).fit(data, Run())
        average = model.score(data.query(np.arange(200))).mean(axis=0)
        np.testing.assert_allclose(model.score(new)[0], average, atol=0.1)


def test_a_dislike_lowers_what_is_like_it() -> None:
    data = world()
    events = (EventType(name="event"), EventType(name="hide", sign="negative"))
    model = Pct(dim=16, domains=OPTIONS).fit(data, Run())
    liked = data.query(np.array([0]))
    hidden = liked.history.copy()
    first = int(hidden.indices[0])
    hidden.data[0] = -3.0
    assert events[1].sign == "negative"
    disliked = replace(liked, history=hidden)
    assert model.score(disliked)[0, first] < model.score(liked)[0, first]


def test_ratings_are_near_and_inside_the_scale() -> None:
    data = world(explicit=True)
    split = Split.by_mask(data, np.arange(len(data)) % 7 == 0)
    model = Pct(dim=8, domains=OPTIONS).fit(split.train, Run())
    scores = model.score(split.train.query(np.arange(data.n_users)))
    assert scores.min() >= 1
    assert scores.max() <= 5
    error = scores[split.test.user, split.test.item] - split.test.weight
    spread = split.test.weight - split.train.weight.mean()
    assert (error**2).mean() < 0.5 * (spread**2).mean()


def test_embeddings_give_the_scores() -> None:
    for explicit in (False, True):
        data = world(explicit=explicit)
        model = Pct(dim=16, domains=SHARED).fit(data, Run())
        query = data.query(np.arange(12))
        for domain in (0, 1):
            items = np.flatnonzero(data.item_domain == domain)
            dot = model.embed_query(query, domain) @ model.embed_items(domain)[items].T
            scores = model.score(query, items)
            inside = (scores > 1) & (scores < 5) if explicit else scores == scores
            shift = np.where(inside, scores - dot, np.nan)  # one number for each user
            assert inside.any(axis=1).all()
            assert (np.nanmax(shift, axis=1) - np.nanmin(shift, axis=1)).max() < 1e-4


def test_sources_are_those_that_share_users() -> None:
    data = world()
    assert likely_sources(data) == {"films": ["books"], "books": ["films"]}
    local = Local(omega={"a": 1.0, "b": 0.3})
    assert left_out(local, ["a", "b"], 0).omega == {"b": 0.3}
    assert left_out(local, ["a", "b"], 5).omega == local.omega


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="omega"):
        Local(omega={"films": 1.5})
    with pytest.raises(ValueError, match="above 0"):
        Local(reg=0)
    with pytest.raises(ValueError, match="ridge must be at least 0"):
        Local(ridge=-1)


def test_events_are_split_by_domain_in_one_pass() -> None:
    data = world(n_users=60)
    history = data.query(np.array([3, 7, 3, -1])).history
    for d, part in enumerate(Events.split(history, data.item_domain, data.n_domains)):
        expected = Events.of(history, data.item_domain, d)
        for name in ("start", "item", "value"):
            np.testing.assert_array_equal(getattr(part, name), getattr(expected, name))


def test_a_judge_asks_with_the_domains_that_are_heard() -> None:
    data = bare(world(n_users=200))
    split = holdout(data, np.random.default_rng(0))
    popular, run = Popular().fit(split.train, Run()), Run()
    judge = Judge(split, popular, np.random.default_rng(1), run.pool)
    model = Pct(dim=8, domains=OPTIONS | {"books": SHARED["books"]}).fit(split.train, Run())
    for d, heard in enumerate((("films",), ("books", "films"))):
        np.testing.assert_allclose(judge(model, d, heard), judge(model, d), atol=1e-6)
    assert not np.allclose(judge(model, 1, ("books",)), judge(model, 1))


def test_hidden_items_are_not_what_options_are_chosen_by() -> None:
    split = holdout(bare(world(n_users=200)), np.random.default_rng(0))
    hidden = np.arange(split.train.n_items) % 2 == 0
    split = replace(split, train=replace(split.train, hidden=hidden))
    judge = Judge(split, Popular().fit(split.train, Run()), np.random.default_rng(1), Run().pool)
    assert not hidden[np.concatenate(judge.items)].any()
    shown = split.test.take(~hidden[split.test.item])
    assert set(np.concatenate(judge.rows)) <= set(shown.user)


def test_the_same_users_again_make_a_gain_no_surer() -> None:
    rng = np.random.default_rng(0)
    old, users = rng.random(300), np.arange(300)
    new = old + 0.1 + rng.standard_normal(300)
    once = gain(new, old)
    assert once == pytest.approx((new - old).mean() / ((new - old).std(ddof=1) / 300**0.5))
    assert gain(np.tile(new, 3), np.tile(old, 3), np.tile(users, 3)) == pytest.approx(once)
    assert gain(new[:19], old[:19]) == 0  # too few to say


@pytest.mark.parametrize("ordered", [True, False])
def test_events_in_order_have_two_holdouts_that_differ(ordered: bool) -> None:
    data = bare(world(n_users=100, ordered=ordered))
    first = holdout(data, np.random.default_rng(0))

    def holdouts(r: int) -> Split:
        return holdout(first.train, np.random.default_rng(r)) if r else first

    judges = Judges(holdouts, Run())
    assert len(judges.each) == (2 if ordered else 4)
    held = [set(zip(j.split.test.user, j.split.test.item, strict=True)) for j in judges.each]
    assert all(not (held[0] & other) for other in held[1:])


def test_a_domain_that_there_is_not_is_told() -> None:
    data = world(n_users=30)
    for domains in ({"flims": Local()}, {"books": Local(omega={"flims": 0.5})}):
        given = OPTIONS | domains
        with pytest.raises(ConfigError, match='"flims" is no domain; did you mean "films"'):
            Pct(dim=4, domains=given).fit(data, Run())


def test_derived_features_know_nothing_of_what_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data = replace(world(n_users=60), item_text=None)
    items = data.items.keys.to_frame("key")
    behaviour = Behaviour.fit(FeatureTables(derived=True), items, data)
    data = replace(data, derivation=behaviour.derivation(items, data))
    wrong: list[float] = []

    def checked(recipe: Pct, train: Dataset, run: Run, phi: np.ndarray, *rest: object) -> PctModel:
        wrong.append(np.abs(phi - pct.item_features(recipe, train, run)[0]).max())
        return fit(recipe, train, run, phi, *rest)

    fit = pct.fit
    monkeypatch.setattr(pct, "fit", checked)
    Pct(dim=4, sweeps=2).choose(holdout(data, np.random.default_rng(0)), Run())
    assert len(wrong) > 10
    assert max(wrong) == 0


def test_a_domain_without_a_rating_abstains() -> None:
    data = world(n_users=40, explicit=True)
    told = data.take(data.item < data.n_items // 2)
    scores = Pct(dim=4, domains=OPTIONS).fit(told, Run()).score(told.query(np.arange(5)))
    assert np.isnan(scores[:, data.n_items // 2 :]).all()
    assert np.isfinite(scores[:, told.item]).all()


def beside_noise(data: Dataset, rng: np.random.Generator) -> Dataset:
    """Films and books, and as many events of the same users on items drawn evenly."""
    return Dataset.build(
        user=np.r_[data.user, np.repeat(np.arange(300), 10)],
        item=np.r_[data.item, 40 + rng.integers(0, 40, 3000)],
        users=data.users,
        items=80,
        domains=(*data.domains, Domain(name="noise")),
        item_domain=np.r_[data.item_domain, np.full(40, 2)],
        ordered=False,
    )


def test_noise_hides_no_source_that_helps() -> None:
    heard, given = 0, {"films": OPTIONS["films"], "noise": OPTIONS["films"]}
    for seed in range(4):
        data, rng = bare(world(n_users=300, seed=seed)), np.random.default_rng(seed)
        data = data.take((data.item < 20) | (rng.random(len(data)) < 0.35))
        noisy = beside_noise(data, rng)
        learned = Pct(dim=8, domains=given).choose(holdout(noisy, rng), Run()).domains["books"]
        assert "films" in learned.omega
        heard += "noise" in learned.omega
    assert heard <= 2  # it may, beside films, by chance


def test_noise_says_nothing_of_users_without_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SHARED", ())  # so that no domain hears another otherwise
    heard, given = 0, {"films": OPTIONS["films"], "noise": OPTIONS["films"]}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        noisy = beside_noise(bare(world(n_users=300, seed=seed)), rng)
        learned = Pct(dim=8, domains=given).choose(holdout(noisy, rng), Run()).domains["books"]
        assert learned.omega["films"] == 1 and not learned.warm
        heard += "noise" in learned.omega
    assert heard <= 1


def test_some_rows_of_a_history_in_any_order() -> None:
    events = Events(np.array([0, 2, 2, 5]), np.arange(5), np.arange(5) * 1.0)
    found = events.take(np.array([2, 1, 0]))
    assert found.start.tolist() == [0, 3, 3, 5]
    assert found.item.tolist() == [2, 3, 4, 0, 1]
    assert found.value.tolist() == [2, 3, 4, 0, 1]

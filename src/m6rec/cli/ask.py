"""Verbs that ask a run: recommend, similar, score, explain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer

from m6rec import config
from m6rec.cli import show
from m6rec.cli.data import Json, Machines
from m6rec.errors import DataError, QueryError
from m6rec.explanation import START
from m6rec.recommender import Recommender
from m6rec.wording import wording

RECOMMEND = show.examples(
    "m6rec recommend current --user 42 --explain",
    'm6rec recommend current --history "Alien, Blade Runner" --domain thrill -k 5',
    "m6rec recommend current --user 42 --filter \"year >= 1990 and 'Comedy' in genres\"",
    'm6rec recommend runs/20261124-093012-shop-3f9c --text "waterproof hiking boots" --json',
)
SIMILAR = show.examples(
    "m6rec similar current Alien", "m6rec similar current films/50 --domain books"
)
SCORE = show.examples(
    "m6rec score current --users all --out recs.parquet",
    "m6rec score current --users vip.txt --out recs.csv -k 50 --domain books",
    "m6rec score /shared/runs/current --cluster auto --out /shared/recs",
)
EXPLAIN = show.examples(
    "m6rec explain current Aliens --user 42",
    'm6rec explain current Aliens --history "Alien, Blade Runner" --json',
    "m6rec explain current Aliens --user 42 --language zh",
)

SHOWN = 20  # contributions in the table of a score
NAMED = 3  # unknown users that a note names
MOST = 1_000_000  # items that a list may be asked for

Which = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help='A run directory, "current" for the newest in runs/, or DIR/current.'
    ),
]
User = Annotated[str | None, typer.Option("--user", metavar="ID", help="Key of a user.")]
History = Annotated[
    str | None,
    typer.Option(
        "--history", metavar="ITEM,ITEM", help="Liked items of a new user: keys or titles."
    ),
]
Words = Annotated[
    str | None, typer.Option("--text", metavar="WORDS", help="A question, a search or a profile.")
]
DomainName = Annotated[
    str | None, typer.Option("--domain", metavar="D", help="Only items of this domain.")
]
Filter = Annotated[
    str | None, typer.Option("--filter", metavar="EXPR", help="Only items with such attributes.")
]
Language = Annotated[
    str, typer.Option("--language", metavar="en|zh", help="Of the sentence that says why.")
]
K = Annotated[int, typer.Option("-k", min=1, max=MOST, metavar="N", help="How many items.")]


def recommend(
    run: Which,
    user: User = None,
    history: History = None,
    text: Words = None,
    domain: DomainName = None,
    filter: Filter = None,
    attributes: Annotated[
        list[str] | None,
        typer.Option("--attributes", metavar="NAME=VALUE", help="Of a new user; repeatable."),
    ] = None,
    k: K = 10,
    diversity: Annotated[
        float | None,
        typer.Option(
            "--diversity", min=0, max=1, metavar="0…1", help="How much the list is spread."
        ),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why.")] = False,
    language: Language = "en",
    json: Json = False,
) -> None:
    """Recommend to a known user or a new one.

    A new user is described by what they liked or wrote, or by attributes.
    """
    told = config.assigned(attributes, "--attributes") if attributes else None
    asked = Recommender.open(run)
    names = liked(asked, user, history, text, told)
    found = asked.recommend(
        user, history=names, text=text, attributes=told, domain=domain, filter=filter, k=k,
        diversity=diversity, explain=explain, language=language,
    )  # fmt: skip
    if json:
        show.as_json(found.to_dicts())
        return
    if not found.height:
        show.note("nothing to recommend: the model knows nothing of this request, or all is seen")
        return
    show_lists(found)
    rated = [d.name for d in asked.dataset.domains if d.feedback == "explicit"]
    if domain is None and 0 < len(rated) < asked.dataset.n_domains:
        show.note(
            f"scores of {', '.join(rated)} are ratings and stand before others; "
            "--domain asks for one domain"
        )


def similar(
    run: Which,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Key or title.")],
    domain: DomainName = None,
    filter: Filter = None,
    k: K = 10,
    json: Json = False,
) -> None:
    """Show what goes with an item."""
    found = Recommender.open(run).similar(item, domain=domain, filter=filter, k=k)
    if json:
        show.as_json(found.to_dicts())
    else:
        show_lists(found)


def score(
    run: Which,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE", help="A .parquet, .csv or .jsonl file; a folder on a cluster."
        ),
    ],
    users: Annotated[
        str, typer.Option("--users", metavar="all|FILE", help='"all", or a file of user keys.')
    ] = "all",
    domain: DomainName = None,
    filter: Filter = None,
    k: K = 10,
    cluster: Machines = None,
) -> None:
    """Write the lists of all users to a file.

    On a cluster they become a folder of Parquet files; the run and the folder must be seen by
    all machines. What was killed goes on where it was when it is started again.
    """
    if cluster is None and out.suffix not in _WRITERS:
        raise DataError(f"{out}: must end in {', '.join(_WRITERS)}")
    if not out.parent.is_dir():
        raise DataError(f"{out}: there is no folder {out.parent}; make it first")
    asked = Recommender.open(run)
    keys = asked.dataset.users.keys.to_list() if users == "all" else _keys(Path(users))
    if unknown := [key for key in keys if key not in asked.dataset.users]:
        first = ", ".join(unknown[:NAMED]) + (", …" if len(unknown) > NAMED else "")
        show.note(
            f"{len(unknown):,} of {len(keys):,} users are unknown and are answered as new ones: "
            f"{first}"
        )
    frames = []
    from m6rec.tracking import Run

    with Run(bars=show.bars()).progress("score", len(keys)) as advance:
        if cluster is not None:
            from m6rec.cluster.score import score as score_all

            rows = score_all(
                cluster, asked, out, keys, k=k, domain=domain, filter=filter, advance=advance
            )
            show.whole(f"{out}: {rows:,} rows for {len(keys):,} users")
            return
        for found in asked.export(keys, k=k, domain=domain, filter=filter):
            frames.append(found)
            advance(min(len(keys), found["user"].n_unique()))
    result = pl.concat(frames) if frames else pl.DataFrame()
    part = out.with_name(f".{out.name}.part")
    _WRITERS[out.suffix](result, part)
    part.replace(out)
    show.whole(f"{out}: {result.height:,} rows for {len(keys):,} users")


def explain(
    run: Which,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Key or title.")],
    user: User = None,
    history: History = None,
    text: Words = None,
    language: Language = "en",
    json: Json = False,
) -> None:
    """Say what adds up to a score."""
    asked = Recommender.open(run)
    names = liked(asked, user, history, text)
    (reason,) = asked.explain([item], user, history=names, text=text, language=language)
    if json:
        show.as_json(reason.to_json())
        return
    show.line(wording(language).scored.format(item=item, score=reason.score, because=reason))
    if reason.contributions:
        first = reason.contributions[:SHOWN]
        shown = first + tuple(c for c in reason.contributions[SHOWN:] if c.label == START)
        rows = [
            (c.label, c.kind, f"{c.share:+.1%}" if c.share else "–", c.value, " ".join(c.parts))
            for c in shown
        ]
        show.table(("what", "kind", "share", "value", "part"), rows)
        if hidden := len(reason.contributions) - len(shown):
            show.note(f"and {hidden} more; --json shows all")


def show_lists(found: pl.DataFrame) -> None:
    """Print a recommendation for a person: keys only where they are not the title."""
    if (found["item"] == found["title"]).all():
        found = found.drop("title")
    show.frame(found)


def liked(
    asked: Recommender,
    user: str | None,
    history: str | None,
    text: str | None,
    attributes: Mapping[str, Any] | None = None,
) -> list[str] | None:
    """Return the items of a --history; checks that the request says something."""
    if user is None and history is None and text is None and attributes is None:
        raise QueryError('ask with --user KEY, --history "item, item" or --text "words"')
    if user is not None and user not in asked.dataset.users:
        show.note(f'user "{user}" is unknown and is answered as a new one')
    if text is not None and not asked.reads(text):
        show.note(
            f'the model makes nothing of the words "{text}"; '
            'only a part of kind = "text" reads words, and only of items that have texts'
        )
    return None if history is None else split_items(asked, history)


def split_items(asked: Recommender, history: str) -> list[str]:
    """Split at commas, but keep together what is one title, such as "Paris, Texas"."""
    parts: Sequence[str] = history.split(",")
    names, at = [], 0
    while at < len(parts):
        for end in range(len(parts), at, -1):
            name = ",".join(parts[at:end]).strip()
            if end == at + 1 or asked.knows(name):
                names.append(name)
                at = end
                break
    return [name for name in names if name]


def _keys(file: Path) -> list[str]:
    """Distinct user keys of a file: one a line, or column "user" (else the first) of a table."""
    if not file.is_file():
        raise DataError(f"{file}: no such file; --users takes all, or a file of user keys")
    try:
        if file.suffix == ".parquet":
            frame = pl.read_parquet(file)
        elif file.suffix == ".csv":
            frame = pl.read_csv(file, infer_schema=False)
        else:
            lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
            frame = pl.DataFrame({"user": [line for line in lines if line]})
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{file}: cannot be read as a list of users: {reason}") from None
    name = "user" if "user" in frame.columns else frame.columns[0]
    keys = frame[name].cast(pl.String).drop_nulls().unique(maintain_order=True).to_list()
    if not keys:
        raise DataError(f"{file}: names no user")
    return keys


_WRITERS = {
    ".parquet": lambda frame, path: frame.write_parquet(path),
    ".csv": lambda frame, path: frame.write_csv(path),
    ".jsonl": lambda frame, path: frame.write_ndjson(path),
}

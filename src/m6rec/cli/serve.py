"""Verbs of the service: serve, retrain, keys."""

from __future__ import annotations

import ipaddress
import os
import secrets
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Annotated, Literal

import typer

from m6rec.cli import show
from m6rec.cli.ask import Which
from m6rec.cores import cores
from m6rec.errors import ConfigError

SERVE = show.examples(
    "m6rec serve current",
    "m6rec serve current --store postgresql://m6rec@db/m6rec --workers 4",
    "m6rec keys create --scope admin --name ops && m6rec serve current --host 0.0.0.0",
)
RETRAIN = show.examples(
    "m6rec retrain current", "m6rec retrain current --store postgresql://m6rec@db/m6rec"
)
KEYS = show.examples(
    "m6rec keys create --scope write --name shop",
    "m6rec keys list",
    "m6rec keys revoke --name shop",
)
URL = "sqlite:///m6rec.db"

StoreUrl = Annotated[
    str,
    typer.Option(
        "--store", metavar="URL", envvar="M6REC_STORE",
        help="Where events are kept: sqlite:///FILE or postgresql://….",
    ),
]  # fmt: skip


def serve(
    run: Which = "current",
    store: StoreUrl = URL,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8088,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes; they share the cores.")
    ] = 1,
    rival: Annotated[
        str, typer.Option("--rival", metavar="RUN", help="A second run, to compare with.")
    ] = "",
    share: Annotated[
        float, typer.Option("--share", min=0, max=1, help="Of the users, whom the rival answers.")
    ] = 0.5,
    opinion: Annotated[
        str, typer.Option("--opinion", metavar="FILE", help="A TOML with [opinion], to watch.")
    ] = "",
    rate: Annotated[
        float,
        typer.Option("--rate", min=0, help="Requests a second of one client, here; 0 = any."),
    ] = 0.0,
    candidates: Annotated[
        str,
        typer.Option(
            "--candidates", metavar="N", help="Items that a request is scored on; 0 = all, or auto."
        ),
    ] = "",
    log: Annotated[
        Literal["text", "json"], typer.Option("--log", help="Form of the log, on stderr.")
    ] = "text",
    requests: Annotated[
        bool, typer.Option("--log-requests", help="With a line for each request.")
    ] = False,
) -> None:
    """Serve a run over HTTP, with a web page.

    An empty store first takes in the run's items, users and history; from then on the store is
    the truth. Beyond this machine (--host) it only opens once there are API keys. With --rival,
    GET /v1/trial says which run's lists got more events.
    """
    import uvicorn

    from m6rec import artifacts
    from m6rec.opinion.config import OpinionConfig
    from m6rec.serving.settings import Settings
    from m6rec.store import Store

    threads = max(1, cores() // workers)
    settings = Settings(
        run=run, rival=rival, share=share, store=store, rate=rate, threads=threads,
        log=log, requests=requests, opinion=opinion, candidates=candidates,
    )  # fmt: skip
    if candidates not in ("", "auto") and not candidates.isdigit():
        raise ConfigError(f'--candidates {candidates}: must be "auto" or a number')
    for each in filter(None, (run, rival)):
        artifacts.checked(artifacts.resolve(each))
    if opinion:
        watched = OpinionConfig.read(opinion)  # so that a slip is said here
        watched.open_entities(), watched.open_reader()
    opened = Store.open(store)
    guarded = any(not key.revoked for key in opened.keys())
    opened.close()
    if not _local(host) and not guarded:
        raise ConfigError(
            f"--host {host}: is open to others, and there is no API key; make one with "
            "`m6rec keys create --scope admin`"
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    show.whole(f"http://{host}:{port}  (API: /v1/openapi.json, Ctrl-C ends)")
    several = workers > 1  # they add up their figures, and count requests, in files
    with tempfile.TemporaryDirectory(prefix="m6rec-") if several else nullcontext() as shared:
        if shared:
            os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", shared)
            settings = replace(settings, rates=os.path.join(shared, "rates"))
        settings.hand_down()
        uvicorn.run(
            "m6rec.serving.app:create", factory=True, host=host, port=port, workers=workers,
            log_level="warning", access_log=False, timeout_graceful_shutdown=10,
            loop="m6rec.serving.fair:FairLoop" if several else "auto",
        )  # fmt: skip


def retrain(
    run: Which = "current",
    store: StoreUrl = URL,
    margin: Annotated[
        float | None,
        typer.Option("--margin", min=0, max=1, help="How much worse it may be, as a share."),
    ] = None,
) -> None:
    """Train a run again on what a store holds now.

    It becomes the current run. It is judged beside the old run on the newest events, which
    neither has seen; a worse one is not published (exit status 2). A service that follows
    "current" takes it up by itself.
    """
    from m6rec import artifacts
    from m6rec.serving import retrain as module
    from m6rec.store import Store

    opened = Store.open(store, create=False)
    say = show.teller()
    try:
        path, found = module.retrain(artifacts.resolve(run), opened, margin=margin, say=say)
    finally:
        opened.close()
    say("done")
    if found.rows:
        show.line(
            f"{found.metric} on the newest events: {found.new:.4f}, with the old run "
            f"{found.old:.4f} ({found.rows:,} rows)"
        )
    else:
        show.line("too few new events to judge by: published without a comparison")
    show.whole(str(path))


def keys(
    what: Annotated[
        Literal["create", "list", "revoke"], typer.Argument(metavar="create|list|revoke")
    ],
    name: Annotated[str, typer.Option("--name", help="What or who it is for.")] = "",
    scope: Annotated[
        Literal["read", "write", "admin"], typer.Option("--scope", help="What it may do.")
    ] = "write",
    store: StoreUrl = URL,
) -> None:
    """Make, list or revoke API keys of a service.

    Without any, it needs none. A key is shown once; the store keeps its hash.
    """
    from m6rec.serving.guard import hashed
    from m6rec.store import ApiKey, Store

    now = time.time_ns() // 1000
    opened = Store.open(store, create=what == "create")
    try:
        if what == "list":
            rows = [(k.name, k.scope, "revoked" if k.revoked else "") for k in opened.keys()]
            show.table(("name", "scope", ""), rows)
        elif not name:
            raise ConfigError(f"keys {what}: say --name, what or who the key is for")
        elif what == "create":
            key = secrets.token_urlsafe(32)
            opened.add_key(ApiKey(hash=hashed(key), name=name, scope=scope, created=now))
            show.whole(key)
        else:
            held = [k.hash for k in opened.keys() if k.name == name and not k.revoked]
            if not held:
                raise ConfigError(f'keys revoke: no key has the name "{name}"')
            for each in held:
                opened.revoke_key(each, now)
            show.line(f"{len(held)} key{'' if len(held) == 1 else 's'} revoked")
    finally:
        opened.close()


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

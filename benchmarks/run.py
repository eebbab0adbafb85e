"""Every table of RESULTS.md by one command, beside the peers, with machine, versions and seeds.

    python benchmarks/run.py --list                       what there is
    python benchmarks/run.py                              everything (days of one core)
    python benchmarks/run.py --only quality/ml-100k       one set beside all peers
    python benchmarks/run.py --only quality/ml-100k/implicit --only ratings
    python benchmarks/run.py --show                       the tables of what is in --out

The peers' pins contradict each other, so each has an environment of its own under --envs, made by
pip with the versions of environments.py where it is missing. Whatever is finished is kept in --out
and not run again; delete a file there to have it anew. A script's output stands in NAME.txt, with
NAME.json beside it; the fits of ``quality`` in quality/SET/PEER/MODEL. Each holds or has beside it
the command, the commit, the machine, the versions and the seeds.

quality: see quality.py for the rules. Its tables print a number with its spread or refuse to:
the deviation over seeds where a fit is random, and the 95 % interval over users always.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import environments
import quality
import quality_tables

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Table:
    """A script and its arguments, where {NAME} is the Python of a peer and {out} the folder; what
    it shows, and about how many minutes two quiet cores take."""

    command: str
    shows: str
    minutes: int

    @property
    def peers(self) -> list[str]:
        return [name for name in re.findall(r"{(\w+)}", self.command) if name != "out"]


TABLES = {
    "ratings": Table("ratings.py --peers {surprise}", "RMSE on MovieLens-100k, 5 folds", 6),
    "full-ranking": Table("full_ranking.py", "closed forms on yelp18 and ml-1m", 10),
    "item-item": Table(
        "item_item.py --peers {implicit} --lenskit {lenskit}", "item-item cosine: time", 2
    ),
    "evaluation": Table(
        "evaluation.py --rectools {rectools} --recbole {recbole}", "full-catalogue evaluation", 3
    ),
    "recommend": Table("recommend.py --peer {implicit}", "lists for all users: time", 5),
    "prepare": Table("prepare_20m.py", "20 M events to a Dataset: time and memory", 3),
    "twins": Table("twins.py", "twins of amazon-cdr", 1),
    "pct-speed": Table("pct_speed.py --peers {implicit}", "PCT beside implicit's ALS: time", 10),
    "transfer-douban": Table("transfer.py douban", "PCT with and without transfer, douban", 60),
    "transfer-cdr": Table("transfer.py cdr", "the same on amazon-cdr, with control", 60),
    "transfer-cold": Table("transfer.py cold", "the same on amazon-cold", 20),
    "sequences-beauty": Table("sequences.py beauty", "window, towers, fused on beauty", 40),
    "sequences-amazon3": Table("sequences.py amazon3", "the same on amazon3", 60),
    "sequences-games": Table("sequences.py games", "the same on games-titles", 40),
    "recbole-sequences": Table(
        "recbole_sequences.py --peer {recbole}", "towers beside RecBole's SASRec and GRU4Rec", 600
    ),
    "fusion": Table("fusion.py --out {out}/fusion.found.json", "fused beside its parts", 240),
    "together": Table("together_all.py", "all lines of business in one run", 30),
    "social": Table("social.py", "friends and music of the same people", 40),
    "arrivals": Table("arrivals.py", "one new item: time", 5),
    "lightweight": Table("lightweight.py", "small towers: ONNX, int8, distilled", 30),
    "device": Table("device.py", "towers with and without a graphics processor", 10),
    "deepfm-ratings": Table("deepfm.py ratings", "DeepFM: RMSE", 60),
    "deepfm-ranking": Table("deepfm.py ranking", "DeepFM: ranking", 30),
    "tower-inputs-demo": Table("tower_inputs.py demo", "what the towers are told", 30),
    "tower-inputs-beauty": Table("tower_inputs.py beauty", "the same on beauty", 60),
    "ablations-ml-100k": Table("ablations.py ml-100k", "tasks, scales, attacks", 60),
    "ablations-toys": Table("ablations.py toys", "the same on toys", 60),
    "ablations-lastfm": Table("ablations.py lastfm", "the same on lastfm", 60),
    "text-encoder": Table("text_encoder.py", "text encoders: speed and retrieval", 15),
    "deletion": Table("deletion.py", "do reasons carry the score", 20),
    "zero-shot": Table("zero_shot.py", "items and users never seen", 60),
    "ann-vectors": Table("ann.py vectors --hnsw", "indexes of 10⁶ vectors: recall and time", 15),
    "ann-fused": Table("ann.py fused", "candidates of a fused run of 10⁶ items", 30),
    "cluster": Table("cluster.py lastfm", "PCT on a simulated cluster beside one process", 5),
    "cluster-amazon3": Table("cluster.py amazon3", "the same on amazon3", 30),
    "growth": Table("growth.py sizes", "time and memory against interactions", 10),
    "growth-domains": Table("growth.py domains", "time against domains", 30),
    "robustness": Table("robustness.py --rows {out}/robustness", "domains of noise, of lies", 240),
    "poisoning": Table("poisoning.py", "fake profiles", 60),
    "serve": Table("serve.py", "the service under load; needs wrk", 20),
    "soak": Table("serve.py --soak 30", "half an hour of requests: memory; needs wrk", 40),
    "store": Table("store.py --databases sqlite", "the event store: events a second", 2),
    "fuzz": Table("fuzz.py", "spoilt bodies against the service", 15),
    "sentiment": Table("opinion_sentiment.py AllAgree 75Agree --curve", "financial sentences", 10),
    "forecast": Table("opinion_watch.py forecast stocknet", "opinions: the next window", 10),
    "forecast-made": Table("opinion_watch.py forecast made", "the same on made series", 10),
    "opinion-events": Table("opinion_watch.py events", "alerts and the market", 5),
    "shocks": Table("opinion_watch.py shocks", "detection of made shocks", 10),
    "support": Table("support.py few all atec", "customer service: banking77, atec", 30),
}  # fmt: skip


def machine() -> dict[str, Any]:
    """Return what stands beside every number: machine, versions, commit, time."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "processor": model[1] if model else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory, 1),
        "load": os.getloadavg(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": sorted(f"{d.name}=={d.version}" for d in distributions()),
    }


def script(name: str, out: Path, envs: Path | None) -> None:
    """Run the script of a table, unless it has been; keep what it said.

    Raises RuntimeError where it fails.
    """
    record, said = out / f"{name}.json", out / f"{name}.txt"
    if record.exists() and json.loads(record.read_text())["status"] == 0:
        print(f"{name}: is there", file=sys.stderr)
        return
    pythons = {peer: str(environments.python(peer, envs)) for peer in TABLES[name].peers}
    words = TABLES[name].command.format(out=out, **pythons).split()
    began, before = time.time(), machine()
    print(f"{name}: {' '.join(words)}", file=sys.stderr, flush=True)
    with said.open("w") as file:
        command = [sys.executable, str(HERE / words[0]), *words[1:]]
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT)
    peers = {peer: environments.versions(Path(path)) for peer, path in pythons.items()}
    found = {"command": words, "status": done.returncode, "wall": time.time() - began}
    quality.write(record, found | {"machine": before, "peers": peers})
    print(said.read_text())
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}; see {said}")


def beside(name: str, peer: str, options: argparse.Namespace) -> None:
    """Measure a peer on a set, as far as that has not been done."""
    if not quality.models(name, peer):
        return
    out = options.out / "quality"
    (out / name).mkdir(parents=True, exist_ok=True)
    ours = peer == "ours"
    python = Path(sys.executable) if ours else environments.python(peer, options.envs)
    used = {"trials": options.trials, "limit": options.budget, "seeds": options.seeds}
    about = {**used, "machine": machine(), "peer": environments.versions(python)}
    quality.write(out / name / f"{peer}.json", about)
    quality.measure(name, peer, python, out, **used, only=options.model)


def chosen(only: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the scripts, and the sets with their peers, that the words name; all by default.

    Raises ValueError for a word that names nothing.
    """
    scripts: list[str] = []
    sets: dict[str, list[str]] = {}
    for word in only or [*TABLES, "quality"]:
        kind, _, rest = word.partition("/")
        name, _, peer = rest.partition("/")
        if word in TABLES:
            scripts.append(word)
        elif kind == "quality" and name in ("", *quality.TASKS) and peer in ("", *quality.PEERS):
            for each in [name] if name else quality.TASKS:
                sets.setdefault(each, []).extend([peer] if peer else quality.PEERS)
        else:
            raise ValueError(f'"{word}" names no table, set or peer; see --list')
    return scripts, sets


def listed() -> str:
    """Return the table of commands."""
    lines = [f"{'table':<20} {'minutes':>7}  {'peers':<18} what it shows, and its script"]
    for name, each in TABLES.items():
        peers = ", ".join(each.peers)
        lines.append(f"{name:<20} {each.minutes:>7}  {peers:<18} {each.shows}: {each.command}")
    lines.append(f"quality/SET/PEER, SET: {', '.join(quality.TASKS)}")
    return "\n".join([*lines, f"PEER: {', '.join(quality.PEERS)}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", default=[], metavar="TABLE[/SET[/PEER]]")
    parser.add_argument("--model", default="", help="quality: models whose name holds this")
    parser.add_argument("--budget", type=int, default=120, help="processor seconds of a trial")
    parser.add_argument("--trials", type=int, default=8, help="settings tried for each model")
    parser.add_argument("--seeds", default="0,1,2", help="of the fits that are tested")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--envs", type=Path, help="folder of the peers' environments")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--show", action="store_true", help="print what is in --out; run nothing")
    options = parser.parse_args()
    if options.list:
        print(listed())
        return
    options.seeds = [int(seed) for seed in options.seeds.split(",")]
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        scripts, sets = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    steps = [] if options.show else [partial(beside, n, p, options) for n in sets for p in sets[n]]
    if not options.show:
        steps += [partial(script, name, options.out, options.envs) for name in scripts]
    problems = []
    for step in steps:
        try:
            step()
        except (RuntimeError, SystemExit) as error:  # a set that is missing ends with a sentence
            print(error, file=sys.stderr, flush=True)
            problems.append(str(error))
    for folder in (options.out / "quality" / name for name in sets):
        if folder.exists():
            print(quality_tables.shown(folder), end="\n\n")
    if problems:
        sys.exit("\n".join(["Not all was done:", *problems]))


if __name__ == "__main__":
    main()

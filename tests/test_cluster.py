"""On a simulated cluster of three machines: the same results, whatever dies on the way."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("ray")

from m6rec.arrays import State
from m6rec.cli.app import app
from m6rec.cli.training import joined
from m6rec.data.dataset import Dataset
from m6rec.data.splits import Split
from m6rec.errors import ClusterError, ConfigError
from m6rec.evaluation import evaluate
from m6rec.models import judges, transfer
from m6rec.models.base import Recipe
from m6rec.models.graph import Graph
from m6rec.models.neighbours import Neighbours, RP3Beta
from m6rec.models.pct import Pct
from m6rec.models.transfer import Local
from m6rec.pool import HERE, Pool, cut
from m6rec.tracking import Run
from shop import write_shop
from world import world

# Of the processes of machines that were taken away nobody asks how they ended.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")
RECIPE = Pct(
    dim=8,
    sweeps=4,
    text_dim=0,
    domains={
        "films": Local(reg=0.5, nu=0.5, omega={"books": 1.0}),
        "books": Local(reg=0.5, nu=0.5, omega={"films": 0.3}),
    },
)
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    machine = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=machine)
    for _ in range(2):
        cluster.add_node(wait=False, **machine)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    gc.collect()


@pytest.fixture
def pool(cluster: Any) -> Pool:
    from m6rec.cluster.nodes import RayPool

    return RayPool(3)


def assert_equal(found: State, wanted: State) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        scale = np.abs(value).max(initial=0)
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4 * scale, err_msg=name)


def divided(data: Dataset) -> Split:
    return Split.by_mask(data, np.arange(len(data)) % 5 == 0)


class Through:
    """A pool that does something of its own before the n-th call of ``map``."""

    def __init__(
        self, pool: Pool, n: int = 0, happens: Callable[[Any], Any] = lambda function: function
    ) -> None:
        self.pool, self.n, self.happens, self.size = pool, n, happens, pool.size
        self.calls = 0

    def share(self, value: Any) -> Any:
        return self.pool.share(value)

    def map(self, function: Callable[..., Any], pieces: Iterable[tuple[Any, ...]]) -> Any:
        self.calls += 1
        return self.pool.map(self.happens(function) if self.calls == self.n else function, pieces)


def killed_once(function: Callable[..., Any], mark: Path) -> Callable[..., Any]:
    """The function, but the first process that comes to it dies."""

    def dies(*piece: Any) -> Any:
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*piece)

    return dies


def test_rows_are_cut_into_runs_of_equal_cost() -> None:
    assert cut(np.array([5, 1, 1, 1, 1, 1]), 2).tolist() == [0, 1, 6]
    assert cut(np.ones(2), 5).tolist() == [0, 1, 2]
    assert cut(np.zeros(0), 3).tolist() == [0, 0]
    assert cut(np.ones(7), 1).tolist() == [0, 7]


def test_pieces_come_back_in_order_and_errors_as_they_were(pool: Pool) -> None:
    def piece(n: int, shared: np.ndarray) -> int:
        time.sleep(0.02 * (n % 2))
        if n == 11:
            raise ConfigError("dim = 0: must be at least 1")
        if n == 12:
            raise ModuleNotFoundError("No module named 'mine'")
        return n + int(shared[0])

    shared = pool.share(np.array([100]))
    assert list(pool.map(piece, ((n, shared) for n in range(9)))) == list(range(100, 109))
    with pytest.raises(ConfigError, match=r"^dim = 0: must be at least 1$"):
        list(pool.map(piece, [(11, shared)]))
    with pytest.raises(ClusterError, match=r"\(ModuleNotFoundError: No module named 'mine'\); see"):
        list(pool.map(piece, [(12, shared)]))


@pytest.mark.parametrize("explicit", [False, True])
def test_pct_and_its_metrics_are_those_of_one_machine(pool: Pool, explicit: bool) -> None:
    split = divided(world(explicit=explicit))
    here, there = Run(threads=1), Run(threads=1, pool=pool)
    alone, found = RECIPE.fit(split.train, here), RECIPE.fit(split.train, there)
    assert_equal(found.state(), alone.state())
    wanted = evaluate(alone, split, run=here)
    measured = evaluate(found, split, run=there)
    for name, rows in wanted.slices.items():
        for metric, values in rows.values.items():
            np.testing.assert_allclose(measured.slices[name].values[metric], values, atol=1e-6)


def test_options_are_learned_alike(monkeypatch: pytest.MonkeyPatch, pool: Pool) -> None:
    monkeypatch.setattr(transfer, "STRENGTHS", transfer.STRENGTHS[:2])
    monkeypatch.setattr(transfer, "ALPHAS", ())
    monkeypatch.setattr(judges, "HOLDOUTS", 1)
    data = world(n_users=40)
    recipe = Pct(dim=4, sweeps=2, attributes=False)
    alone, found = (recipe.fit(data, run).recipe for run in (Run(), Run(pool=pool)))
    assert alone == found


@pytest.mark.parametrize("recipe", [Neighbours(k=5), RP3Beta(k=5), Graph(dim=8)])
def test_other_models_are_those_of_one_machine(pool: Pool, recipe: Recipe) -> None:
    data = world()
    alone = recipe.fit(data, Run(threads=1)).state()
    assert_equal(recipe.fit(data, Run(threads=1, pool=pool)).state(), alone)


def test_a_killed_process_changes_nothing(pool: Pool, tmp_path: Path) -> None:
    data, mark = world(), tmp_path / "killed"
    wanted = RECIPE.fit(data, Run(threads=1)).state()
    deadly = Through(pool, 6, lambda function: killed_once(function, mark))
    assert_equal(RECIPE.fit(data, Run(threads=1, pool=deadly)).state(), wanted)
    assert mark.exists()


def test_a_lost_machine_changes_nothing(cluster: Any, pool: Pool) -> None:
    data = world()
    wanted = RECIPE.fit(data, Run(threads=1)).state()
    lost = list(cluster.worker_nodes)[-1]

    def loses(function: Callable[..., Any]) -> Callable[..., Any]:
        cluster.remove_node(lost, allow_graceful=False)
        return function

    assert_equal(RECIPE.fit(data, Run(threads=1, pool=Through(pool, 6, loses))).state(), wanted)
    assert lost not in cluster.worker_nodes


def test_what_ray_says_of_machines_is_not_among_the_results(
    cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from ray._private import worker

    from m6rec.cluster.nodes import connect

    connect(cluster.address)
    lost = {"lines": ["a machine is lost"], "pid": "raylet", "is_err": False}
    worker.print_to_stdstream(lost, ignore_prefix=False)
    said = capsys.readouterr()
    assert not said.out
    assert "a machine is lost" in said.err


def test_the_command_trains_there(cluster: Any, pool: Pool, tmp_path: Path) -> None:
    write_shop(tmp_path)
    models = "model={kind='pct', dim=4, sweeps=2, domains={films={}, books={}}}"
    given = ["train", str(tmp_path / "shop.toml"), "--set", models, "--json"]
    given += ["--set", "evaluate.baselines=[]", "--out"]
    here = CliRunner().invoke(app, [*given, str(tmp_path / "here")])
    there = [str(tmp_path / "there"), "--cluster", cluster.address]
    found = CliRunner().invoke(app, [*given, *there])
    assert not here.exit_code, here.output
    assert not found.exit_code, found.output
    wanted, measured = (json.loads(run.stdout)["models"]["pct"]["slices"] for run in (here, found))
    assert measured.keys() == wanted.keys()
    for name, row in wanted.items():
        for metric in ("ndcg@10", "recall@10"):
            assert measured[name][metric] == pytest.approx(row[metric], abs=1e-6)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense"])
def test_a_cluster_that_is_not_there_is_one_sentence(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from m6rec.cluster import nodes

    monkeypatch.setattr(nodes.ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigError, match=rf'cluster "{address}": cannot be joined .*--head'):
        nodes.connect(address)


def test_a_named_cluster_that_is_gone_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from m6rec.cluster import nodes

    monkeypatch.setattr(nodes.ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConfigError, match=r'cluster "127.0.0.1:1": cannot be joined'):
        nodes.connect("auto")


def test_without_ray_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("m6rec.cluster", "m6rec.cluster.nodes"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ConfigError, match=r'pip install "m6rec\[ray\]"'):
        joined("auto")


PROGRAM = """
import sys, time
sys.path.insert(0, "tests")
from test_cluster import RECIPE
from world import world
from m6rec import checkpoint
from m6rec.tracking import Run

checkpoint.EVERY = 0.0
write = checkpoint.Checkpoint.write

def slow(self):
    write(self)
    print(self.file, flush=True)
    time.sleep(60)

checkpoint.Checkpoint.write = slow
RECIPE.fit(world(), Run(threads=1))
"""


def test_a_killed_driver_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("M6REC_CACHE", str(tmp_path))
    program = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=ROOT) as driver:
        assert driver.stdout is not None
        file = Path(driver.stdout.readline().strip())
        driver.kill()
    assert file.is_file()
    rest, whole = Through(HERE), Through(HERE)
    found = RECIPE.fit(world(), Run(threads=1, pool=rest))
    assert not file.exists()
    wanted = RECIPE.fit(world(), Run(threads=1, pool=whole))
    for name, value in wanted.state().items():
        np.testing.assert_array_equal(found.state()[name], value)
    assert rest.calls == whole.calls - 2  # the sweep that was kept

"""On a simulated cluster of three machines: the same results, whatever dies on the way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")

from world import world  # noqa: E402

from m6rec.models.pct import Pct  # noqa: E402
from m6rec.models.transfer import Local  # noqa: E402
from m6rec.tracking import Run  # noqa: E402

DOMAINS = {
    "films": Local(reg=0.5, nu=0.5, omega={"books": 1.0}),
    "books": Local(reg=0.5, nu=0.5, omega={"films": 0.3}),
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    cluster.connect()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_pct(cluster: object) -> None:
    from m6rec.cluster.nodes import RayPool

    data, recipe = world(), Pct(dim=16, domains=DOMAINS)
    alone = recipe.fit(data, Run(threads=1)).state()
    pool = RayPool()
    assert pool.size == 3
    found = recipe.fit(data, Run(threads=1, pool=pool)).state()
    for name, value in alone.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4 * np.abs(value).max())

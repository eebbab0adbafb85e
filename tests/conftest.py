"""What holds for all tests: the cache is a folder of this session, never the user's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("M6REC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield

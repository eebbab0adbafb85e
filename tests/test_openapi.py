"""The OpenAPI document is kept: no request of its making fails, no answer is undocumented."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from newsroom import write_config
from service import made_run, serving

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance",
)  # fmt: skip


def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    watch = ("--opinion", str(write_config(tmp_path)))
    with serving(made_run(tmp_path), f"sqlite:///{tmp_path / 'm6rec.db'}", *watch) as server:
        command = [str(Path(sys.executable).with_name("schemathesis")), "run"]
        command += [f"{server.url}/v1/openapi.json", "--checks", ",".join(CHECKS)]
        command += ["--suppress-health-check", "filter_too_much"]  # ids that fit no path
        command += ["--max-examples", "40", "--seed", "1", "--generation-database", "none"]
        found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout[-3000:]
        with urllib.request.urlopen(f"{server.url}/v1/openapi.json") as answer:
            paths = json.load(answer)["paths"]
        assert f"Tested: {sum(map(len, paths.values()))}" in found.stdout

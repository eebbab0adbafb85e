"""The documents: their code runs, their links resolve, and what is generated is current."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from shutil import which
from typing import Any, NamedTuple

import pytest

import m6rec
from m6rec import config
from m6rec.experiment import Experiment
from m6rec.models.base import KINDS
from m6rec.opinion.config import OpinionConfig

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]
NAMES = sorted(str(page.relative_to(ROOT)) for page in PAGES)
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = {"python", "sh", "toml"}  # "console" is for commands that a test must not run
FIGURE = re.compile(
    r"(?<![\w.=])(?<!Python )\d*\.\d{2,}\b|\b\d[\d.,]* ?(s|ms|seconds|minutes|[KMG]i?B|×)\b"
)
COMMAND = re.compile(r"`[^`]*(m6rec |make |python |pytest|benchmarks/\w+\.py)[^`]*`")


class Block(NamedTuple):
    """A fenced block. line: where its text begins in the page. shows: it is "text" and stands
    right below code, so it is what the code prints."""

    language: str
    text: str
    line: int
    shows: bool

    @property
    def file(self) -> str:
        """The file that a first line such as ``# shop.toml`` says the block is."""
        found = re.match(r"# (\w[\w.-]*\.(toml|py))\n", self.text)
        return found.group(1) if found else ""


def blocks(name: str) -> list[Block]:
    text = (ROOT / name).read_text(encoding="utf-8")
    found, end = [], 0
    for m in FENCE.finditer(text):
        shows = m.group(1) == "text" and bool(found) and not text[end : m.start()].strip()
        found.append(Block(m.group(1), m.group(2), text.count("\n", 0, m.start()) + 2, shows))
        end = m.end()
    return found


WITH_CODE = [name for name in NAMES if any(b.language in RUN for b in blocks(name))]


@pytest.mark.parametrize("name", WITH_CODE)
def test_code_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a reader would: block by block, in one folder that is empty at first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    namespace: dict[str, Any] = {"__name__": "docs"}
    shown = ""
    for block in blocks(name):
        where = f"{name}, line {block.line}"
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
        if block.language == "toml":
            table = tomllib.loads(block.text)
            if "opinion" in table:
                config.from_table(OpinionConfig, table.pop("opinion"), "opinion")
            config.from_table(Experiment, table)
        elif block.language == "python" and not block.file:
            shown = run_python(block, name, namespace)
        elif block.language == "sh":
            shown = run_shell(block, where)
        elif block.shows:
            heads = block.text.splitlines()[0].split()
            missing = set(heads) - set(shown.split())
            assert not missing, f"{where}: the code does not show {missing}, but\n{shown}"


def run_python(block: Block, name: str, namespace: dict[str, Any]) -> str:
    """Run in the page's namespace; a traceback names the line of the page."""
    out = io.StringIO()
    code = compile("\n" * (block.line - 1) + block.text, name, "exec")
    with contextlib.redirect_stdout(out):
        exec(code, namespace)
    return out.getvalue()


def run_shell(block: Block, where: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    one_core = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] if which("taskset") else []
    found = subprocess.run(  # small data is quickest on one core, above all on a busy machine
        [*one_core, "bash", "-euo", "pipefail", "-c", block.text],
        env={**os.environ, "PATH": path, "COLUMNS": "120"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, f"{where}:\n{found.stdout}\n{found.stderr}"
    return found.stdout


def generator() -> Any:
    """The module docs/generate.py."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", ["configuration.md", "models.md", "cli.md"])
def test_generated_pages_are_current(file: str) -> None:
    assert (DOCS / file).read_text(encoding="utf-8") == generator().PAGES[file](), (
        f"docs/{file} is not what the code says: run `make docs`"
    )


@pytest.mark.parametrize("name", NAMES)
def test_links_resolve(name: str) -> None:
    """Files exist, and anchors are headings of them."""
    page = ROOT / name
    slug = generator().slug
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name}: {target} leads nowhere"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(head) for head in heads}, f"{name}: no heading for {target}"


def test_every_kind_has_a_line_in_the_models_table() -> None:
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[`(\w+)`\]", text, re.MULTILINE)
    assert listed == list(KINDS)


def test_every_option_has_a_meaning() -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    silent = re.findall(r"^\| `(\w+)` .*\|\s*\|$", text, re.MULTILINE)
    assert not silent, f"options without a text in their docstring: {silent}"


def test_chinese_readme_has_the_same_commands() -> None:
    def commands(name: str) -> list[tuple[str, str]]:
        """Code without comments; what is printed is not compared."""
        return [
            (b.language, re.sub(r"\s*#.*", "", b.text))
            for b in blocks(name)
            if b.language in {*RUN, "console"}
        ]

    assert commands("README.md") == commands("README.zh-CN.md")


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_tree_is_what_is_there(name: str) -> None:
    (tree,) = [b.text for b in blocks(name) if b.text.startswith("src/m6rec/")]
    listed: set[str] = set()
    for line in tree.splitlines():
        names = re.split(r"\s{2,}", line.strip())[0].split()
        listed |= {f"src/m6rec/{each}" for each in names} if line[0] == " " else set(names)
    source = ROOT / "src" / "m6rec"
    wanted = {
        f"src/m6rec/{p.name}{'/' if p.is_dir() else ''}"
        for p in source.iterdir()
        if (p.is_dir() and any(p.glob("*.py"))) or p.suffix == ".py"
    }
    missing = wanted - listed - {"src/m6rec/__main__.py", "src/m6rec/__init__.py"}
    assert not missing, f"not in the tree: {missing}"
    gone = {each for each in listed if not (ROOT / each).exists()}
    assert not gone, f"in the tree, but not there: {gone}"


@pytest.mark.parametrize("name", NAMES)
def test_figures_name_their_command(name: str) -> None:
    """A paragraph, list entry or table row with a measured figure says which command gives it."""
    if name in {f"docs/{file}" for file in generator().PAGES}:
        return  # their numbers are defaults
    text = FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))
    text = text.partition("\n## On paper")[0]  # a plan, whose arithmetic stands there
    for paragraph in re.split(r"\n\s*\n|\n(?=\||- |\d+\. )", text):
        prose = re.sub(r"`[^`]*`|\([^)]*\)", "", paragraph)
        if FIGURE.search(prose):
            assert COMMAND.search(paragraph), f"{name}: which command gives this?\n{paragraph}"


def test_every_dependency_has_a_decision() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    wanted = {re.split(r"[\[<>=;]", each)[0] for group in (project["dependencies"], *extras)
              for each in group} - {"m6rec"}  # fmt: skip
    text = (DOCS / "decisions.md").read_text(encoding="utf-8")
    assert not {each for each in wanted if f"| {each} " not in text and f"`{each}`" not in text}


def test_changelog_has_this_version_first() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert versions[0] == m6rec.__version__
    groups = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert groups <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

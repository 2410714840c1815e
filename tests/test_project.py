"""What is written about the project is so: versions, requirements, commands, and no traces of a machine."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import prefcourse

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
# a path on a disk (/tmp/desk is inside the sandbox), or an address in a private network or on localhost with a path
TRACES = re.compile(
    r"(?<![\w.~/-])(?!/tmp/desk)/(?:work|root|home|Users|opt|mnt|srv|tmp)/[\w./-]+|file://|C:\\Users"
    r"|https?://(?:localhost|10\.|192\.168\.)[\w.:]*/"
)
PUBLIC_INDEX = "https://download.pytorch.org/whl/cpu"


def tracked_text_files() -> list[Path]:
    try:
        listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True, stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.split("\0") if name]
    return [f for f in files if f.is_file() and f.suffix not in {".png", ".parquet", ".gz"} and f != Path(__file__)]


def pins() -> dict[str, Version]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonical(name): Version(version) for name, version in (line.split("==") for line in lines)}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    extras = [line for group in project["optional-dependencies"].values() for line in group]
    named = [Requirement(line) for line in project["dependencies"] + extras]
    return [requirement for requirement in named if requirement.name != "prefcourse"]  # its own extras


def test_one_version():
    """pyproject takes it from the package; the changelog opens with it."""
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "prefcourse/__init__.py"
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest.group(1) == prefcourse.__version__


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_requirements_have_a_floor_and_the_tested_version_fits(requirement):
    assert any(specifier.operator == ">=" for specifier in requirement.specifier)
    assert pins()[canonical(requirement.name)] in requirement.specifier


def test_constraints_pin_public_versions_only():
    """A local version such as 2.13.0+cpu exists on some indexes only."""
    assert all(version.local is None for version in pins().values())


def test_no_lock_file():
    assert not [file.name for file in tracked_text_files() if file.suffix == ".lock"]


def test_no_traces_of_a_machine():
    traces = {
        f"{file.relative_to(ROOT)}: {match.group()}"
        for file in tracked_text_files()
        if "corpus" not in str(file.relative_to(ROOT))  # hostile submissions name places on purpose
        for match in TRACES.finditer(file.read_text(errors="replace"))
    }
    assert traces == set()


def test_no_package_index_but_the_public_one():
    for file in tracked_text_files():
        for line in file.read_text(errors="replace").splitlines():
            if re.search(r"index-url|find-links|UV_INDEX|whl/", line) and file.suffix != ".ipynb":
                assert PUBLIC_INDEX in line or "$(CPU_TORCH)" in line, f"{file.name}: {line}"


def test_commands_of_the_documents_exist():
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md", ".ci/run"):
        text = (ROOT / document).read_text()
        called = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))
        assert called and called <= targets, document
    settings = set(re.findall(r"make \w+ ([A-Z_]+)=", README))
    assert settings <= set(re.findall(r"^([A-Z_]+) \?=", MAKEFILE, re.MULTILINE))


def test_ci_runs_the_readmes_test_command():
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "make test"
    assert ".ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text()


def test_files_of_the_map_exist():
    section = README.split("## The map")[1].split("\n## ")[0]
    first_column = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    paths = [path for cell in first_column for path in re.findall(r"`([^`]+)`", cell)]
    assert len(paths) > 10
    missing = [p for p in paths if not any((base / p).exists() for base in (ROOT, ROOT / "prefcourse"))]
    assert missing == []

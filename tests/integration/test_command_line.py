"""The `draftpool` command as people and their scripts meet it: real processes, the embedded models."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

START_TIMEOUT_S = 120
PROMPT = "Question: Mia has 4 bags with 6 marbles in each. How many marbles does she have?\nAnswer:"
NOBODY = "127.0.0.1:1"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "draftpool", *arguments]


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        env={**os.environ, **environment},
        check=False,
    )


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@dataclass
class Up:
    """A running `draftpool up` and what it has printed so far."""

    process: subprocess.Popen[bytes]
    output_path: Path

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    @property
    def address(self) -> str:
        match = re.search(r"answers at (\S+)", self.output)
        assert match is not None, self.output
        return match[1]

    @property
    def children(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def wait_ready(self) -> None:
        is_over = lambda: "Ready" in self.output or self.process.poll() is not None  # noqa: E731
        assert wait_until(is_over, START_TIMEOUT_S), self.output
        assert self.process.poll() is None, self.output


def start_up(folder: Path, *options: str) -> Up:
    output_path = folder / "output.txt"
    with output_path.open("wb") as output:
        process = subprocess.Popen(
            command("up", "--listen", "127.0.0.1:0", "--log-dir", str(folder / "logs"), *options),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Up(process, output_path)


@pytest.fixture
def up_in(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts `draftpool up` and makes sure that nothing of it outlives the test."""
    started: list[Up] = []

    def start(*options: str) -> Up:
        started.append(start_up(tmp_path, *options))
        return started[-1]

    yield start
    for up in started:
        up.process.kill()
        up.process.wait()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """The default stack; when all tests are done, Ctrl-C must end it cleanly."""
    up = start_up(tmp_path_factory.mktemp("up"))
    try:
        up.wait_ready()
        yield up
        children = up.children
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(30) == 0, up.output
        assert wait_until(lambda: not any(map(is_running, children)), 10)
    finally:
        up.process.kill()
        up.process.wait()


def generate(up: Up, *options: str, prompt: str = PROMPT) -> subprocess.CompletedProcess[str]:
    return run("generate", prompt, "--address", up.address, "--max-new-tokens", "40", *options)


def test_up_runs_a_redis_a_drafter_two_verifiers_and_an_orchestrator(served: Up) -> None:
    assert len(served.children) == 6, "and who watches over the redis"
    for name in ("redis", "drafter", "verifier tiny-llama", "verifier tiny-neox", "orchestrator"):
        assert f"✓ {name} ready" in served.output


def test_models_names_what_is_served(served: Up) -> None:
    result = run("models", "--address", served.address)
    assert result.returncode == 0
    assert re.search(r"tiny-llama +llama .*100% of vocabulary", result.stdout)
    assert re.search(r"tiny-neox +gpt_neox ", result.stdout)


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-neox"])
def test_a_pipe_gets_plain_text_alone(served: Up, model: str) -> None:
    result = generate(served, "--model", model, "--temperature", "0")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    assert len(result.stdout) > 20
    assert result.stdout.endswith("\n")


def test_the_prompt_can_come_from_standard_input(served: Up) -> None:
    options = ("--address", served.address, "--model", "tiny-llama", "--seed", "3", "-n", "20")
    assert run("generate", "-", *options, stdin=PROMPT).stdout == run("generate", PROMPT, *options).stdout


def test_json_has_one_event_a_line(served: Up) -> None:
    result = generate(served, "--model", "tiny-neox", "--seed", "5", "--json", "--stats", "--shape", "2,1")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[0] == events[0] | {"event": "start", "seed": 5}
    assert events[-1]["event"] == "finish"
    rounds = [event for event in events if event["event"] == "round"]
    assert rounds[0]["shape"] == [2, 1]
    assert sum(event["event"] == "token" for event in events) == events[-1]["usage"]["num_new_tokens"]
    assert "tokens per verify pass" in result.stderr


def test_an_answer_can_be_held_to_a_schema_and_asked_for_its_alternatives(served: Up, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "array", "items": {"enum": ["red", "blue"]}, "minItems": 1, "maxItems": 3}')
    options = ("--model", "tiny-llama", "--seed", "4", "--json-schema", str(schema), "--json", "--logprobs", "2")
    result = run("generate", PROMPT, "--address", served.address, *options)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    tokens = [event for event in events if event["event"] == "token"]
    assert set(json.loads("".join(token["text"] for token in tokens))) <= {"red", "blue"}
    assert all(token["logprob"] <= 0 and len(token["top_logprobs"]) == 2 for token in tokens)
    assert events[-1]["reason"] == "eos"


def test_without_drafting_nothing_is_drafted(served: Up) -> None:
    events = [
        json.loads(line)
        for line in generate(served, "--model", "tiny-llama", "--seed", "5", "--no-draft", "--json").stdout.splitlines()
    ]
    assert events[-1]["usage"]["num_drafted_nodes"] == 0
    assert not any(event.get("drafted") for event in events)


def test_a_text_accepted_by_rejection_repeats_with_its_seed_and_its_shape(served: Up) -> None:
    options = ("--model", "tiny-llama", "--seed", "5", "--shape", "2,1")
    first, again = (generate(served, *options, "--acceptance", "rejection").stdout for _ in range(2))
    assert first == again
    assert first != generate(served, *options, "--acceptance", "coupled").stdout


def test_text_ends_before_a_stop_string(served: Up) -> None:
    whole = generate(served, "--model", "tiny-llama", "--temperature", "0").stdout
    stop = whole.strip().split(" ")[3]
    assert generate(served, "--model", "tiny-llama", "--temperature", "0", "--stop", stop).stdout == (
        whole[: whole.index(stop)] + "\n"
    )


def test_where_several_models_are_served_one_must_be_chosen(served: Up) -> None:
    result = generate(served)
    assert result.returncode == 2
    assert "choose one of tiny-llama, tiny-neox" in result.stderr


def test_an_unknown_model_is_one_sentence(served: Up) -> None:
    result = generate(served, "--model", "nonsense")
    assert result.returncode == 1
    assert result.stderr == "Error: no target is called 'nonsense'; served here: tiny-llama, tiny-neox\n"


def test_interrupting_a_generation_leaves_the_service_as_it_was(served: Up) -> None:
    process = subprocess.Popen(
        command("generate", PROMPT, "--address", served.address, "--model", "tiny-llama", "-n", "1500"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=20)
    assert process.returncode == 130
    assert messages.decode().strip() == "cancelled"
    assert generate(served, "--model", "tiny-llama", "--seed", "1").returncode == 0


def test_a_dead_drafter_is_said_and_replaced_while_generation_goes_on(served: Up) -> None:
    [pid] = [pid for pid in served.children if "drafter" in psutil.Process(pid).cmdline()]
    before = generate(served, "--model", "tiny-llama", "--temperature", "0").stdout
    os.kill(pid, signal.SIGKILL)
    assert generate(served, "--model", "tiny-llama", "--temperature", "0").stdout == before
    assert wait_until(lambda: "✗ drafter was killed by signal 9; starting it again in 1 s" in served.output, 10)
    assert wait_until(lambda: served.output.count("✓ drafter ready") == 2, START_TIMEOUT_S)
    drafts = lambda: '"drafted": true' in generate(served, "--model", "tiny-llama", "--shape", "2,1", "--json").stdout  # noqa: E731
    assert wait_until(drafts, 20)


def test_a_dead_redis_is_said_and_replaced_while_generation_goes_on(served: Up) -> None:
    [pid] = [pid for pid in served.children if "redis-server" in psutil.Process(pid).name()]
    os.kill(pid, signal.SIGKILL)
    assert generate(served, "--model", "tiny-llama", "--temperature", "0").returncode == 0
    said = "✗ redis was killed by signal 9; starting it again in 1 s; the orchestrator goes on learning alone"
    assert wait_until(lambda: said in served.output, 10)
    assert wait_until(lambda: served.output.count("✓ redis ready") == 2, 20)


def test_nothing_outlives_an_up_that_was_killed(up_in: Callable[..., Up]) -> None:
    up = up_in("--target", "tiny-neox")
    up.wait_ready()
    children = up.children
    assert len(children) == 5, "redis, who watches over it, drafter, verifier, orchestrator"
    up.process.kill()
    assert wait_until(lambda: not any(map(is_running, children)), 10)


def test_nothing_outlives_an_up_that_was_killed_while_models_load(up_in: Callable[..., Up]) -> None:
    up = up_in("--target", "tiny-neox", "--no-redis")
    assert wait_until(lambda: len(up.children) == 2, 20), up.output
    children = up.children
    time.sleep(1)  # let them come so far that they watch their parent
    up.process.kill()
    assert wait_until(lambda: not any(map(is_running, children)), START_TIMEOUT_S)
    assert "Ready" not in up.output


def test_up_can_be_interrupted_while_models_load(up_in: Callable[..., Up]) -> None:
    up = up_in("--target", "tiny-neox", "--no-drafter", "--no-redis")
    assert wait_until(lambda: len(up.children) == 1, 20), up.output
    children = up.children
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(30) == 0, up.output
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

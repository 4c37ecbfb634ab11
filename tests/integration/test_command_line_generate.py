"""`draftpool generate` and `models` against a service that runs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.integration.command_line import PROMPT, Up, command, generate, run, wait_until


def test_models_names_what_is_served(served: Up) -> None:
    result = run("models", "--address", served.address)
    assert result.returncode == 0
    assert re.search(r"tiny-llama +llama .*for 100%", result.stdout)
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


def test_by_the_other_rule_of_acceptance_another_text_comes_of_the_same_seed(served: Up) -> None:
    options = ("--model", "tiny-llama", "--seed", "5", "--shape", "2,1")
    coupled = generate(served, *options, "--acceptance", "coupled").stdout
    is_another = lambda: generate(served, *options, "--acceptance", "rejection").stdout not in ("", coupled)  # noqa: E731
    assert wait_until(is_another, 120), "rounds whose draft comes too late choose as the coupled rule does, but not all"


def test_text_ends_before_a_stop_string(served: Up) -> None:
    whole = generate(served, "--model", "tiny-llama", "--temperature", "0").stdout
    stop = whole.strip().split(" ")[3]
    assert generate(served, "--model", "tiny-llama", "--temperature", "0", "--stop", stop).stdout == (
        whole[: whole.index(stop)] + "\n"
    )


def test_a_text_can_go_on_after_the_model_has_ended_it(served: Up) -> None:
    options = ("--model", "tiny-llama", "--seed", "1", "--shape", "2,1", "-n", "300", "--json")
    ends = [generate(served, *options, *more).stdout.splitlines()[-1] for more in ((), ("--ignore-eos",))]
    assert [json.loads(end)["reason"] for end in ends] == ["eos", "length"]


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
        command("generate", PROMPT, "--address", served.address, "--model", "tiny-llama", "-n", "1500", "--ignore-eos"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        # A shell that started the tests in its background has them, and their children, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert messages.decode().strip() == "cancelled"
    assert generate(served, "--model", "tiny-llama", "--seed", "1").returncode == 0

"""The law: what is drafted changes the speed and never a token. Embedded models, float32, real processes."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from draftpool.cli.plan import EMBEDDED_TARGETS
from draftpool.client import NO_DRAFT, BestFirst, Client, TreeShape
from draftpool.embedded import embedded_path
from draftpool.errors import BadParameter
from draftpool.tree import chain
from orchestrator.settings import DEFAULT_ARMS
from tests.integration.probes import QUESTION

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMPTS = [
    QUESTION,
    "Question: A pen costs $2 and a book costs $7. How much do 4 pens and 2 books cost?\nAnswer:",
    "def add(a, b):\n",
]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "answer": {"type": "integer", "minimum": 0, "maximum": 999},
    },
    "required": ["name", "answer"],
    "additionalProperties": False,
}
SAMPLINGS = {
    "greedy": {"temperature": 0.0},
    "temperature 1": {"temperature": 1.0, "seed": 5},
    "temperature 0.7": {"temperature": 0.7, "seed": 6},
    "top-p 0.9": {"temperature": 1.0, "top_p": 0.9, "seed": 7},
    "min-p, typical-p": {"temperature": 1.2, "min_p": 0.05, "typical_p": 0.9, "seed": 8},
    "lists": {
        "temperature": 1.0,
        "frequency_penalty": 0.8,
        "logit_bias": {11: 2.0, 500: -3.0},
        "banned_token_ids": list(range(1000, 2000)),
        "stop_token_ids": [301],
        "min_new_tokens": 10,
        "seed": 9,
    },
    "JSON schema": {"temperature": 1.0, "json_schema": SCHEMA, "repetition_penalty": 1.1, "seed": 10},
    "greedy, regex": {"temperature": 0.0, "presence_penalty": 0.5, "regex": r" [A-Z][a-z ]{5,30}\. \$\d{1,3}"},
    "top-k 20, top-p 0.9": {"temperature": 0.7, "top_k": 20, "top_p": 0.9, "seed": 2**64 - 1},
}


@pytest.mark.parametrize("target", EMBEDDED_TARGETS)
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS.keys())
async def test_every_arm_emits_the_tokens_of_plain_decoding(client: Client, target: str, sampling: dict) -> None:
    plain = await client.complete(target, QUESTION, max_new_tokens=40, drafting=NO_DRAFT, **sampling)
    for shape in [*DEFAULT_ARMS, None]:
        drafted = await client.complete(target, QUESTION, max_new_tokens=40, drafting=shape, **sampling)
        assert drafted.token_ids == plain.token_ids, shape
        assert drafted.text == plain.text


@pytest.mark.parametrize("target", EMBEDDED_TARGETS)
async def test_greedy_output_is_that_of_transformers_generate(client: Client, target: str) -> None:
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(embedded_path(target), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(embedded_path(target))
    for prompt in PROMPTS:
        inputs = tokenizer(prompt, return_tensors="pt")
        output = model.generate(**inputs, do_sample=False, max_new_tokens=48)
        expected = tuple(output[0, inputs.input_ids.shape[1] :].tolist())
        completion = await client.complete(target, prompt, temperature=0, max_new_tokens=48)
        assert completion.token_ids == expected


@pytest.mark.parametrize("target", EMBEDDED_TARGETS)
async def test_drafts_are_accepted(client: Client, target: str) -> None:
    """Without this, the laws above would hold for a drafter that proposes nonsense."""
    drafted = await client.complete(
        target, QUESTION, max_new_tokens=64, temperature=0, drafting=DEFAULT_ARMS[-2], ignore_eos=True
    )
    assert drafted.finish.usage.tokens_per_pass > 1.5
    assert sum(token.drafted for token in drafted.tokens) == drafted.finish.usage.num_accepted_tokens


@pytest.mark.parametrize("target", EMBEDDED_TARGETS)
async def test_under_the_rejection_rule_seed_and_shape_make_the_text(client: Client, target: str) -> None:
    options = {"max_new_tokens": 64, "seed": 5, "ignore_eos": True, "acceptance": "rejection"}
    for shape in (chain(4), TreeShape((3, 2, 2, 1, 1))):
        first = await client.complete(target, QUESTION, drafting=shape, **options)
        again = await client.complete(target, QUESTION, drafting=shape, **options)
        assert again.token_ids == first.token_ids
        usage = first.finish.usage
        assert usage.num_new_tokens == len(first.tokens) == 64
        assert sum(token.drafted for token in first.tokens) == usage.num_accepted_tokens
        assert usage.num_drafted_nodes > usage.num_accepted_tokens
        assert usage.tokens_per_pass > 1.5


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS.keys())
async def test_without_drafts_both_rules_are_one(client: Client, sampling: dict) -> None:
    options = {"max_new_tokens": 24, "drafting": NO_DRAFT, **sampling}
    coupled, rejection = [
        await client.complete("tiny-neox", QUESTION, acceptance=acceptance, **options)
        for acceptance in ("coupled", "rejection")
    ]
    assert rejection.token_ids == coupled.token_ids


async def test_under_the_rejection_rule_a_grammar_holds_and_the_bandit_finds_shapes(client: Client) -> None:
    max_new_tokens = (
        500  # however long the name and all the whitespace that a grammar allows: texts differ from run to run
    )
    for seed in range(4):
        completion = await client.complete(
            "tiny-neox", QUESTION, max_new_tokens=max_new_tokens, json_schema=SCHEMA, seed=seed, acceptance="rejection"
        )
        assert completion.finish.reason == "eos"
        assert json.loads(completion.text).keys() == {"name", "answer"}


async def test_the_rejection_rule_has_no_best_first_trees(client: Client) -> None:
    with pytest.raises(BadParameter, match="fixed branching"):
        await client.complete("tiny-llama", QUESTION, drafting=BestFirst(8, 4), acceptance="rejection")


async def test_a_drawn_seed_is_reported_and_repeats_the_output(client: Client) -> None:
    first = await client.complete("tiny-llama", QUESTION, max_new_tokens=24)
    again = await client.complete("tiny-llama", QUESTION, max_new_tokens=24, seed=first.start.seed, drafting=NO_DRAFT)
    other = await client.complete("tiny-llama", QUESTION, max_new_tokens=24)
    assert again.token_ids == first.token_ids
    assert other.start.seed != first.start.seed


@pytest.mark.parametrize("acceptance", ["coupled", "rejection"])
async def test_logprobs_are_the_targets_own(client: Client, acceptance: str) -> None:
    completion = await client.complete(
        "tiny-llama", QUESTION, max_new_tokens=16, temperature=0.7, want_logprobs=True, acceptance=acceptance
    )
    model = AutoModelForCausalLM.from_pretrained(embedded_path("tiny-llama"), dtype=torch.float32)
    prompt = AutoTokenizer.from_pretrained(embedded_path("tiny-llama"))(QUESTION)["input_ids"]
    logits = model(torch.tensor([prompt + list(completion.token_ids)])).logits[0, len(prompt) - 1 : -1]
    expected = logits.log_softmax(-1).gather(-1, torch.tensor(completion.token_ids)[:, None])[:, 0]
    torch.testing.assert_close(
        torch.tensor([token.logprob for token in completion.tokens]), expected, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("target", EMBEDDED_TARGETS)
async def test_a_text_under_a_json_schema_is_json_of_that_schema(client: Client, target: str) -> None:
    for seed in range(4):
        completion = await client.complete(target, QUESTION, max_new_tokens=200, json_schema=SCHEMA, seed=seed)
        assert completion.finish.reason == "eos"
        value = json.loads(completion.text)
        assert value.keys() == {"name", "answer"}
        assert len(value["name"]) <= 12
        assert 0 <= value["answer"] <= 999


async def test_a_stop_token_ends_the_text_with_itself(client: Client) -> None:
    whole = await client.complete("tiny-llama", QUESTION, max_new_tokens=40, temperature=0)
    stop = whole.token_ids[20]
    cut = await client.complete("tiny-llama", QUESTION, max_new_tokens=40, temperature=0, stop_token_ids=[stop])
    assert cut.token_ids == whole.token_ids[: whole.token_ids.index(stop) + 1]
    assert (cut.finish.reason, cut.finish.matched_stop_token_id) == ("stop", stop)


async def test_the_most_probable_tokens_come_with_their_text(client: Client) -> None:
    completion = await client.complete("tiny-neox", QUESTION, max_new_tokens=12, temperature=0, num_top_logprobs=3)
    for token in completion.tokens:
        best = token.top_logprobs[0]
        assert (best.id, best.logprob) == (token.id, pytest.approx(token.logprob, abs=1e-5))
        assert [top.logprob for top in token.top_logprobs] == sorted(
            (top.logprob for top in token.top_logprobs), reverse=True
        )
    assert "".join(token.top_logprobs[0].text for token in completion.tokens) == completion.text


async def test_a_grammar_that_is_wrong_is_the_clients_mistake(client: Client) -> None:
    with pytest.raises(BadParameter, match="Invalid type"):
        await client.complete("tiny-llama", QUESTION, json_schema={"type": "foo"})


async def test_a_stop_string_ends_the_text_before_it(client: Client) -> None:
    whole = await client.complete("tiny-neox", QUESTION, max_new_tokens=64, temperature=0)
    stop = whole.text[20:27]
    cut = await client.complete("tiny-neox", QUESTION, max_new_tokens=64, temperature=0, stop=["never seen", stop])
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert (cut.finish.reason, cut.finish.matched_stop) == ("stop", stop)


async def test_length_ends_exactly_where_asked(client: Client) -> None:
    for max_new_tokens in (1, 2, 7):
        completion = await client.complete("tiny-llama", QUESTION, max_new_tokens=max_new_tokens, ignore_eos=True)
        assert len(completion.tokens) == max_new_tokens
        assert completion.finish.reason == "length"

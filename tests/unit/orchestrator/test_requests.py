"""What is asked for is checked before it costs anything."""

from typing import Any

import pytest

from draftpool.errors import BadParameter, ContextTooLong, EmptyContext, TokenOutOfVocabulary, Unsupported
from draftpool.tree import NO_DRAFT, TreeShape
from draftpool.tree_policy import BestFirst
from draftpool.v1 import generation_pb2, sampling_pb2, tree_pb2, verifier_pb2
from draftpool.wire import policy_to_wire
from orchestrator.fair_queue import Priority
from orchestrator.fleet import Target
from orchestrator.requests import CheckedRequest, check_request, priority_of
from tests.unit.orchestrator.fake_services import VOCABULARY, tokenizer


class CountingTarget(Target):
    """Counts how often it had to tokenise."""

    num_encoded = 0

    def encode(self, text: str) -> tuple[int, ...]:
        self.num_encoded += 1
        return super().encode(text)


@pytest.fixture
def target() -> CountingTarget:
    described = verifier_pb2.DescribeVerifierReply(model="alphabet", max_context_tokens=20, max_tree_nodes=16)
    return CountingTarget(described, VOCABULARY, tokenizer())


async def check(target: Target, **fields: object) -> CheckedRequest:
    return await check_request(generation_pb2.GenerateRequest(**({"text": "abc"} | fields)), target)


def ids(*token_ids: int) -> dict[str, object]:
    """Takes the place of the text: the last of a oneof's fields wins."""
    return {"token_ids": generation_pb2.TokenIds(ids=token_ids)}


async def test_a_text_is_encoded_and_token_ids_are_taken_as_they_are(target: Target) -> None:
    assert (await check(target, text="hello")).prompt_token_ids == (7, 4, 11, 11, 14)
    assert (await check(target, **ids(7, 26, 4))).prompt_token_ids == (7, 26, 4)


async def test_special_tokens_written_out_are_tokens_and_make_no_prompt_too_long(target: Target) -> None:
    assert (await check(target, text="</s>" * 19)).prompt_token_ids == (26,) * 19


async def test_a_text_that_cannot_fit_is_refused_without_tokenising_it(target: CountingTarget) -> None:
    with pytest.raises(ContextTooLong, match="bytes"):
        await check(target, text="a" * (target.max_prompt_bytes + 1))
    assert target.num_encoded == 0
    with pytest.raises(ContextTooLong, match="has 80 tokens; alphabet takes 20"):
        await check(target, text="a" * target.max_prompt_bytes)
    assert target.num_encoded == 1


@pytest.mark.parametrize("num_tokens", [20, 21, 10_000])
async def test_a_prompt_leaves_room_for_a_token(num_tokens: int, target: Target) -> None:
    with pytest.raises(ContextTooLong):
        await check(target, **ids(*[1] * num_tokens))


@pytest.mark.parametrize(
    "request_",
    [
        generation_pb2.GenerateRequest(),
        generation_pb2.GenerateRequest(text=""),
        generation_pb2.GenerateRequest(token_ids=generation_pb2.TokenIds()),
    ],
    ids=["unset", "no text", "no ids"],
)
async def test_a_prompt_is_not_empty(request_: generation_pb2.GenerateRequest, target: Target) -> None:
    with pytest.raises(EmptyContext):
        await check_request(request_, target)


async def test_token_ids_are_the_targets(target: Target) -> None:
    assert (await check(target, **ids(26))).prompt_token_ids == (26,)
    with pytest.raises(TokenOutOfVocabulary, match="27 is not below alphabet's 27 ids"):
        await check(target, **ids(1, 27))


@pytest.mark.parametrize(("asked", "granted"), [(1, 1), (17, 17), (18, 17), (2**32 - 1, 17), (None, 17)])
async def test_no_more_new_tokens_are_granted_than_there_is_room_for(
    asked: int | None, granted: int, target: Target
) -> None:
    assert (await check(target, max_new_tokens=asked)).limits.max_new_tokens == granted


async def test_at_least_one_new_token_must_be_wanted(target: Target) -> None:
    with pytest.raises(BadParameter, match="max_new_tokens"):
        await check(target, max_new_tokens=0)


async def test_as_many_and_as_long_stop_strings_as_the_contract_says_are_taken(target: Target) -> None:
    stop = ["é" * 1000, *"abcdefghijklmno"]
    assert (await check(target, stop=stop)).limits.stop == tuple(stop)


@pytest.mark.parametrize("stop", [["a"] * 17, [""], ["a", ""], ["a" * 1001]], ids=len)
async def test_other_stop_strings_are_refused(stop: list[str], target: Target) -> None:
    with pytest.raises(BadParameter, match="stop string"):
        await check(target, stop=stop)


async def test_a_request_without_a_seed_gets_one_and_a_seed_that_was_sent_is_kept(target: Target) -> None:
    drawn = {(await check(target)).params.seed for _ in range(4)}
    assert len(drawn) == 4
    assert (await check(target, sampling=sampling_pb2.SamplingParams(seed=2**64 - 1))).params.seed == 2**64 - 1


async def test_drafting_is_left_to_the_bandit_unless_it_is_off_or_a_shape_is_asked_for(target: Target) -> None:
    shape = TreeShape((3, 2))
    policy = policy_to_wire(shape)
    assert (await check(target)).fixed_shape is None
    assert (await check(target, drafting=generation_pb2.Drafting(off=False))).fixed_shape is None
    assert (await check(target, drafting=generation_pb2.Drafting(off=True))).fixed_shape == NO_DRAFT
    assert (await check(target, drafting=generation_pb2.Drafting(policy=policy))).fixed_shape == shape


async def test_a_shape_that_the_target_cannot_verify_is_refused(target: Target) -> None:
    policy = policy_to_wire(TreeShape((4, 4)))
    with pytest.raises(BadParameter, match="has 20 nodes; alphabet verifies at most 16"):
        await check(target, drafting=generation_pb2.Drafting(policy=policy))


@pytest.mark.parametrize(
    "unsupported",
    [
        {"acceptance_rule": 99},
        {"drafting": generation_pb2.Drafting(policy=tree_pb2.TreePolicy())},
    ],
    ids=["rule", "policy"],
)
async def test_what_this_version_does_not_have_is_refused_as_such(
    unsupported: dict[str, object], target: Target
) -> None:
    with pytest.raises(Unsupported):
        await check(target, **unsupported)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"sampling": {"stop_token_ids": [27]}}, TokenOutOfVocabulary),
        ({"sampling": {"logit_bias": {27: 1.0}}}, TokenOutOfVocabulary),
        ({"sampling": {"min_p": 2}}, BadParameter),
        ({"sampling": {"grammar": sampling_pb2.Grammar()}}, BadParameter),
        ({"sampling": {"min_new_tokens": 5}, "max_new_tokens": 4}, BadParameter),
        ({"sampling": {"grammar": sampling_pb2.Grammar(regex="a")}, "ignore_eos": True}, BadParameter),
        ({"num_top_logprobs": 21}, BadParameter),
    ],
    ids=["stop token", "biased token", "min-p", "no grammar", "min above max", "no end", "top"],
)
async def test_parameters_that_cannot_be_served_are_refused_before_anything_is_asked(
    asked: dict[str, object], error: type[Exception], target: Target
) -> None:
    with pytest.raises(error):
        await check(target, **asked)


async def test_the_rejection_rule_takes_fixed_trees_only(target: Target) -> None:
    rejection = {"acceptance_rule": sampling_pb2.ACCEPTANCE_RULE_REJECTION}
    best_first = {"drafting": generation_pb2.Drafting(policy=policy_to_wire(BestFirst(8, 4)))}
    with pytest.raises(BadParameter, match="fixed branching"):
        await check(target, **rejection, **best_first)
    checked = await check(target, **rejection, drafting={"policy": policy_to_wire(TreeShape((2, 2)))})
    assert (checked.is_rejection, checked.sampling_class, checked.fixed_shape) == (True, "rejection", TreeShape((2, 2)))


async def test_at_temperature_0_there_is_one_rule(target: Target) -> None:
    checked = await check(
        target,
        acceptance_rule=sampling_pb2.ACCEPTANCE_RULE_REJECTION,
        sampling={"temperature": 0},
        drafting={"policy": policy_to_wire(BestFirst(8, 4))},
    )
    assert (checked.is_rejection, checked.sampling_class) == (False, "greedy")


async def test_the_most_probable_tokens_come_with_log_probabilities(target: Target) -> None:
    checked = await check(target, num_top_logprobs=5)
    assert (checked.want_logprobs, checked.num_top_logprobs) == (True, 5)


async def test_tokens_of_the_answer_that_the_client_has_are_taken_over(target: Target) -> None:
    resumed = {"resume_token_ids": [3, 26], "sampling": sampling_pb2.SamplingParams(seed=1)}
    checked = await check(target, **resumed)
    assert checked.resumed_token_ids == (3, 26)
    assert checked.limits.max_new_tokens == 17
    assert (await check(target)).resumed_token_ids == ()


@pytest.mark.parametrize("sampling", [{"seed": 0}, {"temperature": 0}], ids=str)
async def test_resuming_needs_the_seed_unless_nothing_is_drawn(sampling: dict[str, float], target: Target) -> None:
    await check(target, resume_token_ids=[1], sampling=sampling_pb2.SamplingParams(**sampling))


@pytest.mark.parametrize(
    ("asked", "error", "sentence"),
    [
        ({"sampling": {"temperature": 0.5}}, BadParameter, "needs the seed that GenerationStart told"),
        ({"sampling": {}}, BadParameter, "needs the seed"),
        ({"resume_token_ids": [1, 27]}, TokenOutOfVocabulary, "27 is not below alphabet's 27 ids"),
        ({"resume_token_ids": [1, 2, 3], "max_new_tokens": 2}, BadParameter, "holds 3 tokens, .* at most 2"),
        ({"resume_token_ids": [1] * 18}, BadParameter, "holds 18 tokens, .* at most 17"),
    ],
)
async def test_what_cannot_be_resumed_is_refused(
    asked: dict[str, object], error: type[Exception], sentence: str, target: Target
) -> None:
    resumed = {"resume_token_ids": [1], "sampling": sampling_pb2.SamplingParams(seed=1)}
    with pytest.raises(error, match=sentence):
        await check(target, **resumed | asked)


@pytest.mark.parametrize(
    ("asked", "granted"),
    [(0, Priority.STANDARD), (1, Priority.INTERACTIVE), (2, Priority.STANDARD), (3, Priority.BATCH)],
)
def test_a_priority_is_standard_where_nothing_is_said(asked: Any, granted: Priority) -> None:
    assert priority_of(generation_pb2.GenerateRequest(priority=asked)) is granted


def test_a_priority_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadParameter, match="there is no priority 9"):
        priority_of(generation_pb2.GenerateRequest(priority=9))  # type: ignore[arg-type]

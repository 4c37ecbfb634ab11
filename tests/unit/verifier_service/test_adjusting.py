"""What comes before the temperature: against transformers' own processors, and along every path of a tree."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from draftpool.errors import BadParameter, TokenOutOfVocabulary
from draftpool.sampling import SamplingParams
from draftpool.tree import EMPTY_TREE, DraftTree
from verifier_service.choosing import Chooser, Question, choose_all

VOCAB_SIZE = 40
EOS = 39
PROMPT = [3, 4, 4, 5]


def chooser(*, eos=(EOS,), unused=(), **params) -> Chooser:
    return Chooser(
        SamplingParams(temperature=0, **params),
        VOCAB_SIZE,
        num_prompt_tokens=len(PROMPT),
        eos_token_ids=eos,
        unused_token_ids=unused,
    )


def random_logits(num_rows=1, seed=0) -> torch.Tensor:
    return 4 * torch.randn(num_rows, VOCAB_SIZE, generator=torch.Generator().manual_seed(seed))


def support(logits: torch.Tensor) -> list[set[int]]:
    return [set(torch.isfinite(row).nonzero()[:, 0].tolist()) for row in logits]


PROCESSORS = {
    "repetition": ({"repetition_penalty": 1.7}, RepetitionPenaltyLogitsProcessor(1.7)),
    "reward": ({"repetition_penalty": 0.6}, RepetitionPenaltyLogitsProcessor(0.6)),
    "bias": ({"logit_bias": ((3, 1.5), (7, -2.0))}, SequenceBiasLogitsProcessor({(3,): 1.5, (7,): -2.0})),
    "banned": ({"banned_token_ids": (1, 2, 3)}, SuppressTokensLogitsProcessor([1, 2, 3])),
    "min tokens": ({"min_new_tokens": 3}, MinNewTokensLengthLogitsProcessor(4, 3, torch.tensor([EOS]))),
    "min tokens met": ({"min_new_tokens": 2}, MinNewTokensLengthLogitsProcessor(4, 2, torch.tensor([EOS]))),
}


@pytest.mark.parametrize("case", [*PROCESSORS, "all"])
def test_each_parameter_does_what_transformers_processor_of_it_does(case) -> None:
    params, processors = PROCESSORS[case] if case != "all" else ({}, LogitsProcessorList())
    if case == "all":  # in our order: masks, bias, penalties
        for name in ("banned", "min tokens", "bias", "repetition"):
            params |= PROCESSORS[name][0]
            processors.append(PROCESSORS[name][1])
    token_ids, logits = [*PROMPT, 8, 8], random_logits()
    kept = logits.clone()
    found = chooser(**params).adjusted(logits, token_ids, EMPTY_TREE)
    torch.testing.assert_close(found, processors(torch.tensor([token_ids]), logits.clone()))
    assert torch.equal(logits, kept), "the batch's logits are left as they are"


def test_presence_and_frequency_count_the_answer_alone() -> None:
    logits = random_logits()
    found = chooser(presence_penalty=0.5, frequency_penalty=0.25).adjusted(logits, [*PROMPT, 8, 8, 4], EMPTY_TREE)
    expected = logits.clone()
    expected[0, 8] -= 0.5 + 2 * 0.25
    expected[0, 4] -= 0.5 + 0.25
    torch.testing.assert_close(found, expected)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_node_is_adjusted_as_its_path_would_be_committed(data) -> None:
    params = data.draw(
        st.fixed_dictionaries(
            {
                "repetition_penalty": st.sampled_from([1.0, 1.3]),
                "presence_penalty": st.sampled_from([0.0, 0.7]),
                "frequency_penalty": st.sampled_from([0.0, -0.4]),
                "min_new_tokens": st.sampled_from([0, 2, 4]),
                "logit_bias": st.sampled_from([(), ((5, 2.0),)]),
                "banned_token_ids": st.sampled_from([(), (6, 7)]),
            }
        )
    )
    answer = data.draw(st.lists(st.integers(0, 38), max_size=5))
    token_ids, parents = [], []
    for token_id in data.draw(st.lists(st.integers(0, 38), max_size=8)):
        parent = data.draw(st.integers(-1, len(token_ids) - 1))
        if DraftTree(tuple(token_ids), tuple(parents)).child(parent, token_id) is None:
            token_ids.append(token_id)
            parents.append(parent)
    tree, logits = DraftTree(tuple(token_ids), tuple(parents)), random_logits(len(token_ids) + 1)
    growing = chooser(**params)
    growing.adjusted(logits[:1], [*PROMPT, *answer[:2]], EMPTY_TREE)  # counts must survive from question to question
    found = growing.adjusted(logits, [*PROMPT, *answer], tree)
    for node in range(-1, tree.num_nodes):
        path = [tree.token_ids[ancestor] for ancestor in tree.ancestors(node)] if node >= 0 else []
        row = logits[node + 1 : node + 2]
        alone = chooser(**params).adjusted(row, [*PROMPT, *answer, *path], EMPTY_TREE)
        assert torch.equal(found[node + 1 : node + 2], alone)


def test_nothing_but_the_allowed_tokens_less_the_banned_can_be_chosen() -> None:
    found = chooser(allowed_token_ids=(1, 2, 3), banned_token_ids=(2,)).adjusted(random_logits(), PROMPT, EMPTY_TREE)
    assert support(found) == [{1, 3}]


def test_stop_tokens_wait_for_min_new_tokens_as_the_end_of_text_does() -> None:
    tree = DraftTree((1, 2), (-1, 0))
    found = support(chooser(min_new_tokens=2, stop_token_ids=(7,)).adjusted(random_logits(3), PROMPT, tree))
    everything = set(range(VOCAB_SIZE))
    assert found == [everything - {7, EOS}, everything - {7, EOS}, everything]


def test_where_masks_leave_nothing_the_text_ends() -> None:
    found = chooser(allowed_token_ids=(7,), stop_token_ids=(7,), min_new_tokens=3).adjusted(
        random_logits(), PROMPT, EMPTY_TREE
    )
    assert support(found) == [{EOS}]


@pytest.mark.parametrize(
    "params",
    [
        {"banned_token_ids": tuple(range(VOCAB_SIZE))},
        {"allowed_token_ids": (5,), "unused": (5,)},
        {"allowed_token_ids": (7,), "stop_token_ids": (7,), "min_new_tokens": 3, "eos": ()},
    ],
    ids=["all banned", "unused", "only stops"],
)
def test_what_could_never_choose_anything_is_refused_at_once(params) -> None:
    with pytest.raises(BadParameter):
        chooser(**params)


@pytest.mark.parametrize("name", ["allowed_token_ids", "banned_token_ids", "stop_token_ids", "logit_bias"])
def test_tokens_that_the_target_does_not_have_are_refused(name) -> None:
    with pytest.raises(TokenOutOfVocabulary, match=f"{name} names token 40"):
        chooser(**{name: ((40, 1.0),) if name == "logit_bias" else (40,)})


def test_the_parameters_of_one_session_do_not_touch_the_others_of_its_batch() -> None:
    logits, tree = random_logits(5), DraftTree((1,), (-1,))
    plain, banned = chooser(), chooser(banned_token_ids=tuple(range(20)))
    questions = [Question(plain, PROMPT, EMPTY_TREE), Question(banned, PROMPT, tree), Question(plain, PROMPT, tree)]
    answers = choose_all(logits, questions)
    largest = logits.argmax(-1).tolist()
    assert answers[0].token_ids == (largest[0],)
    assert answers[1].token_ids == tuple((logits[1:3, 20:].argmax(-1) + 20).tolist())
    assert answers[2].token_ids == tuple(largest[3:])

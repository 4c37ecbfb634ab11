"""The loop against a deterministic target and a drafter that is right as often as we like. No I/O, no tensors."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from draftpool.tree import NO_DRAFT, ROOT, DraftTree, TreeShape, chain
from draftpool.vocabulary import Vocabulary
from orchestrator.bandit import TreeBandit
from orchestrator.drafting import Draft
from orchestrator.generation import FinishReason, Generation, Limits, Round
from orchestrator.verifying import Verdict

EOS = 26
VOCABULARY = Vocabulary((*(bytes([97 + index]) for index in range(26)), b""), (EOS,))
ALPHABET = list(range(26))


def next_token(token_ids: Sequence[int]) -> int:
    """The target says the alphabet, over and over."""
    return (token_ids[-1] + 1) % 26


class AlphabetVerifier:
    """Chooses what `next_token` says; `eos_after` tokens into the sequence it ends the text."""

    def __init__(self, eos_after: int = 10**6) -> None:
        self.eos_after = eos_after
        self.contexts: list[list[int]] = []
        self.is_closed = False

    async def verify(self, token_ids: Sequence[int], tree: DraftTree, drawn_from: object = None) -> Verdict:  # noqa: ARG002
        self.contexts.append(list(token_ids))
        paths = [[], *([tree.token_ids[i] for i in tree.ancestors(node)] for node in range(tree.num_nodes))]
        chosen = tuple(self._choose([*token_ids, *path]) for path in paths)
        return Verdict(chosen, tuple(float(-token) for token in chosen), verify_us=10, elapsed_us=15)

    def _choose(self, token_ids: Sequence[int]) -> int:
        return EOS if len(token_ids) >= self.eos_after else next_token(token_ids)

    def close(self) -> None:
        self.is_closed = True


class AlphabetDrafter:
    """Draws chains that are right for `num_right` tokens and wrong from there on."""

    def __init__(self, num_right: int, *, is_available: bool = True) -> None:
        self.num_right = num_right
        self.is_available = is_available
        self.shapes: list[TreeShape] = []
        self.is_closed = False

    async def draft(self, token_ids: Sequence[int], shape: TreeShape) -> Draft:
        self.shapes.append(shape)
        path = list(token_ids)
        for depth in range(shape.depth):
            path.append(next_token(path) if depth < self.num_right else 0)
        drafted = tuple(path[len(token_ids) :])
        return Draft(DraftTree(drafted, tuple(range(ROOT, len(drafted) - 1))), draft_us=5, elapsed_us=8)

    def close(self) -> None:
        self.is_closed = True


def make(drafts: AlphabetDrafter, verifier: AlphabetVerifier, limits: Limits, shape: TreeShape | None) -> Generation:
    return Generation(
        [0],
        vocabulary=VOCABULARY,
        limits=limits,
        drafts=drafts,  # type: ignore[arg-type]
        verifier=verifier,  # type: ignore[arg-type]
        bandit=TreeBandit((chain(2), chain(4))),
        fixed_shape=shape,
    )


async def run(generation: Generation) -> tuple[str, list[Round]]:
    rounds = [round_ async for round_ in generation.rounds()]
    return "".join(token.text for round_ in rounds for token in round_.tokens), rounds


@pytest.mark.parametrize("num_right", [0, 1, 3, 9])
@pytest.mark.parametrize("shape", [NO_DRAFT, chain(1), chain(4), None])
async def test_the_text_is_the_targets_whatever_is_drafted(num_right: int, shape: TreeShape | None) -> None:
    generation = make(AlphabetDrafter(num_right), AlphabetVerifier(), Limits(max_new_tokens=24), shape)
    text, rounds = await run(generation)
    assert text == "bcdefghijklmnopqrstuvwxy"
    assert generation.finish is FinishReason.LENGTH
    assert sum(round_.num_committed for round_ in rounds) == 24


async def test_right_drafts_save_rounds() -> None:
    _, rounds = await run(make(AlphabetDrafter(4), AlphabetVerifier(), Limits(max_new_tokens=20), chain(4)))
    assert [round_.num_committed for round_ in rounds] == [5, 5, 5, 5]


async def test_no_deeper_tree_is_asked_for_than_tokens_are_wanted() -> None:
    drafter = AlphabetDrafter(9)
    await run(make(drafter, AlphabetVerifier(), Limits(max_new_tokens=8), chain(4)))
    assert drafter.shapes == [chain(4), chain(2)]


async def test_every_round_verifies_after_all_committed_tokens() -> None:
    verifier = AlphabetVerifier()
    await run(make(AlphabetDrafter(1), verifier, Limits(max_new_tokens=6), chain(3)))
    assert verifier.contexts == [ALPHABET[:1], ALPHABET[:3], ALPHABET[:5]]


async def test_nothing_follows_the_token_that_ends_the_text() -> None:
    generation = make(AlphabetDrafter(4), AlphabetVerifier(eos_after=4), Limits(max_new_tokens=50), chain(4))
    text, rounds = await run(generation)
    assert (text, generation.finish) == ("bcd", FinishReason.EOS)
    assert rounds[-1].tokens[-1].token_id == EOS


async def test_a_text_may_be_asked_to_go_on_after_its_end() -> None:
    limits = Limits(max_new_tokens=7, ignore_eos=True)
    generation = make(AlphabetDrafter(0), AlphabetVerifier(eos_after=4), limits, NO_DRAFT)
    await run(generation)
    assert (generation.num_new_tokens, generation.finish) == (7, FinishReason.LENGTH)


async def test_a_stop_string_within_a_round_ends_it() -> None:
    generation = make(AlphabetDrafter(6), AlphabetVerifier(), Limits(50, stop=("ef",)), chain(6))
    text, rounds = await run(generation)
    assert (text, generation.finish, generation.matched_stop) == ("bcd", FinishReason.STOP, "ef")
    assert sum(round_.num_committed for round_ in rounds) == len("bcdef")


async def test_a_stop_token_within_a_round_is_the_last_token_and_keeps_its_text() -> None:
    generation = make(AlphabetDrafter(6), AlphabetVerifier(), Limits(50, stop_token_ids=(9, 4)), chain(6))
    text, rounds = await run(generation)
    assert (text, generation.finish, generation.matched_stop_token_id) == ("bcde", FinishReason.STOP, 4)
    assert sum(round_.num_committed for round_ in rounds) == len("bcde")


async def test_a_token_brings_what_could_have_stood_in_its_place() -> None:
    class Informed(AlphabetVerifier):
        async def verify(self, token_ids: Sequence[int], tree: DraftTree, drawn_from: object = None) -> Verdict:  # noqa: ARG002
            verdict = await super().verify(token_ids, tree)
            pairs = [(token_id, 26) for token_id in verdict.chosen_token_ids]
            tops = tuple(token_id for pair in pairs for token_id in pair)
            return replace(verdict, top_token_ids=tops, top_logprobs=tuple(-float(token_id) for token_id in tops))

    _, rounds = await run(make(AlphabetDrafter(1), Informed(), Limits(4), chain(2)))
    tops = [token.top_logprobs for round_ in rounds for token in round_.tokens]
    assert tops == [((token_id, -token_id), (26, -26)) for token_id in (1, 2, 3, 4)]


async def test_tokens_say_whether_they_were_drafted_and_how_likely_they_were() -> None:
    _, rounds = await run(make(AlphabetDrafter(2), AlphabetVerifier(), Limits(3), chain(2)))
    tokens = rounds[0].tokens
    assert [token.drafted for token in tokens] == [True, True, False]
    assert [token.logprob for token in tokens] == [-1.0, -2.0, -3.0]


async def test_without_a_drafter_the_bandit_is_not_asked() -> None:
    drafter = AlphabetDrafter(4, is_available=False)
    _, rounds = await run(make(drafter, AlphabetVerifier(), Limits(5), None))
    assert {round_.shape for round_ in rounds} == {NO_DRAFT}


async def test_leaving_early_closes_both_sessions() -> None:
    drafter, verifier = AlphabetDrafter(2), AlphabetVerifier()
    rounds = make(drafter, verifier, Limits(100), chain(2)).rounds()
    await anext(rounds)
    await rounds.aclose()
    assert drafter.is_closed
    assert verifier.is_closed

"""A generation that is cut anywhere and resumed is the one that was not: tokens, texts and end."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftpool.errors import BadParameter
from draftpool.tree import DraftTree, chain
from draftpool.tree_policy import TreePolicy
from draftpool.vocabulary import Vocabulary
from orchestrator.bandit import TreeBandit
from orchestrator.drafting import Draft
from orchestrator.generation import FinishReason, Generation, Limits
from orchestrator.verifying import Verdict

PROMPT = [0, 1]
EOS = 256
BYTES = Vocabulary((*(bytes([byte]) for byte in range(256)), b""), (EOS,))


class ScriptedVerifier:
    """Chooses an answer that is fixed beforehand, and ends the text behind it."""

    def __init__(self, answer: bytes) -> None:
        self.answer = [*answer, EOS]
        self.num_opened = 0
        self._is_open = False

    async def verify(self, token_ids: Sequence[int], tree: DraftTree, drawn_from: None) -> Verdict:  # noqa: ARG002
        opened, self._is_open = not self._is_open, True
        self.num_opened += opened
        start = len(token_ids) - len(PROMPT)
        assert list(token_ids[len(PROMPT) :]) == self.answer[:start]
        chosen = [self._token(start), *(self._token(start + depth) for depth in tree.depths)]
        return Verdict(tuple(chosen), (), verify_us=1, elapsed_us=1, opened_session=opened)

    def _token(self, index: int) -> int:
        return self.answer[min(index, len(self.answer) - 1)]

    def close(self) -> None:
        self._is_open = False


class ScriptedDrafter:
    """Draws chains of the same answer."""

    is_available = True

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    async def draft(self, token_ids: Sequence[int], shape: TreePolicy) -> Draft:
        drafted = tuple(self.answer[len(token_ids) - len(PROMPT) :][: shape.depth])
        return Draft(DraftTree(drafted, tuple(range(-1, len(drafted) - 1))), draft_us=1, elapsed_us=1)

    def close(self) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """All that a client gets of a generation."""

    tokens: tuple[tuple[int, str], ...]
    finish: FinishReason | None
    matched_stop: str | None
    matched_stop_token_id: int | None


def generation(answer: bytes, limits: Limits, resumed: Sequence[int] = ()) -> Generation:
    return Generation(
        PROMPT,
        vocabulary=BYTES,
        limits=limits,
        drafts=ScriptedDrafter(answer),  # type: ignore[arg-type]
        verifier=ScriptedVerifier(answer),  # type: ignore[arg-type]
        bandit=TreeBandit(()),
        fixed_shape=chain(3),
        resumed_token_ids=resumed,
    )


async def outcome(started: Generation, before: Sequence[tuple[int, str]] = ()) -> Outcome:
    tokens = [token async for round_ in started.rounds() for token in round_.tokens]
    seen = (*before, *((token.token_id, token.text) for token in tokens))
    return Outcome(seen, started.finish, started.matched_stop, started.matched_stop_token_id)


async def assert_cuts_do_not_show(answer: bytes, limits: Limits) -> None:
    whole = await outcome(generation(answer, limits))
    for cut in range(len(whole.tokens) + 1):
        before = whole.tokens[:cut]
        assert await outcome(generation(answer, limits, [token_id for token_id, _ in before]), before) == whole


@given(
    answer=st.text("aab\u00e9\u20ac\U0001f600", max_size=12).map(str.encode),
    num_lost_bytes=st.integers(0, 2),
    stop=st.lists(st.text("ab\u00e9", min_size=1, max_size=3), max_size=2),
    max_new_tokens=st.integers(1, 30),
    stop_token_ids=st.sampled_from([(), (0xA9,), (ord("b"),)]),
)
def test_wherever_a_stream_is_cut_the_rest_is_what_it_would_have_been(
    answer: bytes, num_lost_bytes: int, stop: list[str], max_new_tokens: int, stop_token_ids: tuple[int, ...]
) -> None:
    """Whole or half characters, stop strings that are held back, trimmed or met, any end."""
    answer = answer[: max(0, len(answer) - num_lost_bytes)]
    limits = Limits(max_new_tokens, tuple(stop), stop_token_ids=stop_token_ids)
    asyncio.run(assert_cuts_do_not_show(answer, limits))


@pytest.mark.parametrize(
    ("resumed", "limits", "finish"),
    [
        ([97, EOS], Limits(9), FinishReason.EOS),
        ([97, 98], Limits(2), FinishReason.LENGTH),
        ([97, 98], Limits(9, stop=("b",)), FinishReason.STOP),
        ([97, 98], Limits(9, stop_token_ids=(98,)), FinishReason.STOP),
    ],
    ids=["eos", "length", "stop string", "stop token"],
)
async def test_where_nothing_follows_the_end_comes_at_once(
    resumed: list[int], limits: Limits, finish: FinishReason
) -> None:
    started = generation(b"ab", limits, resumed)
    assert started.finish is finish
    assert (await outcome(started)).tokens == ()


async def test_tokens_behind_the_answers_end_are_refused() -> None:
    with pytest.raises(BadParameter, match=r"holds 3 tokens, but the answer ends \(stop\) with number 2 of them"):
        generation(b"abc", Limits(9, stop=("b",)), [97, 98, 99])


async def test_a_pause_between_two_rounds_costs_a_session_and_no_token() -> None:
    answer = b"abcdefghijkl"
    paused, whole = generation(answer, Limits(30)), await outcome(generation(answer, Limits(30)))
    rounds = []
    async for round_ in paused.rounds():
        rounds.append(round_)
        paused.pause()
    assert tuple((token.token_id, token.text) for round_ in rounds for token in round_.tokens) == whole.tokens
    assert all(round_.opened_verify_session for round_ in rounds)

"""Sessions of targets with another vocabulary: what the drafter has read is the text as its own tokenizer spells it."""

import random
from collections.abc import Callable, Sequence

import pytest
import torch
from tokenizers import Tokenizer

from drafter_service.engine import DrafterEngine, DraftJob
from drafter_service.session import Session
from drafter_service.vocabulary.bridge import VocabularyBridge
from draftpool.sampling import SamplingParams
from draftpool.tree import NO_DRAFT, DraftTree, TreeShape, chain
from draftpool.tree_policy import BestFirst, TreePolicy

EngineMaker = Callable[..., DrafterEngine]
Drafting = Callable[[DrafterEngine, Session, Sequence[int], TreePolicy], DraftTree]

TEXT = "the cat sells sea shells on the shore and she sat on a mat; the dog's 12 shells she sold, surely"
WORDS = TEXT.split(" ")
POLICIES: list[TreePolicy] = [TreeShape((3, 2, 1)), chain(3), BestFirst(12, 5), NO_DRAFT]


def random_text(choose: random.Random, num_words: int) -> str:
    return " ".join(choose.choice(WORDS) for _ in range(num_words))


@pytest.mark.parametrize("seed", range(15))
def test_any_history_leaves_the_state_of_the_text_spelled_as_a_whole(
    make_engine: EngineMaker,
    draft: Drafting,
    other_bridge: VocabularyBridge,
    target_tokenizer: Tokenizer,
    params: SamplingParams,
    seed: int,
) -> None:
    choose = random.Random(seed)
    text = target_tokenizer.encode(random_text(choose, 60)).ids
    engine = make_engine()
    session = Session(other_bridge, params)
    num_committed = choose.randint(1, 60)
    tree = draft(engine, session, text[:num_committed], choose.choice(POLICIES))
    while num_committed < len(text):
        followed = len(tree.walk(text[num_committed:]))
        committed = text[num_committed : num_committed + choose.choice([followed + 1, 1, 1, 2, 25])]
        num_committed += len(committed)
        tree = draft(engine, session, committed, choose.choice(POLICIES))
        engine.pool.check_integrity(session.held_slots)
        whole = torch.stack([_state_after(make_engine(), other_bridge.context_ids(text[:num_committed]))])
        torch.testing.assert_close(engine._model.state(session.root_slot)[None], whole, atol=1e-4, rtol=1e-4)
    engine.close_session(session)
    assert engine.pool.num_used == 0


def _state_after(engine: DrafterEngine, drafter_ids: list[int]) -> torch.Tensor:
    engine._model.reset(0)
    engine._model.prefill(drafter_ids, 0)
    return engine._model.state(0)


def test_a_pool_without_room_for_an_anchor_spells_token_by_token(
    make_engine: EngineMaker, draft: Drafting, other_bridge: VocabularyBridge, target_tokenizer: Tokenizer
) -> None:
    engine = make_engine(num_slots=2, max_sessions=2)
    session = Session(other_bridge, SamplingParams(temperature=0))
    text = target_tokenizer.encode(TEXT).ids
    draft(engine, session, text[:10], chain(1))
    for token_id in text[10:20]:
        draft(engine, session, [token_id], chain(1))
    engine.pool.check_integrity(session.held_slots)
    read = [*other_bridge.context_ids(text[:10])]
    for token_id in text[10:20]:
        read += other_bridge.continuation_ids(token_id)
    torch.testing.assert_close(
        engine._model.state(session.root_slot), _state_after(make_engine(), read), atol=1e-4, rtol=1e-4
    )


def test_jobs_given_up_half_way_leave_a_session_that_goes_on(
    make_engine: EngineMaker, draft: Drafting, other_bridge: VocabularyBridge, target_tokenizer: Tokenizer
) -> None:
    """A caller that cancels one request of a stream must not find the state out of step at the next."""
    choose = random.Random(3)
    text = target_tokenizer.encode(random_text(choose, 40)).ids
    engine = make_engine(prefill_chunk_tokens=4)
    session = Session(other_bridge, SamplingParams(temperature=0))
    num_committed = 0
    while num_committed < len(text):
        committed = text[num_committed : num_committed + choose.randint(1, 9)]
        num_committed += len(committed)
        job = DraftJob(session, committed, TreeShape((2, 2)))
        for _ in range(choose.randint(1, 3)):
            if job.is_open:
                engine.turn([job])
    draft(engine, session, [], NO_DRAFT)
    whole = _state_after(make_engine(), other_bridge.context_ids(text))
    torch.testing.assert_close(engine._model.state(session.root_slot), whole, atol=1e-4, rtol=1e-4)

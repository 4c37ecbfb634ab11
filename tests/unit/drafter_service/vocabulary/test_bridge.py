import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from drafter_service.vocabulary.bridge import Speller, VocabularyBridge, ids_by_bytes
from draftpool.errors import TokenOutOfVocabulary
from draftpool.vocabulary import Vocabulary

EOS = 0


def said(vocabulary: Vocabulary, token_ids: list[int]) -> bytes:
    return b"".join(vocabulary.token_bytes[token_id] for token_id in token_ids)


@settings(max_examples=50)
@given(text=st.text(max_size=40))
def test_any_text_comes_through_whole(
    speller: Speller, target_tokenizer: Tokenizer, other_bridge: VocabularyBridge, text: str
) -> None:
    target_ids = target_tokenizer.encode(text).ids
    assert said(speller.vocabulary, other_bridge.context_ids(target_ids)) == text.encode()
    one_by_one = [drafter_id for target_id in target_ids for drafter_id in other_bridge.continuation_ids(target_id)]
    assert said(speller.vocabulary, one_by_one) == text.encode()


@settings(max_examples=50)
@given(data=st.binary(max_size=40))
def test_bytes_that_are_no_text_come_through_whole(
    speller: Speller, other_bridge: VocabularyBridge, data: bytes
) -> None:
    assert said(speller.vocabulary, speller.spell(data)) == data
    target_id_of_bytes = ids_by_bytes(other_bridge.target)
    target_ids = [target_id_of_bytes[bytes([byte])] for byte in data]
    if target_ids:
        assert said(speller.vocabulary, other_bridge.context_ids([*target_ids, EOS])[:-1]) == data


def test_a_context_is_spelled_as_the_drafters_tokenizer_spells_it(
    drafter_tokenizer: Tokenizer, target_tokenizer: Tokenizer, other_bridge: VocabularyBridge
) -> None:
    text = "the cat sells sea shells"
    assert other_bridge.context_ids(target_tokenizer.encode(text).ids) == drafter_tokenizer.encode(text).ids


def test_matched_tokens_say_the_same_and_no_two_share_a_target_token(
    speller: Speller, other_bridge: VocabularyBridge
) -> None:
    spellings = map(other_bridge.shared.spelling, range(len(speller.vocabulary)))
    matched = [(drafter, target) for drafter, spelling in enumerate(spellings) for target in spelling]
    assert len(matched) == other_bridge.num_shared_tokens
    assert 256 < len(matched) < len(other_bridge.target)
    assert len({target for _, target in matched}) == len(matched)
    for drafter_id, target_id in matched:
        assert speller.vocabulary.token_bytes[drafter_id] == other_bridge.target.token_bytes[target_id]
        assert other_bridge.continuation_ids(target_id) == (drafter_id,)


def test_the_end_of_text_is_the_end_of_text_in_every_vocabulary(speller: Speller) -> None:
    target = Vocabulary((b"a", b"b", b"", b"", b""), eos_token_ids=(2, 3))
    bridge = VocabularyBridge(speller, target)
    [a_id] = speller.spell(b"a")
    assert bridge.shared.spelling(EOS) == (2,)
    assert bridge.context_ids([0, 2, 0]) == [a_id, EOS, a_id]
    assert [bridge.continuation_ids(token_id) for token_id in (2, 3, 4)] == [(EOS,), (EOS,), ()]
    assert bridge.context_ids([4]) == [EOS]  # nothing but a special token: still something to start from


def test_the_same_vocabulary_passes_unchanged(same_bridge: VocabularyBridge) -> None:
    ids = [EOS, 5, 319, 5]
    assert same_bridge.context_ids(ids) == ids
    assert [same_bridge.continuation_ids(token_id) for token_id in ids] == [(token_id,) for token_id in ids]
    assert same_bridge.spelled.mask is None
    assert same_bridge.spelled.first_ids is None


def test_of_tokens_that_say_the_same_the_real_one_is_matched(speller: Speller) -> None:
    target = Vocabulary((b"", b"a", b"b", b"a"), eos_token_ids=(0,))
    bridge = VocabularyBridge(speller, target)
    [a_id] = speller.spell(b"a")
    assert bridge.shared.spelling(a_id) == (3,)
    assert bridge.continuation_ids(1) == (a_id,)


def test_special_tokens_written_in_a_text_are_text(speller: Speller) -> None:
    ids = speller.spell(b"the <eos> of")
    assert EOS not in ids
    assert said(speller.vocabulary, ids) == b"the <eos> of"


def test_ids_beyond_the_vocabulary_are_refused(other_bridge: VocabularyBridge) -> None:
    other_bridge.require_known([])
    other_bridge.require_known([0, 399])
    for token_id in (-1, 400):
        with pytest.raises(TokenOutOfVocabulary, match="0 to 399"):
            other_bridge.require_known([5, token_id])

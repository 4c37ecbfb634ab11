import random
import time
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers

from drafter_service.vocabulary.bridge import VocabularyBridge
from drafter_service.vocabulary.speller import LongestMatch, Speller, ids_by_bytes
from draftpool.vocabulary import Vocabulary
from tests.unit.tokenizer_kinds import (
    EOS,
    KINDS,
    MARK,
    PUTS_A_SPACE_FIRST,
    SAYS_ALL_BYTES,
    byte_level,
    mistral,
    said,
    tokenizer_of,
    vocabulary_of,
)

TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("the cat \n\t\u0301\u2581\u200d🎉"), max_size=40)
DIFFICULT = "  the e\u0301 cat\u0000\n\n\n 🎉👩‍🚀 \u2581日本\u2581\u2581 <unk></s><0x0A><table>  "
PAIRS = [(drafter, target) for drafter in SAYS_ALL_BYTES for target in KINDS]


@cache
def speller_of(kind: str) -> Speller:
    return Speller(vocabulary_of(kind), tokenizer_of(kind))


@cache
def bridge_of(drafter: str, target: str) -> VocabularyBridge:
    return VocabularyBridge(speller_of(drafter), vocabulary_of(target, "shells"))


@pytest.mark.parametrize("kind", SAYS_ALL_BYTES)
@settings(max_examples=60, deadline=None)
@given(text=TEXT)
@example(text=DIFFICULT)
def test_what_is_spelled_says_the_text_and_nothing_else(kind: str, text: str) -> None:
    assert said(vocabulary_of(kind), speller_of(kind).spell(text.encode())) == text.encode()


@pytest.mark.parametrize("kind", SAYS_ALL_BYTES)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=40) | TEXT.map(lambda text: text.encode()[1:]))
def test_what_is_spelled_says_bytes_that_are_no_text(kind: str, data: bytes) -> None:
    assert said(vocabulary_of(kind), speller_of(kind).spell(data)) == data


@settings(max_examples=100, deadline=None)
@given(text=TEXT)
@example(text=DIFFICULT)
def test_only_characters_that_the_vocabulary_has_no_token_for_are_lost(text: str) -> None:
    known = "".join(char for char in text if char.encode() in ids_by_bytes(vocabulary_of("t5")))
    assert said(vocabulary_of("t5"), speller_of("t5").spell(text.encode())) == known.encode()


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_spelled_as_the_tokenizer_spells_them(kind: str) -> None:
    text = "the cats sat on that hat; naïve" if kind == "t5" else "the cats sat on  that\nhat; naïve 🎉"
    own = tokenizer_of(kind).encode(text, add_special_tokens=False).ids
    in_a_text = " " + text if kind in PUTS_A_SPACE_FIRST else text
    assert speller_of(kind).spell(in_a_text.encode()) == own


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_goes_on_within_a_word_gets_no_space(kind: str) -> None:
    assert said(vocabulary_of(kind), speller_of(kind).spell(b"hat sat")) == b"hat sat"


def test_one_bad_character_leaves_the_spelling_of_the_others() -> None:
    speller = speller_of("mistral")
    before, after = " the cats sat", "on the mat"
    spelled = speller.spell(f"{before}{MARK}{after}".encode())
    assert spelled == speller.spell(before.encode()) + speller.spell(MARK.encode()) + speller.spell(after.encode())


def test_a_text_that_a_normalizer_would_compose_stays_as_it_is_and_is_spelled_in_the_tokenizers_words() -> None:
    speller = speller_of("neox")
    decomposed = "the cafe\u0301 the mat"
    ids = speller.spell(decomposed.encode())
    assert said(speller.vocabulary, ids) == decomposed.encode()
    assert ids[0] == tokenizer_of("neox").token_to_id("the")
    assert ids[-1] == tokenizer_of("neox").token_to_id("Ġmat")


@pytest.mark.parametrize("kind", KINDS)
def test_special_and_byte_tokens_written_in_a_text_are_text(kind: str) -> None:
    text = b"the</s><0x0A>"
    ids = speller_of(kind).spell(text)
    assert EOS not in ids
    if kind in SAYS_ALL_BYTES:
        assert said(vocabulary_of(kind), ids) == text


def test_an_end_of_text_that_is_no_special_token_is_text_where_it_is_written() -> None:
    tokenizer = Tokenizer.from_str(tokenizer_of("byte_level").to_str())
    tokenizer.add_tokens(["<end>"])
    eos = tokenizer.token_to_id("<end>")
    vocabulary = Vocabulary.from_tokenizer_json(tokenizer.to_str(), vocab_size=400, eos_token_ids=[eos])
    ids = Speller(vocabulary, tokenizer).spell(b"the<end> cat")
    assert eos not in ids
    assert said(vocabulary, ids) == b"the<end> cat"


def test_added_tokens_beyond_the_models_ids_are_spelled_with_others() -> None:
    tokenizer = Tokenizer.from_str(tokenizer_of("byte_level").to_str())
    tokenizer.add_tokens(["<table>"])
    vocabulary = vocabulary_of("byte_level")
    ids = Speller(vocabulary, tokenizer).spell(b"the<table> cat")
    assert max(ids) < len(vocabulary)
    assert said(vocabulary, ids) == b"the<table> cat"


def test_a_byte_token_stands_for_its_byte_only_where_no_other_token_does() -> None:
    all_bytes = tuple(bytes([byte]) for byte in range(256))
    vocabulary = Vocabulary((b"", b"\n", *all_bytes, b"a"), eos_token_ids=(0,))
    ids = ids_by_bytes(vocabulary)
    assert (ids[b"\n"], ids[b"a"], ids[b"b"]) == (1, 258, 2 + ord("b"))


def test_the_tokenizer_that_was_given_is_left_as_it_was() -> None:
    tokenizer = mistral(["the cat"])
    tokenizer.enable_truncation(4)
    before = tokenizer.to_str()
    assert len(Speller(vocabulary_of("mistral"), tokenizer).spell(b"the cat " * 9)) > 4
    assert tokenizer.to_str() == before
    assert not tokenizer.encode_special_tokens


def test_a_tokenizer_trained_with_dropout_spells_a_text_always_the_same() -> None:
    tokenizer = Tokenizer.from_str(tokenizer_of("byte_level").to_str())
    assert isinstance(tokenizer.model, models.BPE)
    tokenizer.model.dropout = 0.9
    speller = Speller(vocabulary_of("byte_level"), tokenizer)
    assert {tuple(speller.spell(b"the cat sat on the mat")) for _ in range(20)} == {
        tuple(speller_of("byte_level").spell(b"the cat sat on the mat"))
    }


def test_a_tokenizer_that_lowers_capitals_spells_capitals() -> None:
    tokenizer = byte_level(["the cat"])
    tokenizer.normalizer = normalizers.Lowercase()
    vocabulary = Vocabulary.from_tokenizer_json(tokenizer.to_str(), vocab_size=320, eos_token_ids=[EOS])
    assert said(vocabulary, Speller(vocabulary, tokenizer).spell(b"The CAT")) == b"The CAT"


SLOW = {
    "words": b" the cat sat on the mat\n" * 4200,
    "one word": b"a" * 100_000,
    "spaces": b" " * 100_000,
    "newlines": b"\n" * 100_000,
    "emoji": "🎉".encode() * 25_000,
    "halves of characters": b"\x80\x9f" * 50_000,
    "text and no text": b"a\x80" * 50_000,
    "marks": MARK.encode() * 33_333,
    "chance": random.Random(0).randbytes(100_000),
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("kind", ["byte_level", "neox", "llama_2", "gemma", "unigram_with_bytes"])
def test_a_hundred_thousand_bytes_are_spelled_in_a_moment(kind: str, name: str) -> None:
    speller = speller_of(kind)
    start_s = time.monotonic()
    ids = speller.spell(SLOW[name])
    assert time.monotonic() - start_s < 5
    assert said(speller.vocabulary, ids) == SLOW[name]


def plain_longest_match(data: bytes, id_of_bytes: dict[bytes, int]) -> list[int]:
    if not data:
        return []
    fitting = max((token for token in id_of_bytes if data.startswith(token)), key=len, default=b"")
    ids = [id_of_bytes[fitting]] if fitting else []
    return ids + plain_longest_match(data[len(fitting) or 1 :], id_of_bytes)


@given(
    tokens=st.sets(st.text("ab\u0000", min_size=1, max_size=5), max_size=8),
    text=st.text("ab\u0000", max_size=30),
)
def test_the_longest_match_is_the_longest_of_all_tokens(tokens: set[str], text: str) -> None:
    id_of_bytes = {token.encode(): token_id for token_id, token in enumerate(sorted(tokens))}
    assert LongestMatch(id_of_bytes).spell(text.encode()) == plain_longest_match(text.encode(), id_of_bytes)


@pytest.mark.parametrize(("drafter", "target"), PAIRS, ids=[f"{drafter}-{target}" for drafter, target in PAIRS])
@settings(max_examples=15, deadline=None)
@given(text=TEXT)
@example(text=DIFFICULT)
def test_a_text_passes_whole_between_any_two_kinds(drafter: str, target: str, text: str) -> None:
    bridge = bridge_of(drafter, target)
    target_ids = tokenizer_of(target, "shells").encode(text, add_special_tokens=False).ids
    joined = said(bridge.target, target_ids)
    assert said(vocabulary_of(drafter), bridge.context_ids(target_ids)) == joined
    one_by_one = [drafter_id for target_id in target_ids for drafter_id in bridge.continuation_ids(target_id)]
    assert said(vocabulary_of(drafter), one_by_one) == joined


@pytest.mark.parametrize(("drafter", "target"), PAIRS, ids=[f"{drafter}-{target}" for drafter, target in PAIRS])
def test_every_token_that_two_kinds_share_is_matched_once_and_says_the_same(drafter: str, target: str) -> None:
    bridge = bridge_of(drafter, target)
    spellings = map(bridge.shared.spelling, range(len(vocabulary_of(drafter))))
    matched = [(drafter_id, spelling[0]) for drafter_id, spelling in enumerate(spellings) if spelling]
    assert len({target_id for _, target_id in matched}) == len(matched)
    for drafter_id, target_id in matched:
        assert vocabulary_of(drafter).token_bytes[drafter_id] == bridge.target.token_bytes[target_id]
    assert (EOS, EOS) in matched

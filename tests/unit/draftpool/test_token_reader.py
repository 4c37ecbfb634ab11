import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from draftpool.errors import ModelNotServable
from draftpool.token_reader import token_reader
from draftpool.vocabulary import Vocabulary
from tests.unit.tokenizer_kinds import (
    KINDS,
    MARK,
    PUTS_A_SPACE_FIRST,
    REWRITES_TEXT,
    WRITES_MARKS,
    byte_level,
    said,
    tokenizer_of,
    vocabulary_of,
)

DIFFICULT = "  the e\u0301 cat\u0000\n\n\n 🎉👩‍🚀 日本  "
PLAIN = sorted(set(KINDS) - REWRITES_TEXT)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(codec="utf-8") | st.sampled_from("the cat \n\u2581"), max_size=30))
@example(text=DIFFICULT)
def test_joined_bytes_are_what_the_tokenizer_decodes_but_for_the_first_spaces(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    joined, decoded = said(vocabulary_of(kind), ids), tokenizer.decode(ids).encode()
    assert joined.endswith(decoded)
    assert not joined.removesuffix(decoded).strip(b" ")


@pytest.mark.parametrize("kind", PLAIN)
@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(codec="utf-8") | st.sampled_from("the cat \n\u2581"), min_size=1, max_size=30))
@example(text=DIFFICULT)
def test_joined_bytes_are_the_text_but_for_the_one_space_put_before_it(kind: str, text: str) -> None:
    expected = text.replace(MARK, " ") if kind in WRITES_MARKS else text
    joined = said(vocabulary_of(kind), tokenizer_of(kind).encode(text, add_special_tokens=False).ids).decode()
    assert joined in ({expected, " " + expected} if kind in PUTS_A_SPACE_FIRST else {expected})


@pytest.mark.parametrize("kind", KINDS)
def test_special_and_unknown_tokens_say_nothing(kind: str) -> None:
    assert vocabulary_of(kind).token_bytes[:3] == (b"", b"", b"")


@pytest.mark.parametrize("unknown", [{"unk_token": "<unk>"}, {"unk_id": 0}])
def test_an_unknown_token_that_is_not_marked_special_says_nothing(unknown: dict[str, Any]) -> None:
    model = unknown | {"vocab": [["<unk>", 0.0], ["a", -1.0]]}
    model |= {"type": "Unigram"} if "unk_id" in unknown else {"type": "BPE", "vocab": {"<unk>": 0, "a": 1}}
    tokenizer = {"model": model, "decoder": {"type": "Fuse"}}
    assert Vocabulary.from_tokenizer_json(json.dumps(tokenizer), vocab_size=2, eos_token_ids=[]).token_bytes == (
        b"",
        b"a",
    )


def test_runs_of_marks_that_were_added_say_spaces() -> None:
    tokenizer, vocabulary = tokenizer_of("gemma"), vocabulary_of("gemma")
    for token, text in [(MARK * 2, b"  "), (MARK * 3, b"   "), ("\n\n", b"\n\n"), ("<table>", b"<table>")]:
        assert vocabulary.token_bytes[tokenizer.token_to_id(token)] == text


@pytest.mark.parametrize("content", ["café", "   ", "日本", MARK, "Ġthe\u00e9"])
def test_a_byte_level_tokenizers_added_token_says_its_content_as_it_stands(content: str) -> None:
    tokenizer = byte_level(["the cat"])
    tokenizer.add_tokens([AddedToken(content)])
    vocabulary = Vocabulary.from_tokenizer_json(tokenizer.to_str(), vocab_size=400, eos_token_ids=[])
    assert said(vocabulary, tokenizer.encode("a" + content + "b").ids) == f"a{content}b".encode()


@pytest.mark.parametrize("option", ["lstrip", "rstrip", "normalized", "single_word"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_added_token_says_its_content_whatever_it_swallows(kind: str, option: str) -> None:
    tokenizer = Tokenizer.from_str(tokenizer_of(kind).to_str())
    tokenizer.add_tokens([AddedToken("<table>", **{option: True})])
    vocabulary = Vocabulary.from_tokenizer_json(tokenizer.to_str(), vocab_size=500, eos_token_ids=[])
    assert vocabulary.token_bytes[tokenizer.token_to_id("<table>")] == b"<table>"


def test_added_tokens_beyond_the_models_ids_are_left_out() -> None:
    tokenizer = byte_level(["the cat"])
    num_ids = tokenizer.get_vocab_size()
    tokenizer.add_tokens(["<table>"])
    vocabulary = Vocabulary.from_tokenizer_json(tokenizer.to_str(), vocab_size=num_ids, eos_token_ids=[])
    assert b"<table>" not in vocabulary.token_bytes


def test_byte_tokens_are_bytes_only_where_the_tokenizer_has_bytes() -> None:
    model = {"type": "Unigram", "unk_id": None, "vocab": [["<0x41>", -1.0]]}
    without = {"model": model, "decoder": {"type": "Fuse"}}
    assert token_reader(without)("<0x41>") == b"<0x41>"
    assert token_reader(without | {"model": model | {"byte_fallback": True}})("<0x41>") == b"A"


def test_files_of_older_tokenizers_read_as_those_of_today() -> None:
    """No type of the model, `add_prefix_space` where a scheme is now."""
    metaspace = {"type": "Metaspace", "replacement": MARK, "add_prefix_space": True, "str_rep": MARK}
    model = {"unk_id": 0, "vocab": [["<unk>", 0.0], [MARK + "a", -1.0]]}
    tokenizer = {"added_tokens": None, "pre_tokenizer": metaspace, "decoder": metaspace, "model": model}
    vocabulary = Vocabulary.from_tokenizer_json(json.dumps(tokenizer), vocab_size=2, eos_token_ids=[])
    assert vocabulary.token_bytes == (b"", b" a")


def bpe(**parts: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({"a": 0}, [], **parts.pop("model", {})))
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


MARKED = decoders.Replace(MARK, " ")
REFUSED = {
    "has no decoder": bpe(pre_tokenizer=pre_tokenizers.Whitespace()),
    "WordLevel model": Tokenizer(models.WordLevel({"a": 0}, unk_token="a")),
    "decoder WordPiece": bpe(decoder=decoders.WordPiece()),
    "decoder BPEDecoder": bpe(decoder=decoders.BPEDecoder()),
    "end_of_word_suffix": bpe(model={"end_of_word_suffix": "</w>"}, decoder=decoders.ByteLevel()),
    "continuing_subword_prefix": bpe(model={"continuing_subword_prefix": "##"}, decoder=decoders.ByteLevel()),
    "has a byte-level decoder, but": bpe(decoder=decoders.ByteLevel()),
    "its decoder is Replace": bpe(pre_tokenizer=pre_tokenizers.ByteLevel(), decoder=MARKED),
    "does not turn back into a space": bpe(pre_tokenizer=pre_tokenizers.Metaspace("_"), decoder=MARKED),
    "writes a space as '_'": bpe(normalizer=normalizers.Replace(" ", "_"), decoder=decoders.Fuse()),
    "regular expression": bpe(decoder=decoders.Replace(Regex("a+"), "a")),
    "across the tokens": bpe(decoder=decoders.Sequence([decoders.Fuse(), decoders.Replace("ab", "c")])),
    "from every token": bpe(decoder=decoders.Sequence([MARKED, decoders.Strip(" ", 1, 0), decoders.Fuse()])),
    "from the end of a text": bpe(decoder=decoders.Sequence([MARKED, decoders.Fuse(), decoders.Strip(" ", 1, 1)])),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_tokenizer_whose_tokens_bytes_cannot_be_known_is_refused_with_the_reason(reason: str) -> None:
    with pytest.raises(ModelNotServable, match="cannot be known") as refusal:
        Vocabulary.from_tokenizer_json(REFUSED[reason].to_str(), vocab_size=9, eos_token_ids=[])
    assert reason in str(refusal.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model": null}', '{"model": {"type": "BPE"}}'])
def test_a_file_that_is_no_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(ModelNotServable, match=r"tokenizer\.json"):
        Vocabulary.from_tokenizer_json(text, vocab_size=9, eos_token_ids=[])

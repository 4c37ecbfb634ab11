import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from draftpool.errors import BadParameter, ModelNotServable
from draftpool.vocabulary import Vocabulary
from draftpool.wire import vocabulary_from_wire, vocabulary_to_wire


def byte_level_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<end>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["the cat sat on the mat, naïve café, the hat"] * 5, trainer)
    return tokenizer


def test_byte_strings_of_a_byte_level_tokenizer_spell_the_text() -> None:
    tokenizer = byte_level_tokenizer()
    vocabulary = Vocabulary.from_tokenizer_json(
        tokenizer.to_str(), vocab_size=tokenizer.get_vocab_size() + 5, eos_token_ids=[0]
    )
    text = "the café\n\t\u0000 日本 🎉 mat"
    assert b"".join(vocabulary.token_bytes[i] for i in tokenizer.encode(text).ids) == text.encode()
    assert vocabulary.token_bytes[0] == b""  # special
    assert vocabulary.token_bytes[-1] == b""  # padding


def test_byte_strings_of_a_sentencepiece_style_tokenizer() -> None:
    vocab = {"<unk>": 0, "</s>": 1, "<0x0A>": 2, "\u2581the": 3, "cat": 4}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    vocabulary = Vocabulary.from_tokenizer_json(tokenizer.to_str(), vocab_size=5, eos_token_ids=[1])
    assert vocabulary.token_bytes == (b"", b"", b"\n", b" the", b"cat")


def test_an_unknown_kind_of_tokenizer_is_refused() -> None:
    tokenizer = Tokenizer(models.WordPiece({"a": 0}, unk_token="a"))
    tokenizer.decoder = decoders.WordPiece()
    with pytest.raises(ModelNotServable, match="WordPiece"):
        Vocabulary.from_tokenizer_json(tokenizer.to_str(), vocab_size=1, eos_token_ids=[])


def test_a_tokenizer_larger_than_the_model_is_refused() -> None:
    with pytest.raises(ModelNotServable, match="do not match"):
        Vocabulary.from_tokenizer_json(byte_level_tokenizer().to_str(), vocab_size=10, eos_token_ids=[])


def test_fingerprints_tell_vocabularies_apart() -> None:
    prints = {
        Vocabulary(tokens, eos).fingerprint
        for tokens, eos in [((b"a", b"bc"), (0,)), ((b"ab", b"c"), (0,)), ((b"a", b"bc"), (1,)), ((b"a", b"bc"), ())]
    }
    assert len(prints) == 4


VOCABULARIES = st.builds(
    Vocabulary,
    st.lists(st.binary(max_size=3), max_size=4).map(tuple),
    st.lists(st.integers(0, 3), max_size=2).map(tuple),
)


@given(one=VOCABULARIES, other=VOCABULARIES)
def test_fingerprints_are_equal_where_all_tokens_and_ends_are(one: Vocabulary, other: Vocabulary) -> None:
    assert (one.fingerprint == other.fingerprint) == (one == other)


@given(vocabulary=VOCABULARIES, added=st.binary(min_size=1, max_size=2), data=st.data())
def test_a_change_of_any_token_changes_the_fingerprint(
    vocabulary: Vocabulary, added: bytes, data: st.DataObject
) -> None:
    tokens = [*vocabulary.token_bytes, b""]
    place = data.draw(st.integers(0, len(tokens) - 1))
    before = Vocabulary(tuple(tokens), vocabulary.eos_token_ids)
    tokens[place] += added
    assert Vocabulary(tuple(tokens), vocabulary.eos_token_ids).fingerprint != before.fingerprint


def test_a_vocabulary_that_was_damaged_on_the_way_is_refused() -> None:
    message = vocabulary_to_wire(Vocabulary((b"a", b"b"), (0,)))
    assert vocabulary_from_wire(message) == Vocabulary((b"a", b"b"), (0,))
    message.token_bytes[1] = b"c"
    with pytest.raises(BadParameter, match="fingerprint"):
        vocabulary_from_wire(message)


def test_the_json_is_read_by_structure_not_by_chance() -> None:
    """A byte-level tokenizer whose text happens to contain the SentencePiece mark stays byte-level."""
    description = json.loads(byte_level_tokenizer().to_str())
    description["added_tokens"].append({"id": 1, "content": "\u2581", "special": False})
    vocabulary = Vocabulary.from_tokenizer_json(json.dumps(description), vocab_size=400, eos_token_ids=[])
    assert vocabulary.token_bytes[1] == "\u2581".encode()

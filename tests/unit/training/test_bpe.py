"""Both tokenizers keep any text, and digits stand alone."""

import pytest
import transformers

from training.bpe import END_OF_TEXT, END_OF_TEXT_ID, load_tokenizer, save_tokenizer, take_bytes

AWKWARD = [
    "",
    " leading",
    "trailing \n",
    "\t\r\n  x   y",
    "naïve e\u0301",
    "日本語 🎉\u200d🔥",
    "\x00\x7f\ufeff",
    "12.50 don't",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_any_text_round_trips(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_digits_stand_alone(tokenizer):
    tokens = tokenizer.encode("10 + 2024 = 2034").tokens
    assert [token for token in tokens if any(map(str.isdigit, token))] == list("1020242034")


def test_encoding_adds_nothing_and_the_end_is_id_zero(tokenizer):
    assert tokenizer.encode("").ids == []
    assert tokenizer.token_to_id(END_OF_TEXT) == END_OF_TEXT_ID == 0


def test_every_id_exists(tokenizer):
    assert all(tokenizer.id_to_token(token_id) is not None for token_id in range(tokenizer.get_vocab_size()))


def test_transformers_loads_what_is_saved(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "Question: what is 7 plus 8 ?"
    assert loaded(text).input_ids == load_tokenizer(tmp_path).encode(text).ids
    assert loaded.decode(loaded(text).input_ids) == text
    assert loaded.eos_token_id == END_OF_TEXT_ID


def test_documents_are_taken_evenly_up_to_a_size():
    documents = ["x" * 10] * 100
    assert len(take_bytes(documents, 300)) == 30
    assert take_bytes(documents, 5000) == documents

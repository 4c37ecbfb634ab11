"""Windows are cut from whole documents laid end to end, and a stream can go on from where it stood."""

import numpy as np

from training.batches import MixtureBatches, PackedStream, encode_documents
from training.bpe import END_OF_TEXT_ID

DOCUMENTS = [np.arange(start, start + 20, dtype=np.uint16) for start in range(0, 1000, 20)]


def test_every_document_is_closed(tokenizer):
    for token_ids in encode_documents(tokenizer, ["a b", ""]):
        assert token_ids[-1] == END_OF_TEXT_ID


def test_an_epoch_never_repeats_a_token():
    stream = PackedStream(DOCUMENTS, seed=1)
    tokens = np.concatenate([stream.next_window(30) for _ in range(15)])
    assert len(set(tokens.tolist())) == len(tokens)


def test_a_new_epoch_has_another_order():
    stream = PackedStream(DOCUMENTS, seed=1)
    first = stream.next_window(100)
    while stream.state()["epoch"] == 0:
        second = stream.next_window(100)
    assert not np.array_equal(first, second)


def test_a_restored_stream_goes_on_exactly():
    stream = PackedStream(DOCUMENTS, seed=3)
    for _ in range(40):
        stream.next_window(30)
    twin = PackedStream(DOCUMENTS, seed=3)
    twin.restore(stream.state())
    assert np.array_equal(stream.next_window(30), twin.next_window(30))


def test_a_batch_holds_the_inputs_and_one_token_more(corpus, tokenizer):
    batch = MixtureBatches(corpus, tokenizer, seed=0).batch(step=0, num_windows=4, window_length=16)
    assert batch.shape == (4, 17)
    assert batch.max() < tokenizer.get_vocab_size()

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from verifier_service.kv_store import KvStore, LayerShape, tokens_for_bytes

CPU = torch.device("cpu")
# Layers of two kinds, as models with alternating attention have them.
LAYERS = [
    LayerShape(2, 3, 5, torch.float32, CPU),
    LayerShape(1, 4, 4, torch.float32, CPU),
    LayerShape(2, 3, 5, torch.float32, CPU),
]
NUM_PAGES, PAGE_TOKENS = 4, 3
NUM_SLOTS = NUM_PAGES * PAGE_TOKENS


@pytest.fixture
def store() -> KvStore:
    return filled_store()


def filled_store() -> KvStore:
    store = KvStore(LAYERS, NUM_PAGES, PAGE_TOKENS)
    for layer, shape in enumerate(LAYERS):
        keys = torch.randn(shape.num_heads, NUM_SLOTS, shape.key_dim)
        values = torch.randn(shape.num_heads, NUM_SLOTS, shape.value_dim)
        store.write(layer, torch.arange(NUM_SLOTS), keys, values)
    return store


def test_what_is_written_is_gathered_page_by_page_in_the_order_asked(store) -> None:
    for layer in range(3):
        keys, values = store.gather(layer, torch.tensor([2, 0]))
        slots = [6, 7, 8, 0, 1, 2]
        assert torch.equal(keys, store.keys[layer][:, slots])
        assert torch.equal(values, store.values[layer][:, slots])


def test_writing_touches_no_other_slot_and_no_other_layer(store) -> None:
    before = [keys.clone() for keys in store.keys]
    store.write(0, torch.tensor([4]), torch.ones(2, 1, 3), torch.ones(2, 1, 5))
    assert torch.equal(store.keys[0][:, 4], torch.ones(2, 3))
    untouched = [slot for slot in range(NUM_SLOTS) if slot != 4]
    assert torch.equal(store.keys[0][:, untouched], before[0][:, untouched])
    assert torch.equal(store.keys[1], before[1])
    assert torch.equal(store.keys[2], before[2])


@given(st.data())
def test_moving_reads_everything_before_it_writes_anything(data) -> None:
    store = filled_store()
    targets = data.draw(st.lists(st.integers(0, NUM_SLOTS - 1), unique=True, min_size=1))
    sources = [data.draw(st.integers(0, NUM_SLOTS - 1)) for _ in targets]
    before = [(keys.clone(), values.clone()) for keys, values in zip(store.keys, store.values, strict=True)]
    store.move(sources, targets)
    for layer, (keys, values) in enumerate(before):
        keys[:, targets], values[:, targets] = keys[:, sources], values[:, sources]
        assert torch.equal(store.keys[layer], keys)
        assert torch.equal(store.values[layer], values)


def test_clearing_forgets_even_what_is_not_a_number(store) -> None:
    store.keys[1].fill_(torch.nan)
    store.clear([1, 3])
    assert store.keys[1][:, [3, 4, 5, 9, 10, 11]].eq(0).all()
    assert store.keys[1][:, [0, 1, 2, 6, 7, 8]].isnan().all()
    assert store.values[2][:, [3, 4, 5, 9, 10, 11]].eq(0).all()
    assert not store.values[2][:, [0, 1, 2]].eq(0).any()


def test_a_memory_budget_buys_whole_tokens() -> None:
    num_bytes_per_token = 4 * (2 * 2 * 8 + 8)
    assert tokens_for_bytes(LAYERS, 10 * num_bytes_per_token + 1) == 10

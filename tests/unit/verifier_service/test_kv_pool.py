import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from draftpool.errors import NoCapacity
from verifier_service.kv_pool import KvPool, LayerShape, slots_for_bytes

LAYERS = [LayerShape(num_heads=2, key_dim=3, value_dim=5), LayerShape(num_heads=2, key_dim=3, value_dim=5)]
NUM_SLOTS = 12


def make_pool() -> KvPool:
    return KvPool(LAYERS, NUM_SLOTS, dtype=torch.float32)


class AnyUseOfThePool(RuleBasedStateMachine):
    """Whatever is taken and given back, every slot is free or held by one owner."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = make_pool()
        self.held: list[int] = []

    allocations = Bundle("allocations")

    @rule(target=allocations, num_slots=st.integers(0, NUM_SLOTS + 2))
    def allocate(self, num_slots):
        try:
            slots = self.pool.allocate(num_slots)
        except NoCapacity:
            assert num_slots > NUM_SLOTS - len(self.held)
            return self.pool.allocate(0)
        assert num_slots <= NUM_SLOTS - len(self.held)
        self.held += slots.tolist()
        return slots

    @rule(slots=consumes(allocations))
    def free(self, slots):
        self.pool.free(slots)
        self.held = [slot for slot in self.held if slot not in slots]

    @invariant()
    def every_slot_is_accounted_for(self):
        self.pool.check_integrity(self.held)
        assert self.pool.num_used == len(self.held)
        assert self.pool.num_used + self.pool.num_free == NUM_SLOTS


TestAnyUseOfThePool = AnyUseOfThePool.TestCase


def test_a_refused_allocation_takes_nothing_and_says_how_much_was_free() -> None:
    pool = make_pool()
    pool.allocate(5)
    with pytest.raises(NoCapacity, match="7 of 12 are free") as refused:
        pool.allocate(8)
    assert refused.value.retry_after_s
    assert pool.num_free == 7


def test_giving_back_twice_is_noticed() -> None:
    pool = make_pool()
    slots = pool.allocate(2)
    pool.free(slots)
    with pytest.raises(RuntimeError, match="came back"):
        pool.free(slots)


def test_a_leak_is_noticed() -> None:
    pool = make_pool()
    pool.allocate(1)
    with pytest.raises(RuntimeError, match="not each of 12 once"):
        pool.check_integrity([])


@given(slots=st.lists(st.integers(0, NUM_SLOTS - 1), unique=True, min_size=1))
def test_what_is_written_is_read_in_any_order(slots) -> None:
    pool = make_pool()
    keys, values = torch.randn(2, len(slots), 3), torch.randn(2, len(slots), 5)
    pool.write(1, torch.tensor(slots), keys, values)
    read_keys, read_values = pool.read(1, torch.tensor(slots[::-1]))
    assert torch.equal(read_keys, keys.flip(1))
    assert torch.equal(read_values, values.flip(1))


def test_a_memory_budget_buys_whole_tokens() -> None:
    num_bytes_per_token = 2 * 2 * (3 + 5) * 4
    assert slots_for_bytes(LAYERS, torch.float32, 10 * num_bytes_per_token + 1) == 10

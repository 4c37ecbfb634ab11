import pytest

from drafter_service.state_pool import StatePool
from draftpool.errors import BadParameter, NoCapacity


def test_a_slot_is_kept_aside_for_every_session_that_may_still_open() -> None:
    pool = StatePool(num_slots=6, max_sessions=3)
    root = pool.open_session()
    assert pool.num_free_for_trees == 3
    level = pool.take_for_level(3)
    assert pool.take_for_level(1) == []
    others = [pool.open_session(), pool.open_session()]
    with pytest.raises(NoCapacity):
        pool.open_session()
    assert len({root, *level, *others}) == pool.num_used == 6
    pool.close_session([root, *level])
    pool.check_integrity(others)


def test_a_level_gets_all_its_slots_or_none() -> None:
    pool = StatePool(num_slots=4, max_sessions=1)
    pool.open_session()
    assert pool.take_for_level(4) == []
    assert len(pool.take_for_level(3)) == 3


def test_a_lost_slot_and_a_slot_given_back_twice_are_noticed() -> None:
    pool = StatePool(num_slots=3, max_sessions=1)
    root = pool.open_session()
    pool.check_integrity([root])
    with pytest.raises(RuntimeError):
        pool.check_integrity([])
    pool.give_back([root])
    with pytest.raises(RuntimeError):
        pool.check_integrity([root])


def test_fewer_slots_than_sessions_are_refused() -> None:
    with pytest.raises(BadParameter):
        StatePool(num_slots=1, max_sessions=2)

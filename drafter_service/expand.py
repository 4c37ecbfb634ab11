"""Growing the trees of many sessions together: one batched step a level."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from drafter_service.recurrent_model import RecurrentModel
from drafter_service.session import Session
from drafter_service.state_pool import StatePool


def grow_trees(model: RecurrentModel, pool: StatePool, sessions: Sequence[Session]) -> int:
    """Grow the tree that each session has begun, up to its shape or the pool's room.

    The first level comes from the root's logits, for which the last committed token is stepped; then each
    level is stepped to draw the next. The last level's nodes are leaves and are never stepped.

    Args:
        sessions: each with at most one pending token.

    Returns:
        The number of batched steps.
    """
    num_steps = _step_roots(model, sessions)
    for session in sessions:
        if session.growth.is_growing:
            session.add_level(session.root_logits)
    while growing := _with_room(pool, sessions):
        _step_frontiers(model, growing)
        num_steps += 1
    return num_steps


def _step_roots(model: RecurrentModel, sessions: Sequence[Session]) -> int:
    """Feed the last pending token of every session that has one, in place."""
    behind = [session for session in sessions if session.pending_ids]
    if not behind:
        return 0
    slots = [session.root_slot for session in behind]
    logits = model.step([session.pending_ids[-1] for session in behind], slots, slots)
    for session, row in zip(behind, torch.split(logits, 1), strict=True):
        session.catch_up(row.clone())  # a view would keep the whole batch alive
    return 1


def _with_room(pool: StatePool, sessions: Sequence[Session]) -> list[Session]:
    """The sessions whose trees go on, their frontiers' slots taken; trees without room stop where they are."""
    growing = []
    for session in sessions:
        growth = session.growth
        if not growth.is_growing:
            continue
        slots = pool.take_for_level(len(growth.frontier))
        if slots:
            growth.hold(slots)
            growing.append(session)
        else:
            growth.stop()
    return growing


def _step_frontiers(model: RecurrentModel, sessions: Sequence[Session]) -> None:
    """Step the frontiers of all sessions in one batch and give every session its next level."""
    token_ids: list[int] = []
    parent_slots: list[int] = []
    child_slots: list[int] = []
    for session in sessions:
        growth = session.growth
        token_ids += growth.frontier_drafter_ids()
        parent_slots += growth.frontier_parent_slots(session.root_slot)
        child_slots += (growth.slots[node] for node in growth.frontier)
    logits = model.step(token_ids, parent_slots, child_slots)
    blocks = torch.split(logits, [len(session.growth.frontier) for session in sessions])
    for session, block in zip(sessions, blocks, strict=True):
        session.add_level(block)

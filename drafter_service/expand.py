"""One level more for the trees of many sessions, in one batched step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from drafter_service.candidates import rows_after
from drafter_service.growth import Node
from drafter_service.mamba.recurrent_model import RecurrentModel
from drafter_service.session import Session
from drafter_service.state_pool import StatePool

Level = Sequence[tuple[Session, Node]]
"""Nodes that are stepped together, or have been; the root among them for the last token of a text."""


def grow(model: RecurrentModel, pool: StatePool, sessions: Sequence[Session]) -> None:
    """Step every session's last token or, where that has been done, the frontier of its tree, and add what follows.

    Trees stop where their policy or the pool's room ends. The last level's nodes are leaves and are never stepped.

    Args:
        sessions: each with a tree begun, and at most one pending token.
    """
    known = [session for session in sessions if not session.pending_ids and session.growth.waits_for_root]
    if known:
        _add_rows([(session, session.growth.root) for session in known], torch.cat([s.root_logits for s in known]))
    level = [(session, node) for session in sessions for node in _to_step(session, pool)]
    if level:
        logits = _step(model, level)
        for (session, node), row in zip(level, torch.split(logits, 1), strict=True):
            if node is session.growth.root:
                session.catch_up(row.clone())  # a view would keep the whole batch alive
        _add_rows(level, logits)


def _to_step(session: Session, pool: StatePool) -> Sequence[Node]:
    """The nodes of a session to be stepped now, slots taken for them; a tree without room stops where it is."""
    growth = session.growth
    if session.pending_ids:
        return [growth.root]
    frontier = growth.frontier
    if not frontier:
        return []
    slots = pool.take_for_level(len(frontier))
    if not slots:
        growth.stop()
        return []
    for node, slot in zip(frontier, slots, strict=True):
        node.slot = slot
    return frontier


def _step(model: RecurrentModel, level: Level) -> Tensor:
    """(n, V_drafter): logits after each node; its state is in its slot then."""
    token_ids: list[int] = []
    parent_slots: list[int] = []
    child_slots: list[int] = []
    for session, node in level:
        is_root = node is session.growth.root
        token_id = session.pending_ids[-1] if is_root else node.drafter_id
        parent = node if is_root else node.state_parent
        if token_id is None or parent is None or parent.slot is None or node.slot is None:
            raise RuntimeError("a node was to be stepped that has no token, or whose parent has no state")
        token_ids.append(token_id)
        parent_slots.append(parent.slot)
        child_slots.append(node.slot)
    return model.step(token_ids, parent_slots, child_slots)


def _add_rows(level: Level, logits: Tensor) -> None:
    """Give every node its children, where its tree wants any."""
    wanted = [index for index, (session, _) in enumerate(level) if session.growth.policy.depth > 0]
    if not wanted:
        return
    own = logits if len(wanted) == len(level) else logits[wanted]
    pairs = [level[index] for index in wanted]
    rows = rows_after(own, [session.ask(node) for session, node in pairs])
    for (session, node), row in zip(pairs, rows, strict=True):
        session.growth.add_row(node, row)
    for growth in dict.fromkeys(session.growth for session, _ in pairs):
        growth.num_steps += 1

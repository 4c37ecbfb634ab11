"""The acceptance rules as the loop calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from orchestrator.acceptance import AcceptedPath, accept_path
from orchestrator.drafting import Draft
from orchestrator.rejection import accept_drawn_path, rejection_uniforms
from orchestrator.verifying import Verdict

Accept: TypeAlias = Callable[[Draft, Verdict, int], AcceptedPath]
"""(draft, verdict, number of tokens committed) to what is accepted."""


def coupled(draft: Draft, verdict: Verdict, num_committed: int) -> AcceptedPath:  # noqa: ARG001
    """Follow what the target chose."""
    return accept_path(draft.tree, verdict.chosen_token_ids)


def rejection(seed: int) -> Accept:
    """Try what was drawn. A round without a draft is the same under both rules: the target's own choice."""

    def accept(draft: Draft, verdict: Verdict, num_committed: int) -> AcceptedPath:
        if draft.laws is None or verdict.laws is None:
            return accept_path(draft.tree, verdict.chosen_token_ids)
        uniforms = rejection_uniforms(seed, num_committed, draft.tree)
        return accept_drawn_path(draft.tree, draft.laws, verdict.laws, uniforms)

    return accept

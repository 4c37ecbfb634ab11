"""Tokens that cannot be chosen: by the request's lists, before a text may end, by its grammar."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from draftpool.errors import BadParameter
from draftpool.sampling import SamplingParams
from draftpool.tree import DraftTree
from verifier_service.grammar import GrammarState
from verifier_service.transfer import to_device


class Masks:
    """The masks of one session.

    Where they leave no token together, the text ends: the target's eos tokens are allowed, whatever masks them.

    Args:
        eos_token_ids: of the target.
        unused_token_ids: stand for nothing, and are never chosen anyway.

    Raises:
        BadParameter: nothing could ever be chosen.
    """

    def __init__(
        self,
        params: SamplingParams,
        vocab_size: int,
        *,
        eos_token_ids: Sequence[int],
        unused_token_ids: Sequence[int],
        grammar: GrammarState | None,
    ) -> None:
        self._min_new_tokens = params.min_new_tokens
        self._grammar = grammar
        unused = _members(unused_token_ids, vocab_size)
        listed = _members(params.allowed_token_ids, vocab_size) if params.allowed_token_ids else ~unused
        allowed = listed & ~unused & ~_members(params.banned_token_ids, vocab_size)
        ends_text = _members(eos_token_ids, vocab_size) & ~unused
        ends = ends_text | _members(params.stop_token_ids, vocab_size)
        if not allowed.any():
            raise BadParameter("allowed_token_ids and banned_token_ids leave nothing that could be chosen")
        if params.min_new_tokens and not (ends_text.any() or (allowed & ~ends).any()):
            raise BadParameter("min_new_tokens leaves nothing that could be chosen: only stop tokens are allowed")
        # (3, V): what the lists allow; what ends the text or the generation; what ends the text.
        self._rows = torch.stack([allowed, ends, ends_text])
        self._has_lists = bool(params.allowed_token_ids or params.banned_token_ids)

    def applied(self, logits: Tensor, token_ids: Sequence[int], num_prompt_tokens: int, tree: DraftTree) -> Tensor:
        """New logits, (N + 1, V), with -inf for what cannot be chosen; the same where everything can.

        Raises:
            BadParameter: the answer so far is not of the grammar, or the grammar is too complex to go on with.
        """
        num_missing = self._min_new_tokens - (len(token_ids) - num_prompt_tokens)
        if not (self._has_lists or self._grammar or num_missing > 0):
            return logits
        self._rows = to_device(self._rows, logits.device)
        allowed, ends, ends_text = self._rows
        allowed = allowed.expand(len(logits), -1)
        if num_missing > 0:
            is_early = torch.tensor([True, *(depth < num_missing for depth in tree.depths)])
            allowed = allowed & ~(to_device(is_early, logits.device)[:, None] & ends)
        if self._grammar is not None:
            bits = self._grammar.masks(token_ids, num_prompt_tokens, tree)
            allowed = allowed & _unpacked(to_device(torch.from_numpy(bits), logits.device), logits.shape[-1])
        is_nothing_left = ~allowed.any(dim=-1, keepdim=True)
        return logits.masked_fill(~(allowed | (is_nothing_left & ends_text)), -torch.inf)


def _members(token_ids: Sequence[int], vocab_size: int) -> Tensor:
    """(V,) bool."""
    found = torch.zeros(vocab_size, dtype=torch.bool)
    found[torch.tensor(token_ids, dtype=torch.int64)] = True
    return found


def _unpacked(bits: Tensor, vocab_size: int) -> Tensor:
    """(n, V) bool from (n, W) int32, token v in bit v % 32 of word v // 32."""
    shifts = torch.arange(32, dtype=torch.int32, device=bits.device)
    return ((bits[:, :, None] >> shifts) & 1).bool().flatten(start_dim=1)[:, :vocab_size]

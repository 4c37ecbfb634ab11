"""Mamba-1's recurrence over many tokens of one text.

Glossary: T tokens, D d_inner, S state size.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK_TOKENS = 32
"""What the two buffers hold: few enough to stay in a core's cache."""


class SelectiveScan:
    """Scans in buffers of its own, which all layers of a model share.

    One `addcmul` a token: exact and stable where a parallel scan in logarithmic space is neither, and quick while
    D * S is in the thousands.
    """

    def __init__(self, state_size: int, width: int, device: torch.device) -> None:
        self._decay = torch.empty(_CHUNK_TOKENS, state_size, width, device=device)
        self._states = torch.empty_like(self._decay)
        self._steps = list(zip(self._decay.unbind(0), self._states.unbind(0), strict=True))

    def scan(
        self, time_step: Tensor, log2_decay: Tensor, inputs: Tensor, drive: Tensor, readout: Tensor, state: Tensor
    ) -> Tensor:
        """Run h[t] = 2 ** (time_step[t] * log2_decay) * h[t - 1] + drive[t] x (time_step[t] * inputs[t]).

        Args:
            time_step: (T, D).
            log2_decay: (S, D).
            inputs: (T, D).
            drive: (T, S), the paper's B.
            readout: (T, S), the paper's C.
            state: (S, D); on entry h before the first token, on return after the last.

        Returns:
            (T, D): readout[t] times h[t].
        """
        weighted = time_step * inputs
        read = torch.empty_like(inputs)
        for start in range(0, len(inputs), _CHUNK_TOKENS):
            rows = slice(start, start + _CHUNK_TOKENS)
            states = self._scan_chunk(time_step[rows], log2_decay, weighted[rows], drive[rows], state)
            torch.bmm(readout[rows, None], states, out=read[rows, None])
        return read

    def _scan_chunk(
        self, time_step: Tensor, log2_decay: Tensor, weighted: Tensor, drive: Tensor, state: Tensor
    ) -> Tensor:
        """(chunk, S, D): the states after each token, valid until the next call."""
        num_tokens = len(time_step)
        torch.mul(time_step[:, None], log2_decay, out=self._decay[:num_tokens]).exp2_()
        states = torch.mul(drive[:, :, None], weighted[:, None], out=self._states[:num_tokens])
        previous = state
        for decay, current in self._steps[:num_tokens]:
            previous = current.addcmul_(decay, previous)
        state.copy_(previous)
        return states

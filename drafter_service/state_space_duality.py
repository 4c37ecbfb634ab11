"""Mamba-2's recurrence over many tokens of one text, as matrix products.

Within a chunk every token reads every earlier one as attention would, weighed by how much has decayed between them;
what came before the chunk is read from the state. Shapes as in `drafter_service.mamba2`, Q tokens of a chunk.

Source: the SSD algorithm of "Transformers are SSMs", arXiv:2405.21060, section 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK_TOKENS = 64
"""Work within a chunk grows with its length, work between chunks shrinks; least in total at the state's usual size."""


@dataclass(frozen=True)
class HeadInputs:
    """What the recurrence h[t] = 2 ** log2_decay[t] * h[t - 1] + drive[t] x weighted[t] takes of each token.

    Attributes:
        weighted: (T, D), inputs times time step.
        log2_decay: (T, H), not positive.
        drive: (T, G, S), the paper's B.
        readout: (T, G, S), the paper's C.
    """

    weighted: Tensor
    log2_decay: Tensor
    drive: Tensor
    readout: Tensor

    def rows(self, start: int, stop: int) -> HeadInputs:
        return HeadInputs(
            self.weighted[start:stop], self.log2_decay[start:stop], self.drive[start:stop], self.readout[start:stop]
        )


def scan_heads(inputs: HeadInputs, state: Tensor) -> Tensor:
    """Run the recurrence.

    Args:
        state: (G, S, D / G); on entry h before the first token, on return after the last.

    Returns:
        (T, D): readout[t] times h[t].
    """
    num_tokens = len(inputs.weighted)
    starts = range(0, num_tokens, _CHUNK_TOKENS)
    return torch.cat([_scan_chunk(inputs.rows(start, start + _CHUNK_TOKENS), state) for start in starts])


def _scan_chunk(inputs: HeadInputs, state: Tensor) -> Tensor:
    num_tokens, num_heads = inputs.log2_decay.shape
    num_groups, _, group_width = state.shape
    heads_of_group = num_heads // num_groups
    weighted = inputs.weighted.view(num_tokens, num_heads, -1)  # (Q, H, P)
    drive, readout = inputs.drive.transpose(0, 1), inputs.readout.transpose(0, 1)  # (G, Q, S)
    decayed = inputs.log2_decay.cumsum(0)  # (Q, H): since the chunk began, the token's own step included

    # Earlier tokens of the chunk: (H, Q, Q) weights. What later ones would be is kept finite, then removed.
    between = (decayed.T[:, :, None] - decayed.T[:, None, :]).clamp_(max=0).exp2_()
    alike = torch.bmm(readout, drive.transpose(1, 2))  # (G, Q, Q)
    between.view(num_groups, heads_of_group, num_tokens, num_tokens).mul_(alike[:, None])
    read = torch.bmm(between.tril_(), weighted.transpose(0, 1)).transpose(0, 1)  # (Q, H, P)

    # What came before the chunk.
    from_state = torch.bmm(readout, state).transpose(0, 1).reshape(weighted.shape)
    read = torch.addcmul(read, from_state, decayed.exp2()[:, :, None])

    # The state after the chunk.
    left = torch.exp2(decayed[-1] - decayed)  # (Q, H)
    kept = (weighted * left[:, :, None]).view(num_tokens, num_groups, group_width).transpose(0, 1)
    state.view(num_groups, -1, heads_of_group, weighted.shape[2]).mul_(
        decayed[-1].exp2().view(num_groups, 1, heads_of_group, 1)
    )
    state.baddbmm_(drive.transpose(1, 2), kept)
    return read.reshape(num_tokens, -1)

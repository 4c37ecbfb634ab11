"""Mamba-2's recurrence over many tokens of one text, as matrix products.

Within a chunk every token reads every earlier one as attention would, weighed by how much has decayed between them;
what came before the chunk is read from the state. All chunks are computed together but for their states, which follow
one another. Shapes as in `drafter_service.mamba.mamba2`; N chunks of Q tokens.

Source: the SSD algorithm of "Transformers are SSMs", arXiv:2405.21060, section 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK_TOKENS = 32
"""Work within chunks grows with their length, work between them shrinks; least in total, measured."""


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
    num_whole = num_tokens - num_tokens % _CHUNK_TOKENS
    read = []
    if num_whole:
        read.append(_scan_chunks(inputs.rows(0, num_whole), num_whole // _CHUNK_TOKENS, state))
    if num_whole < num_tokens:
        read.append(_scan_chunks(inputs.rows(num_whole, num_tokens), 1, state))
    return torch.cat(read)


def _scan_chunks(inputs: HeadInputs, num_chunks: int, state: Tensor) -> Tensor:
    num_tokens, num_heads = inputs.log2_decay.shape
    num_groups, state_size, _ = state.shape
    chunk_tokens = num_tokens // num_chunks
    weighted = inputs.weighted.reshape(num_chunks, chunk_tokens, num_groups, -1)
    by_group = (num_chunks, chunk_tokens, num_groups, state_size)
    drive = inputs.drive.reshape(by_group).transpose(1, 2)  # (N, G, Q, S)
    readout = inputs.readout.reshape(by_group).transpose(1, 2)
    # Since the chunk began, the token's own step included: (N, Q, G, H / G).
    decayed = inputs.log2_decay.reshape(num_chunks, chunk_tokens, num_groups, -1).cumsum(1)

    before = _states_before(weighted, drive, decayed, state)
    read = torch.matmul(readout, before).transpose(1, 2).reshape(num_chunks, chunk_tokens, num_heads, -1)
    read = read * decayed.exp2().view(num_chunks, chunk_tokens, num_heads, 1)
    read += _read_within(weighted, drive, readout, decayed)
    return read.view(num_tokens, -1)


def _states_before(weighted: Tensor, drive: Tensor, decayed: Tensor, state: Tensor) -> Tensor:
    """(N, G, S, D / G): the state that each chunk starts from; `state` becomes the last chunk's."""
    shape = (*decayed.shape, -1)
    left = torch.exp2(decayed[:, -1:] - decayed)[..., None]  # of each token when its chunk ends
    kept = (weighted.view(shape) * left).view(weighted.shape).transpose(1, 2)
    added = torch.matmul(drive.transpose(2, 3), kept)
    decay = decayed[:, -1].exp2()[:, :, None, :, None].expand(-1, -1, -1, -1, weighted.shape[3] // shape[3])
    decay = decay.reshape(len(weighted), len(state), 1, -1)
    before = torch.empty_like(added)
    for chunk_before, chunk_decay, chunk_added in zip(before, decay, added, strict=True):
        chunk_before.copy_(state)
        torch.addcmul(chunk_added, chunk_before, chunk_decay, out=state)
    return before


def _read_within(weighted: Tensor, drive: Tensor, readout: Tensor, decayed: Tensor) -> Tensor:
    """(N, Q, H, P): what each token reads of its own chunk."""
    num_chunks, chunk_tokens, num_groups, heads_of_group = decayed.shape
    along = decayed.permute(0, 2, 3, 1)  # (N, G, H / G, Q)
    # What later tokens would weigh is kept finite, then removed.
    weights = (along[..., :, None] - along[..., None, :]).clamp_(max=0).exp2_()
    weights.mul_(torch.matmul(readout, drive.transpose(2, 3))[:, :, None]).tril_()
    by_head = weighted.view(num_chunks, chunk_tokens, num_groups * heads_of_group, -1).transpose(1, 2)
    return torch.matmul(weights.flatten(1, 2), by_head).transpose(1, 2)

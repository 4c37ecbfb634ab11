"""The tokens that a draft's children were drawn from, row by row. What a caller of the rejection rule asks about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from draftpool.errors import BadParameter, TokenOutOfVocabulary
from verifier_service.transfer import to_device


@dataclass(frozen=True)
class Support:
    """S tokens in rows: row 0 follows the last committed token, row i + 1 node i.

    Attributes:
        row_lengths: how many of the tokens each row has; rows may be empty.
        token_ids: (S,), row after row.
    """

    row_lengths: tuple[int, ...]
    token_ids: tuple[int, ...]

    @classmethod
    def empty(cls, num_rows: int) -> Support:
        """Where nothing was drawn."""
        return cls((0,) * num_rows, ())

    def check(self, num_rows: int, vocab_size: int) -> None:
        """See that this can be answered.

        Raises:
            BadParameter: another number of rows, lengths that do not add up, or a token twice in a row.
            TokenOutOfVocabulary: a token that the target does not have.
        """
        if len(self.row_lengths) != num_rows:
            raise BadParameter(
                f"draft_support has {len(self.row_lengths)} rows; a tree of {num_rows - 1} nodes takes {num_rows}"
            )
        if (longest := max(self.row_lengths)) > vocab_size:
            raise BadParameter(f"draft_support has a row of {longest} tokens; the model has {vocab_size}")
        if sum(self.row_lengths) != len(self.token_ids):
            raise BadParameter(
                f"draft_support has {len(self.token_ids)} tokens; its row_lengths add up to {sum(self.row_lengths)}"
            )
        if not self.token_ids:
            return
        if (largest := max(self.token_ids)) >= vocab_size:
            raise TokenOutOfVocabulary(f"draft_support names token {largest}; the model has {vocab_size} ids")
        found, counts = np.unique(self._rows() * vocab_size + np.array(self.token_ids), return_counts=True)
        if (counts > 1).any():
            row, token_id = divmod(int(found[counts > 1][0]), vocab_size)
            raise BadParameter(f"draft_support names token {token_id} twice in row {row}")

    def places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """(S,) rows and (S,) token ids, int64."""
        rows, token_ids = to_device(torch.tensor([self._rows().tolist(), self.token_ids], dtype=torch.int64), device)
        return rows, token_ids

    def _rows(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.repeat(np.arange(len(self.row_lengths)), self.row_lengths)

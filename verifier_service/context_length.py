"""How long a text a model's positions reach. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from draftpool.errors import ModelNotServable


def max_context_tokens(config: Any) -> int:
    """The longest text that a target takes, from the configuration of its text model.

    With `longrope` positions, all tokens of a forward pass are rotated by one of two sets of frequencies, as its
    longest text is beyond the original length or not. One session would then change what another computes, and the keys
    it has cached itself were rotated otherwise. Such a model is served up to the original length, where the set is
    always the same. (`dynamic` frequencies change beyond `max_position_embeddings`, which is the limit in any case.)

    Raises:
        ModelNotServable: the configuration does not say how long a text may be.
    """
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length"):
        if isinstance(longest := getattr(config, name, None), int):
            return min([longest, *_original_lengths(config)])
    raise ModelNotServable(f"the configuration of this {config.model_type} does not say how long a text may be")


def _original_lengths(config: Any) -> Iterator[int]:
    parameters = getattr(config, "rope_parameters", None) or {}
    # Models whose kinds of layers have positions of their own nest the parameters by kind.
    for kind in (parameters, *parameters.values()):
        if isinstance(kind, dict) and kind.get("rope_type") == "longrope":
            yield kind["original_max_position_embeddings"]

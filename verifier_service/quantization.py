"""Quantised weights, by the methods that transformers knows."""

from __future__ import annotations

import json
from typing import Any

from transformers.quantizers.auto import AutoQuantizationConfig

from draftpool.errors import BadParameter, ModelNotServable


def quantization_config(text: str) -> Any:
    """The configuration of transformers that a JSON object describes.

    Args:
        text: `{"quant_method": ...}` and the method's own keys, as in the config.json of a quantised model.

    Raises:
        BadParameter: not a JSON object, or not one that the method takes.
        ModelNotServable: the method's package is not installed.
    """
    try:
        described = json.loads(text)
        if not isinstance(described, dict):
            raise ValueError("it is not a JSON object")
        return AutoQuantizationConfig.from_dict(described)
    except ImportError as error:
        raise ModelNotServable(f"the quantisation {text} needs a package that is not installed: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise BadParameter(f"transformers does not take the quantisation {text}: {error}") from error

"""Where the weights of a model go: to one device, over several by a device map, or in slices to several ranks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils.import_utils import is_accelerate_available

from draftpool.errors import BadParameter, ModelNotServable

DEVICE_MAP_NAMES = ("auto", "balanced", "balanced_low_0", "sequential")
"""Device maps that transformers works out itself."""


@dataclass(frozen=True)
class Placement:
    """Where a model is loaded to.

    Attributes:
        device: one device, as torch names it. None is the CPU; of a rank, the kind of device that it has one of.
        device_map: as transformers takes it, a name or a JSON object of module names and devices.
        num_ranks: processes that hold a slice each.

    Raises:
        BadParameter: more than one of them is asked for, or the device map is neither.
    """

    device: str | None = None
    device_map: str | None = None
    num_ranks: int = 1

    def __post_init__(self) -> None:
        if self.device_map is not None:
            if self.device is not None:
                raise BadParameter("device and device_map exclude each other: a device map says where every part goes")
            if self.num_ranks > 1:
                raise BadParameter(
                    "device_map and tensor parallelism exclude each other; start one process, not several"
                )
            self.parsed_device_map()

    @property
    def is_one_device(self) -> bool:
        """Whether the whole model goes to one device of this process."""
        return self.device_map is None and self.num_ranks == 1

    def parsed_device_map(self) -> str | dict[str, Any]:
        """What transformers is given.

        Raises:
            BadParameter: it is no name of a map and no JSON object.
        """
        text = self.device_map or ""
        if text in DEVICE_MAP_NAMES:
            return text
        try:
            parsed = json.loads(text)
        except json.JSONDecodeError:
            parsed = None
        if not isinstance(parsed, dict):
            raise BadParameter(
                f"device_map must be {', '.join(DEVICE_MAP_NAMES)}, or a JSON object of modules and devices, "
                f"got {text!r}"
            )
        return parsed

    def torch_device(self) -> torch.device:
        """Of the first weights; what decides the automatic type of all.

        Raises:
            BadParameter: this machine does not have it, or a rank cannot have it.
        """
        if self.num_ranks > 1:
            return _device_of_rank(self.device)
        if self.device_map is not None:
            parsed = self.parsed_device_map()
            return _accelerator() if isinstance(parsed, str) else _first_device(parsed)
        return _usable(self.device or "cpu")

    def loading_options(self, *, is_quantized: bool) -> dict[str, Any]:
        """Arguments of `from_pretrained`; none where the model is loaded first and moved then.

        Raises:
            ModelNotServable: a package that this needs is missing.
        """
        if self.is_one_device and not is_quantized:
            return {}
        if not is_accelerate_available():
            raise ModelNotServable(
                "quantised models, device_map and tensor parallelism need accelerate, which is not installed; "
                "pip install 'draftpool[big]'"
            )
        if self.num_ranks > 1:
            # Younger than the oldest transformers that this project runs with.
            from transformers.distributed.configuration_utils import DistributedConfig

            return {"distributed_config": DistributedConfig(tp_plan="auto", tp_size=self.num_ranks)}
        if self.device_map is not None:
            return {"device_map": self.parsed_device_map()}
        # Weights are quantised where they will be used: not every method can move them afterwards.
        return {"device_map": {"": str(self.torch_device())}}


ON_CPU = Placement()


def refuse_uneven_slices(config: Any, model: str, num_ranks: int) -> None:
    """Look at a configuration before it is cut: every rank must get as many heads as the others.

    Raises:
        ModelNotServable: transformers has no plan for this kind of model, or its heads cannot be divided.
    """
    text_config = config.get_text_config()
    if not getattr(text_config, "base_model_tp_plan", None):
        raise ModelNotServable(
            f"transformers has no tensor-parallel plan (base_model_tp_plan) for {text_config.model_type} models, "
            f"so {model} cannot be cut for {num_ranks} ranks; start it in one process, with device_map if it is too big"
        )
    for name in ("num_key_value_heads", "num_attention_heads"):
        num_heads = getattr(text_config, name, None)
        if isinstance(num_heads, int) and num_heads % num_ranks:
            raise ModelNotServable(
                f"{model} has {num_heads} {name.removeprefix('num_').replace('_', ' ')}, which {num_ranks} ranks "
                "cannot share evenly; start a number of ranks that divides them"
            )


def _device_of_rank(kind: str | None) -> torch.device:
    """The device that transformers gives each rank: the machine's accelerator where there is one."""
    device = _accelerator()
    if kind not in (None, device.type):
        raise BadParameter(
            f"every rank runs on a {device.type} device of its own; device must be {device.type!r} or not be set, "
            f"got {kind!r}"
        )
    return device


def _accelerator() -> torch.device:
    return torch.accelerator.current_accelerator() or torch.device("cpu")


def _first_device(device_map: dict[str, Any]) -> torch.device:
    named = [device for device in device_map.values() if device != "disk"]
    device = named[0] if named else "cpu"
    return _usable(f"{_accelerator().type}:{device}" if isinstance(device, int) else str(device))


def _usable(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise BadParameter(f"device {name!r} cannot be used: {first_line}") from error
    return device

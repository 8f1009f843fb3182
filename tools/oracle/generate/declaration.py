"""What a file in `architectures/` declares."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch


@dataclass
class Fixture:
    """A tiny checkpoint and how it is made."""

    name: str
    # `mlx`: as mlx-lm saves it. `raw`: as Hugging Face publishes it, made with transformers.
    kind: Literal["mlx", "raw"]
    # Laid over the architecture's `config`; a value of `ABSENT` takes the key out.
    config: dict = field(default_factory=dict)
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    # As in config.json: `group_size`, `bits`, `mode`, and `path: {...}` or `path: False` for single layers; and `global_scale`
    # for nvfp4 experts with a scale of their own.
    quantization: dict | None = None
    # Paths whose entry is left out of config.json, so that a loader must read it off the shapes.
    undeclared: tuple[str, ...] = ()
    # Raw checkpoints are split into shards of at most this many bytes.
    shard_bytes: int | None = None
    # Tensors that a published checkpoint carries and no model uses.
    extra_tensors: Callable[[dict], dict[str, np.ndarray]] | None = None
    # Turns the tensors that transformers saves into those that are published, without changing a value: (tensors, config) to tensors.
    published: Callable[[dict[str, torch.Tensor], dict], dict[str, torch.Tensor]] | None = None
    # Rounds a parameter of a raw checkpoint to values that `published` can store: (transformers' name, drawn value) to value.
    adjust: Callable[[str, np.ndarray], np.ndarray] = lambda _, drawn: drawn
    # Write config.json as transformers 5 does (`rope_parameters`, `dtype`) and not as most published ones are.
    nested_rope: bool = False
    # How transformers computes attention: its plain way, but where that is wrong.
    attention: Literal["eager", "sdpa"] = "eager"
    # Tokens of the full pass; the greedy continuation comes after them.
    length: int = 20
    # Whether one pass and token by token give the same logits.
    cached_agrees: bool = True
    # Whether mlx-lm gets the tokens one by one only, as its passes over several are wrong.
    one_by_one: bool = False
    # Whether to note what the reference itself loses in bfloat16: where that is much, others may lose as much.
    measures_rounding: bool = False
    # Why transformers gives other logits for this checkpoint, where it does.
    transformers_differs: str | None = None
    # Who computes the golden values: transformers only where mlx-lm is known to be wrong, with the reason.
    oracle: Literal["mlx-lm", "transformers"] = "mlx-lm"
    reason: str | None = None


@dataclass
class Architecture:
    """A `model_type` with the fixtures that exercise its switches."""

    # The configuration that its fixtures share, `model_type` included.
    config: dict
    fixtures: list[Fixture]
    # Classes of transformers: (configuration, model with a language-model head); none where it has none.
    transformers: tuple[str, str] | None = None
    # Whether these stand for classes that this version of transformers lacks.
    stands_for_another: bool = False
    # The arguments of transformers' configuration, by the fixture's.
    transformers_arguments: Callable[[dict], dict] = lambda config: config
    # Ends of the names of buffers that checkpoints hold and that are drawn at random too.
    drawn_buffers: tuple[str, ...] = ()
    # Sets a parameter that must not be drawn at random: (name, drawn value) to value.
    adjust: Callable[[str, np.ndarray], np.ndarray] = lambda _, drawn: drawn
    # Mends what mlx-lm loads.
    mend: Callable[[object], None] = lambda _: None


ABSENT = object()


def merged(architecture: Architecture, fixture: Fixture) -> dict:
    """A copy of the fixture's whole configuration."""
    together = {**architecture.config, **fixture.config}
    return {key: copy.deepcopy(value) for key, value in together.items() if value is not ABSENT}

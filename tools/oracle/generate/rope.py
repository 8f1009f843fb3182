"""RoPE fixtures: what every scaling type makes of the same input."""

from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.models.rope_utils import initialize_rope
from safetensors.numpy import save_file

from .writing import write_json

HEADS, LENGTH = 2, 5
OFFSETS = [0, 7, 3000]

SHORT, LONG = [1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.5], [1.0, 1.5, 2.5, 4.0, 7.0, 12.0, 20.0, 32.0]

# (name, arguments of `initialize_rope`); heads are 16 wide, `dims` of them rotate.
CASES = [
    ("plain", {"dims": 16, "base": 10000.0}),
    ("plain-traditional-partial", {"dims": 8, "base": 500000.0, "traditional": True}),
    ("default-by-type", {"dims": 16, "base": 10000.0, "scaling_config": {"type": "default"}}),
    ("default-by-rope-type", {"dims": 4, "base": 100.0, "scaling_config": {"rope_type": "default"}}),
    ("linear", {"dims": 16, "base": 10000.0, "scaling_config": {"type": "linear", "factor": 4.0}}),
    (
        "linear-traditional",
        {"dims": 16, "base": 1000000.0, "traditional": True, "scaling_config": {"rope_type": "linear", "factor": 2.5}},
    ),
    (
        "dynamic",
        {
            "dims": 16,
            "base": 10000.0,
            "max_position_embeddings": 10,
            "scaling_config": {"type": "dynamic", "factor": 2.0},
        },
    ),
    (
        "dynamic-partial",
        {
            "dims": 8,
            "base": 10000.0,
            "max_position_embeddings": 2048,
            "traditional": True,
            "scaling_config": {"type": "dynamic", "factor": 8.0},
        },
    ),
    (
        "llama3",
        {
            "dims": 16,
            "base": 500000.0,
            "scaling_config": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
    ),
    (
        "llama3-defaults",
        {"dims": 16, "base": 10000.0, "traditional": True, "scaling_config": {"type": "llama3", "factor": 32.0}},
    ),
    (
        "yarn",
        {
            "dims": 16,
            "base": 1000000.0,
            "scaling_config": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
        },
    ),
    (
        "yarn-betas",
        {
            "dims": 8,
            "base": 10000.0,
            "traditional": True,
            "scaling_config": {
                "type": "yarn",
                "factor": 8.0,
                "original_max_position_embeddings": 128,
                "beta_fast": 8.0,
                "beta_slow": 2.0,
                "mscale": 0.8,
                "mscale_all_dim": 0.3,
            },
        },
    ),
    ("yarn-defaults", {"dims": 16, "base": 150000.0, "scaling_config": {"type": "yarn", "factor": 32.0}}),
    ("yarn-factor-one", {"dims": 16, "base": 10000.0, "scaling_config": {"type": "yarn", "factor": 1.0}}),
    (
        "deepseek-yarn",
        {
            "dims": 16,
            "base": 10000.0,
            "traditional": True,
            "scaling_config": {
                "type": "deepseek_yarn",
                "factor": 40.0,
                "original_max_position_embeddings": 4096,
                "beta_fast": 32,
                "beta_slow": 1,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
            },
        },
    ),
    (
        "longrope",
        {
            "dims": 16,
            "base": 10000.0,
            "max_position_embeddings": 131072,
            "scaling_config": {
                "type": "longrope",
                "short_factor": SHORT,
                "long_factor": LONG,
                "original_max_position_embeddings": 4096,
            },
        },
    ),
    (
        "longrope-partial-unscaled",
        {
            "dims": 8,
            "base": 10000.0,
            "max_position_embeddings": 4096,
            "scaling_config": {
                "rope_type": "longrope",
                # mlx-lm has the factors of long contexts always; in this one there are none.
                "short_factor": LONG[:4],
                "long_factor": LONG[:4],
                "original_max_position_embeddings": 4096,
            },
        },
    ),
    (
        "proportional",
        {"dims": 16, "base": 1000000.0, "scaling_config": {"rope_type": "proportional", "partial_rotary_factor": 0.25}},
    ),
    (
        "proportional-factor",
        {
            "dims": 16,
            "base": 10000.0,
            "traditional": True,
            "scaling_config": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "factor": 8.0},
        },
    ),
    ("mrope", {"dims": 16, "base": 1000000.0, "scaling_config": {"type": "mrope", "mrope_section": [2, 3, 3]}}),
    (
        "mrope-traditional",
        {
            "dims": 8,
            "base": 10000.0,
            "traditional": True,
            "scaling_config": {"rope_type": "mrope", "mrope_section": [1, 1, 2]},
        },
    ),
]

# Configurations that are refused.
REFUSED = [
    ("unknown-type", {"dims": 16, "base": 10000.0, "scaling_config": {"type": "spiral", "factor": 2.0}}),
    ("linear-without-factor", {"dims": 16, "base": 10000.0, "scaling_config": {"type": "linear"}}),
    (
        "longrope-without-factors",
        {
            "dims": 16,
            "base": 10000.0,
            "max_position_embeddings": 100,
            "scaling_config": {"type": "longrope", "original_max_position_embeddings": 10},
        },
    ),
    (
        "mrope-with-two-sections",
        {"dims": 16, "base": 10000.0, "scaling_config": {"type": "mrope", "mrope_section": [4, 4]}},
    ),
]


def build(arguments: dict):
    return initialize_rope(**{"traditional": False, **arguments})


def make(out: Path) -> None:
    x = np.random.default_rng(0).standard_normal((1, HEADS, LENGTH, 16)).astype(np.float32)
    arrays, cases = {"x": x}, []
    for name, arguments in CASES:
        rope = build(arguments)
        for offset in OFFSETS:
            arrays[f"{name}.{offset}"] = np.array(rope(mx.array(x), offset=offset))
        cases.append({"name": name, "offsets": OFFSETS, "arguments": arguments})
    refused = []
    for name, arguments in REFUSED:
        try:
            build(arguments)
        except (ValueError, KeyError, AssertionError):
            refused.append({"name": name, "arguments": arguments})
        else:
            raise ValueError(f"{name} is not refused")
    save_file(arrays, out / "rope.safetensors")
    write_json(out / "rope.json", {"cases": cases, "refused": refused})

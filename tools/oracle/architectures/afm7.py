"""afm7: keys and values that are rounded to eight bits, and last layers that look at those of the last one before them."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture


def steps(name: str, value: np.ndarray) -> np.ndarray:
    """Steps that some keys and values go beyond, and that are not so large that a rounding hides all else."""
    return np.full_like(value, 0.002) if name.endswith(("quant_key_scale", "quant_value_scale")) else value


ARCHITECTURE = Architecture(
    adjust=steps,
    config={
        "model_type": "afm7",
        "vocab_size": 96,
        "hidden_dim": 32,
        "num_layers": 4,
        "num_kv_reuse_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "hidden_dim_scale_factor": 1.7,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
    },
    fixtures=[
        Fixture("afm7", "mlx", config={"rms_norm_eps": 1e-2}),
        Fixture("afm7-no-reuse", "mlx", config={"num_layers": 2, "num_kv_reuse_layers": 0, "num_kv_heads": 4}, dtype="float16"),
        Fixture(
            "afm7-4bit",
            "mlx",
            config={"hidden_dim": 64, "num_layers": 2, "num_kv_reuse_layers": 1, "hidden_dim_scale_factor": 1.5},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.kv_reuse_layers.0.self_attn.q_proj": {"group_size": 64, "bits": 8},
                # Of which mlx-lm cannot quantize the projections that are one.
                "model.layers.0.self_attn.qkv_proj": False,
            },
        ),
        Fixture(
            "afm7-raw",
            "raw",
            config={
                "num_layers": 3,
                "num_kv_reuse_layers": 1,
                "hidden_dim_scale_factor": ABSENT,
                "rope_theta": ABSENT,
                "rms_norm_eps": ABSENT,
            },
        ),
    ],
)

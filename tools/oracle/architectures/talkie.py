"""talkie: norms without weights, gains of heads, blocks and the embedding, and a head by itself."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture


def tables(config: dict) -> dict[str, np.ndarray]:
    """Tables of the rotation that published checkpoints hold."""
    half = config["head_dim"] // 2
    return {name: np.full((1, 8, 1, half), 0.5, np.float32) for name in ("cos", "model.blocks.0.attn.rotary.sin")}


def gains(name: str, value: np.ndarray) -> np.ndarray:
    """Gains that start at zero are such that leaving them out shows."""
    return value + np.float32(0.5) if name.endswith("embed_skip.a_g") else value


ARCHITECTURE = Architecture(
    adjust=gains,
    config={
        "model_type": "talkie",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_dim": 16,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rope_theta": 500.0,
    },
    fixtures=[
        Fixture("talkie", "mlx"),
        Fixture(
            "talkie-eps",
            "mlx",
            config={
                "num_attention_heads": 4,
                "rms_norm_eps": 1e-1,
                "rope_theta": ABSENT,
                "max_position_embeddings": ABSENT,
            },
            dtype="float16",
        ),
        Fixture(
            "talkie-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.blocks.1.attn.attn_resid": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("talkie-raw", "raw", extra_tensors=tables),
    ],
)

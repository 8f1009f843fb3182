"""internlm2: Llama by other names, with the projections of each key head beside each other."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture


def frequencies(config: dict) -> dict[str, np.ndarray]:
    """What some checkpoints carry."""
    return {"model.layers.0.attention.rope.inv_freq": np.full(4, 0.5, np.float32)}


ARCHITECTURE = Architecture(
    config={
        "model_type": "internlm2",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "bias": False,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture(
            "internlm2",
            "mlx",
            config={"bias": ABSENT, "rms_norm_eps": 1e-2, "num_key_value_heads": 1, "tie_word_embeddings": True},
        ),
        Fixture(
            "internlm2-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64},
            quantization={"group_size": 32, "bits": 4, "model.layers.1.attention.wqkv": {"group_size": 64, "bits": 8}},
        ),
        Fixture("internlm2-raw", "raw", extra_tensors=frequencies),
    ],
)

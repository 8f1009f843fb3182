"""apertus: norms over each query and key head, and a plain MLP whose activation is trained."""

import numpy as np

from generate.declaration import Architecture, Fixture


def activation(name: str, value: np.ndarray) -> np.ndarray:
    """β and ε are not trained."""
    fixed = {"beta": 0.5, "eps": -1e-6}.get(name.rpartition(".")[2])
    return value if fixed is None else np.full_like(value, fixed)


ARCHITECTURE = Architecture(
    adjust=activation,
    transformers=("ApertusConfig", "ApertusForCausalLM"),
    config={
        "model_type": "apertus",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 12000000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        "mlp_bias": False,
        "attention_bias": False,
        "post_norm": False,
        "qk_norm": True,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("apertus", "mlx", config={"rms_norm_eps": 1e-2, "mlp_bias": True, "tie_word_embeddings": True}),
        Fixture(
            "apertus-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64},
            quantization={"group_size": 32, "bits": 4, "model.layers.1.mlp.up_proj": {"group_size": 64, "bits": 8}},
        ),
        Fixture("apertus-raw", "raw"),
    ],
)

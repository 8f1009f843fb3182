"""gpt_neox: layer norms, blocks beside each other, biases everywhere, a plain MLP."""

import numpy as np

from generate.declaration import Architecture, Fixture


def buffers(config: dict) -> dict[str, np.ndarray]:
    """What older checkpoints carry."""
    return {
        "gpt_neox.layers.0.attention.bias": np.ones((1, 1, 4, 4), np.uint8),
        "gpt_neox.layers.0.attention.masked_bias": np.full(1, -1e9, np.float32),
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": np.full(2, 0.5, np.float32),
    }


ARCHITECTURE = Architecture(
    transformers=("GPTNeoXConfig", "GPTNeoXForCausalLM"),
    config={
        "model_type": "gpt_neox",
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "layer_norm_eps": 1e-5,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.5,
        "use_parallel_residual": True,
        # What mlx-lm computes, whatever is said here.
        "hidden_act": "gelu_new",
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("gpt-neox", "mlx", config={"use_parallel_residual": False, "layer_norm_eps": 1e-2, "rotary_pct": 1.0}),
        Fixture(
            "gpt-neox-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 256},
            quantization={"group_size": 32, "bits": 4, "model.h.1.mlp.dense_h_to_4h": {"group_size": 64, "bits": 8}},
        ),
        Fixture("gpt-neox-raw", "raw", extra_tensors=buffers),
        Fixture(
            "gpt-neox-raw-exact",
            "raw",
            config={"hidden_act": "gelu", "intermediate_size": 48},
            oracle="transformers",
            reason="mlx-lm takes GELU for its approximation, and the MLP for four times as wide",
        ),
    ],
)

"""gpt2: layer norms, embeddings of positions, biases everywhere, a plain MLP."""

import numpy as np

from generate.declaration import Architecture, Fixture


def bare(tensors, config):
    """As the first checkpoints are named."""
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def buffers(config: dict) -> dict[str, np.ndarray]:
    """What older checkpoints carry."""
    return {"transformer.h.0.attn.bias": np.ones((1, 1, 4, 4), np.float32)}


ARCHITECTURE = Architecture(
    transformers=("GPT2Config", "GPT2LMHeadModel"),
    config={
        "model_type": "gpt2",
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 128,
        "vocab_size": 96,
        "layer_norm_epsilon": 1e-5,
        "n_ctx": 128,
        "n_inner": None,
        "activation_function": "gelu_new",
    },
    fixtures=[
        Fixture("gpt2", "mlx", config={"layer_norm_epsilon": 1e-2}),
        Fixture(
            "gpt2-4bit",
            "mlx",
            config={"n_embd": 64},
            quantization={"group_size": 32, "bits": 4, "model.h.1.mlp.c_fc": {"group_size": 64, "bits": 8}},
        ),
        Fixture("gpt2-raw", "raw", published=bare, extra_tensors=buffers),
        Fixture(
            "gpt2-raw-inner",
            "raw",
            config={"n_inner": 48, "tie_word_embeddings": False},
            oracle="transformers",
            reason="mlx-lm takes the MLP for four times as wide, heads for tied, and does not know names with a prefix",
        ),
    ],
)

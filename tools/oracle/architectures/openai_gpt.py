"""openai-gpt: as gpt2, with the norms behind the sums and none behind the last layer."""

import numpy as np

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"


def bare(tensors, config):
    """As it is published."""
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


def buffers(config: dict) -> dict[str, np.ndarray]:
    """What older checkpoints carry."""
    return {"transformer.h.0.attn.bias": np.ones((1, 1, 4, 4), np.float32)}


ARCHITECTURE = Architecture(
    transformers=("OpenAIGPTConfig", "OpenAIGPTLMHeadModel"),
    config={
        "model_type": "openai-gpt",
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 128,
        "vocab_size": 96,
        "layer_norm_epsilon": 1e-5,
        "n_ctx": 128,
        "afn": "gelu",
    },
    fixtures=[
        Fixture(
            "openai-gpt-raw",
            "raw",
            published=bare,
            extra_tensors=buffers,
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "openai-gpt-raw-relu",
            "raw",
            config={"layer_norm_epsilon": 1e-2, "afn": "relu", "tie_word_embeddings": False},
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

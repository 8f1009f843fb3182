"""rwkv7: nothing but recurrent layers, which mix times by the generalized delta rule and channels by
an MLP."""

from generate.declaration import Architecture, Fixture


def flat(tensors, config):
    """Factors and norms of heads as they are published: one behind the other."""
    parts = (".k_k", ".k_a", "g_norm.weight", "g_norm.bias")
    return {
        name: tensor.flatten() if name.endswith(parts) else tensor
        for name, tensor in tensors.items()
    }


ARCHITECTURE = Architecture(
    config={
        "model_type": "rwkv7",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "head_dim": 8,
        "a_low_rank_dim": 12,
        "v_low_rank_dim": 8,
        "gate_low_rank_dim": 16,
        "decay_low_rank_dim": 20,
        "norm_eps": 1e-5,
        "vocab_size": 96,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("rwkv7", "mlx", length=40),
        Fixture(
            "rwkv7-tied",
            "mlx",
            config={
                "num_hidden_layers": 2,
                "head_dim": 16,
                "norm_eps": 1e-2,
                "tie_word_embeddings": True,
            },
            dtype="float16",
        ),
        Fixture(
            "rwkv7-4bit",
            "mlx",
            config={
                "num_hidden_layers": 2,
                "hidden_size": 64,
                "intermediate_size": 64,
                "a_low_rank_dim": 64,
                "v_low_rank_dim": 64,
                "gate_low_rank_dim": 64,
                "decay_low_rank_dim": 64,
            },
            quantization={
                "group_size": 64,
                "bits": 4,
                "model.layers.1.attn.r_proj": {"group_size": 32, "bits": 8},
                "model.layers.0.attn.k_proj": False,
            },
            length=40,
        ),
        Fixture("rwkv7-raw", "raw", published=flat, length=30),
    ],
)

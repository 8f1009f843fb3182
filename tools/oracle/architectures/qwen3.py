"""qwen3: a norm on every head's queries and keys, heads of their own width."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("Qwen3Config", "Qwen3ForCausalLM"),
    config={
        "model_type": "qwen3",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("qwen3", "mlx"),
        # Heads as wide as the kernels of a card take them.
        Fixture("qwen3-wide", "mlx", config={"num_key_value_heads": 1, "head_dim": 64}, length=40),
        Fixture(
            "qwen3-rope-parameters",
            "mlx",
            config={
                "rope_theta": ABSENT,
                "rope_parameters": {
                    "rope_type": "yarn",
                    "rope_theta": 50000.0,
                    "factor": 4.0,
                    "original_max_position_embeddings": 64,
                },
                "num_key_value_heads": 1,
                "tie_word_embeddings": False,
                "head_dim": 8,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "qwen3-6bit",
            "mlx",
            config={"intermediate_size": 64},
            quantization={"group_size": 32, "bits": 6, "model.layers.0.mlp.up_proj": {"group_size": 32, "bits": 3}},
        ),
        Fixture(
            "qwen3-5bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "tie_word_embeddings": False},
            dtype="float16",
            quantization={"group_size": 64, "bits": 5},
        ),
        Fixture(
            "qwen3-raw",
            "raw",
            config={"tie_word_embeddings": False, "num_key_value_heads": 4, "head_dim": 8},
            dtype="float16",
        ),
        Fixture("qwen3-raw-nested-rope", "raw", config={"rope_theta": 5000.0}, nested_rope=True),
    ],
)

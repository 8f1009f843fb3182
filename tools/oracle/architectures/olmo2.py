"""olmo2: norms behind attention and MLP only, and over the whole projection of queries and keys."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("Olmo2Config", "Olmo2ForCausalLM"),
    config={
        "model_type": "olmo2",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 500000.0,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("olmo2", "mlx"),
        Fixture(
            "olmo2-biases",
            "mlx",
            config={
                "attention_bias": True,
                "mlp_bias": True,
                "rope_traditional": True,
                "head_dim": 12,
                "rope_scaling": {"type": "linear", "factor": 2.0},
                # Tied where nothing is said.
                "tie_word_embeddings": ABSENT,
                "num_key_value_heads": ABSENT,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "olmo2-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "num_key_value_heads": 1},
            quantization={"group_size": 32, "bits": 4, "model.embed_tokens": {"group_size": 64, "bits": 6}},
        ),
        Fixture("olmo2-raw", "raw", config={"num_key_value_heads": 4}),
        Fixture(
            "olmo2-raw-bias",
            "raw",
            config={
                "attention_bias": True,
                "tie_word_embeddings": True,
                "rope_scaling": {"rope_type": "linear", "factor": 2.0},
            },
            dtype="float32",
        ),
    ],
)

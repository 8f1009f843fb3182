"""diffllama: Llama with differential attention."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("DiffLlamaConfig", "DiffLlamaForCausalLM"),
    config={
        "model_type": "diffllama",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("diffllama-raw", "raw", oracle="transformers", reason=REASON),
        Fixture(
            "diffllama-raw-features",
            "raw",
            config={
                "num_attention_heads": 8,
                "num_key_value_heads": 4,
                "head_dim": 6,
                "attention_bias": True,
                "rms_norm_eps": 1e-2,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

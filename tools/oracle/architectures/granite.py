"""granite: Llama with factors on embeddings, scores, residuals and logits."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("GraniteConfig", "GraniteForCausalLM"),
    config={
        "model_type": "granite",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "embedding_multiplier": 12.0,
        "attention_multiplier": 0.25,
        "residual_multiplier": 0.22,
        "logits_scaling": 8.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("granite", "mlx"),
        Fixture(
            "granite-biases",
            "mlx",
            config={
                "attention_bias": True,
                "mlp_bias": True,
                "rope_scaling": {"type": "linear", "factor": 2.0},
                "rms_norm_eps": 1e-2,
                "num_key_value_heads": 4,
                "tie_word_embeddings": False,
            },
            dtype="float16",
        ),
        Fixture(
            "granite-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.self_attn.o_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("granite-raw", "raw"),
        Fixture(
            "granite-raw-biases",
            "raw",
            config={"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False, "logits_scaling": 16.0},
            dtype="float32",
        ),
    ],
)

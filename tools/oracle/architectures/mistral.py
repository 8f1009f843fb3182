"""mistral: llama's model with its own configuration."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("MistralConfig", "MistralForCausalLM"),
    config={
        "model_type": "mistral",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "sliding_window": None,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("mistral", "mlx", config={"head_dim": 16}),
        Fixture(
            "mistral-4bit",
            "mlx",
            config={"num_key_value_heads": 4, "intermediate_size": 64},
            dtype="float16",
            quantization={"group_size": 32, "bits": 4},
        ),
        Fixture("mistral-raw", "raw", config={"sliding_window": 4096, "head_dim": 16}),
        Fixture(
            "mistral-raw-window",
            "raw",
            config={"sliding_window": 8},
            length=30,
            oracle="transformers",
            reason="a sliding_window without layer_types holds for every layer; mlx-lm does not look at it",
        ),
    ],
)

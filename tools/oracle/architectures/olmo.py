"""olmo: Llama with layer norms that have no weights, as published; mlx-lm has another format of it."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm reads another format"

ARCHITECTURE = Architecture(
    transformers=("OlmoConfig", "OlmoForCausalLM"),
    config={
        "model_type": "olmo",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rope_theta": 10000.0,
        "clip_qkv": None,
        "attention_bias": False,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("olmo-raw", "raw", oracle="transformers", reason=REASON),
        Fixture(
            "olmo-raw-tied",
            "raw",
            config={"tie_word_embeddings": True, "attention_bias": True},
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

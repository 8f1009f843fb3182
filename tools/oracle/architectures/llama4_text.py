"""llama4_text: the dense text model by itself; a rotation where `no_rope_layers` is 1, a norm without weights on queries and keys."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("Llama4TextConfig", "Llama4ForCausalLM"),
    config={
        "model_type": "llama4_text",
        "hidden_size": 32,
        "intermediate_size": 32,
        "intermediate_size_mlp": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "use_qk_norm": True,
        "no_rope_layers": [1, 1],
        "attention_chunk_size": 32768,
        "attn_temperature_tuning": False,
        "moe_layers": [],
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("llama4-text", "mlx"),
        Fixture(
            "llama4-text-untied",
            "mlx",
            config={
                # The head is named `output`.
                "tie_word_embeddings": False,
                "use_qk_norm": False,
                "no_rope_layers": [0, 1],
                "num_key_value_heads": 1,
                "head_dim": 12,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "llama4-text-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size_mlp": 64, "tie_word_embeddings": False},
            quantization={
                "group_size": 32,
                "bits": 4,
                "output": {"group_size": 64, "bits": 8},
                "model.embed_tokens": False,
            },
        ),
        Fixture("llama4-text-raw", "raw"),
        Fixture(
            "llama4-text-raw-no-rope",
            "raw",
            config={
                "no_rope_layers": [1, 0],
                "tie_word_embeddings": False,
                "attention_chunk_size": 8,
                "attn_temperature_tuning": True,
                "floor_scale": 4,
                "attn_scale": 0.1,
            },
            length=30,
            oracle="transformers",
            reason="mlx-lm refuses a head named lm_head, and looks neither at chunks nor at the temperature; it norms queries and keys "
            "in layers without a rotation too",
        ),
    ],
)

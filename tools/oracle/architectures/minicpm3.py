"""minicpm3: MiniCPM with DeepSeek's latent attention."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("MiniCPM3Config", "MiniCPM3ForCausalLM"),
    config={
        "model_type": "minicpm3",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0, 1.1, 1.2, 1.3],
            "long_factor": [1.0, 1.1, 1.2, 1.3],
            "original_max_position_embeddings": 64,
        },
        "scale_emb": 12,
        "scale_depth": 1.4,
        "dim_model_base": 8,
        "kv_lora_rank": 16,
        "q_lora_rank": 24,
        "qk_nope_head_dim": 12,
        "qk_rope_head_dim": 8,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("minicpm3", "mlx", config={"attention_bias": True, "scale_emb": 3}),
        Fixture(
            "minicpm3-4bit",
            "mlx",
            config={"hidden_size": 128, "intermediate_size": 64, "kv_lora_rank": 32, "q_lora_rank": 32},
            quantization={"group_size": 32, "bits": 4, "model.layers.1.mlp.up_proj": {"group_size": 64, "bits": 8}},
        ),
        Fixture(
            "minicpm3-raw",
            "raw",
            config={"tie_word_embeddings": True, "rms_norm_eps": 1e-2},
            oracle="transformers",
            reason="mlx-lm scales the logits of untied heads alone, and has another epsilon inside of attention",
        ),
    ],
)

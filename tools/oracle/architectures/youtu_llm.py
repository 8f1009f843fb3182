"""youtu_llm: Llama with DeepSeek's latent attention."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("YoutuConfig", "YoutuForCausalLM"),
    config={
        "model_type": "youtu_llm",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1600000.0,
        "kv_lora_rank": 16,
        "q_lora_rank": 24,
        "qk_nope_head_dim": 12,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("youtu-llm", "mlx", config={"attention_bias": True, "rms_norm_eps": ABSENT}),
        Fixture(
            "youtu-llm-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "kv_lora_rank": 32,
                "q_lora_rank": 32,
                "tie_word_embeddings": False,
            },
            quantization={"group_size": 32, "bits": 4, "model.layers.1.mlp.up_proj": {"group_size": 64, "bits": 8}},
        ),
        Fixture("youtu-llm-raw", "raw"),
    ],
)

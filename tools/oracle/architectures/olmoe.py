"""olmoe: OLMo with experts in every layer, and norms over all queries and all keys."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("OlmoeConfig", "OlmoeForCausalLM"),
    config={
        "model_type": "olmoe",
        "hidden_size": 32,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "num_experts": 8,
        "num_experts_per_tok": 4,
        "norm_topk_prob": False,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("olmoe", "mlx", length=24),
        Fixture(
            "olmoe-normed",
            "mlx",
            config={
                "norm_topk_prob": True,
                "num_key_value_heads": 2,
                "num_experts_per_tok": 3,
                "rope_theta": ABSENT,
                "attention_bias": True,
                "rms_norm_eps": 1e-2,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            length=24,
        ),
        Fixture(
            "olmoe-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.switch_mlp.up_proj": {"group_size": 64, "bits": 8},
            },
            length=24,
        ),
        Fixture("olmoe-raw", "raw", length=24),
        Fixture(
            "olmoe-raw-clipped",
            "raw",
            config={"clip_qkv": 0.5},
            length=24,
            oracle="transformers",
            reason="mlx-lm does not look at clip_qkv",
        ),
        Fixture("olmoe-raw-normed", "raw", config={"norm_topk_prob": True, "num_key_value_heads": 2}, length=24),
    ],
)

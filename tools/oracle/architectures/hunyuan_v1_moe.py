"""hunyuan_v1_moe: Hunyuan's experts with weights that sum up to 1."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("HunYuanMoEV1Config", "HunYuanMoEV1ForCausalLM"),
    config={
        "model_type": "hunyuan_v1_moe",
        "hidden_size": 32,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": {"alpha": 100.0, "factor": 1.0, "type": "dynamic"},
        "num_experts": 4,
        "moe_topk": 2,
        "pad_token_id": None,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("hunyuan-v1-moe-raw", "raw", oracle="transformers", reason=REASON),
        Fixture(
            "hunyuan-v1-moe-raw-lists",
            "raw",
            config={
                "moe_topk": [2, 3],
                "rms_norm_eps": 1e-2,
                "rope_scaling": ABSENT,
                "attention_bias": True,
                "tie_word_embeddings": False,
            },
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

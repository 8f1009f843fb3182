"""flex_olmo: OLMo 2 with OLMoE's experts."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("FlexOlmoConfig", "FlexOlmoForCausalLM"),
    config={
        "model_type": "flex_olmo",
        "hidden_size": 32,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "pad_token_id": 0,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 500000.0,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("flex-olmo-raw", "raw", length=24, oracle="transformers", reason=REASON),
        Fixture(
            "flex-olmo-raw-normed",
            "raw",
            config={
                "norm_topk_prob": True,
                "num_key_value_heads": ABSENT,
                "rope_theta": ABSENT,
                "rms_norm_eps": 1e-2,
                "attention_bias": True,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            length=24,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

"""flint: sinks, norms over each head, rotations within a window alone, and experts beside one that sees every token."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("FlintConfig", "FlintForCausalLM"),
    config={
        "model_type": "flint",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 500000.0,
        "sliding_window": 8,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("flint-raw", "raw", length=30, oracle="transformers", reason=REASON),
        Fixture(
            "flint-raw-features",
            "raw",
            config={
                "num_hidden_layers": 4,
                "layer_types": ["sliding_attention", "full_attention"] * 2,
                "mlp_only_layers": [3],
                "decoder_sparse_step": 2,
                "norm_topk_prob": False,
                "attention_bias": True,
                "hidden_act": "gelu",
                "rms_norm_eps": 1e-2,
                "rope_theta": ABSENT,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            length=30,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

"""vaultgemma: Gemma 2 without norms behind the blocks."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("VaultGemmaConfig", "VaultGemmaForCausalLM"),
    config={
        "model_type": "vaultgemma",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "head_dim": 12,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 20.0,
        "query_pre_attn_scalar": 12,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    fixtures=[
        Fixture(
            "vaultgemma-raw",
            "raw",
            length=24,
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "vaultgemma-raw-defaults",
            "raw",
            config={
                "rms_norm_eps": 1e-2,
                "query_pre_attn_scalar": ABSENT,
                "attn_logit_softcapping": None,
                "layer_types": ABSENT,
                "attention_bias": True,
                "hidden_activation": "silu",
            },
            dtype="float16",
            length=24,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

"""hyperclovax: Granite with norms behind the blocks, and logits that are multiplied."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("HyperCLOVAXConfig", "HyperCLOVAXForCausalLM"),
    config={
        "model_type": "hyperclovax",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_multiplier": 0.3,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.6,
        "logits_scaling": 0.5,
        "use_post_norm": True,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture(
            "hyperclovax-raw",
            "raw",
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "hyperclovax-raw-plain",
            "raw",
            config={
                "head_dim": 12,
                "rms_norm_eps": 1e-2,
                "attention_multiplier": ABSENT,
                "embedding_multiplier": ABSENT,
                "residual_multiplier": ABSENT,
                "logits_scaling": ABSENT,
                "attention_bias": True,
                "mlp_bias": True,
                "use_post_norm": False,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

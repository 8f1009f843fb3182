"""lfm3: short convolutions, attention to a window or to all positions with gates of each head, norms around each block."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("Lfm3Config", "Lfm3ForCausalLM"),
    config={
        "model_type": "lfm3",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 96,
        "pad_token_id": 0,
        "max_position_embeddings": 256,
        "norm_eps": 1e-5,
        "conv_L_cache": 4,
        "sliding_window": 6,
    },
    fixtures=[
        Fixture("lfm3-raw", "raw", length=26, oracle="transformers", reason=REASON),
        Fixture(
            "lfm3-raw-plain",
            "raw",
            config={
                "num_hidden_layers": 3,
                "layer_types": ["sliding_attention", "conv", "full_attention"],
                "rope_parameters": {
                    "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
                    "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0},
                },
                "conv_bias": True,
                "conv_L_cache": ABSENT,
                "norm_eps": 1e-2,
                "use_sandwich_norm": False,
                "use_attention_gate": False,
                "attention_bias": True,
                "tie_word_embeddings": False,
            },
            dtype="float16",
            length=26,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

"""telechat3: Llama with a rotation that is extended by a rule of its own name."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    config={
        "model_type": "telechat3",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "head_dim": 12,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "rope_scaling": {
            "type": "telechat3-yarn",
            "factor": 4.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 64,
        },
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("telechat3", "mlx", config={"attention_bias": True, "mlp_bias": True}),
        Fixture("telechat3-raw", "raw", config={"rope_scaling": None, "tie_word_embeddings": True}),
    ],
)

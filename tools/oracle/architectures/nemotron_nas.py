"""nemotron-nas: Llama whose layers were searched for."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    config={
        "model_type": "nemotron-nas",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        "block_configs": [
            {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 2.625}},
            {"attention": {"no_op": True}, "ffn": {"ffn_mult": 13.0}},
            {"attention": {"n_heads_in_group": 4}, "ffn": {"no_op": True}},
            {"attention": {"no_op": True}, "ffn": {"replace_with_linear": True}},
        ],
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("nemotron-nas", "mlx", config={"rms_norm_eps": 1e-2, "attention_bias": True, "mlp_bias": True}),
        Fixture(
            "nemotron-nas-4bit",
            "mlx",
            config={"hidden_size": 64, "tie_word_embeddings": True},
            quantization={"group_size": 32, "bits": 4, "model.layers.0.mlp.up_proj": {"group_size": 64, "bits": 8}},
        ),
        Fixture("nemotron-nas-raw", "raw", dtype="float16"),
    ],
)

"""hunyuan_v1_dense: norms over each query and key head behind the rotation, whose base grows with alpha."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("HunYuanDenseV1Config", "HunYuanDenseV1ForCausalLM"),
    config={
        "model_type": "hunyuan_v1_dense",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "head_dim": 12,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": {"alpha": 100.0, "factor": 1.0, "type": "dynamic"},
        "use_qk_norm": True,
        "attention_bias": False,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture(
            "hunyuan-v1-dense",
            "mlx",
            config={"rms_norm_eps": 1e-2, "attention_bias": True, "tie_word_embeddings": False},
        ),
        Fixture(
            "hunyuan-v1-dense-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "use_qk_norm": False, "rope_scaling": None},
            quantization={"group_size": 32, "bits": 4, "model.layers.1.mlp.up_proj": {"group_size": 64, "bits": 8}},
        ),
        Fixture("hunyuan-v1-dense-raw", "raw"),
    ],
)

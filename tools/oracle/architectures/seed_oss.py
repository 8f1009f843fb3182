"""seed_oss: Llama whose biases are said for each kind of projection."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("SeedOssConfig", "SeedOssForCausalLM"),
    config={
        "model_type": "seed_oss",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000000.0,
        "rope_scaling": {"rope_type": "default"},
        "attention_bias": True,
        "attention_out_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("seed-oss", "mlx"),
        Fixture(
            "seed-oss-defaults",
            "mlx",
            config={
                "attention_bias": ABSENT,
                "attention_out_bias": True,
                "mlp_bias": True,
                "rope_theta": ABSENT,
                "rope_scaling": {"type": "linear", "factor": 4.0},
                "rope_traditional": True,
                "tie_word_embeddings": True,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "seed-oss-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "head_dim": 16},
            quantization={"group_size": 32, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}},
        ),
        Fixture("seed-oss-raw", "raw"),
        Fixture(
            "seed-oss-raw-biases",
            "raw",
            config={"attention_bias": False, "attention_out_bias": True, "mlp_bias": True},
            dtype="float32",
        ),
    ],
)

"""phimoe: layer norms, and two experts of which the second is weighed without the first."""

from generate.declaration import ABSENT, Architecture, Fixture

LONG = {
    "type": "longrope",
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.5, 2.0, 3.0, 5.0],
    "short_mscale": 1.1,
    "long_mscale": 1.25,
    "original_max_position_embeddings": 64,
}

ARCHITECTURE = Architecture(
    transformers=("PhimoeConfig", "PhimoeForCausalLM"),
    config={
        "model_type": "phimoe",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "intermediate_size": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "original_max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "router_jitter_noise": 0.01,
        "attention_bias": True,
        "lm_head_bias": True,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("phimoe", "mlx", config={"rope_scaling": LONG, "rms_norm_eps": 1e-2}),
        Fixture(
            "phimoe-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 32, "router_jitter_noise": 0.4},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.block_sparse_moe.switch_mlp.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("phimoe-raw", "raw", config={"router_jitter_noise": 0.4}),
        Fixture(
            "phimoe-raw-no-biases",
            "raw",
            config={
                "attention_bias": False,
                "lm_head_bias": False,
                "num_experts_per_tok": 3,
                "rope_theta": ABSENT,
            },
            oracle="transformers",
            reason="mlx-lm has biases always, other numbers of experts and another base by default",
        ),
        Fixture(
            "phimoe-raw-longrope-short",
            "raw",
            config={"rope_scaling": LONG, "max_position_embeddings": 64},
            oracle="transformers",
            reason="mlx-lm has the factors of long contexts always",
        ),
    ],
)

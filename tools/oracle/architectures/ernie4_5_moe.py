"""ernie4_5_moe: experts chosen by a soft-max with a correction."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("Ernie4_5_MoeConfig", "Ernie4_5_MoeForCausalLM"),
    config={
        "model_type": "ernie4_5_moe",
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "moe_num_experts": 4,
        "moe_num_shared_experts": 2,
        "moe_k": 2,
        "moe_layer_start_index": 1,
        "moe_layer_end_index": 2,
        "moe_layer_interval": 1,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "use_bias": False,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture(
            "ernie4-5-moe", "mlx", config={"moe_num_shared_experts": 0, "moe_layer_interval": 2, "rms_norm_eps": 1e-2}
        ),
        # What it leaves out is something else in transformers: the first layer with experts is what the tensors say.
        Fixture(
            "ernie4-5-moe-biases",
            "mlx",
            config={"use_bias": True, "moe_layer_start_index": ABSENT, "moe_k": ABSENT, "tie_word_embeddings": False},
        ),
        Fixture(
            "ernie4-5-moe-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "tie_word_embeddings": False,
                "moe_layer_end_index": 1,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.switch_mlp.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture(
            "ernie4-5-moe-raw",
            "raw",
            config={"moe_layer_end_index": ABSENT, "moe_layer_start_index": ABSENT},
            oracle="transformers",
            reason="mlx-lm leaves out the correction, and takes the first layer for one with experts",
        ),
    ],
)

"""lfm2_moe: gated short convolutions beside attention, and experts chosen by corrected logistic scores."""

from generate.declaration import Architecture, Fixture
from generate.parameters import positive_corrections

ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("Lfm2MoeConfig", "Lfm2MoeForCausalLM"),
    drawn_buffers=("expert_bias",),
    config={
        "model_type": "lfm2_moe",
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "num_dense_layers": 1,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.5,
        "use_expert_bias": True,
        "norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "conv_bias": False,
        "conv_L_cache": 3,
        "layer_types": ["conv", "full_attention", "conv"],
    },
    fixtures=[
        Fixture(
            "lfm2-moe",
            "mlx",
            config={"use_expert_bias": False, "norm_topk_prob": False, "conv_bias": True, "norm_eps": 1e-2},
        ),
        Fixture(
            "lfm2-moe-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 32},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.feed_forward.switch_mlp.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("lfm2-moe-raw", "raw"),
    ],
)

"""mellum: Qwen 3 MoE with a rotation for layers within a window, and one for the others."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("MellumConfig", "MellumForCausalLM"),
    config={
        "model_type": "mellum",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "head_dim": 12,
        "moe_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "rms_norm_eps": 1e-6,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {
                "rope_type": "yarn",
                "rope_theta": 500000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
                "attention_factor": 1.0,
            },
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture(
            "mellum",
            "mlx",
            config={
                "rms_norm_eps": 1e-2,
                "norm_topk_prob": False,
                "rope_parameters": {
                    "full_attention": {"rope_type": "default", "rope_theta": 500000.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                },
            },
            length=30,
        ),
        Fixture(
            "mellum-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "tie_word_embeddings": True,
                "layer_types": ["full_attention", "sliding_attention"],
                "rope_parameters": {
                    "full_attention": {"rope_type": "default", "rope_theta": 500000.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                },
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.switch_mlp.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture(
            "mellum-raw",
            "raw",
            length=30,
            oracle="transformers",
            reason="mlx-lm leaves the factor of attention out",
        ),
    ],
)

"""laguna: gates of each head, and heads and rotations that differ between layers."""

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import positive_corrections

ROPE = {
    "full_attention": {
        "rope_type": "yarn",
        "rope_theta": 500000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "attention_factor": 1.0,
        "partial_rotary_factor": 0.5,
    },
    "sliding_attention": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 1.0,
    },
}
PLAIN = {
    **ROPE,
    "full_attention": {
        "rope_type": "default",
        "rope_theta": 500000.0,
        "partial_rotary_factor": 0.5,
    },
}

ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("LagunaConfig", "LagunaForCausalLM"),
    config={
        "model_type": "laguna",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_attention_heads_per_layer": [4, 6, 4],
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "gating": True,
        "sliding_window": 8,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "mlp_layer_types": ["dense", "sparse", "sparse"],
        "rope_parameters": PLAIN,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24,
        "moe_routed_scaling_factor": 2.5,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("laguna", "mlx", config={"rms_norm_eps": 1e-2, "qkv_bias": True}, length=30),
        Fixture(
            "laguna-softplus",
            "mlx",
            config={"moe_router_score_func": "sqrtsoftplus", "moe_router_logit_softcapping": 1.5},
            length=30,
        ),
        Fixture(
            "laguna-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "shared_expert_intermediate_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads_per_layer": ABSENT,
                "layer_types": ABSENT,
                "mlp_layer_types": ABSENT,
                "moe_routed_scaling_factor": ABSENT,
                "tie_word_embeddings": True,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.switch_mlp.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("laguna-raw", "raw", length=30),
        Fixture(
            "laguna-raw-features",
            "raw",
            config={"gating": "per-element", "attention_bias": True, "rope_parameters": ROPE},
            dtype="float16",
            length=30,
            oracle="transformers",
            reason="mlx-lm has gates of each head alone, and biases under another name",
        ),
    ],
)

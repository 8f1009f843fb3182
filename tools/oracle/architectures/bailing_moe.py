"""bailing_moe: fused projections, and experts chosen by a soft-max or corrected logistic scores."""

from generate.declaration import Architecture, Fixture
from generate.parameters import positive_corrections, unstacked


def published(tensors, config):
    """Experts one by one, and a router without a projection's name."""
    names = {f"switch_mlp.{name}": name for name in ("gate_proj", "up_proj", "down_proj")}
    experts = unstacked(names)(tensors, config)
    return {name.replace(".mlp.gate.gate_proj.", ".mlp.gate."): tensor for name, tensor in experts.items()}


ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    config={
        "model_type": "bailing_moe",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "moe_intermediate_size": 16,
        "num_experts": 4,
        "num_shared_experts": 1,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "first_k_dense_replace": 1,
        "rms_norm_eps": 1e-5,
        "rope_theta": 600000.0,
        "use_bias": False,
        "use_qkv_bias": False,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("bailing-moe", "mlx", config={"use_qkv_bias": True, "rms_norm_eps": 1e-2}),
        Fixture("bailing-moe-biases", "mlx", config={"use_bias": True}),
        Fixture("bailing-moe-unit-head", "mlx", config={"norm_head": True, "num_hidden_layers": 1}),
        Fixture(
            "bailing-moe-groups",
            "mlx",
            config={
                "use_qk_norm": True,
                "partial_rotary_factor": 0.5,
                "score_function": "sigmoid",
                "moe_router_enable_expert_bias": True,
                "num_experts": 8,
                "n_group": 4,
                "topk_group": 2,
                "routed_scaling_factor": 2.5,
                "moe_shared_expert_intermediate_size": 24,
            },
        ),
        Fixture(
            "bailing-moe-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 32, "norm_topk_prob": False},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.switch_mlp.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture(
            "bailing-moe-raw",
            "raw",
            config={"score_function": "sigmoid", "moe_router_enable_expert_bias": True, "rotary_dim": 4},
            published=published,
        ),
    ],
)

"""bailing_moe_linear: Ling most of whose layers have lightning attention."""

from architectures.bailing_moe import published
from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import positive_corrections

ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    config={
        "model_type": "bailing_moe_linear",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "layer_group_size": 2,
        "group_norm_size": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "moe_intermediate_size": 16,
        "num_experts": 4,
        "num_shared_experts": 1,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "first_k_dense_replace": 1,
        "score_function": "sigmoid",
        "moe_router_enable_expert_bias": True,
        "routed_scaling_factor": 2.5,
        "use_qk_norm": True,
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-6,
        "rope_theta": 600000.0,
        "use_bias": False,
        "use_qkv_bias": False,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("bailing-moe-linear", "mlx", config={"rms_norm_eps": 1e-2}, length=24),
        Fixture(
            "bailing-moe-linear-groups",
            "mlx",
            config={
                "num_attention_heads": 6,
                "hidden_size": 48,
                "num_hidden_layers": 3,
                "layer_group_size": 3,
                "group_norm_size": 1,
                "num_experts": 8,
                "n_group": 4,
                "topk_group": 2,
                "use_qk_norm": False,
                "use_qkv_bias": True,
                "partial_rotary_factor": ABSENT,
                "moe_shared_expert_intermediate_size": 24,
            },
            dtype="float16",
            length=24,
        ),
        Fixture(
            "bailing-moe-linear-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.attention.g_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture(
            "bailing-moe-linear-raw",
            "raw",
            config={"num_hidden_layers": 2},
            published=published,
        ),
    ],
)

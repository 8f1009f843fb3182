"""hy_v3: norms over each query and key head, and experts as DeepSeek V3's."""

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import positive_corrections

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    drawn_buffers=("e_score_correction_bias",),
    transformers=("HYV3Config", "HYV3ForCausalLM"),
    config={
        "model_type": "hy_v3",
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
        "moe_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "num_shared_experts": 1,
        "router_scaling_factor": 1.5,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture(
            "hy-v3-raw",
            "raw",
            oracle="transformers",
            reason=REASON,
        ),
        Fixture(
            "hy-v3-raw-layer-types",
            "raw",
            config={
                "num_experts_per_tok": 1,
                "num_shared_experts": 2,
                "mlp_layer_types": ["sparse", "dense"],
                "router_scaling_factor": ABSENT,
                "rms_norm_eps": 1e-2,
                "attention_bias": True,
                "hidden_act": "gelu",
                "rope_theta": ABSENT,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

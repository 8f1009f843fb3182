"""exaone_moe: most layers within a window, the others without a rotation, and experts as DeepSeek V3's."""

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import positive_corrections

ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("ExaoneMoeConfig", "ExaoneMoeForCausalLM"),
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "exaone_moe",
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "head_dim": 12,
        "num_experts": 4,
        "num_shared_experts": 1,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "is_moe_layer": [False, True, True, True],
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("exaone-moe", "mlx", length=30),
        Fixture(
            "exaone-moe-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "layer_types": ["full_attention", "sliding_attention"],
                "is_moe_layer": [True, False],
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "num_experts": 8,
                "n_group": 2,
                "topk_group": 1,
                "rms_norm_eps": 1e-2,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.mlp.switch_mlp.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("exaone-moe-raw", "raw", length=30),
        Fixture(
            "exaone-moe-raw-defaults",
            "raw",
            config={
                "layer_types": ABSENT,
                "is_moe_layer": ABSENT,
                "first_k_dense_replace": 2,
                "sliding_window_pattern": 2,
                "routed_scaling_factor": ABSENT,
            },
            length=30,
            oracle="transformers",
            reason="mlx-lm wants every layer's kind",
        ),
        Fixture(
            "exaone-moe-raw-full",
            "raw",
            config={"layer_types": ["full_attention", "full_attention"], "num_hidden_layers": 2, "is_moe_layer": [False, True]},
            oracle="transformers",
            reason="mlx-lm rotates where no layer has a window, and not only where there is no size of one",
        ),
    ],
)

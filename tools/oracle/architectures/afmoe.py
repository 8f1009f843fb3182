"""afmoe: gated attention, norms around each block, and experts as DeepSeek V3's."""

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import positive_corrections

ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("AfmoeConfig", "AfmoeForCausalLM"),
    config={
        "model_type": "afmoe",
        "hidden_size": 32,
        "num_hidden_layers": 3,
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
        "num_dense_layers": 1,
        "route_norm": True,
        "route_scale": 2.5,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "mup_enabled": True,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("afmoe", "mlx", length=30, config={"mup_enabled": False, "route_norm": False, "rms_norm_eps": 1e-2}),
        # Which layers have experts, and how wide the one that sees every token is, the tensors say.
        Fixture("afmoe-open", "mlx", config={"num_dense_layers": ABSENT, "num_shared_experts": ABSENT}, length=30),
        Fixture(
            "afmoe-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "num_experts": 8,
                "n_group": 2,
                "topk_group": 1,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.experts.up_proj": {"group_size": 64, "bits": 8},
            },
            length=30,
        ),
        Fixture("afmoe-raw", "raw", length=30),
        Fixture(
            "afmoe-raw-defaults",
            "raw",
            config={
                "layer_types": ABSENT,
                "global_attn_every_n_layers": 2,
                "mup_enabled": False,
                "num_shared_experts": 2,
                "attention_bias": True,
            },
            length=30,
            oracle="transformers",
            reason="mlx-lm wants every layer's kind, and knows no biases",
        ),
    ],
)

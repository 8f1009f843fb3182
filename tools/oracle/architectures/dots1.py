"""dots1: norms over each query and key head, and experts as DeepSeek V3's."""

from generate.declaration import Architecture, Fixture
from generate.parameters import positive_corrections

ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("Dots1Config", "Dots1ForCausalLM"),
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "dots1",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "head_dim": 12,
        "n_routed_experts": 4,
        "n_shared_experts": 2,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "first_k_dense_replace": 1,
        "rms_norm_eps": 1e-5,
        "rope_theta": 50000.0,
        "sliding_window": None,
        "attention_bias": False,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("dots1", "mlx"),
        Fixture(
            "dots1-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "rms_norm_eps": 1e-2,
                "tie_word_embeddings": True,
                "n_group": 2,
                "topk_group": 1,
                "n_routed_experts": 8,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.experts.down_proj": {"group_size": 32, "bits": 8},
            },
        ),
        Fixture("dots1-raw", "raw", config={"norm_topk_prob": False}),
        Fixture(
            "dots1-raw-window",
            "raw",
            config={"sliding_window": 8, "max_window_layers": 1, "attention_bias": True},
            length=30,
            oracle="transformers",
            reason="mlx-lm looks neither at the window nor at the biases",
        ),
    ],
)

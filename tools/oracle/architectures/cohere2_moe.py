"""cohere2_moe: Command R7B's parallel blocks, with an MLP in the first layers and experts in the others."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("Cohere2MoeConfig", "Cohere2MoeForCausalLM"),
    config={
        "model_type": "cohere2_moe",
        "hidden_size": 32,
        "intermediate_size": 16,
        "prefix_dense_intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "layer_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "sliding_window": 6,
        "sliding_window_pattern": 2,
        "first_k_dense_replace": 1,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "num_shared_experts": 2,
        "logit_scale": 0.25,
    },
    fixtures=[
        Fixture("cohere2-moe-raw", "raw", length=24, oracle="transformers", reason=REASON),
        Fixture(
            "cohere2-moe-raw-sigmoid",
            "raw",
            config={
                "num_hidden_layers": 3,
                "first_k_dense_replace": ABSENT,
                "mlp_layer_types": ["dense", "sparse", "sparse"],
                "layer_types": ["full_attention", "sliding_attention", "full_attention"],
                "prefix_dense_sliding_window_pattern": 4,
                "rms_norm_eps": 1e-2,
                "expert_selection_fn": "sigmoid",
                "shared_expert_combination_strategy": "sum",
                "num_shared_experts": 1,
                "logit_scale": ABSENT,
                "tie_word_embeddings": False,
            },
            dtype="float16",
            length=24,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

"""deepseek_v2: multi-head latent attention, and experts chosen by a soft-max."""

from generate.declaration import ABSENT, Architecture, Fixture

YARN = {
    "type": "yarn",
    "factor": 40.0,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 0.707,
    "mscale_all_dim": 0.707,
    "original_max_position_embeddings": 64,
}

ARCHITECTURE = Architecture(
    transformers=("DeepseekV2Config", "DeepseekV2ForCausalLM"),
    config={
        "model_type": "deepseek_v2",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 2560,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "n_routed_experts": 4,
        "n_shared_experts": 2,
        "num_experts_per_tok": 2,
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.5,
        "topk_method": "greedy",
        "first_k_dense_replace": 1,
        "kv_lora_rank": 16,
        "q_lora_rank": None,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16,
        "v_head_dim": 12,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": YARN,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("deepseek-v2", "mlx"),
        Fixture(
            "deepseek-v2-groups",
            "mlx",
            config={
                "q_lora_rank": 24,
                "topk_method": "group_limited_greedy",
                "n_routed_experts": 8,
                "n_group": 4,
                "topk_group": 2,
                "num_experts_per_tok": 3,
                "attention_bias": True,
                "rms_norm_eps": ABSENT,
            },
        ),
        Fixture(
            "deepseek-v2-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "kv_lora_rank": 32,
                "v_head_dim": 16,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.shared_experts.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("deepseek-v2-raw", "raw", config={"rms_norm_eps": 1e-2}),
        Fixture(
            "deepseek-v2-raw-groups",
            "raw",
            config={
                "q_lora_rank": 24,
                "topk_method": "group_limited_greedy",
                "n_routed_experts": 8,
                "n_group": 4,
                "topk_group": 2,
                "num_experts_per_tok": 3,
                "attention_bias": True,
            },
        ),
    ],
)

"""sarvam_mla: DeepSeek V3, whose configurations are published with other names."""

from generate.declaration import Architecture, Fixture
from generate.parameters import positive_corrections

REASON = "mlx-lm lacks this architecture"
NAMES = {"num_experts": "n_routed_experts", "num_shared_experts": "n_shared_experts"}


def as_deepseek(config: dict) -> dict:
    """The arguments of DeepSeek V3's configuration: the width of a head and the rule's name are those of other code."""
    config = {NAMES.get(key, key): value for key, value in config.items() if key != "head_dim"}
    config["rope_scaling"] = {**config["rope_scaling"], "type": "yarn"}
    return config


ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("DeepseekV3Config", "DeepseekV3ForCausalLM"),
    stands_for_another=True,
    transformers_arguments=as_deepseek,
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "sarvam_mla",
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 24,
        "q_head_dim": 24,
        "q_lora_rank": None,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "num_experts": 4,
        "num_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "routed_scaling_factor": 2.5,
        "norm_topk_prob": True,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": {
            "type": "deepseek_yarn",
            "factor": 4,
            "original_max_position_embeddings": 64,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        },
        "tie_word_embeddings": False,
    },
    fixtures=[Fixture("sarvam-mla-raw", "raw", length=24, oracle="transformers", reason=REASON)],
)

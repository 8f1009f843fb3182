"""bailing_hybrid: Ring 2.5, Ling with latent attention in some layers and lightning attention in the others."""

import torch

from architectures import bailing_moe
from generate.declaration import ABSENT, Architecture, Fixture

YARN = {
    "type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "mscale": 1.0,
    "mscale_all_dim": 0.7,
}


def joint_heads(tensors):
    """The matrices of keys and of values as one, `kv_b_proj`."""
    result = {}
    for name, tensor in tensors.items():
        if name.endswith("embed_q.weight"):
            values = tensors[name.replace("embed_q", "unembed_out")]
            joint = torch.cat([tensor.transpose(1, 2), values], 1)
            result[name.replace("embed_q", "kv_b_proj")] = joint.reshape(-1, joint.shape[-1]).contiguous()
        elif not name.endswith("unembed_out.weight"):
            result[name] = tensor
    return result


def published(tensors, config):
    return joint_heads(bailing_moe.published(tensors, config))


ARCHITECTURE = Architecture(
    config={
        "architectures": ["BailingMoeV2_5ForCausalLM"],
        "model_type": "bailing_hybrid",
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "num_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "layer_group_size": 2,
        "group_norm_size": 4,
        "vocab_size": 96,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "max_position_embeddings": 256,
        "routed_scaling_factor": 2.5,
        "q_lora_rank": 24,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "moe_shared_expert_intermediate_size": 24,
        "rope_interleave": True,
        "partial_rotary_factor": 0.5,
        "use_qkv_bias": False,
        "use_bias": False,
        "use_qk_norm": True,
        "score_function": "sigmoid",
        "norm_topk_prob": True,
        "moe_router_enable_expert_bias": True,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("bailing-hybrid", "mlx", config={"rms_norm_eps": 1e-2}, length=40),
        Fixture(
            "bailing-hybrid-groups",
            "mlx",
            config={
                "num_attention_heads": 6,
                "head_dim": 8,
                "num_experts": 8,
                "n_group": 4,
                "topk_group": 2,
                "q_lora_rank": ABSENT,
                "moe_shared_expert_intermediate_size": ABSENT,
                "num_shared_experts": 2,
                "group_norm_size": 1,
                "rope_interleave": False,
                "rope_scaling": YARN,
                "use_qkv_bias": True,
                "use_qk_norm": False,
                "score_function": "softmax",
                "norm_topk_prob": False,
                "moe_router_enable_expert_bias": False,
                "partial_rotary_factor": 1.0,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            length=24,
        ),
        Fixture(
            "bailing-hybrid-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "num_hidden_layers": 2,
                "head_dim": 16,
                "q_lora_rank": 32,
                "v_head_dim": 16,
                "moe_shared_expert_intermediate_size": 32,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.attention.g_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture(
            "bailing-hybrid-raw",
            "raw",
            config={
                "num_hidden_layers": 2,
                "num_shared_experts": 2,
                "rope_interleave": ABSENT,
                "partial_rotary_factor": ABSENT,
                "use_qkv_bias": ABSENT,
                "use_bias": ABSENT,
                "use_qk_norm": ABSENT,
                "score_function": ABSENT,
                "norm_topk_prob": ABSENT,
                "moe_router_enable_expert_bias": ABSENT,
                "tie_word_embeddings": ABSENT,
            },
            published=published,
        ),
    ],
)

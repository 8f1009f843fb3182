"""kimi_linear: the delta rule with a decay of each feature, and in every few layers latent attention
without rotations; experts."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import positive_corrections


def linear_attention(kda: list[int], full: list[int]) -> dict:
    return {
        "kda_layers": kda,
        "full_attn_layers": full,
        "num_heads": 2,
        "head_dim": 8,
        "short_conv_kernel_size": 4,
    }


def prediction_layer(config: dict) -> dict[str, np.ndarray]:
    """Some of the part that predicts a token more."""
    size = config["hidden_size"]
    return {"model.mtp.norm.weight": np.full(size, 0.5, np.float16)}


def dense_names(tensors, config):
    """Layers without experts have another name, which transformers does not give back."""
    dense = (".gate_proj.weight", ".up_proj.weight", ".down_proj.weight")
    return {
        name.replace(".block_sparse_moe.", ".mlp.")
        if name.count(".") == 5 and name.endswith(dense)
        else name: tensor
        for name, tensor in tensors.items()
    }


ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("KimiLinearConfig", "KimiLinearForCausalLM"),
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "kimi_linear",
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "linear_attn_config": linear_attention([1, 3], [2]),
        "q_lora_rank": None,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "mla_use_nope": True,
        "num_experts": 4,
        "num_experts_per_token": 2,
        "num_shared_experts": 1,
        "num_expert_group": 1,
        "topk_group": 1,
        "moe_renormalize": True,
        "moe_router_activation_func": "sigmoid",
        "routed_scaling_factor": 2.446,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "vocab_size": 96,
        "model_max_length": 256,
        # That of the norm over latent vectors in transformers, whatever is said here.
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("kimi-linear", "mlx", length=40),
        Fixture(
            "kimi-linear-groups",
            "mlx",
            config={
                "num_hidden_layers": 2,
                "linear_attn_config": {
                    **linear_attention([2], [1]),
                    "num_heads": 4,
                    "short_conv_kernel_size": 3,
                },
                "num_expert_group": 2,
                "num_shared_experts": 2,
                "moe_renormalize": False,
                "routed_scaling_factor": 1.0,
                "first_k_dense_replace": 0,
                "moe_layer_freq": 2,
                "tie_word_embeddings": True,
            },
            dtype="float16",
        ),
        Fixture(
            "kimi-linear-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "num_hidden_layers": 2,
                "linear_attn_config": {**linear_attention([1], [2]), "head_dim": 32},
                "kv_lora_rank": 32,
                "qk_nope_head_dim": 32,
                "v_head_dim": 16,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.self_attn.q_proj": {"group_size": 64, "bits": 8},
                "model.layers.1.self_attn.embed_q": {"group_size": 32, "bits": 6},
            },
            length=40,
        ),
        Fixture(
            "kimi-linear-raw",
            "raw",
            extra_tensors=prediction_layer,
            published=dense_names,
            length=40,
        ),
        Fixture(
            "kimi-linear-raw-compressed",
            "raw",
            config={
                "num_hidden_layers": 2,
                "linear_attn_config": {**linear_attention([1], [2]), "short_conv_kernel_size": 3},
                "q_lora_rank": 24,
                "num_expert_group": 2,
                "rms_norm_eps": 1e-2,
                "first_k_dense_replace": ABSENT,
                "routed_scaling_factor": ABSENT,
                "num_shared_experts": ABSENT,
            },
            dtype="float16",
            published=dense_names,
            length=30,
            oracle="transformers",
            reason="mlx-lm does not compress queries, and has other defaults and another epsilon "
            "of the norm over latent vectors",
        ),
    ],
)

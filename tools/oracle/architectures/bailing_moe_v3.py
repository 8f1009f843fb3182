"""bailing_moe_v3: Ling 3, with latent attention in some layers and Kimi delta attention in the others; published as `bailing_hybrid`."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture


def prediction_layer(config: dict) -> dict[str, np.ndarray]:
    """Some of the layer that predicts a token more."""
    name = f"model.layers.{config['num_hidden_layers']}.eh_proj.weight"
    return {name: np.full((8, 8), 0.5, np.float16)}


def delta_names(tensors, _):
    """The output projection of Kimi delta attention as it is published, which transformers saves by that of the other layers."""
    delta = {name.removesuffix("A_log") for name in tensors if name.endswith(".attention.A_log")}
    return {
        name.replace(".dense.", ".o_proj.") if name.removesuffix("dense.weight") in delta else name: tensor
        for name, tensor in tensors.items()
    }


ARCHITECTURE = Architecture(
    transformers=("BailingHybridConfig", "BailingHybridForCausalLM"),
    drawn_buffers=("e_score_correction_bias",),
    config={
        "architectures": ["BailingMoeV3ForCausalLM"],
        "model_type": "bailing_hybrid",
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "num_shared_experts": 1,
        "first_k_dense_replace": 1,
        "n_group": 4,
        "topk_group": 2,
        "routed_scaling_factor": 2.5,
        "layer_group_size": 2,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "short_conv_kernel_size": 4,
        "kda_lower_bound": -5.0,
        "kda_safe_gate": True,
        "vocab_size": 96,
        # That of the norm over latent vectors in transformers, whatever is said here.
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "pad_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": False,
    },
    fixtures=[
        # The last layer fills no group.
        Fixture("bailing-moe-v3", "mlx", config={"num_hidden_layers": 3, "q_lora_rank": 24}, length=40),
        Fixture(
            "bailing-moe-v3-direct",
            "mlx",
            config={
                "model_type": "bailing_moe_v3",
                "num_hidden_layers": 2,
                "q_lora_rank": None,
                "num_shared_experts": 2,
                "first_k_dense_replace": 0,
                "short_conv_kernel_size": 3,
                "kda_lower_bound": -2.0,
                "n_group": 2,
                "topk_group": 1,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            length=24,
        ),
        Fixture(
            "bailing-moe-v3-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "moe_shared_expert_intermediate_size": 32,
                "num_hidden_layers": 2,
                "head_dim": 32,
                "q_lora_rank": 32,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.attention.g_proj": {"group_size": 64, "bits": 8},
            },
            length=30,
        ),
        Fixture(
            "bailing-moe-v3-raw",
            "raw",
            config={"num_hidden_layers": 2, "q_lora_rank": None, "rope_interleave": True},
            extra_tensors=prediction_layer,
            published=delta_names,
            length=30,
        ),
        Fixture(
            "bailing-moe-v3-raw-soft",
            "raw",
            config={
                "num_experts": 4,
                "n_group": 2,
                "topk_group": 1,
                "num_hidden_layers": 3,
                "kda_safe_gate": False,
                "rms_norm_eps": 1e-2,
                "q_lora_rank": ABSENT,
                "num_shared_experts": ABSENT,
                "moe_shared_expert_intermediate_size": ABSENT,
                "routed_scaling_factor": ABSENT,
                "first_k_dense_replace": ABSENT,
                "short_conv_kernel_size": ABSENT,
            },
            dtype="float16",
            length=24,
            oracle="transformers",
            reason="mlx-lm knows no decay without a bound, and has another epsilon of the norm over latent vectors",
        ),
    ],
)

"""longcat_flash: two latent attentions and MLPs in each layer, experts beside both, and experts
that give what they get."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture


def prediction_layer(config: dict) -> dict[str, np.ndarray]:
    """Some of the part that predicts a token more."""
    return {"model.mtp.norm.weight": np.full(config["hidden_size"], 0.5, np.float16)}


def real_experts(tensors, config):
    """Without the matrices that transformers has for experts that give what they get."""
    surplus = [f".experts.{index}." for index in range(config["n_routed_experts"], 100)]
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not any(part in name for part in surplus)
    }


ARCHITECTURE = Architecture(
    transformers=("LongcatFlashConfig", "LongcatFlashForCausalLM"),
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "longcat_flash",
        "attention_method": "MLA",
        "zero_expert_type": "identity",
        "hidden_size": 32,
        "ffn_hidden_size": 48,
        "expert_ffn_hidden_size": 16,
        "num_layers": 2,
        "num_attention_heads": 2,
        "moe_topk": 3,
        "n_routed_experts": 4,
        "zero_expert_num": 3,
        "q_lora_rank": 24,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "head_dim": 8,
        "v_head_dim": 12,
        "mla_scale_q_lora": True,
        "mla_scale_kv_lora": True,
        "routed_scaling_factor": 2.5,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000000.0,
        "attention_bias": False,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("longcat-flash", "mlx", length=40),
        Fixture(
            "longcat-flash-normalized",
            "mlx",
            config={
                "num_layers": 1,
                "norm_topk_prob": True,
                "router_bias": True,
                "attention_bias": True,
                "zero_expert_num": 1,
                "rope_theta": 500.0,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "longcat-flash-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "ffn_hidden_size": 64,
                "expert_ffn_hidden_size": 32,
                "num_layers": 1,
                "q_lora_rank": 32,
                "kv_lora_rank": 32,
                "qk_nope_head_dim": 32,
                "v_head_dim": 16,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.mlps.1.up_proj": {"group_size": 64, "bits": 8},
                "model.layers.0.self_attn.0.embed_q": {"group_size": 32, "bits": 6},
            },
            length=40,
        ),
        Fixture(
            "longcat-flash-raw",
            "raw",
            extra_tensors=prediction_layer,
            published=real_experts,
            length=40,
        ),
        Fixture(
            "longcat-flash-raw-defaults",
            "raw",
            config={
                "attention_method": ABSENT,
                "zero_expert_type": ABSENT,
                "mla_scale_q_lora": ABSENT,
                "mla_scale_kv_lora": ABSENT,
                "routed_scaling_factor": ABSENT,
                "rope_theta": ABSENT,
                "rms_norm_eps": ABSENT,
                "moe_topk": 2,
                "num_layers": 1,
                "attention_bias": True,
            },
            dtype="float16",
            oracle="transformers",
            reason="mlx-lm wants every field",
        ),
    ],
)

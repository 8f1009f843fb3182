"""sarvam_moe: GLM 4.5's layers with whole heads rotated, published by the names of Ling."""

import torch

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import positive_corrections

REASON = "mlx-lm lacks this architecture"
OWN = {"num_experts": "n_routed_experts", "num_shared_experts": "n_shared_experts", "use_qkv_bias": "attention_bias"}
NAMES = {
    "model.embed_tokens.": "model.word_embeddings.",
    ".self_attn.o_proj.": ".attention.dense.",
    ".self_attn.q_norm.": ".attention.query_layernorm.",
    ".self_attn.k_norm.": ".attention.key_layernorm.",
    ".gate.e_score_correction_bias": ".gate.expert_bias",
}


def as_glm(config: dict) -> dict:
    """The arguments of GLM 4.5's configuration, with the defaults that are Sarvam's."""
    usual = {
        "num_shared_experts": 1,
        "use_qk_norm": True,
        "rope_theta": 8_000_000.0,
        "routed_scaling_factor": 2.5,
        "partial_rotary_factor": 1.0,
        "rms_norm_eps": 1e-6,
    }
    return {OWN.get(key, key): value for key, value in {**usual, **config}.items()}


def published(tensors, config):
    """Queries, keys and values together, and the published names."""
    result = {}
    for name, tensor in tensors.items():
        if ".k_proj." in name or ".v_proj." in name:
            continue
        if ".q_proj." in name:
            parts = [tensors[name.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            name, tensor = name.replace(".self_attn.q_proj.", ".attention.query_key_value."), torch.cat(parts)
        for old, new in NAMES.items():
            name = name.replace(old, new)
        result[name] = tensor
    return result


ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("Glm4MoeConfig", "Glm4MoeForCausalLM"),
    stands_for_another=True,
    transformers_arguments=as_glm,
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "sarvam_moe",
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_experts": 4,
        "num_shared_experts": 1,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "use_qk_norm": True,
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 8000000.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("sarvam-moe-raw", "raw", published=published, length=24, oracle="transformers", reason=REASON),
        Fixture(
            "sarvam-moe-raw-defaults",
            "raw",
            config={
                "num_shared_experts": ABSENT,
                "first_k_dense_replace": ABSENT,
                "use_qk_norm": ABSENT,
                "norm_topk_prob": ABSENT,
                "routed_scaling_factor": ABSENT,
                "rms_norm_eps": ABSENT,
                "rope_theta": ABSENT,
                "use_qkv_bias": True,
            },
            published=published,
            dtype="float16",
            length=24,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

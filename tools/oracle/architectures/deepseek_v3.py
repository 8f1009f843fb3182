"""deepseek_v3: multi-head latent attention, experts chosen by sigmoid scores within the best groups, float8 blocks as published."""

import numpy as np
import torch

from generate.declaration import ABSENT, Architecture, Fixture
from generate.packing import fp8_packed, fp8_rounded
from generate.parameters import negative_corrections, positive_corrections

YARN = {
    "type": "yarn",
    "factor": 40.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 64,
}
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}


def prediction_layer(index: int):
    """Some of the layer behind the last one, that predicts a token more."""

    def tensors(config: dict) -> dict[str, np.ndarray]:
        size = config["hidden_size"]
        return {
            f"model.layers.{index}.eh_proj.weight": np.full((size, 2 * size), 0.5, np.float16),
            f"model.layers.{index}.enorm.weight": np.full(size, 0.5, np.float16),
        }

    return tensors


def is_packed(name: str) -> bool:
    """Projections within layers; not the router, the embeddings and the head."""
    return ".layers." in name and "_proj" in name


def rounded(name: str, value: np.ndarray) -> np.ndarray:
    """Projections as float8 blocks store them: those of each expert, and gate and up, by themselves."""
    if not is_packed(name):
        return value
    if value.ndim == 2:
        return fp8_rounded(value)
    parts = 2 if name.endswith("gate_up_proj") else 1
    return np.stack([np.concatenate([fp8_rounded(half) for half in np.split(expert, parts)]) for expert in value])


def blocks_and_scales(tensors: dict[str, torch.Tensor], _: dict) -> dict[str, torch.Tensor]:
    published = {}
    for name, tensor in tensors.items():
        if is_packed(name):
            published[name], published[f"{name}_scale_inv"] = fp8_packed(tensor)
        else:
            published[name] = tensor
    return published


ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("DeepseekV3Config", "DeepseekV3ForCausalLM"),
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "deepseek_v3",
        "hidden_size": 32,
        "intermediate_size": 32,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "q_lora_rank": 24,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "rope_scaling": YARN,
        "attention_bias": False,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("deepseek-v3", "mlx", length=40),
        Fixture(
            "deepseek-v3-plain-queries",
            "mlx",
            config={
                "q_lora_rank": None,
                "rope_scaling": ABSENT,
                "attention_bias": True,
                "n_group": ABSENT,
                "topk_group": ABSENT,
                "n_shared_experts": 2,
                "norm_topk_prob": False,
                "routed_scaling_factor": 1.0,
                "first_k_dense_replace": ABSENT,
                # Every other layer, beginning with the first.
                "moe_layer_freq": 2,
                "num_hidden_layers": 3,
                "rms_norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "deepseek-v3-dense",
            "mlx",
            config={
                "n_routed_experts": ABSENT,
                "n_shared_experts": ABSENT,
                "attention_bias": True,
                "rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.4},
            },
        ),
        Fixture(
            "deepseek-v3-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "q_lora_rank": 32,
                "kv_lora_rank": 32,
                "qk_nope_head_dim": 32,
                "v_head_dim": 16,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.self_attn.embed_q": {"group_size": 32, "bits": 8},
                "model.layers.1.self_attn.unembed_out": {"group_size": 32, "bits": 6},
                "model.layers.1.self_attn.embed_q": False,
            },
            length=40,
        ),
        Fixture(
            "deepseek-v3-mxfp4",
            "mlx",
            config={"q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 32, "moe_intermediate_size": 32},
            quantization={
                "group_size": 32,
                "bits": 4,
                "mode": "mxfp4",
                "model.layers.1.self_attn.unembed_out": {"group_size": 32, "bits": 8, "mode": "mxfp8"},
            },
            length=40,
        ),
        Fixture("deepseek-v3-raw", "raw", extra_tensors=prediction_layer(61), length=40),
        Fixture(
            "deepseek-v3-raw-plain-queries",
            "raw",
            config={
                "q_lora_rank": None,
                "rope_scaling": None,
                "n_group": 1,
                "norm_topk_prob": False,
                "first_k_dense_replace": 0,
                "n_shared_experts": 2,
                "num_nextn_predict_layers": 1,
            },
            dtype="float16",
            extra_tensors=prediction_layer(2),
            oracle="transformers",
            reason="mlx-lm drops the prediction layer only where its number is 61",
        ),
        Fixture(
            "deepseek-v3-raw-negative-scores",
            "raw",
            adjust=negative_corrections,
            oracle="transformers",
            reason="no expert of another group is ever chosen; mlx-lm sets their scores to zero, which is more than a negative one",
        ),
        Fixture(
            "deepseek-v3-raw-fp8",
            "raw",
            # More than one block of 128 along the MLP.
            config={"quantization_config": FP8, "intermediate_size": 144},
            adjust=rounded,
            published=blocks_and_scales,
            length=40,
        ),
    ],
)

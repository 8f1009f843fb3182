"""deepseek_v41: several residual streams, attention to a window and to latent vectors of groups, and experts with bounded activations."""

import numpy as np
import torch
from generate.declaration import ABSENT, Architecture, Fixture
from generate.packing import mxfp4_packed
from generate.parameters import positive_corrections, unstacked

CONFIG = {
    "model_type": "deepseek_v41",
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "head_dim": 32,
    "q_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "o_groups": 2,
    "o_lora_rank": 16,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "scoring_func": "sqrtsoftplus",
    "routed_scaling_factor": 1.5,
    # Low, so that the activations reach it.
    "swiglu_limit": 1.0,
    "rms_norm_eps": 1e-20,
    "sliding_window": 6,
    # The window alone; groups of four, whose choice limits that of later layers; the same groups, chosen anew.
    "compress_ratios": [0, 4, 4],
    "kv_source_layer_ids": [1],
    "index_source_layer_ids": [1, 2],
    "compress_rope_theta": 5000.0,
    "candidate_source_layer_id": 1,
    "candidate_topk_blocks": 2,
    "candidate_block_size": 2,
    "index_n_heads": 8,
    "index_head_dim": 32,
    "index_topk": 3,
    "rope_theta": 10000.0,
    "rope_scaling": {
        "type": "yarn",
        "factor": 4,
        "original_max_position_embeddings": 64,
        "beta_fast": 32,
        "beta_slow": 1,
    },
    "max_position_embeddings": 256,
    "hc_mult": 3,
    "hc_sinkhorn_iters": 4,
    "hc_eps": 1e-3,
    "tie_word_embeddings": False,
}
# Names in the order in which they are replaced.
NAMES = {
    "lm_head.weight": "head.weight",
    "model.embed_tokens.": "embed.",
    "model.": "",
    ".input_layernorm.": ".attn_norm.",
    ".post_attention_layernorm.": ".ffn_norm.",
    ".attn_hc.": ".hc_attn_",
    ".ffn_hc.": ".hc_ffn_",
    ".compressor.kv_norm.": ".compressor.norm.",
    ".q_a_proj.": ".wq_a.",
    ".q_b_proj.": ".wq_b.",
    ".q_a_norm.": ".q_norm.",
    ".kv_proj.": ".wkv.",
    ".o_a_proj.": ".wo_a.",
    ".o_b_proj.": ".wo_b.",
    ".sinks": ".attn_sink",
    ".indexer.k_proj.": ".indexer.wk.",
    ".compressor.gate_proj.": ".compressor.wgate.",
    ".e_score_correction_bias": ".bias",
    ".shared_experts.gate_proj.": ".shared_experts.w1.",
    ".shared_experts.down_proj.": ".shared_experts.w2.",
    ".shared_experts.up_proj.": ".shared_experts.w3.",
    ".self_attn.": ".attn.",
    ".mlp.": ".ffn.",
}
STACKED = {"experts.switch_mlp.gate_proj": "w1", "experts.switch_mlp.down_proj": "w2", "experts.switch_mlp.up_proj": "w3"}


def published(tensors, config):
    """Experts one by one, groups of outputs one below the other, and the published names."""
    result = {}
    for name, tensor in unstacked(STACKED)(tensors, config).items():
        for old, new in NAMES.items():
            name = name.replace(old, new)
        result[name] = tensor.reshape(-1, tensor.shape[-1]) if name.endswith(".wo_a.weight") else tensor
    return result


def fp8_tiles(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float8 `[out, in]`, and the powers of two by which each tile of 32 × 32 is multiplied."""
    rows, columns = weights.shape
    tiles = weights.float().reshape(rows // 32, 32, columns // 32, 32)
    exponents = torch.ceil(torch.log2(tiles.abs().amax((1, 3)) / 448))
    packed = (tiles / torch.exp2(exponents)[:, None, :, None]).reshape(rows, columns)
    return packed.to(torch.float8_e4m3fn), (exponents + 127).to(torch.uint8).view(torch.float8_e8m0fnu)


def packed(tensors, config):
    """The same with projections in 8 bits and experts in 4."""
    result = {}
    for name, tensor in published(tensors, config).items():
        projection = any(part in name for part in (".wq_", ".wkv.", ".wo_", ".shared_experts."))
        scale = name.replace(".weight", ".scale")
        if ".ffn.experts." in name:
            blocks, exponents = mxfp4_packed(tensor)
            result[name] = blocks.reshape(len(blocks), -1).view(torch.int8)
            result[scale] = exponents.view(torch.float8_e8m0fnu)
        elif projection and ".compressor." not in name:
            result[name], result[scale] = fp8_tiles(tensor)
        else:
            result[name] = tensor
    return result


def others(_) -> dict[str, np.ndarray]:
    """What other parts have, and what routes images."""
    return {
        "vision.blocks.0.weight": np.full((8, 8), 0.5, np.float16),
        "mtp.0.weight": np.full((8, 8), 0.5, np.float16),
        "layers.0.ffn.gate.bias_vl": np.full(4, 0.5, np.float32),
    }


def lively(name: str, value: np.ndarray) -> np.ndarray:
    """Mixtures that are neither even nor of one stream, and gates that differ within a group."""
    if "_hc." in name:
        return value if name.endswith("fn") else value * 3
    return positive_corrections(name, value * 3 if ".compressor.gate_proj" in name else value)


ARCHITECTURE = Architecture(
    adjust=lively,
    config=CONFIG,
    fixtures=[
        # Longer ones have a number in the middle between two that it may be rounded to.
        Fixture("deepseek-v41", "mlx", length=26),
        Fixture(
            "deepseek-v41-plain",
            "mlx",
            config={
                "num_hidden_layers": 4,
                "compress_ratios": [2, 2, 1],
                "kv_source_layer_ids": [0, 2],
                "index_source_layer_ids": [0, 2],
                "candidate_source_layer_id": ABSENT,
                "index_topk": 5,
                "scoring_func": "sigmoid",
                "gate_temp": 0.7,
                "norm_topk_prob": False,
                "routed_scaling_factor": ABSENT,
                "swiglu_limit": 0,
                "rms_norm_eps": 1e-2,
                "rope_theta": ABSENT,
                "rope_scaling": ABSENT,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
                "hc_mult": 2,
                "hc_sinkhorn_iters": 1,
                "hc_eps": ABSENT,
                "head_dim": 24,
            },
            dtype="float16",
            length=24,
            measures_rounding=True,
        ),
        Fixture(
            "deepseek-v41-4bit",
            "mlx",
            config={
                "num_hidden_layers": 3,
                "compress_ratios": [0, 2, 2],
                "kv_source_layer_ids": [1],
                "index_source_layer_ids": [1],
                "moe_intermediate_size": 32,
                "o_lora_rank": 32,
                # Nothing is rounded and little left out, which products of 16 bits would do otherwise.
                "num_attention_heads": 8,
                "head_dim": 24,
                "index_head_dim": 24,
                "index_topk": 32,
                "scoring_func": "softmax",
            },
            quantization={"group_size": 32, "bits": 4, "model.layers.0.self_attn.kv_proj": {"group_size": 32, "bits": 8}},
            length=30,
        ),
        Fixture(
            "deepseek-v41-raw",
            "raw",
            config={"num_hidden_layers": 3, "compress_ratios": [4, 4, 4], "kv_source_layer_ids": [0], "index_source_layer_ids": [0, 2], "candidate_source_layer_id": 0},
            extra_tensors=others,
            published=lambda tensors, config: published(
                {name: tensor for name, tensor in tensors.items() if name.startswith(("model.", "lm_head."))}, config
            )
            | {name: tensor for name, tensor in tensors.items() if not name.startswith(("model.", "lm_head."))},
            length=24,
            measures_rounding=True,
        ),
        Fixture(
            "deepseek-v41-raw-packed",
            "raw",
            config={
                "num_hidden_layers": 2,
                "compress_ratios": [0, 2],
                "kv_source_layer_ids": [1],
                "index_source_layer_ids": [1],
                "candidate_source_layer_id": ABSENT,
                "moe_intermediate_size": 32,
                "n_routed_experts": 3,
                "num_attention_heads": 2,
                "o_lora_rank": 32,
                "quantization_config": {
                    "quant_method": "fp8",
                    "fmt": "e4m3",
                    "scale_fmt": "ue8m0",
                    "activation_scheme": "dynamic",
                    "weight_block_size": [32, 32],
                },
            },
            published=packed,
            length=24,
        ),
    ],
)

"""minimax_m3_vl: MiniMax M3, whose layers look at the blocks of positions that an indexer chooses."""

from generate.declaration import ABSENT, Architecture, Fixture
from generate.packing import mxfp8_packed, mxfp8_rounded
from generate.parameters import rounded_norms
from generate.seeing import tower


def sparse(freq: list[int], **others) -> dict:
    return {
        "use_sparse_attention": True,
        "sparse_num_index_heads": 2,
        "sparse_index_dim": 8,
        "sparse_block_size": 4,
        "sparse_topk_blocks": 3,
        "sparse_local_block": 1,
        "sparse_attention_freq": freq,
        **others,
    }


TEXT = {
    "model_type": "minimax_m3_vl_text",
    "hidden_size": 32,
    "intermediate_size": 16,
    "dense_intermediate_size": 48,
    "shared_intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "rotary_dim": 6,
    "partial_rotary_factor": 0.5,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "routed_scaling_factor": 1.5,
    "use_qk_norm": True,
    "use_gemma_norm": True,
    "swiglu_alpha": 1.702,
    # Low, so that the activations reach it.
    "swiglu_limit": 0.5,
    "moe_layer_freq": [0, 1],
    "sparse_attention_config": sparse([0, 1]),
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "tie_word_embeddings": False,
}
NAMES = {
    ".mlp.gate.e_score_correction_bias": ".block_sparse_moe.e_score_correction_bias",
    ".mlp.gate.weight": ".block_sparse_moe.gate.weight",
    ".mlp.shared_experts.": ".block_sparse_moe.shared_experts.",
    ".self_attn.indexer.": ".self_attn.index_",
}


def published(tensors, _):
    """The language model as a part, with the published names of experts and indexers, and the projections by themselves."""
    result = {}
    for name, tensor in tensors.items():
        if name.startswith("vision_tower."):
            result[name] = tensor
            continue
        for old, new in NAMES.items():
            name = name.replace(old, new)
        name = f"language_model.{name}"
        block, _, leaf = name.rpartition(".mlp.experts.")
        if leaf == "gate_up_proj":
            for expert, matrix in enumerate(tensor):
                for part, half in zip(("w1", "w3"), matrix.chunk(2)):
                    result[f"{block}.block_sparse_moe.experts.{expert}.{part}.weight"] = half.contiguous()
        elif leaf == "down_proj":
            for expert, matrix in enumerate(tensor):
                result[f"{block}.block_sparse_moe.experts.{expert}.w2.weight"] = matrix.contiguous()
        elif name.endswith("gate_up_proj.weight"):
            for part, half in zip(("gate_proj", "up_proj"), tensor.chunk(2)):
                result[name.replace("gate_up_proj", part)] = half.contiguous()
        else:
            result[name] = tensor
    return result


def is_packed(name: str) -> bool:
    """Projections within layers, and experts."""
    return ".layers." in name and ("_proj" in name or ".experts." in name)


def rounded(name, value):
    """Projections as mxfp8 stores them."""
    return mxfp8_rounded(value) if is_packed(name) else value


def packed(tensors, config):
    """The published tensors, with projections in 8 bits."""
    result = {}
    for name, tensor in published(tensors, config).items():
        if is_packed(name):
            result[name], result[f"{name}_scale_inv"] = mxfp8_packed(tensor)
        else:
            result[name] = tensor
    return result


def config(**others) -> dict:
    return {"text_config": {key: value for key, value in {**TEXT, **others}.items() if value is not ABSENT}}


ARCHITECTURE = Architecture(
    adjust=rounded_norms,
    transformers=("MiniMaxM3VLTextConfig", "MiniMaxM3VLForCausalLM"),
    transformers_arguments=lambda config: config["text_config"],
    drawn_buffers=("e_score_correction_bias",),
    config={"model_type": "minimax_m3_vl", **config()},
    fixtures=[
        Fixture("minimax-m3", "mlx", config=config(rms_norm_eps=1e-2), length=30),
        Fixture(
            "minimax-m3-plain",
            "mlx",
            config=config(
                use_gemma_norm=False,
                use_qk_norm=False,
                rotary_dim=ABSENT,
                moe_layer_freq=ABSENT,
                mlp_layer_types=["sparse", "dense"],
                sparse_attention_config=ABSENT,
                layer_types=["minimax_m3_sparse", "full_attention"],
                index_n_heads=1,
                index_head_dim=4,
                index_block_size=3,
                index_topk_blocks=3,
                index_local_blocks=2,
                tie_word_embeddings=True,
            ),
            dtype="float16",
            length=30,
        ),
        Fixture(
            "minimax-m3-dense",
            "mlx",
            config=config(
                # As many heads of indexers as are usual do not divide them.
                num_attention_heads=2,
                sparse_attention_config=ABSENT,
                index_n_heads=None,
                index_head_dim=None,
                index_block_size=None,
                index_topk_blocks=None,
            ),
        ),
        Fixture(
            "minimax-m3-4bit",
            "mlx",
            config=config(
                hidden_size=64,
                intermediate_size=32,
                dense_intermediate_size=64,
                shared_intermediate_size=32,
                head_dim=16,
                rotary_dim=8,
                sparse_attention_config=sparse([0, 1], sparse_topk_blocks=16),
            ),
            quantization={
                "group_size": 32,
                "bits": 4,
                "language_model.model.layers.1.self_attn.index_q_proj": {"group_size": 64, "bits": 8},
            },
            length=24,
        ),
        Fixture(
            "minimax-m3-raw",
            "raw",
            config=config(swiglu_alpha=ABSENT, use_qk_norm=ABSENT, use_gemma_norm=ABSENT, routed_scaling_factor=ABSENT),
            extra_tensors=tower("vision_tower."),
            published=published,
            length=30,
        ),
        Fixture(
            "minimax-m3-raw-packed",
            "raw",
            config={
                **config(
                    intermediate_size=32,
                    dense_intermediate_size=32,
                    shared_intermediate_size=32,
                    num_attention_heads=2,
                    num_key_value_heads=1,
                    num_local_experts=2,
                    num_experts_per_tok=1,
                    head_dim=16,
                    rotary_dim=8,
                    sparse_attention_config=sparse([0, 1], sparse_num_index_heads=1),
                ),
                "quantization_config": {"quant_method": "mxfp8"},
            },
            adjust=rounded,
            published=packed,
            length=30,
        ),
    ],
)

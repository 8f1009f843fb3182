"""kimi_k3: Kimi Linear with bounded decays and activations, experts between projections, and blocks that read mixtures of earlier sums."""

from architectures.bailing_hybrid import joint_heads
from architectures.kimi_linear import linear_attention
from generate.declaration import ABSENT, Architecture, Fixture
from generate.packing import mxfp4_packed
from generate.parameters import positive_corrections, unstacked
from generate.seeing import tower

TEXT = {
    "model_type": "kimi_linear",
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "linear_attn_config": {
        **linear_attention([1, 3], [2]),
        "gate_lower_bound": -5.0,
        "use_full_rank_gate": True,
    },
    "hidden_act": "situ",
    "activation_situ_beta": 1.5,
    "activation_situ_linear_beta": 0.7,
    "attn_res_block_size": 2,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "mla_use_nope": True,
    "mla_use_output_gate": True,
    "num_experts": 4,
    "num_experts_per_token": 2,
    "num_shared_experts": 1,
    "routed_expert_hidden_size": 20,
    "latent_moe_use_norm": True,
    "moe_renormalize": True,
    "moe_router_activation_func": "sigmoid",
    "routed_scaling_factor": 2.5,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "num_expert_group": 1,
    "topk_group": 1,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}


def config(**others) -> dict:
    return {"text_config": {key: value for key, value in {**TEXT, **others}.items() if value is not ABSENT}}


def published(tensors, config):
    """Experts one by one, projections and convolutions of queries, keys and values apart, keys and values of latent vectors together."""
    experts = unstacked({"switch_mlp.gate_proj": "w1", "switch_mlp.up_proj": "w3", "switch_mlp.down_proj": "w2"})
    result = {}
    for name, tensor in joint_heads(experts(tensors, config)).items():
        for res in ("self_attention_res", "mlp_res", "output_attn_res"):
            name = name.replace(f"{res}_proj.weight", f"{res}.proj_weight").replace(f"{res}_norm.weight", f"{res}.norm_weight")
        sparse = (".experts.", ".shared_experts.", ".routed_expert_", ".mlp.gate.", "e_score_correction_bias")
        if any(part in name for part in sparse):
            name = name.replace(".mlp.", ".block_sparse_moe.")
            name = name.replace("moe.e_score_correction_bias", "moe.gate.e_score_correction_bias")
        if ".qkv_" not in name:
            result[name] = tensor
            continue
        for part, third in zip("qkv", tensor.chunk(3)):
            conv = name.endswith("qkv_conv.conv.weight")
            third = third.transpose(1, 2) if conv else third
            old, new = ("qkv_conv.conv", f"{part}_conv1d") if conv else ("qkv_proj", f"{part}_proj")
            result[name.replace(old, new)] = third.contiguous()
    return result


def packed(tensors, config):
    """The same with experts in 4 bits."""
    result = {}
    for name, tensor in published(tensors, config).items():
        if ".experts." not in name:
            result[name] = tensor
            continue
        blocks, exponents = mxfp4_packed(tensor)
        result[name.replace(".weight", ".weight_packed")] = blocks.reshape(len(blocks), -1)
        result[name.replace(".weight", ".weight_scale")] = exponents
    return result


ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    config={"model_type": "kimi_k3", **config()},
    fixtures=[
        Fixture("kimi-k3", "mlx", config=config(rms_norm_eps=1e-2), length=30),
        Fixture(
            "kimi-k3-plain",
            "mlx",
            config=config(
                linear_attn_config={**linear_attention([2], [1]), "num_heads": 4, "short_conv_kernel_size": 3},
                num_hidden_layers=2,
                attn_res_block_size=ABSENT,
                hidden_act=ABSENT,
                activation_situ_beta=ABSENT,
                activation_situ_linear_beta=ABSENT,
                q_lora_rank=ABSENT,
                mla_use_output_gate=ABSENT,
                routed_expert_hidden_size=ABSENT,
                latent_moe_use_norm=ABSENT,
                num_shared_experts=ABSENT,
                routed_scaling_factor=ABSENT,
                first_k_dense_replace=ABSENT,
                moe_renormalize=False,
                num_expert_group=2,
                tie_word_embeddings=True,
            ),
            dtype="float16",
            length=24,
        ),
        Fixture(
            "kimi-k3-4bit",
            "mlx",
            config=config(
                hidden_size=64,
                intermediate_size=64,
                moe_intermediate_size=32,
                num_hidden_layers=2,
                linear_attn_config={**linear_attention([1], [2]), "head_dim": 32, "use_full_rank_gate": False},
                q_lora_rank=32,
                kv_lora_rank=32,
                qk_nope_head_dim=32,
                v_head_dim=16,
                routed_expert_hidden_size=32,
                latent_moe_use_norm=False,
            ),
            quantization={
                "group_size": 32,
                "bits": 4,
                "language_model.model.layers.0.self_attn.qkv_proj": {"group_size": 64, "bits": 8},
            },
            length=30,
        ),
        Fixture(
            "kimi-k3-raw",
            "raw",
            config=config(num_hidden_layers=2, linear_attn_config={**TEXT["linear_attn_config"], "kda_layers": [1]}),
            extra_tensors=tower("vision_tower."),
            published=published,
            length=24,
        ),
        Fixture(
            "kimi-k3-raw-packed",
            "raw",
            config={
                **config(
                    num_hidden_layers=2,
                    linear_attn_config={**TEXT["linear_attn_config"], "kda_layers": [1]},
                    moe_intermediate_size=32,
                    routed_expert_hidden_size=32,
                    num_experts=2,
                    num_experts_per_token=1,
                ),
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "format": "mxfp4-pack-quantized",
                    "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}}},
                },
            },
            published=packed,
            length=24,
        ),
    ],
)

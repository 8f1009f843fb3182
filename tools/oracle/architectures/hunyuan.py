"""hunyuan: experts beside one that sees every token, and keys and values that layers share."""

import torch

from architectures.deepseek import EXPERTS
from generate.declaration import Architecture, Fixture
from generate.parameters import unstacked


def published(tensors, config):
    """Experts one by one, and queries, keys and values, and up and gate, in one."""
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim, group = config["hidden_size"] // heads, heads // kv_heads
    joined = {}
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        layer, _, projection = path.rpartition(".")
        if projection == "q_proj" and f"{layer}.k_proj.{leaf}" in tensors:
            parts = [tensors[f"{layer}.{part}_proj.{leaf}"] for part in "qkv"]
            parts = [part.reshape(kv_heads, -1, head_dim, *part.shape[1:]) for part in parts]
            joined[f"{layer}.qkv_proj.{leaf}"] = torch.cat(parts, dim=1).flatten(0, 2).contiguous()
        elif projection in ("k_proj", "v_proj"):
            continue
        elif projection == "gate_proj" and tensor.dim() == 2:
            up = tensors[f"{layer}.up_proj.{leaf}"]
            joined[f"{layer}.gate_and_up_proj.{leaf}"] = torch.cat([up, tensor])
        elif projection == "up_proj" and tensor.dim() == 2:
            continue
        else:
            joined[name] = tensor
    return joined


ARCHITECTURE = Architecture(
    config={
        "model_type": "hunyuan",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "rope_scaling": {"alpha": 100.0, "factor": 1.0, "type": "dynamic"},
        "attention_bias": False,
        "moe_topk": 1,
        "num_experts": 4,
        "num_shared_expert": 1,
        "use_mixed_mlp_moe": True,
        "use_qk_norm": True,
        "use_cla": True,
        "cla_share_factor": 2,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("hunyuan", "mlx", config={"rms_norm_eps": 1e-2, "attention_bias": True}, length=24),
        Fixture(
            "hunyuan-lists",
            "mlx",
            config={
                "num_hidden_layers": 2,
                "moe_topk": [2, 3],
                "moe_intermediate_size": [16, 16],
                "num_shared_expert": [1, 2],
                "use_cla": False,
                "use_qk_norm": False,
            },
        ),
        Fixture(
            "hunyuan-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "num_hidden_layers": 3,
                "cla_share_factor": 3,
                "use_mixed_mlp_moe": False,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.switch_mlp.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture(
            "hunyuan-raw",
            "raw",
            config={"num_hidden_layers": 2, "intermediate_size": 24},
            published=unstacked(EXPERTS),
        ),
        Fixture(
            "hunyuan-raw-dense",
            "raw",
            config={"num_hidden_layers": 2, "num_experts": 1, "use_cla": False},
            published=published,
        ),
    ],
)

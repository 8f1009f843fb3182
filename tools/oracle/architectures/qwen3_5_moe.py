"""qwen3_5_moe: qwen3_5 with experts, published stacked and with gate and up in one tensor."""

import torch

from generate.declaration import Architecture, Fixture
from generate.parameters import rounded_norms

from .qwen3_5 import TEXT, VISION, prediction_layer

MOE = {
    **{key: value for key, value in TEXT.items() if key != "intermediate_size"},
    "model_type": "qwen3_5_moe_text",
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 24,
    "num_hidden_layers": 2,
}


def stacked(tensors: dict[str, torch.Tensor], config: dict) -> dict[str, torch.Tensor]:
    """The experts of a layer in two tensors; transformers saves each by itself."""
    published = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    for name in tensors:
        if not name.endswith(".experts.0.down_proj.weight"):
            continue
        prefix = name.removesuffix(".0.down_proj.weight")
        experts = range(config["text_config"]["num_experts"])
        gate, up, down = (
            torch.stack([tensors[f"{prefix}.{expert}.{part}_proj.weight"] for expert in experts])
            for part in ("gate", "up", "down")
        )
        published |= {f"{prefix}.gate_up_proj": torch.cat([gate, up], dim=1), f"{prefix}.down_proj": down}
    return published


ARCHITECTURE = Architecture(
    adjust=rounded_norms,
    transformers=("Qwen3_5MoeConfig", "Qwen3_5MoeForConditionalGeneration"),
    config={
        "model_type": "qwen3_5_moe",
        "text_config": MOE,
        "vision_config": VISION,
        "tie_word_embeddings": False,
        "image_token_id": 95,
        "video_token_id": 94,
        "vision_start_token_id": 93,
        "vision_end_token_id": 92,
    },
    fixtures=[
        Fixture("qwen3-5-moe", "mlx", length=40),
        Fixture(
            "qwen3-5-moe-unscaled",
            "mlx",
            config={
                "text_config": {
                    **MOE,
                    "norm_topk_prob": False,
                    "num_experts_per_tok": 3,
                    "tie_word_embeddings": True,
                    "rms_norm_eps": 1e-2,
                }
            },
            dtype="float16",
        ),
        Fixture(
            "qwen3-5-moe-4bit",
            "mlx",
            config={
                "text_config": {
                    **MOE,
                    "hidden_size": 64,
                    "moe_intermediate_size": 32,
                    "shared_expert_intermediate_size": 32,
                    "linear_value_head_dim": 8,
                }
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "language_model.model.layers.0.mlp.shared_expert_gate": False,
                "language_model.model.layers.1.mlp.switch_mlp.down_proj": {"group_size": 32, "bits": 6},
            },
            length=40,
        ),
        Fixture("qwen3-5-moe-raw", "raw", extra_tensors=prediction_layer, published=stacked, length=40),
        Fixture(
            "qwen3-5-moe-raw-unstacked",
            "raw",
            config={
                "text_config": {**MOE, "tie_word_embeddings": True, "num_experts_per_tok": 3},
                "tie_word_embeddings": True,
            },
            dtype="float16",
            oracle="transformers",
            reason="mlx-lm refuses experts that are not stacked, as transformers 5 saves them",
        ),
    ],
)

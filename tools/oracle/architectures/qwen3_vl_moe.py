"""qwen3_vl_moe: Qwen 3 with experts within a model that also sees; published experts lie in two tensors, inputs before outputs."""

import torch

from generate.declaration import Architecture, Fixture
from generate.seeing import nested, tower

TEXT = {
    "model_type": "qwen3_vl_moe_text",
    "hidden_size": 32,
    "intermediate_size": 48,
    "moe_intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 5000000.0,
    "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [2, 2, 2]},
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "tie_word_embeddings": False,
}


def fused(tensors: dict[str, torch.Tensor], config: dict) -> dict[str, torch.Tensor]:
    """The experts of each layer as two tensors, turned, within the whole model."""
    text = config["text_config"]
    tensors = dict(tensors)
    for layer in range(text["num_hidden_layers"]):
        experts = f"model.layers.{layer}.mlp.experts"
        parts = {
            part: torch.stack(
                [tensors.pop(f"{experts}.{expert}.{part}_proj.weight").T for expert in range(text["num_experts"])]
            )
            for part in ("gate", "up", "down")
        }
        tensors[f"{experts}.gate_up_proj"] = torch.cat([parts["gate"], parts["up"]], dim=-1).contiguous()
        tensors[f"{experts}.down_proj"] = parts["down"].contiguous()
    return nested(tensors, config)


ARCHITECTURE = Architecture(
    transformers=("Qwen3MoeConfig", "Qwen3MoeForCausalLM"),
    transformers_arguments=lambda config: {**config["text_config"], "rope_scaling": None},
    config={"model_type": "qwen3_vl_moe", "text_config": TEXT},
    fixtures=[
        Fixture("qwen3-vl-moe", "mlx", length=40),
        Fixture(
            "qwen3-vl-moe-4bit",
            "mlx",
            config={"text_config": {**TEXT, "hidden_size": 64, "moe_intermediate_size": 32, "head_dim": 16}},
            quantization={"group_size": 32, "bits": 4, "language_model.lm_head": {"group_size": 64, "bits": 8}},
            length=40,
        ),
        Fixture("qwen3-vl-moe-raw", "raw", extra_tensors=tower("model.visual."), published=fused, length=40),
        Fixture(
            "qwen3-vl-moe-raw-unnormed",
            "raw",
            config={"text_config": {**TEXT, "norm_topk_prob": False, "num_experts_per_tok": 3}},
            published=fused,
            dtype="float16",
            length=40,
        ),
    ],
)

"""Klear: Qwen 3 MoE with experts chosen by corrected logistic scores, weighed against one that sees every token."""

from generate.declaration import Architecture, Fixture
from generate.parameters import unstacked

EXPERTS = {f"experts.{name}": name for name in ("gate_proj", "up_proj", "down_proj")}

ARCHITECTURE = Architecture(
    config={
        "model_type": "Klear",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "moe_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 2,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [0],
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "attention_bias": False,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture(
            "klear",
            "mlx",
            config={"norm_topk_prob": False, "attention_bias": True, "rms_norm_eps": 1e-2, "mlp_only_layers": []},
        ),
        Fixture(
            "klear-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 32},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.experts.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("klear-raw", "raw", published=unstacked(EXPERTS)),
    ],
)

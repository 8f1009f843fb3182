"""deepseek: Llama with experts in all layers but the first few, some of which see every token."""

from generate.declaration import Architecture, Fixture
from generate.parameters import unstacked

EXPERTS = {f"switch_mlp.{name}": name for name in ("gate_proj", "up_proj", "down_proj")}

ARCHITECTURE = Architecture(
    config={
        "model_type": "deepseek",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "n_routed_experts": 4,
        "n_shared_experts": 2,
        "num_experts_per_tok": 2,
        "norm_topk_prob": False,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("deepseek", "mlx", config={"attention_bias": True, "rms_norm_eps": 1e-2}),
        Fixture(
            "deepseek-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "moe_intermediate_size": 32, "n_shared_experts": None},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.switch_mlp.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("deepseek-raw", "raw", published=unstacked(EXPERTS)),
    ],
)

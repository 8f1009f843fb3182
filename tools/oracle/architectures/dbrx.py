"""dbrx: bounded queries, keys and values; experts published as one matrix for each projection."""

from generate.declaration import Architecture, Fixture

ATTENTION = {"kv_n_heads": 2, "clip_qkv": 0.5, "rope_theta": 500000.0}
FFN = {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2}


def arguments(config: dict) -> dict:
    """With the base of the rotation where transformers reads it."""
    base = config["attn_config"]["rope_theta"]
    return {**config, "rope_parameters": {"rope_type": "default", "rope_theta": base}}


ARCHITECTURE = Architecture(
    transformers=("DbrxConfig", "DbrxForCausalLM"),
    transformers_arguments=arguments,
    config={
        "model_type": "dbrx",
        "d_model": 32,
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": 256,
        "vocab_size": 96,
        "attn_config": ATTENTION,
        "ffn_config": FFN,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("dbrx", "mlx"),
        Fixture(
            "dbrx-4bit",
            "mlx",
            config={
                "d_model": 64,
                "ffn_config": {**FFN, "ffn_hidden_size": 64},
                "attn_config": {**ATTENTION, "clip_qkv": 8},
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "transformer.blocks.1.norm_attn_norm.attn.Wqkv": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("dbrx-raw", "raw"),
        Fixture(
            "dbrx-raw-unnormalized",
            "raw",
            config={
                "attn_config": {"kv_n_heads": 4, "clip_qkv": 8.0, "rope_theta": 10000.0},
                "ffn_config": {**FFN, "moe_normalize_expert_weights": None},
            },
            dtype="float16",
            oracle="transformers",
            reason="mlx-lm always divides the experts' weights by their sum",
        ),
    ],
)

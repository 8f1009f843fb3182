"""gemma4_text: scores that are not scaled, heads of two widths, proportional RoPE, keys that are also the values, layers at the end without
keys and values of their own, embeddings for every layer, experts beside the MLP."""

from generate.declaration import ABSENT, Architecture, Fixture

ROPE = {
    "full_attention": {"partial_rotary_factor": 0.5, "rope_theta": 1000000.0, "rope_type": "proportional"},
    "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
}
# Small, with everything that the smaller models have.
SMALL = {
    "model_type": "gemma4_text",
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 12,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    "num_kv_shared_layers": 2,
    "use_double_wide_mlp": True,
    "sliding_window": 8,
    "vocab_size": 96,
    "vocab_size_per_layer_input": 96,
    "hidden_size_per_layer_input": 8,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_parameters": ROPE,
    "attention_k_eq_v": False,
    "final_logit_softcapping": 30.0,
    "tie_word_embeddings": True,
}
# What the larger ones have: experts, and keys as values.
LARGE = {
    "num_hidden_layers": 3,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "num_kv_shared_layers": 0,
    "use_double_wide_mlp": False,
    "hidden_size_per_layer_input": 0,
    "attention_k_eq_v": True,
    "num_global_key_value_heads": 1,
    "enable_moe_block": True,
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 8,
}

ARCHITECTURE = Architecture(
    transformers=("Gemma4TextConfig", "Gemma4ForCausalLM"),
    drawn_buffers=("layer_scalar",),
    config=SMALL,
    fixtures=[
        Fixture("gemma4-text", "mlx", length=30),
        Fixture("gemma4-text-moe", "mlx", config=LARGE, length=40),
        Fixture(
            "gemma4-text-defaults",
            "mlx",
            config={
                "num_hidden_layers": 5,
                "layer_types": ABSENT,
                "rope_parameters": ABSENT,
                "use_double_wide_mlp": ABSENT,
                "final_logit_softcapping": ABSENT,
                "tie_word_embeddings": ABSENT,
                "attention_k_eq_v": ABSENT,
                "num_key_value_heads": ABSENT,
                "rms_norm_eps": ABSENT,
                "num_kv_shared_layers": 0,
                "hidden_size_per_layer_input": 4,
                "intermediate_size": 16,
            },
            dtype="float16",
            length=30,
        ),
        # No rule but one counts the features that are rotated; what is said of one kind of layer is not of the others.
        Fixture(
            "gemma4-text-plain-rope",
            "mlx",
            config={
                "rope_parameters": {"full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0}},
                "use_double_wide_mlp": ABSENT,
            },
            length=30,
        ),
        Fixture(
            "gemma4-text-untied",
            "mlx",
            config={
                "num_hidden_layers": 3,
                "sliding_window_pattern": 2,
                "layer_types": ABSENT,
                "num_kv_shared_layers": 1,
                "use_double_wide_mlp": False,
                "hidden_size_per_layer_input": 0,
                "attention_k_eq_v": True,
                "tie_word_embeddings": False,
                "final_logit_softcapping": None,
                "rope_traditional": True,
                "rms_norm_eps": 1e-2,
                "rope_parameters": {
                    **ROPE,
                    "full_attention": {
                        "rope_type": "proportional",
                        "partial_rotary_factor": 0.25,
                        "factor": 2.0,
                        "rope_theta": 5000.0,
                    },
                },
                "global_head_dim": 16,
            },
            length=30,
        ),
        Fixture(
            "gemma4-text-4bit",
            "mlx",
            config={"hidden_size_per_layer_input": 32, "intermediate_size": 32, "global_head_dim": 16},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.embed_tokens_per_layer": {"group_size": 64, "bits": 6},
                "model.layers.3.mlp.down_proj": {"group_size": 64, "bits": 8},
            },
            length=30,
        ),
        Fixture(
            "gemma4-text-moe-4bit",
            "mlx",
            config={
                **LARGE,
                "num_hidden_layers": 2,
                "layer_types": ["sliding_attention", "full_attention"],
                "hidden_size": 64,
                "intermediate_size": 32,
                "moe_intermediate_size": 32,
                "head_dim": 16,
                "global_head_dim": 16,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.experts.switch_glu.down_proj": {"group_size": 32, "bits": 6},
            },
            length=40,
        ),
        Fixture("gemma4-text-raw", "raw", length=30),
        Fixture("gemma4-text-raw-moe", "raw", config=LARGE, length=40),
    ],
)

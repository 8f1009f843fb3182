"""jamba: Mamba and attention, MLPs and experts."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("JambaConfig", "JambaForCausalLM"),
    config={
        "model_type": "jamba",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "attn_layer_offset": 1,
        "attn_layer_period": 2,
        "expert_layer_offset": 1,
        "expert_layer_period": 2,
        "mamba_d_conv": 4,
        "mamba_d_state": 8,
        "mamba_expand": 2,
        "mamba_dt_rank": 4,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "rms_norm_eps": 1e-5,
        "use_mamba_kernels": False,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture(
            "jamba",
            "mlx",
            config={
                "num_experts": 1,
                "mamba_proj_bias": True,
                "mamba_conv_bias": False,
                "rms_norm_eps": 1e-2,
                "tie_word_embeddings": True,
            },
        ),
        Fixture(
            "jamba-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "mamba_dt_rank": 32,
                "num_experts": 1,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.feed_forward.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("jamba-raw", "raw", oracle="transformers", reason="mlx-lm takes the soft-max over the chosen experts"),
    ],
)

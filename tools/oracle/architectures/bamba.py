"""bamba: Mamba 2 mixers and, in some layers, attention that rotates half of each head."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("BambaConfig", "BambaForCausalLM"),
    config={
        "model_type": "bamba",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "attn_layer_indices": [1],
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "attention_bias": False,
        "mlp_bias": False,
        "mamba_n_heads": 8,
        "mamba_d_head": "auto",
        "mamba_expand": 2,
        "mamba_d_state": 8,
        "mamba_d_conv": 4,
        "mamba_n_groups": 1,
        "mamba_conv_bias": True,
        "mamba_proj_bias": False,
        "mamba_chunk_size": 16,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("bamba-raw", "raw", length=40, oracle="transformers", reason=REASON),
        Fixture(
            "bamba-raw-biases",
            "raw",
            config={
                "attn_layer_indices": [0, 2],
                "num_key_value_heads": None,
                "attention_bias": True,
                "mlp_bias": True,
                "mamba_d_head": 16,
                "mamba_n_heads": 4,
                "mamba_n_groups": 2,
                "mamba_conv_bias": False,
                "mamba_proj_bias": True,
                "mamba_d_conv": ABSENT,
                "time_step_limit": [0.3, 1.2],
                "rms_norm_eps": 1e-2,
                "rope_theta": 500.0,
                "tie_word_embeddings": True,
            },
            dtype="float16",
            length=30,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

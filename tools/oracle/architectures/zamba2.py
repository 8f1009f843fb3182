"""zamba2: Mamba 2 mixers, some of which read what a shared transformer block makes of the stream and the embeddings."""

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"


def gentle(name, value):
    """Queries whose scores leave the soft-max far from a choice of one position, and mixers that change the stream little: what is made of
    rounding would grow from layer to layer."""
    if "q_proj" in name or "q_adapter" in name:
        return value / 8
    return value / 16 if "out_proj" in name else value


ARCHITECTURE = Architecture(
    adjust=gentle,
    transformers=("Zamba2Config", "Zamba2ForCausalLM"),
    config={
        "model_type": "zamba2",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "mamba_d_state": 8,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
        "mamba_ngroups": 1,
        "n_mamba_heads": 8,
        "chunk_size": 16,
        "num_mem_blocks": 1,
        "use_shared_attention_adapter": True,
        "adapter_rank": 8,
        "use_mem_rope": True,
        "add_bias_linear": False,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "pad_token_id": None,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("zamba2-raw", "raw", length=40, oracle="transformers", reason=REASON),
        Fixture(
            "zamba2-raw-two-blocks",
            "raw",
            config={
                "num_hidden_layers": 5,
                "layers_block_type": ["hybrid", "linear_attention", "hybrid", "hybrid", "linear_attention"],
                "num_key_value_heads": 2,
                "intermediate_size": ABSENT,
                "num_mem_blocks": 2,
                "use_shared_attention_adapter": False,
                "use_mem_rope": False,
                "n_mamba_heads": 4,
                "mamba_ngroups": 2,
                "mamba_d_conv": ABSENT,
                "add_bias_linear": True,
                "hidden_act": "silu",
                "time_step_min": 0.9,
                "rms_norm_eps": 1e-2,
                "rope_theta": ABSENT,
                "tie_word_embeddings": False,
            },
            dtype="float16",
            length=30,
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

"""minimax: MiniMax M2, with norms over all queries and all keys, and experts chosen by corrected logistic scores."""

from generate.declaration import Architecture, Fixture
from generate.parameters import positive_corrections

ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("MiniMaxM2Config", "MiniMaxM2ForCausalLM"),
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "minimax_m2",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "intermediate_size": 16,
        "shared_intermediate_size": 0,
        "head_dim": 16,
        "rotary_dim": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "rms_norm_eps": 1e-5,
        "rope_theta": 5000000.0,
        "use_qk_norm": True,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("minimax", "mlx", config={"use_qk_norm": False, "model_type": "minimax", "tie_word_embeddings": True}),
        Fixture(
            "minimax-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 32, "rms_norm_eps": 1e-2, "rotary_dim": 16},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.block_sparse_moe.switch_mlp.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("minimax-raw", "raw"),
    ],
)

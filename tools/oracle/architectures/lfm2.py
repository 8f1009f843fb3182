"""lfm2: gated short convolutions between a few layers of attention with a norm on every head's queries and keys."""

from generate.declaration import ABSENT, Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("Lfm2Config", "Lfm2ForCausalLM"),
    config={
        "model_type": "lfm2",
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 32,
        "block_ff_dim": 48,
        "block_multiple_of": 16,
        "block_ffn_dim_multiplier": 1.0,
        # 48 becomes two thirds of it, 32, and then a multiple of 16.
        "block_auto_adjust_ff_dim": True,
        "full_attn_idxs": [1],
        "pad_token_id": None,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("lfm2", "mlx"),
        Fixture(
            "lfm2-layer-types",
            "mlx",
            config={
                "full_attn_idxs": ABSENT,
                "layer_types": ["full_attention", "conv", "full_attention"],
                "conv_bias": True,
                "conv_L_cache": 4,
                "block_ff_dim": ABSENT,
                "intermediate_size": 40,
                "block_auto_adjust_ff_dim": False,
                "rope_theta": ABSENT,
                "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"},
                "num_key_value_heads": None,
                "norm_eps": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "lfm2-adjusted",
            "mlx",
            # 60 · ⅔ · 1.3 = 52, and then 56.
            config={"block_ff_dim": 60, "block_ffn_dim_multiplier": 1.3, "block_multiple_of": 8, "full_attn_idxs": [2]},
        ),
        Fixture(
            "lfm2-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "block_dim": 64,
                "block_ff_dim": 96,
                "block_multiple_of": 64,
                "num_hidden_layers": 2,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.conv.in_proj": {"group_size": 64, "bits": 8},
                "model.embed_tokens": {"group_size": 64, "bits": 6},
            },
        ),
        Fixture(
            "lfm2-nvfp4",
            "mlx",
            config={"block_ff_dim": 72},
            dtype="float16",
            quantization={
                "group_size": 16,
                "bits": 4,
                "mode": "nvfp4",
                "model.layers.1.self_attn.v_proj": {"group_size": 32, "bits": 4, "mode": "mxfp4"},
                "model.layers.2.conv.out_proj": {"group_size": 32, "bits": 4, "mode": "affine"},
            },
            undeclared=("model.layers.1.self_attn.v_proj", "model.layers.2.conv.out_proj"),
        ),
        Fixture("lfm2-raw", "raw"),
        Fixture(
            "lfm2-raw-biases",
            "raw",
            config={
                "full_attn_idxs": ABSENT,
                "layer_types": ["conv", "full_attention", "conv"],
                "conv_bias": True,
                "conv_L_cache": 4,
                "block_auto_adjust_ff_dim": False,
                "block_ff_dim": ABSENT,
                "intermediate_size": 40,
            },
            dtype="float16",
        ),
    ],
)

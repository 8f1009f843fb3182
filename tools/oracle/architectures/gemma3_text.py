"""gemma3_text: gemma2 without soft-caps; a norm on every head's queries and keys; windows but for every sixth layer, with a base of their own."""

from generate.declaration import ABSENT, Architecture, Fixture

ROUNDED = "mlx-lm rounds the embeddings' factor, the root of the hidden size, to bfloat16, whatever the model's type"

ARCHITECTURE = Architecture(
    transformers=("Gemma3TextConfig", "Gemma3ForCausalLM"),
    config={
        "model_type": "gemma3_text",
        # Its root is far from a bfloat16.
        "hidden_size": 48,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "query_pre_attn_scalar": 12,
        "sliding_window": 8,
        "sliding_window_pattern": 3,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("gemma3-text", "mlx", length=30),
        Fixture(
            "gemma3-text-defaults",
            "mlx",
            config={
                "num_hidden_layers": 6,
                "hidden_size": 32,
                "intermediate_size": 16,
                "num_attention_heads": ABSENT,
                "num_key_value_heads": ABSENT,
                "rope_theta": ABSENT,
                "rope_local_base_freq": ABSENT,
                # 256, as heads are wide where nothing is said.
                "query_pre_attn_scalar": ABSENT,
                "sliding_window_pattern": ABSENT,
                "rms_norm_eps": ABSENT,
                "max_position_embeddings": ABSENT,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
                "sliding_window": 16,
            },
            dtype="float16",
            length=40,
        ),
        Fixture(
            "gemma3-text-global",
            "mlx",
            config={"num_hidden_layers": 2, "sliding_window_pattern": 1, "rms_norm_eps": 1e-2, "rope_theta": 5000.0},
        ),
        Fixture(
            "gemma3-text-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "head_dim": 16, "sliding_window_pattern": 2},
            quantization={
                "group_size": 64,
                "bits": 4,
                "lm_head": False,
                "model.embed_tokens": {"group_size": 64, "bits": 8},
            },
            length=30,
        ),
        Fixture("gemma3-text-raw", "raw", length=30, transformers_differs=ROUNDED),
        Fixture(
            "gemma3-text-raw-untied",
            "raw",
            config={
                # Its root is a bfloat16.
                "hidden_size": 64,
                "intermediate_size": 24,
                "tie_word_embeddings": False,
                "num_key_value_heads": 1,
                "num_hidden_layers": 2,
                "sliding_window_pattern": 2,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            },
            length=30,
        ),
        Fixture(
            "gemma3-text-raw-nested-rope",
            "raw",
            config={
                "hidden_size": 64,
                "intermediate_size": 24,
                "num_hidden_layers": 3,
                "sliding_window_pattern": ABSENT,
                "layer_types": ["full_attention", "sliding_attention", "full_attention"],
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
                "rope_theta": 50000.0,
                "rope_local_base_freq": 500.0,
                "num_key_value_heads": 1,
                "head_dim": 6,
            },
            nested_rope=True,
            length=30,
            oracle="transformers",
            reason="mlx-lm reads neither layer_types nor rope_parameters, in which transformers 5 keeps both bases",
        ),
    ],
)

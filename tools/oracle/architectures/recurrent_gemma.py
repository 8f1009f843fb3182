"""recurrent_gemma: gated linear recurrences, and attention within a window in every third layer."""

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import rounded_norms

ARCHITECTURE = Architecture(
    adjust=rounded_norms,
    transformers=("RecurrentGemmaConfig", "RecurrentGemmaForCausalLM"),
    config={
        "model_type": "recurrent_gemma",
        # The root is a number of any type: transformers rounds it to bfloat16.
        "hidden_size": 64,
        # Of gate and up together.
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "block_types": ["recurrent", "recurrent", "attention"],
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "attention_window_size": 8,
        "attention_bias": False,
        "conv1d_width": 4,
        "lru_width": 64,
        "vocab_size": 96,
        "logits_soft_cap": 3.0,
        # mlx-lm has it in front of the last layer alone, and 1e-5 elsewhere.
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_activation": "gelu_pytorch_tanh",
        "embeddings_scale_by_sqrt_dim": True,
        "pad_token_id": None,
    },
    fixtures=[
        Fixture("recurrent-gemma", "mlx", length=40),
        Fixture(
            "recurrent-gemma-9b",
            "mlx",
            # The names of the larger model.
            config={
                "block_types": ABSENT,
                "_block_types": ["recurrent", "attention"],
                "attention_window_size": 64,
                "num_attention_heads": 2,
            },
            dtype="float16",
        ),
        Fixture(
            "recurrent-gemma-4bit",
            "mlx",
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.0.temporal_block.linear_out": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("recurrent-gemma-raw", "raw", length=30),
        Fixture(
            "recurrent-gemma-raw-wide",
            "raw",
            config={
                "block_types": ABSENT,
                "lru_width": 96,
                "num_key_value_heads": 2,
                "attention_bias": True,
                "rms_norm_eps": 1e-2,
                "rope_theta": 500.0,
                "hidden_activation": "relu",
                "logits_soft_cap": ABSENT,
            },
            length=30,
            oracle="transformers",
            reason="mlx-lm looks at none of these",
        ),
    ],
)

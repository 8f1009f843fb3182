"""mamba2: state-space layers alone."""

import math

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("Mamba2Config", "Mamba2ForCausalLM"),
    config={
        "model_type": "mamba2",
        "hidden_size": 32,
        "intermediate_size": 32,
        "expand": 1,
        "num_heads": 4,
        "head_dim": 8,
        "state_size": 8,
        "n_groups": 1,
        "conv_kernel": 4,
        "chunk_size": 16,
        "num_hidden_layers": 2,
        "vocab_size": 96,
        "layer_norm_epsilon": 1e-5,
        "use_bias": False,
        "use_conv_bias": True,
        "rms_norm": True,
        "time_step_rank": "auto",
        # Published as a bare Infinity, which is no JSON.
        "time_step_limit": [0.0, math.inf],
        "pad_token_id": None,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("mamba2", "mlx"),
        Fixture(
            "mamba2-biases",
            "mlx",
            config={
                "use_bias": True,
                "use_conv_bias": False,
                "tie_word_embeddings": True,
                "conv_kernel": 3,
                "num_heads": 3,
                "ssm_state_size": 6,
                # Both ends are reached.
                "time_step_limit": [0.3, 1.2],
                "time_step_rank": 2,
            },
            dtype="float16",
        ),
        Fixture(
            "mamba2-4bit",
            "mlx",
            config={"hidden_size": 64, "head_dim": 16},
            quantization={
                "group_size": 32,
                "bits": 4,
                "backbone.embeddings": {"group_size": 64, "bits": 8},
                "backbone.layers.1.mixer.in_proj": {"group_size": 64, "bits": 6},
            },
        ),
        Fixture("mamba2-raw", "raw", length=40),
        Fixture(
            "mamba2-raw-tied",
            "raw",
            config={"tie_word_embeddings": True, "use_bias": True, "time_step_limit": [0.3, 1.2]},
            dtype="float16",
        ),
        Fixture(
            "mamba2-raw-groups",
            "raw",
            config={"n_groups": 2},
            length=40,
            oracle="transformers",
            reason="the gated norm is taken over each group; mlx-lm takes it over all of them",
        ),
        Fixture(
            "mamba2-raw-epsilon",
            "raw",
            config={"layer_norm_epsilon": 1e-1, "tie_word_embeddings": True},
            oracle="transformers",
            reason="layer_norm_epsilon is that of every norm; mlx-lm gives those in front of the layers 1e-5",
        ),
    ],
)

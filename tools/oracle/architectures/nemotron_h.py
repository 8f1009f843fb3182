"""nemotron_h: layers that are each a state-space mixer (M), attention (*), an MLP (-) or experts (E), caches for the first two alone."""

import math

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import negative_corrections, positive_corrections


def prediction_layer(config: dict) -> dict[str, np.ndarray]:
    """Some of the part that predicts a token more."""
    return {"mtp.layers.0.norm.weight": np.full(config["hidden_size"], 0.5, np.float16)}


# That which sees every token; transformers' default of its size is too large for a fixture.
SHARED_EXPERT = {"n_shared_experts": 1, "moe_shared_expert_intermediate_size": 24}

ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("NemotronHConfig", "NemotronHForCausalLM"),
    transformers_arguments=lambda config: {**SHARED_EXPERT, **config},
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "nemotron_h",
        "hidden_size": 32,
        "intermediate_size": 48,
        "hybrid_override_pattern": "M*-E",
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "attention_bias": False,
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "mamba_proj_bias": False,
        "ssm_state_size": 8,
        "n_groups": 2,
        "conv_kernel": 4,
        "chunk_size": 16,
        "use_conv_bias": True,
        "use_bias": False,
        "mlp_bias": False,
        "mlp_hidden_act": "relu2",
        "moe_intermediate_size": 16,
        "moe_shared_expert_intermediate_size": 24,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "norm_topk_prob": True,
        "routed_scaling_factor": 2.5,
        "time_step_limit": [0.0, math.inf],
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("nemotron-h", "mlx", length=40),
        Fixture(
            "nemotron-h-biases",
            "mlx",
            config={
                "hybrid_override_pattern": ABSENT,
                "num_hidden_layers": ABSENT,
                "layers_block_type": ["moe", "attention", "mamba", "mlp", "mamba"],
                "attention_bias": True,
                "mamba_proj_bias": True,
                "use_conv_bias": False,
                "mlp_bias": True,
                "head_dim": ABSENT,
                "n_shared_experts": ABSENT,
                "n_group": 1,
                "norm_topk_prob": False,
                "time_step_limit": [0.3, 1.2],
                "n_groups": 1,
                "num_key_value_heads": 1,
                "layer_norm_epsilon": 1e-2,
            },
            dtype="float16",
        ),
        Fixture(
            "nemotron-h-latent",
            "mlx",
            config={
                "hybrid_override_pattern": ["E", "M", "*", "E"],
                "moe_latent_size": 16,
                "time_step_limit": ABSENT,
                "mlp_bias": True,
                "n_routed_experts": 6,
                "n_group": 3,
                "topk_group": 2,
            },
            length=40,
        ),
        Fixture(
            "nemotron-h-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "moe_shared_expert_intermediate_size": 32,
                "head_dim": 16,
                "n_groups": 1,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "backbone.layers.0.mixer.out_proj": {"group_size": 32, "bits": 8},
                "backbone.layers.3.mixer.switch_mlp.fc1": {"group_size": 64, "bits": 6},
            },
            length=40,
        ),
        Fixture("nemotron-h-raw", "raw", extra_tensors=prediction_layer, length=40),
        Fixture(
            "nemotron-h-raw-latent",
            "raw",
            config={
                "hybrid_override_pattern": "ME*",
                "num_hidden_layers": 3,
                "moe_latent_size": 16,
                "n_group": 1,
            },
            dtype="float16",
            length=40,
        ),
        Fixture(
            "nemotron-h-raw-negative-scores",
            "raw",
            config={"time_step_min": 0.7},
            adjust=negative_corrections,
            oracle="transformers",
            reason=(
                "no expert of another group is ever chosen; mlx-lm sets their scores to zero, which is more than a negative one,"
                " and does not look at time_step_min"
            ),
        ),
        Fixture(
            "nemotron-h-raw-sizes",
            "raw",
            config={
                "n_routed_experts": ABSENT,
                "num_experts_per_tok": ABSENT,
                "n_group": ABSENT,
                "topk_group": ABSENT,
                "norm_topk_prob": ABSENT,
                **{field: ABSENT for field in SHARED_EXPERT},
            },
            oracle="transformers",
            reason="mlx-lm has no experts and no sizes where nothing is said",
        ),
    ],
)

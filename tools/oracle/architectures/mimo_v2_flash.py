"""mimo_v2_flash: values narrower than keys; heads, rotation and sinks of their own in windows."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import positive_corrections


def prediction_layer(config: dict) -> dict[str, np.ndarray]:
    """Some of the part that predicts a token more."""
    return {"model.mtp.layers.0.enorm.weight": np.full(config["hidden_size"], 0.5, np.float16)}


def arguments(config: dict) -> dict:
    """By transformers' names."""
    kinds = ("full_attention", "sliding_attention")
    bases = (config.get("rope_theta", 5e6), config.get("swa_rope_theta", 1e4))
    rope = {
        kind: {
            "rope_type": "default",
            "rope_theta": base,
            "partial_rotary_factor": config["partial_rotary_factor"],
        }
        for kind, base in zip(kinds, bases)
    }
    own = {"layer_types", "mlp_layer_types", "rms_norm_eps", "rope_parameters"}
    return {
        **{key: value for key, value in config.items() if key not in own},
        "layer_types": [kinds[near] for near in config["hybrid_layer_pattern"]],
        "mlp_layer_types": [("dense", "sparse")[sparse] for sparse in config["moe_layer_freq"]],
        "rms_norm_eps": config["layernorm_epsilon"],
        "rope_parameters": rope,
    }


ARCHITECTURE = Architecture(
    adjust=positive_corrections,
    transformers=("MiMoV2FlashConfig", "MiMoV2FlashForCausalLM"),
    transformers_arguments=arguments,
    drawn_buffers=("e_score_correction_bias",),
    config={
        "model_type": "mimo_v2_flash",
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 12,
        "v_head_dim": 8,
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2,
        "swa_head_dim": 12,
        "swa_v_head_dim": 8,
        "hybrid_layer_pattern": [0, 1, 1],
        "moe_layer_freq": [0, 1, 1],
        "add_swa_attention_sink_bias": True,
        "add_full_attention_sink_bias": False,
        "sliding_window_size": 64,
        "n_routed_experts": 4,
        "n_shared_experts": None,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": True,
        "routed_scaling_factor": None,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "layernorm_epsilon": 1e-5,
        "rope_theta": 5000000.0,
        "swa_rope_theta": 10000.0,
        "partial_rotary_factor": 0.334,
        "attention_value_scale": 0.707,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("mimo-v2-flash", "mlx", config={"layernorm_epsilon": 1e-2}),
        Fixture(
            "mimo-v2-flash-sinks",
            "mlx",
            config={
                "add_swa_attention_sink_bias": False,
                "add_full_attention_sink_bias": True,
                "swa_num_attention_heads": 2,
                "swa_head_dim": 16,
                "swa_v_head_dim": 12,
                "n_shared_experts": 1,
                "routed_scaling_factor": 2.5,
                "partial_rotary_factor": 0.5,
                "attention_value_scale": None,
            },
            dtype="float16",
        ),
        Fixture(
            "mimo-v2-flash-4bit",
            "mlx",
            config={
                "hidden_size": 64,
                "intermediate_size": 64,
                "moe_intermediate_size": 32,
                "num_hidden_layers": 2,
                "hybrid_layer_pattern": [0, 1],
                "moe_layer_freq": [0, 1],
                "v_head_dim": 16,
                "swa_v_head_dim": 16,
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.self_attn.q_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("mimo-v2-flash-raw", "raw", extra_tensors=prediction_layer),
        Fixture(
            "mimo-v2-flash-raw-window",
            "raw",
            config={
                "sliding_window_size": 8,
                "swa_num_key_value_heads": ABSENT,
                "attention_bias": True,
            },
            length=30,
            oracle="transformers",
            reason="mlx-lm counts a token itself among those of sliding_window_size",
        ),
        Fixture(
            "mimo-v2-flash-raw-heads",
            "raw",
            config={"swa_num_key_value_heads": 1},
            oracle="transformers",
            reason="heads of keys within a window are twice those outside; mlx-lm follows swa_num_key_value_heads",
        ),
    ],
)

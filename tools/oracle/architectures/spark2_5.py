"""spark2_5: gates of each head, and rotations that differ between kinds of layers."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture

ROPE = {
    "full_attention": {
        "rope_type": "default",
        "rope_theta": 500000.0,
        "partial_rotary_factor": 0.5,
    },
    "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
}


def frequencies(config: dict) -> dict[str, np.ndarray]:
    """A table that some checkpoints hold beside the model."""
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    return {name: np.full(config["head_dim"] // 2, 0.5, np.float32)}


def renamed(tensors, _):
    """The embedding under the name that it has in most other models."""
    return {name.replace("model.embedding.", "model.embed_tokens."): it for name, it in tensors.items()}


ARCHITECTURE = Architecture(
    config={
        "model_type": "spark2_5",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": ROPE,
        "rms_norm_eps": 1e-5,
        "hidden_act": "gelu",
        "gate_attn_act_mode": "sigmoid",
        "headwise_attn_output_gate": True,
        "tie_word_embeddings": True,
    },
    fixtures=[
        Fixture("spark2-5", "mlx", length=30),
        Fixture(
            "spark2-5-untied",
            "mlx",
            config={
                "num_hidden_layers": 5,
                "layer_types": ABSENT,
                "attention_bias": True,
                "mlp_bias": True,
                "rms_norm_eps": 1e-2,
                "num_key_value_heads": 4,
                "tie_word_embeddings": False,
            },
            dtype="float16",
            length=30,
        ),
        Fixture(
            "spark2-5-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "layer_types": ABSENT},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.self_attn.q_k_v_proj": {"group_size": 64, "bits": 8},
            },
        ),
        Fixture("spark2-5-raw", "raw", extra_tensors=frequencies, length=30),
        Fixture(
            "spark2-5-raw-renamed",
            "raw",
            config={
                "num_hidden_layers": 2,
                "layer_types": ABSENT,
                "rms_norm_eps": ABSENT,
                "hidden_act": ABSENT,
                "gate_attn_act_mode": ABSENT,
                "headwise_attn_output_gate": ABSENT,
                "tie_word_embeddings": ABSENT,
                "rope_parameters": {"sliding_attention": {}},
            },
            published=renamed,
        ),
    ],
)

"""muse_glimmer: scaled queries behind norms, gates, layers within a window beside others that do not
look at positions, and bounded logits. Its vision tower is left out."""

from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import rounded_norms

TEXT = {
    "model_type": "muse_glimmer_text",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "post_norm_eps": 1e-8,
    "sliding_window": 8,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    "hidden_activation": "silu",
    "tie_word_embeddings": False,
}
# As mlx-lm's converter flattens it.
FLAT = {
    **TEXT,
    "model_type": "muse_glimmer",
    "text_config": ABSENT,
    "vision_config": ABSENT,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
}


def larger(name, value):
    """Heads so large that their bound shows, and norms to which one can be added in any type."""
    return value * 4 if name.startswith("lm_head") else rounded_norms(name, value)


ARCHITECTURE = Architecture(
    adjust=larger,
    transformers=("MuseGlimmerConfig", "MuseGlimmerForConditionalGeneration"),
    config={
        "model_type": "muse_glimmer",
        "text_config": TEXT,
        "vision_config": {
            "model_type": "muse_glimmer_vision",
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "patch_size": 2,
            "pos_emb_height": 2,
            "pos_emb_width": 2,
        },
        "out_hidden_size": 8,
        "projector_hidden_size": 8,
    },
    fixtures=[
        Fixture("muse-glimmer", "mlx", config=FLAT, length=30),
        Fixture(
            "muse-glimmer-tied",
            "mlx",
            config={
                **FLAT,
                "tie_word_embeddings": True,
                "rms_norm_eps": 1e-2,
                "post_norm_eps": 1e-1,
                "qk_scale_factor": 1.5,
                "output_multiplier": 0.5,
                "final_logit_softcapping": 5.0,
                "num_key_value_heads": 4,
                "layer_rope_theta": [0, 500.0, 500.0],
            },
            dtype="float16",
            length=30,
        ),
        Fixture(
            "muse-glimmer-4bit",
            "mlx",
            config={**FLAT, "hidden_size": 64, "intermediate_size": 64},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.self_attn.gate_proj": {"group_size": 64, "bits": 8},
            },
            length=30,
        ),
        Fixture(
            "muse-glimmer-raw",
            "raw",
            length=30,
            oracle="transformers",
            reason="mlx-lm refuses the vision tower below model",
        ),
        Fixture(
            "muse-glimmer-raw-features",
            "raw",
            config={
                "text_config": {
                    **TEXT,
                    "attention_bias": True,
                    "hidden_activation": "gelu_pytorch_tanh",
                }
            },
            dtype="float16",
            length=30,
            oracle="transformers",
            reason="mlx-lm lacks biases, has SiLU always, and counts the layers' pattern from the first one",
        ),
    ],
)

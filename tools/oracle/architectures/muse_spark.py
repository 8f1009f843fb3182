"""muse_spark: Muse Glimmer with norms over what heads attend to, shares of stream and block, and experts between projections.

mlx-lm has kernels for Metal alone; `kernels` says the same in plain operations. Its vision and audio towers are left out."""

import mlx.core as mx
import numpy as np
from generate.declaration import ABSENT, Architecture, Fixture
from generate.parameters import positive_corrections, rounded_norms
from generate.unrounded import Unrounded
from mlx_lm.models import muse_spark

TEXT = {
    "model_type": "muse_spark_text",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "post_norm_eps": 1e-8,
    "sliding_window": 8,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
    "layer_rope_theta": [500.0, 500.0, 0],
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "final_logit_softcapping": 20.0,
    "output_multiplier": 0.4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_hidden_size": 24,
    "moe_intermediate_size": 16,
    "tie_word_embeddings": False,
}


def config(**others) -> dict:
    return {"text_config": {key: value for key, value in {**TEXT, **others}.items() if value is not ABSENT}}


# Small ones in place of what is the default.
TOWERS = {
    "vision_config": {
        "model_type": "muse_spark_vision",
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "patch_size": 2,
        "pos_emb_height": 2,
        "pos_emb_width": 2,
    },
    "audio_config": {
        "model_type": "muse_spark_audio",
        "patch_sizes": [2],
        "hidden_sizes": [4],
        "depths": [1],
        "num_hidden_layers": 1,
        "out_hidden_size": 32,
    },
    "out_hidden_size": 32,
    "projector_hidden_size": 8,
}


def qk_norm(qkvg, *, n_heads, n_kv_heads, head_dim, eps, query_scale):
    heads = qkvg.reshape(*qkvg.shape[:2], -1, head_dim)
    normed = mx.fast.rms_norm(heads[:, :, : n_heads + n_kv_heads], None, eps)
    return normed[:, :, :n_heads] * query_scale, normed[:, :, n_heads:]


def qk_norm_rope(qkvg, *, rope_base, offset, **arguments):
    def rotated(x):
        x = x.transpose(0, 2, 1, 3)
        x = mx.fast.rope(x, x.shape[-1], traditional=True, base=rope_base, scale=1.0, offset=offset)
        return x.transpose(0, 2, 1, 3)

    return [rotated(x) for x in qk_norm(qkvg, **arguments)]


def rms_norm_sigmoid_gate(x, gate, *, eps):
    normed = mx.fast.rms_norm(x, None, eps).transpose(0, 2, 1, 3)
    return normed.reshape(gate.shape) * mx.sigmoid(gate)


def expert_routing(logits, expert_bias, *, top_k, multiplier, score_eps, route_scale):
    scores = mx.sigmoid(logits * multiplier)
    chosen = mx.argpartition(-(scores + expert_bias), top_k - 1, axis=-1)[..., :top_k]
    weights = mx.take_along_axis(scores, chosen, axis=-1)
    return chosen, weights / (weights.sum(-1, keepdims=True) + score_eps) * route_scale


def post_expert_norm_combine(experts, weights, *, norm_weight, eps):
    return (mx.fast.rms_norm(experts * norm_weight, None, eps) * weights[..., None]).sum(-2)


def norm_add_norm(branch, stream, *, alpha, beta, post_weight, post_eps, next_norm):
    branch = branch if post_weight is None else branch * post_weight
    stream = alpha * stream + beta * mx.fast.rms_norm(branch, None, post_eps)
    return stream, None if next_norm is None else next_norm(stream)


def kernels(_) -> None:
    """What Metal's kernels compute, with nothing rounded."""
    plain = (qk_norm, qk_norm_rope, rms_norm_sigmoid_gate, expert_routing, post_expert_norm_combine, norm_add_norm)
    for function in plain:
        setattr(muse_spark, function.__name__, function)
    muse_spark.mx = Unrounded()


def rounded(name, value):
    """Norms to which one can be added in any type, shares of the stream that are not alike, and heads so large that their bound shows."""
    if name.endswith(("_alpha", "_beta")):
        return np.abs(value)
    value = value * 4 if name.startswith("lm_head") else value
    return positive_corrections(name, rounded_norms(name, value))


ARCHITECTURE = Architecture(
    adjust=rounded,
    mend=kernels,
    transformers=("MuseSparkConfig", "MuseSparkForConditionalGeneration"),
    drawn_buffers=("e_score_correction_bias",),
    config={"model_type": "muse_spark", **config()},
    fixtures=[
        Fixture("muse-spark", "mlx", config=config(), length=30),
        Fixture(
            "muse-spark-plain",
            "mlx",
            config=config(
                num_hidden_layers=2,
                layer_types=["full_attention", "sliding_attention"],
                layer_rope_theta=[0, 500.0],
                rms_norm_eps=1e-2,
                post_norm_eps=1e-1,
                qk_scale_factor=1.5,
                final_logit_softcapping=5.0,
                routed_scaling_factor=2.5,
                num_key_value_heads=4,
                num_experts_per_tok=3,
            ),
            dtype="float16",
            length=24,
        ),
        Fixture(
            "muse-spark-4bit",
            "mlx",
            config=config(hidden_size=64, moe_hidden_size=32, moe_intermediate_size=32),
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.language_model.layers.1.mlp.experts.up_proj": {"group_size": 32, "bits": 8},
            },
            length=30,
            measures_rounding=True,
        ),
        Fixture(
            "muse-spark-raw",
            "raw",
            config={**config(), **TOWERS},
            length=30,
        ),
        Fixture(
            "muse-spark-raw-dense",
            "raw",
            config={
                **config(
                    num_hidden_layers=5,
                    layer_rope_theta=ABSENT,
                    layer_types=ABSENT,
                    mlp_layer_types=["dense", "sparse", "dense", "sparse", "sparse"],
                    residual_gate_temperature=0.7,
                    routed_scaling_factor=1.5,
                    qk_scale_factor=ABSENT,
                    output_multiplier=ABSENT,
                ),
                **TOWERS,
            },
            dtype="float16",
            length=30,
            measures_rounding=True,
            oracle="transformers",
            reason="mlx-lm refuses layers without experts",
        ),
    ],
)

"""phi3small: block-sparse attention, a gated MLP of bounded halves, and factors everywhere.

mlx-lm's passes over several tokens see what is ahead of them, and blocks that begin elsewhere: it gets one token at a time.
"""

import mlx.core as mx
import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture


def small(model) -> None:
    """Without the tokens that it removes wherever they are, which is outside of a small vocabulary."""
    model._dummy_tokenizer_ids = mx.array([], dtype=mx.int32)


def frequencies(config: dict) -> dict[str, np.ndarray]:
    """A table that published checkpoints hold beside the model."""
    half = config["hidden_size"] // config["num_attention_heads"] // 2
    return {"model.layers.0.self_attn.rotary_emb.inv_freq": np.full(half, 0.5, np.float32)}


def stepping(name: str, kind: str, **others) -> Fixture:
    return Fixture(name, kind, one_by_one=True, **others)


ARCHITECTURE = Architecture(
    mend=small,
    config={
        "model_type": "phi3small",
        "hidden_size": 32,
        "ff_intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "layer_norm_epsilon": 1e-5,
        "hidden_act": "gegelu",
        "gegelu_limit": 1.5,
        "dense_attention_every_n_layers": 2,
        "blocksparse_block_size": 32,
        "blocksparse_num_local_blocks": 1,
        "blocksparse_vert_stride": 3,
        "blocksparse_homo_head_pattern": False,
        "rope_embedding_base": 500.0,
    },
    fixtures=[
        stepping("phi3small", "mlx", length=120),
        stepping(
            "phi3small-factors",
            "mlx",
            config={
                "num_hidden_layers": 2,
                "layer_norm_epsilon": 1e-2,
                "num_key_value_heads": 4,
                "mup_use_scaling": False,
                "mup_embedding_multiplier": 2.0,
                "mup_width_multiplier": 0.5,
                "rope_position_scale": 0.5,
                "blocksparse_num_local_blocks": 2,
                "blocksparse_vert_stride": 2,
            },
            dtype="float16",
            length=120,
        ),
        stepping(
            "phi3small-4bit",
            "mlx",
            config={"hidden_size": 64, "ff_intermediate_size": 64, "num_hidden_layers": 2, "mup_attn_multiplier": 3.0},
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.layers.1.mlp.up_proj": {"group_size": 64, "bits": 8},
            },
        ),
        stepping(
            "phi3small-raw",
            "raw",
            config={
                "num_hidden_layers": 2,
                "blocksparse_block_size": ABSENT,
                "blocksparse_num_local_blocks": ABSENT,
                "blocksparse_vert_stride": ABSENT,
                "blocksparse_homo_head_pattern": ABSENT,
                "rope_embedding_base": ABSENT,
                "hidden_act": ABSENT,
            },
            extra_tensors=frequencies,
        ),
    ],
)

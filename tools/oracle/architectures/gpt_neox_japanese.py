"""gpt_neox_japanese: GPT-NeoX without biases, but for one behind the attention of the last layer."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture

REASON = "mlx-lm lacks this architecture"


def buffers(config: dict) -> dict[str, np.ndarray]:
    """What older checkpoints carry."""
    return {
        "gpt_neox_japanese.layers.0.attention.bias": np.ones((1, 1, 4, 4), np.uint8),
        "gpt_neox_japanese.layers.0.attention.masked_bias": np.full(1, -1e9, np.float32),
        "gpt_neox_japanese.layers.0.attention.rotary_emb.inv_freq": np.full(4, 0.5, np.float32),
    }


ARCHITECTURE = Architecture(
    transformers=("GPTNeoXJapaneseConfig", "GPTNeoXJapaneseForCausalLM"),
    config={
        "model_type": "gpt_neox_japanese",
        "hidden_size": 32,
        "intermediate_multiple_size": 4,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "layer_norm_eps": 1e-5,
        "rotary_emb_base": 10000,
        "rotary_pct": 1.0,
        "hidden_act": "gelu",
    },
    fixtures=[
        Fixture("gpt-neox-japanese-raw", "raw", extra_tensors=buffers, oracle="transformers", reason=REASON),
        Fixture(
            "gpt-neox-japanese-raw-partial",
            "raw",
            config={
                "num_attention_heads": 2,
                "intermediate_multiple_size": 2,
                "rotary_emb_base": 500,
                "rotary_pct": 0.5,
                "hidden_act": "relu",
                "layer_norm_eps": 1e-2,
                "tie_word_embeddings": False,
            },
            dtype="float16",
            oracle="transformers",
            reason=REASON,
        ),
        # What a configuration may say nothing of.
        Fixture(
            "gpt-neox-japanese-raw-defaults",
            "raw",
            config={
                field: ABSENT
                for field in ("intermediate_multiple_size", "layer_norm_eps", "rotary_emb_base", "rotary_pct", "hidden_act")
            },
            oracle="transformers",
            reason=REASON,
        ),
    ],
)

"""llama, with every switch of its configuration."""

import numpy as np

from generate.declaration import ABSENT, Architecture, Fixture

LONG = [1.0, 1.25, 2.0, 4.0]


def inverse_frequencies(config: dict) -> dict[str, np.ndarray]:
    """The rotary tables that old checkpoints carry in every layer."""
    dims = config["hidden_size"] // config["num_attention_heads"]
    table = 1.0 / config["rope_theta"] ** (np.arange(0, dims, 2, dtype=np.float32) / dims)
    return {
        f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": table.astype(np.float32)
        for layer in range(config["num_hidden_layers"])
    }


# The old context is so short that low, middle and high frequencies all occur within a head of eight.
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 4.0, "beta_slow": 1.0}

ARCHITECTURE = Architecture(
    transformers=("LlamaConfig", "LlamaForCausalLM"),
    config={
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("llama", "mlx"),
        Fixture(
            "llama-wide",
            "mlx",
            config={"head_dim": 128, "num_key_value_heads": 1, "rope_scaling": LLAMA3},
            length=40,
        ),
        Fixture(
            "llama-biases",
            "mlx",
            config={
                "attention_bias": True,
                "mlp_bias": True,
                "head_dim": 12,
                "num_key_value_heads": 1,
                "rope_traditional": True,
                "tie_word_embeddings": True,
                "rms_norm_eps": 1e-2,
            },
            dtype="float32",
        ),
        Fixture(
            "llama-sparse-config",
            "mlx",
            config={
                "num_key_value_heads": ABSENT,
                "tie_word_embeddings": ABSENT,
                "max_position_embeddings": ABSENT,
                "rope_theta": ABSENT,
            },
            dtype="float16",
        ),
        Fixture(
            "llama-rope-llama3",
            "mlx",
            config={"rope_scaling": LLAMA3, "rope_theta": 500000.0, "tie_word_embeddings": True},
            dtype="float16",
        ),
        Fixture(
            "llama-rope-linear",
            "mlx",
            config={"rope_scaling": {"type": "linear", "factor": 4.0}, "tie_word_embeddings": True},
        ),
        Fixture(
            "llama-rope-dynamic",
            "mlx",
            config={
                "rope_scaling": {"type": "dynamic", "factor": 2.0},
                "max_position_embeddings": 16,
                "tie_word_embeddings": True,
            },
            # The base grows with the length, and keys in the cache keep the rotation that they were given.
            cached_agrees=False,
        ),
        Fixture(
            "llama-rope-yarn",
            "mlx",
            config={
                "rope_scaling": {**YARN, "mscale": 1.2, "mscale_all_dim": 0.4},
                "rope_traditional": True,
                "tie_word_embeddings": True,
            },
        ),
        Fixture(
            "llama-rope-longrope",
            "mlx",
            config={
                "rope_scaling": {
                    "rope_type": "longrope",
                    "short_factor": [1.0, 1.0, 1.5, 2.0],
                    "long_factor": LONG,
                    "original_max_position_embeddings": 32,
                },
                "tie_word_embeddings": True,
            },
        ),
        Fixture(
            "llama-sliding",
            "mlx",
            config={
                "num_hidden_layers": 4,
                "intermediate_size": 32,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"],
                "sliding_window": 8,
                "tie_word_embeddings": True,
            },
            length=30,
        ),
        Fixture(
            "llama-4bit-tied",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 128, "tie_word_embeddings": True},
            quantization={"group_size": 64, "bits": 4},
        ),
        Fixture(
            "llama-mixed",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "attention_bias": True, "mlp_bias": True},
            dtype="float16",
            quantization={
                "group_size": 32,
                "bits": 4,
                "model.embed_tokens": {"group_size": 64, "bits": 3},
                "model.layers.0.self_attn.q_proj": {"group_size": 64, "bits": 8},
                "model.layers.0.self_attn.v_proj": {"group_size": 32, "bits": 6},
                "model.layers.0.mlp.gate_proj": {"group_size": 32, "bits": 5},
                "model.layers.0.mlp.up_proj": {"group_size": 64, "bits": 2},
                "model.layers.1.self_attn.o_proj": False,
                "model.layers.1.mlp.down_proj": {"group_size": 64, "bits": 6},
                "lm_head": False,
            },
        ),
        Fixture(
            "llama-2bit-128",
            "mlx",
            config={"hidden_size": 128, "intermediate_size": 128, "num_attention_heads": 8},
            dtype="float32",
            quantization={"group_size": 128, "bits": 2, "model.layers.1.mlp.down_proj": {"group_size": 128, "bits": 3}},
        ),
        Fixture("llama-raw", "raw", extra_tensors=inverse_frequencies),
        Fixture(
            "llama-raw-shards",
            "raw",
            config={"tie_word_embeddings": True, "rope_scaling": LLAMA3, "rope_theta": 500000.0},
            dtype="float32",
            shard_bytes=30_000,
        ),
        Fixture(
            "llama-raw-spare-head",
            "raw",
            config={
                "tie_word_embeddings": True,
                "attention_bias": True,
                "mlp_bias": True,
                "head_dim": 12,
                "rope_scaling": YARN,
            },
            dtype="float16",
            # Some tied checkpoints hold the head all the same.
            published=lambda tensors, _: {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()},
        ),
        Fixture(
            "llama-raw-nested-rope",
            "raw",
            config={"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "rope_theta": 5000.0},
            nested_rope=True,
        ),
        Fixture(
            "llama-raw-longrope-short",
            "raw",
            config={
                "rope_scaling": {
                    "rope_type": "longrope",
                    "short_factor": [1.0, 1.0, 1.5, 2.0],
                    "long_factor": LONG,
                    "factor": 4.0,
                    "original_max_position_embeddings": 256,
                },
            },
            nested_rope=True,
            oracle="transformers",
            reason="mlx-lm has the factors of long contexts always",
        ),
    ],
)

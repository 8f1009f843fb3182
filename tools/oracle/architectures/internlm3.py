"""internlm3: Llama whose biases have names of their own."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("InternLM3Config", "LlamaForCausalLM"),
    config={
        "model_type": "internlm3",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "head_dim": 8,
        "bias": False,
        "qkv_bias": False,
        "rms_norm_eps": 1e-5,
        "rope_theta": 50000000.0,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture(
            "internlm3",
            "mlx",
            config={"bias": True, "qkv_bias": True, "rms_norm_eps": 1e-2, "tie_word_embeddings": True},
        ),
        Fixture(
            "internlm3-4bit",
            "mlx",
            config={"hidden_size": 64, "intermediate_size": 64, "head_dim": 16},
            quantization={"group_size": 32, "bits": 4, "model.layers.1.mlp.up_proj": {"group_size": 64, "bits": 8}},
        ),
        Fixture("internlm3-raw", "raw", config={"bias": True, "qkv_bias": True}),
    ],
)

"""llama4: attention within chunks, and in every fourth layer over everything, without a rotation but with a temperature; experts that see
their input scaled by a sigmoid."""

from generate.declaration import Architecture, Fixture

TEXT = {
    "model_type": "llama4_text",
    "hidden_size": 32,
    "intermediate_size": 16,
    "intermediate_size_mlp": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "attention_chunk_size": 8,
    "interleave_moe_layer_step": 2,
    "num_experts_per_tok": 1,
    "num_local_experts": 3,
    "use_qk_norm": True,
    "attn_temperature_tuning": True,
    # So short that the temperature changes within the prompt.
    "floor_scale": 4,
    "attn_scale": 0.3,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}

ARCHITECTURE = Architecture(
    transformers=("Llama4Config", "Llama4ForConditionalGeneration"),
    config={
        "model_type": "llama4",
        "text_config": TEXT,
        "vision_config": {
            "model_type": "llama4_vision_model",
            "hidden_size": 8,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 8,
            "patch_size": 4,
            "pixel_shuffle_ratio": 0.5,
            "projector_input_dim": 8,
            "projector_output_dim": 8,
            "vision_output_dim": 8,
        },
    },
    fixtures=[
        Fixture("llama4", "mlx", length=30),
        Fixture(
            "llama4-biases",
            "mlx",
            config={
                "text_config": {
                    **TEXT,
                    "num_hidden_layers": 5,
                    "attention_bias": True,
                    "use_qk_norm": False,
                    "attn_temperature_tuning": False,
                    "interleave_moe_layer_step": 3,
                    "rope_scaling": LLAMA3,
                    "attention_chunk_size": 5,
                    "num_key_value_heads": 1,
                    "intermediate_size_mlp": 16,
                }
            },
            dtype="float16",
            length=30,
        ),
        Fixture(
            "llama4-4bit",
            "mlx",
            config={
                "text_config": {
                    **TEXT,
                    "hidden_size": 64,
                    "intermediate_size": 32,
                    "intermediate_size_mlp": 32,
                    "interleave_moe_layer_step": 4,
                    "num_local_experts": 4,
                    "head_dim": 16,
                }
            },
            quantization={
                "group_size": 32,
                "bits": 4,
                "language_model.model.layers.3.feed_forward.router": {"group_size": 64, "bits": 8},
                "language_model.model.layers.3.feed_forward.experts.up_proj": {"group_size": 32, "bits": 3},
            },
            # From 64 tokens on they are sorted by expert.
            length=70,
        ),
        Fixture("llama4-raw", "raw", length=30),
        Fixture(
            "llama4-raw-scaled",
            "raw",
            config={
                "text_config": {**TEXT, "rope_scaling": LLAMA3, "interleave_moe_layer_step": 4, "attention_bias": True}
            },
            dtype="float16",
            length=30,
        ),
    ],
)

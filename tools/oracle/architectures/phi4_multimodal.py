"""phi4_multimodal: Phi 3's layers beside what sees and hears."""

from generate.declaration import Architecture, Fixture

REASON = "mlx-lm lacks this architecture"

ARCHITECTURE = Architecture(
    transformers=("Phi4MultimodalConfig", "Phi4MultimodalForCausalLM"),
    config={
        "model_type": "phi4_multimodal",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "max_position_embeddings": 256,
        "original_max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.75,
        "sliding_window": 16,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
        "vision_config": {
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "crop_size": 28,
            "image_token_id": 90,
            "feature_layer": -1,
        },
        "audio_config": {
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_blocks": 1,
            "num_attention_heads": 2,
            "audio_token_id": 91,
            "input_size": 8,
            "ext_pw_out_channel": 8,
            "depthwise_separable_out_channel": 8,
            "nemo_conv_channels": 8,
            "time_reduction": 2,
            "bias_max_distance": 4,
        },
    },
    fixtures=[Fixture("phi4-multimodal-raw", "raw", length=24, oracle="transformers", reason=REASON)],
)

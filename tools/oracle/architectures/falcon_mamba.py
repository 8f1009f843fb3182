"""falcon_mamba: Mamba with norms over what steps, inputs and outputs are made of."""

from generate.declaration import Architecture, Fixture

ARCHITECTURE = Architecture(
    transformers=("FalconMambaConfig", "FalconMambaForCausalLM"),
    config={
        "model_type": "falcon_mamba",
        "hidden_size": 32,
        "intermediate_size": 64,
        "state_size": 8,
        "num_hidden_layers": 2,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_rank": 4,
        "mixer_rms_eps": 1e-6,
        "layer_norm_epsilon": 1e-5,
        "vocab_size": 96,
        "tie_word_embeddings": False,
    },
    fixtures=[
        Fixture("falcon-mamba", "mlx", config={"mixer_rms_eps": 1e-2}),
        Fixture("falcon-mamba-raw", "raw"),
    ],
)

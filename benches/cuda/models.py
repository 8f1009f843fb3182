"""Whole models of random weights: makes them, and times nodemlx and mlx-lm with them in turns.

python3 models.py make SHAPE BITS FOLDER                      BITS 16 for bfloat16
python3 models.py compare FOLDER [PROMPT [ANSWER [ROUNDS]]]   in tokens per second
python3 models.py batch FOLDER SEQUENCES [PROMPT [ANSWER [ROUNDS]]]   of all together

The command of nodemlx is in NODEMLX, `nodemlx` by default; that of Node.js in NODE, `node`.
"""

import json
import os
import pathlib
import random
import shlex
import subprocess
import sys
import time

LLAMA = dict(
    model_type="llama",
    rms_norm_eps=1e-5,
    max_position_embeddings=131072,
    rope_theta=500000.0,
    num_attention_heads=32,
    num_key_value_heads=8,
    vocab_size=128256,
)
SHAPES = {
    "llama-1b": LLAMA
    | dict(
        hidden_size=2048, num_hidden_layers=16, intermediate_size=8192, tie_word_embeddings=True
    ),
    "llama-8b": LLAMA
    | dict(
        hidden_size=4096, num_hidden_layers=32, intermediate_size=14336, tie_word_embeddings=False
    ),
    "qwen3-30b-a3b": dict(
        model_type="qwen3_moe",
        hidden_size=2048,
        num_hidden_layers=48,
        intermediate_size=6144,
        num_attention_heads=32,
        num_key_value_heads=4,
        head_dim=128,
        num_experts=128,
        num_experts_per_tok=8,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        moe_intermediate_size=768,
        norm_topk_prob=True,
        rms_norm_eps=1e-6,
        rope_theta=1e6,
        vocab_size=151936,
        tie_word_embeddings=False,
        max_position_embeddings=40960,
    ),
    "lfm2-1.2b": dict(
        model_type="lfm2",
        vocab_size=65536,
        hidden_size=2048,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=128000,
        norm_eps=1e-5,
        conv_bias=False,
        conv_L_cache=3,
        block_dim=2048,
        block_ff_dim=12288,
        block_multiple_of=256,
        block_ffn_dim_multiplier=1.0,
        block_auto_adjust_ff_dim=True,
        rope_theta=1e6,
        full_attn_idxs=[2, 5, 8, 10, 12, 14],
    ),
    "mamba2-2.7b": dict(
        model_type="mamba2",
        num_heads=80,
        head_dim=64,
        vocab_size=50288,
        hidden_size=2560,
        intermediate_size=5120,
        state_size=128,
        num_hidden_layers=64,
        layer_norm_epsilon=1e-5,
        conv_kernel=4,
        n_groups=1,
        use_bias=False,
        use_conv_bias=True,
        tie_word_embeddings=True,
        time_step_limit=[0.0, 1e9],
        time_step_rank=160,
        expand=2,
        max_position_embeddings=131072,
    ),
    "qwen3.5-4b": dict(
        model_type="qwen3_5",
        hidden_size=2560,
        intermediate_size=9216,
        num_hidden_layers=32,
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=256,
        rms_norm_eps=1e-6,
        vocab_size=248320,
        linear_num_value_heads=32,
        linear_num_key_heads=16,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        linear_conv_kernel_dim=4,
        tie_word_embeddings=True,
        full_attention_interval=4,
        max_position_embeddings=131072,
        rope_parameters=dict(
            rope_type="default",
            rope_theta=1e7,
            partial_rotary_factor=0.25,
            mrope_section=[11, 11, 10],
        ),
    ),
}


def make(shape, bits, folder):
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten
    from mlx_lm.utils import _get_classes

    config = json.loads(json.dumps(SHAPES[shape]))
    whole = {"model_type": "qwen3_5", "text_config": config}
    described = whole if config["model_type"] == "qwen3_5" else config
    model_class, args_class = _get_classes(described)
    model = model_class(args_class.from_dict(json.loads(json.dumps(described))))
    model.set_dtype(mx.bfloat16)
    if bits != 16:
        predicate = getattr(model, "quant_predicate", None)
        described["quantization"] = settings = dict(group_size=64, bits=bits)

        def choose(path, module):
            chosen = hasattr(module, "to_quantized") and module.weight.shape[-1] % 64 == 0
            chosen = chosen and (predicate(path, module) if predicate else True)
            if isinstance(chosen, dict):
                settings[path] = chosen
            return chosen

        nn.quantize(model, group_size=64, bits=bits, class_predicate=choose)
    weights = tree_flatten(model.parameters())
    for _, weight in weights:
        mx.eval(weight)
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(weights), {"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(described))


def compatible(mx):
    """mlx-lm 0.32.2 hands over an argument that MLX 0.32.2 does not have."""

    def without_scale(function):
        return lambda *args, global_scale=None, **more: function(*args, **more)

    mx.gather_qmm = without_scale(mx.gather_qmm)
    mx.quantized_matmul = without_scale(mx.quantized_matmul)


def time_mlx_lm(folder, prompt, answer):
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.utils import load_model

    compatible(mx)
    model, config = load_model(folder)
    vocabulary = config.get("text_config", config)["vocab_size"]
    random.seed(1)
    tokens = mx.array([random.randrange(1000, vocabulary) for _ in range(prompt)])
    for _ in range(3):
        start = time.perf_counter()
        steps = generate_step(tokens, model, max_tokens=answer + 1)
        next(steps)
        first = time.perf_counter()
        for _ in steps:
            pass
        end = time.perf_counter()
        prefill, decode = prompt / (first - start), answer / (end - first)
        print(json.dumps({"prefill": prefill, "decode": decode}), flush=True)


def time_mlx_lm_batch(folder, sequences, prompt, answer):
    import mlx.core as mx
    from mlx_lm.generate import BatchGenerator
    from mlx_lm.utils import load_model

    compatible(mx)
    model, config = load_model(folder)
    vocabulary = config.get("text_config", config)["vocab_size"]
    prompts = [
        [(1000 + 37 * stream + 11 * index) % vocabulary for index in range(prompt)]
        for stream in range(sequences)
    ]
    for _ in range(3):
        batch = BatchGenerator(model, completion_batch_size=sequences)
        batch.insert(prompts, [answer] * sequences)
        tokens, first = 0, None
        while responses := batch.next_generated():
            last = time.perf_counter()
            first = first or last
            tokens += len(responses)
        batch.close()
        print(json.dumps({"decode": tokens / (last - first)}), flush=True)


def compare_batches(folder, sequences, prompt=512, answer=128, rounds=2):
    serve = pathlib.Path(__file__).parents[1] / "serve.mjs"
    ours = [*shlex.split(os.environ.get("NODE", "node")), str(serve), "--model", str(folder)]
    ours += ["--device", "gpu", "--streams", f"1,{sequences}"]
    ours += ["--prompt", str(prompt), "--tokens", str(answer), "--rounds", "2"]
    theirs = [sys.executable, __file__, "time-batch", str(folder)]
    theirs += [str(number) for number in (sequences, prompt, answer)]
    in_turns(f"{folder.name} {sequences} × {prompt}+{answer}", ours, theirs, rounds)


def compare(folder, prompt=512, answer=128, rounds=2):
    ours = shlex.split(os.environ.get("NODEMLX", "nodemlx"))
    ours += ["bench", "-m", str(folder), "-p", str(prompt), "-n", str(answer), "--json"]
    theirs = [sys.executable, __file__, "time", str(folder), str(prompt), str(answer)]
    in_turns(f"{folder.name} {prompt}+{answer}", ours, theirs, rounds)


def in_turns(title, ours, theirs, rounds):
    for _ in range(rounds):
        for who, command in (("nodemlx", ours), ("mlx-lm", theirs)):
            done = subprocess.run(command, capture_output=True, text=True)
            text = " ".join(done.stdout.split())
            print(f"{title} {who}: {text}", flush=True)
            if done.returncode:
                print(done.stderr[-1500:], flush=True)


RUNS = {
    "compare": compare,
    "time": time_mlx_lm,
    "batch": compare_batches,
    "time-batch": time_mlx_lm_batch,
}

if __name__ == "__main__":
    what, *rest = sys.argv[1:] or [""]
    if what == "make":
        make(rest[0], int(rest[1]), pathlib.Path(rest[2]))
    elif what in RUNS:
        RUNS[what](pathlib.Path(rest[0]), *map(int, rest[1:]))
    else:
        sys.exit(__doc__)

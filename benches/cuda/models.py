"""Whole models of random weights: makes them, and times nodemlx and mlx-lm with them in turns.

python3 models.py make SHAPE BITS FOLDER                      BITS 16 for bfloat16
python3 models.py compare FOLDER [PROMPT [ANSWER [ROUNDS]]]   in tokens per second
python3 models.py batch FOLDER SEQUENCES [PROMPT [ANSWER [ROUNDS]]]   of all together

The command of nodemlx is in NODEMLX, `nodemlx` by default; that of Node.js in NODE, `node`.

Each round prints the medians of both, their extremes, and how many times as fast nodemlx is, and so
does the end for all rounds. The first of mlx-lm's runs in a process, in which it compiles, is left
out of all of them.
"""

import json
import os
import pathlib
import random
import shlex
import statistics
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
    ours += ["--device", "gpu", "--streams", f"1,{sequences}", "--json"]
    ours += ["--prompt", str(prompt), "--tokens", str(answer), "--rounds", "3"]
    theirs = [sys.executable, __file__, "time-batch", str(folder)]
    theirs += [str(number) for number in (sequences, prompt, answer)]
    # The medians of one stream, and then of all.
    read = lambda printed: [{"decode": printed[0][1]["writing"]["rate"]}]
    in_turns(f"{folder.name} {sequences} × {prompt}+{answer}", ours, theirs, rounds, read)


def compare(folder, prompt=512, answer=128, rounds=2):
    ours = shlex.split(os.environ.get("NODEMLX", "nodemlx"))
    ours += ["bench", "-m", str(folder), "-p", str(prompt), "-n", str(answer), "--json"]
    theirs = [sys.executable, __file__, "time", str(folder), str(prompt), str(answer)]
    fields = {"prefill": "promptTokensPerSecond", "decode": "tokensPerSecond"}
    read = lambda printed: [
        {kind: one[field] for kind, field in fields.items()} for one in printed[0]["rounds"]
    ]
    measured = in_turns(f"{folder.name} {prompt}+{answer}", ours, theirs, rounds, read)
    if measured:
        size, copied = bytes_read(folder), copy_bandwidth()
        rate = statistics.median(one["decode"] for one in measured) * size
        share = f", {rate / copied:.0%} of a copy's {copied / 1e9:.0f}" if copied else ""
        print(f"nodemlx reads {size / 1e9:.2f} GB a token: {rate / 1e9:.0f} GB/s{share}")


def in_turns(title, ours, theirs, rounds, read):
    """Reports tokens per second of both, and gives nodemlx's, which `read` makes of what it
    printed."""
    known = {"nodemlx": [], "mlx-lm": []}
    for turn in range(rounds):
        measured = {}
        for who, command in (("nodemlx", ours), ("mlx-lm", theirs)):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{who} failed: {done.stdout[-500:]} {done.stderr[-1500:]}", flush=True)
                continue
            printed = [json.loads(it) for it in done.stdout.splitlines() if it[:1] in ("{", "[")]
            measured[who] = read(printed) if who == "nodemlx" else printed[1:]
            known[who] += measured[who]
        report(f"{title} round {turn + 1}", measured)
    report(f"{title} all rounds", known)
    return known["nodemlx"]


def report(title, measured):
    """A line of the medians and extremes of each kind of rates, and their ratio."""
    cells = []
    for kind in ("prefill", "decode"):
        rates = {who: [one[kind] for one in all if kind in one] for who, all in measured.items()}
        each = {who: statistics.median(all) for who, all in rates.items() if all}
        cells += [
            f"{kind} {who} {rate:.0f} ({min(rates[who]):.0f}–{max(rates[who]):.0f})"
            for who, rate in each.items()
        ]
        if len(each) == 2:
            cells.append(f"ratio {each['nodemlx'] / each['mlx-lm']:.2f}")
    print(f"{title}:", ", ".join(cells) or "nothing", flush=True)


def bytes_read(folder):
    """Bytes of weights that a token reads: of experts those that are active, and of the table of
    embeddings nothing unless it is the head, too."""
    with open(folder / "model.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    config = json.loads((folder / "config.json").read_text())
    config = config.get("text_config", config)
    active = config.get("num_experts_per_tok", 1) / config.get("num_experts", 1)
    tied = not any("lm_head" in name for name in header)
    total = 0
    for name, tensor in header.items():
        if name == "__metadata__" or "embed" in name and not tied:
            continue
        begin, end = tensor["data_offsets"]
        total += (end - begin) * (active if "switch_mlp" in name else 1)
    return total


def copy_bandwidth():
    """Bytes per second that a copy reads and writes; None without PyTorch."""
    try:
        import card
    except ImportError:
        return None
    return card.copy_bandwidth()


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

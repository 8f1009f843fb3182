#!/usr/bin/env python3
"""How long mlx-lm in Python takes to build the graph of one decode token: host time, nothing is evaluated.

The shape is that of Llama 3.2 1B with a smaller vocabulary; the values of the weights do not matter and take no memory. A measurement
starts with a filled cache and the token's id, and ends when the lazy sampled token exists, as in mlx-lm's `generate_step`. What dropping
the graph costs afterwards is reported apart. Prints JSON: microseconds.
"""

import environment

environment.ensure()

import argparse
import gc
import json
import platform
import statistics
import time
from importlib.metadata import version

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map
from mlx_lm.models import llama
from mlx_lm.models.cache import KVCache, make_prompt_cache
from mlx_lm.sample_utils import make_sampler

SHAPE = {
    "model_type": "llama",
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "intermediate_size": 8192,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "vocab_size": 32000,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
}


def hollow(array: mx.array) -> mx.array:
    """An evaluated array of the same shape and type whose elements are all one and the same in memory."""
    return mx.broadcast_to(mx.zeros((1,) * array.ndim, array.dtype), array.shape)


def build_model(bits: int | None) -> nn.Module:
    model = llama.Model(llama.ModelArgs.from_dict(SHAPE))
    model.set_dtype(mx.bfloat16)
    if bits:
        nn.quantize(model, group_size=64, bits=bits)
    model.update(tree_map(hollow, model.parameters()))
    mx.eval(model.parameters())
    model.eval()
    return model


def filled_cache(model: nn.Module, tokens: int) -> list[KVCache]:
    """A cache that holds `tokens` and has room for more."""
    cache = make_prompt_cache(model)
    for layer in cache:
        shape = (1, SHAPE["num_key_value_heads"], tokens, SHAPE["head_dim"])
        layer.update_and_fetch(mx.zeros(shape, mx.bfloat16), mx.zeros(shape, mx.bfloat16))
        mx.eval(layer.keys, layer.values)
    return cache


def measure(model: nn.Module, sampler, tokens: int, repeats: int) -> dict:
    cache = filled_cache(model, tokens)
    states = [layer.state for layer in cache]
    built, dropped = [], []
    token = mx.array([1], mx.uint32)
    mx.eval(token)
    gc.collect()
    for _ in range(repeats):
        start = time.perf_counter_ns()
        logits = model(token[None], cache=cache)[:, -1, :]
        logprobs = logits - mx.logsumexp(logits, keepdims=True)
        sampled = sampler(logprobs)
        middle = time.perf_counter_ns()
        del logits, logprobs, sampled
        for layer, state in zip(cache, states):
            layer.state = state
        end = time.perf_counter_ns()
        built.append((middle - start) / 1000)
        dropped.append((end - middle) / 1000)
    # The first rounds compile.
    warm = slice(repeats // 10, None)
    return {"build": spread(built[warm]), "drop": spread(dropped[warm])}


def spread(values: list[float]) -> dict:
    deciles = statistics.quantiles(values, n=10)
    return {
        "median": round(statistics.median(values), 1),
        "p10": round(deciles[0], 1),
        "p90": round(deciles[-1], 1),
        "minimum": round(min(values), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=500, help="how many tokens the cache holds")
    arguments = parser.parse_args()
    samplers = {"greedy": make_sampler(temp=0.0), "temperature": make_sampler(temp=0.7)}
    results = {}
    for weights, bits in (("bfloat16", None), ("4bit", 4)):
        model = build_model(bits)
        for name, sampler in samplers.items():
            mx.random.seed(0)
            mx.eval(mx.random.state)
            results[f"{weights}, {name}"] = measure(model, sampler, arguments.tokens, arguments.repeats)
    print(
        json.dumps(
            {
                "what": "host time to build the graph of one decode token, in microseconds",
                "engine": f"mlx-lm {version('mlx-lm')}, mlx {version('mlx')}, Python {platform.python_version()}",
                "device": str(mx.default_device()),
                "shape": SHAPE,
                "cached_tokens": arguments.tokens,
                "repeats": arguments.repeats,
                "results": results,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()

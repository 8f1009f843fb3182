"""Cache fixtures: which tokens a cache returns, and how it masks them, after every step of a sequence of operations."""

from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, RotatingKVCache

from .writing import write_json

# (name, arguments of the cache, operations). A number is an update by that many tokens; ("trim", n) takes n tokens off the end.
ROTATING = [
    ("one at a time past the end", {"max_size": 4, "keep": 0}, [1] * 11),
    ("one at a time, with a sink", {"max_size": 6, "keep": 2}, [1] * 15),
    ("a short prompt, then single tokens", {"max_size": 8, "keep": 0}, [5] + [1] * 10),
    ("a prompt that just fits", {"max_size": 8, "keep": 4}, [8] + [1] * 10),
    ("a prompt longer than the cache", {"max_size": 8, "keep": 0}, [13] + [1] * 10),
    ("a prompt longer than the cache, with a sink", {"max_size": 8, "keep": 3}, [13] + [1] * 10),
    ("a prompt in chunks", {"max_size": 8, "keep": 0}, [3, 3, 3, 3, 2] + [1] * 9),
    ("a prompt in chunks, with a sink", {"max_size": 8, "keep": 2}, [3, 3, 3, 3, 2] + [1] * 9),
    ("chunks longer than the cache", {"max_size": 4, "keep": 1}, [6, 6, 1, 1, 1, 6, 1]),
    ("a chunk after the ring has turned", {"max_size": 6, "keep": 0}, [4, 1, 1, 1, 1, 4, 1, 1, 1]),
    ("a chunk after the ring has turned, with a sink", {"max_size": 6, "keep": 2}, [4, 1, 1, 1, 1, 4, 1, 1, 1]),
    ("trimmed before it is full", {"max_size": 8, "keep": 0}, [5, 1, ("trim", 3), 1, 1, 1, 1, 1, 1, 1, 1]),
    ("trimmed, then a chunk", {"max_size": 8, "keep": 2}, [5, 1, ("trim", 2), 4, 1, 1, 1, 1]),
    ("trimmed to nothing", {"max_size": 8, "keep": 0}, [3, ("trim", 9), 2, 1]),
    ("a cache of one token", {"max_size": 1, "keep": 0}, [1, 1, 3, 1]),
    ("growth beyond the first allocation", {"max_size": 300, "keep": 0}, [1, 254, 1, 1, 60, 1]),
]
STANDARD = [
    ("a prompt, then single tokens", {}, [5, 1, 1, 3, 1]),
    ("growth at the end of an allocation", {}, [250, 6, 1]),
    ("growth in the middle of an allocation", {}, [250, 10, 1]),
    ("a chunk of several allocations", {}, [600, 1]),
    ("trimmed and written again", {}, [6, ("trim", 2), 1, 2, ("trim", 100), 3]),
]
# Masks of a rotating cache whose layer looks at fewer tokens than it holds.
WINDOWS = [
    ("a window smaller than the cache", {"max_size": 6, "keep": 0, "window_size": 3}, [2, 1, 1, 1, 1, 1, 1, 1, 3, 1]),
    ("a window as large as the cache", {"max_size": 4, "keep": 0, "window_size": 4}, [2, 1, 1, 1, 1, 3, 1]),
    ("a prompt longer than the window", {"max_size": 4, "keep": 0, "window_size": 4}, [7, 1]),
]


def tokens(array: mx.array) -> list[int]:
    """The positions that stand in a buffer `[1, heads, length, dims]`."""
    return [round(value) for value in np.array(array)[0, 0, :, 0].tolist()]


def marked(start: int, count: int) -> mx.array:
    """Keys whose every value is their position."""
    positions = mx.arange(start, start + count, dtype=mx.float32)
    return mx.broadcast_to(positions[None, None, :, None], (1, 2, count, 4))


def described(mask):
    """`null`, `"causal"`, or a string of 0 and 1 per query."""
    if mask is None or isinstance(mask, str):
        return mask
    rows = np.array(mask).astype(int)
    return ["".join(map(str, row)) for row in rows.reshape(-1, rows.shape[-1])]


def step(cache, operation, position: int, window: dict) -> tuple[dict, int]:
    """Applies an operation; returns its record and the position of the next token."""
    if isinstance(operation, tuple):
        if not cache.is_trimmable():
            raise ValueError("a cache that has wrapped cannot be trimmed")
        trimmed = cache.trim(operation[1])
        return {"trim": operation[1], "trimmed": trimmed, "offset": cache.offset}, position - trimmed
    mask = described(cache.make_mask(operation, return_array=False, window_size=window.get("window_size")))
    keys, values = cache.update_and_fetch(marked(position, operation), -marked(position, operation))
    returned = tokens(keys)
    if [-token for token in returned] != tokens(values):
        raise ValueError("keys and values went apart")
    record = {
        "update": operation,
        "mask": mask,
        "returned": returned if len(returned) <= 32 else [returned[0], returned[-1]],
        "returned_length": len(returned),
        "offset": cache.offset,
        "buffer_length": cache.keys.shape[2],
        "is_trimmable": cache.is_trimmable(),
    }
    return record, position + operation


def sequence(make_cache, name: str, arguments: dict, operations: list) -> dict:
    window = {key: value for key, value in arguments.items() if key == "window_size"}
    cache = make_cache(**{key: value for key, value in arguments.items() if key != "window_size"})
    position, steps = 0, []
    for operation in operations:
        record, position = step(cache, operation, position, window)
        steps.append(record)
    return {"name": name, **arguments, "steps": steps}


def make(out: Path) -> None:
    content = {
        "rotating": [sequence(RotatingKVCache, *case) for case in ROTATING + WINDOWS],
        "standard": [sequence(KVCache, *case) for case in STANDARD],
    }
    write_json(out / "caches.json", content)

"""Prompt-cache files: what mlx-lm writes of the caches of the model fixtures, one for each kind of cache."""

import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import CacheList, KVCache, load_prompt_cache, make_prompt_cache, save_prompt_cache

import environment

from . import seeded
from .models import AGREEMENT, MlxOracle, relative_error

# Model fixtures that together have every kind of cache.
PLAIN = [
    "deepseek-v3",
    "falcon-h1",
    "gemma3-text",
    "gemma3n",
    "gemma4-text",
    "gpt-oss",
    "granitemoehybrid",
    "lfm2",
    "llama",
    "llama4",
    "llama4-text",
    "mamba2",
    "nemotron-h",
    "qwen3-5",
    "qwen3-next",
]
# The demo model, whose heads are wide enough to be packed: its keys and values are, in 8 bits.
PACKED = "demo"
PACKED_TOKENS = np.arange(300, 312)
PACKED_AGREEMENT = 0.05
# The tensors of the fixture that says how mlx-lm goes on.
GOLDEN = "golden.safetensors"


def without_room(cache):
    """The same without the buffers' free positions, which the files need not hold."""
    if isinstance(cache, CacheList):
        return CacheList(*[without_room(part) for part in cache.caches])
    if isinstance(cache, KVCache) and cache.keys is not None:
        cache.keys, cache.values = cache.keys[..., : cache.offset, :], cache.values[..., : cache.offset, :]
    return cache


def oracle_of(name: str) -> MlxOracle:
    if name == PACKED:
        return MlxOracle(environment.REPOSITORY / "models" / name)
    with tempfile.TemporaryDirectory() as folder:
        return MlxOracle(seeded.materialize(environment.FIXTURES / "models" / name, Path(folder)))


def tokens_of(name: str) -> np.ndarray:
    if name == PACKED:
        return PACKED_TOKENS
    return np.array(mx.load(str(environment.FIXTURES / "models" / name / GOLDEN))["tokens"])


def filled(oracle: MlxOracle, name: str) -> list:
    """The caches after all of the fixture's tokens but the last."""
    caches = make_prompt_cache(oracle.model)
    oracle.step(tokens_of(name)[:-1], caches)
    caches = [without_room(cache) for cache in caches]
    return [cache.to_quantized(bits=8) for cache in caches] if name == PACKED else caches


def last_logits(oracle: MlxOracle, name: str, path: Path) -> np.ndarray:
    """The logits after the last token, of what goes on from a file."""
    return oracle.step(tokens_of(name)[-1:], load_prompt_cache(str(path)))[-1]


def make(out: Path) -> None:
    folder = out / "prompt-caches"
    folder.mkdir(parents=True, exist_ok=True)
    golden = {}
    for name in [*PLAIN, PACKED]:
        oracle = oracle_of(name)
        path = folder / f"{name}.safetensors"
        save_prompt_cache(str(path), filled(oracle, name), {"model": name})
        golden[name] = mx.array(last_logits(oracle, name, path))
    mx.save_safetensors(str(folder / GOLDEN), golden)


def check(folder: Path) -> list[str]:
    """What is wrong with the files that an engine wrote for these fixtures: mlx-lm must go on from them as from its own."""
    golden = mx.load(str(environment.FIXTURES / "prompt-caches" / GOLDEN))
    wrong = []
    for name, wanted in golden.items():
        path = folder / f"{name}.safetensors"
        if not path.exists():
            wrong.append(f"{name}: no file")
            continue
        error = relative_error(last_logits(oracle_of(name), name, path), np.array(wanted))
        # An engine may pack at once, and so read the prompt itself with what was packed.
        if error > (PACKED_AGREEMENT if name == PACKED else AGREEMENT):
            wrong.append(f"{name}: relative error {error:.1e}")
    return wrong

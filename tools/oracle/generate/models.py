"""Model fixtures: tiny checkpoints and the values that mlx-lm computes with them."""

import importlib
import pkgutil
import shutil
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
from safetensors.numpy import save_file

import architectures

from . import gathering, seeded
from .checkpoints import read_config, versions, write_mlx, write_raw
from .declaration import Architecture, Fixture
from .oracle import MlxOracle

GREEDY_TOKENS = 32
# Logits are kept of so many tokens, the last ones: they look at what all before them left behind.
KEPT_LOGITS = 16
# Two ways of computing the same logits may differ by this much: the norm of the difference over the norm.
AGREEMENT = 1e-4
# The two best logits of a greedy step are at least this far apart, relative to the logits' spread: rounding cannot swap them.
MARGIN = 2e-3


def declared(only: list[str]) -> list[Architecture]:
    """The architectures of the folder `architectures` by name: those of `only`, or all where it is empty."""
    names = only or sorted(module.name for module in pkgutil.iter_modules(architectures.__path__))
    return [importlib.import_module(f"architectures.{name}").ARCHITECTURE for name in names]


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


class NearlyTied(Exception):
    """Every prompt has a greedy step that is nearly a tie."""


class SteppingOracle(MlxOracle):
    """The same, one token at a time."""

    def step(self, tokens: np.ndarray, cache) -> np.ndarray:
        return np.concatenate([super(SteppingOracle, self).step(token, cache) for token in tokens[:, None]])


class TransformersOracle:
    """The same with transformers: `cache` is the list of the tokens so far, and every step is a pass over them all."""

    def __init__(self, model):
        self.model = model

    def start(self):
        return []

    def step(self, tokens: np.ndarray, cache) -> np.ndarray:
        cache.extend(int(token) for token in tokens)
        with torch.no_grad():
            logits = self.model(torch.tensor([cache]), use_cache=False).logits
        return logits[0, -len(tokens) :].float().numpy()


def greedy(oracle, tokens: np.ndarray) -> tuple[np.ndarray, float]:
    """The greedy continuation, and the smallest margin by which a token of it won."""
    cache = oracle.start()
    chosen, margin = [], np.inf
    logits = oracle.step(tokens, cache)[-1]
    for _ in range(GREEDY_TOKENS):
        second, best = np.sort(logits)[-2:]
        margin = min(margin, float(best - second) / float(np.std(logits)))
        chosen.append(int(np.argmax(logits)))
        logits = oracle.step(np.array(chosen[-1:]), cache)[-1]
    return np.array(chosen, dtype=np.int32), margin


def prompt(oracle, vocabulary: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Random tokens and their greedy continuation, none of whose steps is close."""
    for seed in range(64):
        tokens = np.random.default_rng(seed).integers(0, vocabulary, length).astype(np.int32)
        continuation, margin = greedy(oracle, tokens)
        if margin > MARGIN:
            return tokens, continuation
    raise NearlyTied


def golden(oracle, vocabulary: int, fixture: Fixture) -> dict[str, np.ndarray]:
    tokens, continuation = prompt(oracle, vocabulary, fixture.length)
    full = oracle.step(tokens, oracle.start())
    cache = oracle.start()
    single = np.concatenate([oracle.step(tokens[i : i + 1], cache) for i in range(len(tokens))])
    agree = relative_error(single, full) < AGREEMENT
    if agree != fixture.cached_agrees:
        raise ValueError(f"{fixture.name}: token by token differs by {relative_error(single, full):.1e}")
    full, single = full[-KEPT_LOGITS:], single[-KEPT_LOGITS:]
    values = {"tokens": tokens, "logits": full, "greedy": continuation}
    return values if agree else {**values, "logits_cached": single}


def bfloat16_error(first, folder: Path, architecture: Architecture, values: dict[str, np.ndarray]) -> float:
    """What the reference `first` loses in bfloat16: the median of the relative errors of positions."""
    if isinstance(first, TransformersOracle):
        attention = first.model.config._attn_implementation
        model = type(first.model).from_pretrained(folder, dtype=torch.bfloat16, attn_implementation=attention)
        rounded = TransformersOracle(model.eval())
    else:
        rounded = type(first)(folder, mx.bfloat16)
        architecture.mend(rounded.model)
    exact = values["logits"]
    logits = rounded.step(values["tokens"], rounded.start())[-KEPT_LOGITS:]
    errors = np.linalg.norm(logits - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
    return float(np.median(errors))


def make_fixture(architecture: Architecture, fixture: Fixture, out: Path) -> None:
    """Makes a fixture with the first seed whose greedy tokens are certain; `out` is the path of its files without an ending."""
    for seed in range(16):
        with tempfile.TemporaryDirectory() as folder:
            try:
                return make_seeded(architecture, fixture, out, Path(folder), seed)
            except NearlyTied:
                continue
    raise ValueError(f"{fixture.name}: every prompt of every seed has a greedy step that is nearly a tie")


def make_seeded(architecture: Architecture, fixture: Fixture, out: Path, folder: Path, seed: int) -> None:
    write = write_raw if fixture.kind == "raw" else write_mlx
    other, rules = write(architecture, fixture, folder, seed)
    config = read_config(folder)
    second = TransformersOracle(other) if other is not None else None
    first = second
    if fixture.oracle == "mlx-lm":
        first = (SteppingOracle if fixture.one_by_one else MlxOracle)(folder)
        architecture.mend(first.model)
    vocabulary = config.get("vocab_size") or config["text_config"]["vocab_size"]
    values = golden(first, vocabulary, fixture)
    notes = {
        "kind": fixture.kind,
        "dtype": fixture.dtype,
        "oracle": fixture.oracle,
        "reason": fixture.reason,
        "cached_agrees": fixture.cached_agrees,
        "versions": versions(),
    }
    if fixture.measures_rounding:
        notes["bfloat16"] = float(f"{bfloat16_error(first, folder, architecture, values):.2f}")
    if second is not None and fixture.oracle == "mlx-lm":
        others = second.step(values["tokens"], second.start())[-KEPT_LOGITS:]
        difference = relative_error(others, values["logits"])
        if (difference < AGREEMENT) != (fixture.transformers_differs is None):
            raise ValueError(f"{fixture.name}: transformers differs by {difference:.1e}")
        notes["transformers"] = {
            "relative_error": float(f"{difference:.0e}"),
            "differs_because": fixture.transformers_differs,
        }
    save_file(values, folder / seeded.GOLDEN)
    seeded.store(folder, out, rules, seed, notes)


def make(out: Path, only: list[str]) -> None:
    """Makes the fixtures of the architectures `only` anew, or of all where it is empty."""
    gathering.install()
    if not only:
        shutil.rmtree(out / "models", ignore_errors=True)
    for architecture in declared(only):
        for fixture in architecture.fixtures:
            make_fixture(architecture, fixture, out / "models" / fixture.name)

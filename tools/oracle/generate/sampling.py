"""Sampling fixtures: the distribution that mlx-lm draws from, after every processor and filter,
and transformers' typical sampling.
"""

from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
from mlx_lm import sample_utils
from safetensors.numpy import save_file
from transformers import TypicalLogitsWarper

from .writing import write_json

VOCABULARY = 40
PROCESSORS = (
    "logit_bias",
    "repetition_penalty",
    "repetition_context_size",
    "presence_penalty",
    "presence_context_size",
    "frequency_penalty",
    "frequency_context_size",
)


def inputs() -> dict[str, np.ndarray]:
    """Logits `[vocab]` of several shapes."""
    generator = np.random.default_rng(3)
    normal = (generator.standard_normal(VOCABULARY) * 1.2).astype(np.float32)
    ties = np.round(generator.standard_normal(VOCABULARY)).astype(np.float32)
    masked = normal.copy()
    masked[::3] = -np.inf
    single = np.full(VOCABULARY, -np.inf, np.float32)
    single[17] = 2.0
    return {
        "normal": normal,
        "peaked": normal * 6.0,
        "flat": np.zeros(VOCABULARY, np.float32),
        "ties": ties,
        "masked": masked,
        "single": single,
    }


HISTORY = [3, 5, 3, 9, 3, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 0, 1, 2, 4, 6, 7, 8, 10, 11, 9]
HOT = {"temp": 1.0}

# (name, input, options of make_sampler and make_logits_processors, tokens so far)
CASES = [
    ("temperature", "normal", {"temp": 0.7}, []),
    ("high temperature", "normal", {"temp": 3.0}, []),
    ("low temperature", "peaked", {"temp": 0.05}, []),
    ("temperature 0 is the argmax", "normal", {"temp": 0.0}, []),
    ("temperature 0 ignores the filters", "normal", {"temp": 0.0, "top_k": 2, "min_p": 0.5}, []),
    ("top-p 0.9", "normal", {**HOT, "top_p": 0.9}, []),
    ("top-p 0.5", "normal", {**HOT, "top_p": 0.5}, []),
    ("top-p 1e-9 keeps the best", "normal", {**HOT, "top_p": 1e-9}, []),
    ("top-p 1 is off", "normal", {**HOT, "top_p": 1.0}, []),
    ("top-p 0 is off", "normal", {**HOT, "top_p": 0.0}, []),
    ("top-p on a peak", "peaked", {**HOT, "top_p": 0.9}, []),
    ("top-p on equal logits keeps them all", "flat", {**HOT, "top_p": 0.3}, []),
    ("top-p with ties", "ties", {**HOT, "top_p": 0.6}, []),
    ("top-p with excluded tokens", "masked", {**HOT, "top_p": 0.8}, []),
    ("top-p with one token left", "single", {**HOT, "top_p": 0.1}, []),
    ("top-p is taken before the temperature", "normal", {"temp": 2.5, "top_p": 0.7}, []),
    ("min-p 0.1", "normal", {**HOT, "min_p": 0.1}, []),
    ("min-p 1 keeps the best", "normal", {**HOT, "min_p": 1.0}, []),
    ("min-p with a number to keep", "peaked", {**HOT, "min_p": 0.9, "min_tokens_to_keep": 4}, []),
    ("min-p with excluded tokens", "masked", {**HOT, "min_p": 0.05}, []),
    ("min-p with ties", "ties", {**HOT, "min_p": 0.3}, []),
    ("min-p on equal logits", "flat", {**HOT, "min_p": 1.0}, []),
    ("top-k 5", "normal", {**HOT, "top_k": 5}, []),
    ("top-k 1", "normal", {**HOT, "top_k": 1}, []),
    ("top-k one less than all", "normal", {**HOT, "top_k": VOCABULARY - 1}, []),
    ("top-k of all", "normal", {**HOT, "top_k": VOCABULARY}, []),
    ("top-k beyond all", "normal", {**HOT, "top_k": VOCABULARY + 60}, []),
    ("top-k 0 is off", "normal", {**HOT, "top_k": 0}, []),
    ("top-k with excluded tokens", "masked", {**HOT, "top_k": 4}, []),
    ("top-k with a tie at the cut", "ties", {**HOT, "top_k": 6}, []),
    ("XTC", "normal", {**HOT, "xtc_probability": 1.0, "xtc_threshold": 0.05}, []),
    (
        "XTC keeps special tokens",
        "normal",
        {**HOT, "xtc_probability": 1.0, "xtc_threshold": 0.02, "xtc_special_tokens": [0, 12, 17, 25]},
        [],
    ),
    ("XTC with one token above its threshold", "peaked", {**HOT, "xtc_probability": 1.0, "xtc_threshold": 0.5}, []),
    ("XTC with none above its threshold", "flat", {**HOT, "xtc_probability": 1.0, "xtc_threshold": 0.1}, []),
    ("XTC with ties", "ties", {**HOT, "xtc_probability": 1.0, "xtc_threshold": 0.03}, []),
    ("XTC of probability 0 is off", "normal", {**HOT, "xtc_probability": 0.0, "xtc_threshold": 0.02}, []),
    ("top-p, then min-p", "normal", {**HOT, "top_p": 0.95, "min_p": 0.1}, []),
    ("top-p, then top-k", "normal", {**HOT, "top_p": 0.9, "top_k": 3}, []),
    ("typical-p 0.9", "normal", {**HOT, "typical_p": 0.9}, []),
    ("typical-p 0.2", "normal", {**HOT, "typical_p": 0.2}, []),
    ("typical-p on a peak", "peaked", {**HOT, "typical_p": 0.9}, []),
    ("typical-p on equal logits keeps them all", "flat", {**HOT, "typical_p": 0.3}, []),
    ("typical-p with excluded tokens", "masked", {**HOT, "typical_p": 0.7}, []),
    ("typical-p with one token left", "single", {**HOT, "typical_p": 0.5}, []),
    (
        "typical-p, then top-p and top-k",
        "normal",
        {"temp": 0.8, "typical_p": 0.8, "top_p": 0.7, "top_k": 5},
        [],
    ),
    (
        "every filter",
        "normal",
        {"temp": 0.8, "top_p": 0.97, "min_p": 0.02, "xtc_probability": 1.0, "xtc_threshold": 0.08, "top_k": 6},
        [],
    ),
    ("logit bias", "normal", {**HOT, "logit_bias": {"3": 5.0, "7": -100.0, "39": 0.5}}, []),
    ("repetition penalty", "normal", {**HOT, "repetition_penalty": 1.5}, HISTORY),
    ("repetition penalty below 1", "normal", {**HOT, "repetition_penalty": 0.5}, HISTORY),
    ("repetition penalty 1 changes nothing", "normal", {**HOT, "repetition_penalty": 1.0}, HISTORY),
    (
        "repetition penalty with a short context",
        "normal",
        {**HOT, "repetition_penalty": 1.5, "repetition_context_size": 3},
        HISTORY,
    ),
    (
        "repetition penalty with a long context",
        "normal",
        {**HOT, "repetition_penalty": 1.5, "repetition_context_size": 100},
        HISTORY,
    ),
    ("repetition penalty without history", "normal", {**HOT, "repetition_penalty": 1.5}, []),
    ("repetition penalty of excluded tokens", "masked", {**HOT, "repetition_penalty": 1.5}, HISTORY),
    ("presence penalty", "normal", {**HOT, "presence_penalty": 0.75, "presence_context_size": 30}, HISTORY),
    ("presence penalty, context of 20", "normal", {**HOT, "presence_penalty": 0.75}, HISTORY),
    ("presence penalty below 0", "normal", {**HOT, "presence_penalty": -1.0}, HISTORY),
    ("frequency penalty", "normal", {**HOT, "frequency_penalty": 0.5, "frequency_context_size": 30}, HISTORY),
    ("frequency penalty, context of 20", "normal", {**HOT, "frequency_penalty": 0.5}, HISTORY),
    (
        "every penalty",
        "normal",
        {
            **HOT,
            "logit_bias": {"3": 2.0, "9": -1.5},
            "repetition_penalty": 1.3,
            "presence_penalty": 0.4,
            "frequency_penalty": 0.2,
            "frequency_context_size": 25,
        },
        HISTORY,
    ),
    (
        "everything",
        "normal",
        {
            "temp": 0.9,
            "logit_bias": {"3": 2.0},
            "repetition_penalty": 1.2,
            "presence_penalty": 0.3,
            "frequency_penalty": 0.1,
            "top_p": 0.95,
            "min_p": 0.03,
            "top_k": 8,
        },
        HISTORY,
    ),
]


def processed(logits: mx.array, options: dict, history: list[int]) -> mx.array:
    chosen = {key: value for key, value in options.items() if key in PROCESSORS}
    if "logit_bias" in chosen:
        chosen["logit_bias"] = {int(token): bias for token, bias in chosen["logit_bias"].items()}
    for processor in sample_utils.make_logits_processors(**chosen):
        # Without history there is nothing to penalize; mlx-lm always has a prompt.
        logits = processor(mx.array(history, dtype=mx.int32), mx.array(logits))
    return logits


def filtered(logprobs: mx.array, options: dict) -> mx.array:
    """The log-probabilities that are handed to the draw; for temperature 0 they come as they are."""
    options = dict(options)
    if mass := options.pop("typical_p", None):
        # mlx-lm has no such filter. What it leaves is a distribution for the others.
        scores = torch.from_numpy(np.array(logprobs))
        kept = mx.array(TypicalLogitsWarper(mass)(None, scores).numpy())
        logprobs = kept - mx.logsumexp(kept, keepdims=True)
    seen = []
    original = sample_utils.categorical_sampling
    sample_utils.categorical_sampling = lambda values, temp: seen.append(values)
    try:
        chosen = {key: value for key, value in options.items() if key not in PROCESSORS}
        sample_utils.make_sampler(**chosen)(logprobs)
    finally:
        sample_utils.categorical_sampling = original
    return seen[0] if seen else logprobs


def cut_is_tied(logprobs: mx.array, options: dict) -> bool:
    """Whether the last token that top-k keeps equals the first that it drops, so that any choice among them is right."""
    best = np.sort(np.array(logprobs[0]))[::-1]
    k = options.get("top_k", 0)
    return 0 < k < VOCABULARY and bool(best[k - 1] == best[k])


def make(out: Path) -> None:
    arrays = {f"input.{name}": value for name, value in inputs().items()}
    cases = []
    for name, source, options, history in CASES:
        logits = processed(mx.array(arrays[f"input.{source}"])[None], options, history)
        logprobs = logits - mx.logsumexp(logits, keepdims=True)
        record = {"name": name, "input": source, "history": history, "options": options}
        # A filter that is refused while MLX compiles it leaves the random state unusable.
        mx.random.seed(0)
        try:
            kept = filtered(logprobs, options)
        except ValueError as error:
            cases.append({**record, "error": str(error)})
            continue
        arrays[f"{name}.logprobs"] = np.array(logprobs[0])
        arrays[f"{name}.filtered"] = np.array(kept[0])
        if options["temp"] == 0:
            record["argmax"] = int(mx.argmax(logprobs))
        else:
            arrays[f"{name}.probabilities"] = np.array(mx.softmax(kept[0] * (1 / options["temp"])))
        if cut_is_tied(logprobs, options):
            record["tied"] = True
        cases.append({**record, "kept": int(np.isfinite(np.array(kept)).sum())})
    save_file(arrays, out / "sampling.safetensors")
    write_json(out / "sampling.json", {"vocabulary": VOCABULARY, "cases": cases})

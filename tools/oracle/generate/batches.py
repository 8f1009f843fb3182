"""What mlx-lm's `BatchGenerator` computes where sequences of unequal lengths join and leave a batch, for every kind of cache that it batches."""

import shutil
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.generate import BatchGenerator
from safetensors.numpy import save_file

import environment

from . import seeded
from .models import AGREEMENT, MlxOracle, relative_error

# Model fixtures that together have the caches: keys and values, windows, windows with sinks, latent vectors, states of recurrences
# alone, states beside keys and values in other layers, and lists of both in one.
MODELS = ["llama", "gemma3-text", "gpt-oss", "deepseek-v3", "mamba", "mamba2", "qwen3-5", "qwen3-next", "lfm2", "falcon-h1"]
# Of each sequence: before which step it is handed over, the length of its prompt, how many tokens it makes, and whether it is taken
# out of the batch behind them, as the batch would go on with it.
SEQUENCES = [(0, 9, 7, False), (0, 3, 3, False), (2, 17, 6, True), (5, 1, 5, False), (6, 12, 4, False)]
# Mamba's states read the padding behind the shorter one of two prompts, so none of them is handed over with another.
APART = [(1 if place == 1 else start, *rest) for place, (start, *rest) in enumerate(SEQUENCES)]


def centered(logprobs: np.ndarray) -> np.ndarray:
    """Without the constant that the logits leave open."""
    return logprobs - logprobs.mean(-1, keepdims=True)


def run(oracle: MlxOracle, sequences: list, prompts: list[np.ndarray]) -> list[tuple[list[int], list[np.ndarray]]]:
    """The tokens of each sequence, and the logarithms of the probabilities that each was chosen by."""
    generator = BatchGenerator(oracle.model)
    made = [([], []) for _ in prompts]
    places = {}
    step = 0
    while step <= max(start for start, *_ in sequences) or places:
        for place, (start, _, count, leaves) in enumerate(sequences):
            if start == step:
                [uid] = generator.insert([prompts[place].tolist()], max_tokens=[count + 100 if leaves else count])
                places[uid] = place
        for response in generator.next()[1]:
            place = places[response.uid]
            tokens, logprobs = made[place]
            tokens.append(response.token)
            logprobs.append(np.array(response.logprobs.astype(mx.float32)))
            if response.finish_reason is not None:
                del places[response.uid]
            elif len(tokens) == sequences[place][2]:
                generator.remove([response.uid])
                del places[response.uid]
        step += 1
    generator.close()
    return made


def alone(oracle: MlxOracle, prompt: np.ndarray, tokens: list[int]) -> np.ndarray:
    """The logits behind the prompt and behind each token but the last, without a batch."""
    cache = oracle.start()
    rows = [oracle.step(prompt, cache)[-1]]
    rows += [oracle.step(np.array([token]), cache)[-1] for token in tokens[:-1]]
    return np.stack(rows)


def make(out: Path) -> None:
    root = out / "batches"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    models = environment.FIXTURES / "models"
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            oracle = MlxOracle(seeded.materialize(models / name, Path(folder)))
        tokens = np.array(mx.load(str(models / f"{name}.safetensors"))["tokens"])
        sequences = APART if name == "mamba" else SEQUENCES
        prompts = [np.resize(np.roll(tokens, -3 * place), length) for place, (_, length, *_) in enumerate(sequences)]
        values = {"starts": np.array([start for start, *_ in sequences], dtype=np.int32)}
        for place, (made, logprobs) in enumerate(run(oracle, sequences, prompts)):
            logprobs = np.stack(logprobs)
            difference = relative_error(centered(logprobs), centered(alone(oracle, prompts[place], made)))
            if difference > AGREEMENT:
                raise ValueError(f"{name}: sequence {place} differs from itself alone by {difference:.1e}")
            values[f"prompt.{place}"] = prompts[place].astype(np.int32)
            values[f"tokens.{place}"] = np.array(made, dtype=np.int32)
            values[f"logprobs.{place}"] = logprobs
        save_file(values, root / f"{name}.safetensors")

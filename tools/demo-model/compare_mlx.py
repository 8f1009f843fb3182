"""Shows that mlx-lm and the PyTorch evaluation agree on a checkpoint: the same greedy tokens on held-out prompts.

    python compare_mlx.py ../../models/demo --questions 3
"""

import argparse
from pathlib import Path

import mlx.core as mx
import torch
from mlx_lm import load
from mlx_lm.models.cache import make_prompt_cache
from tokenizers import Tokenizer

import chat
from evaluate import END, PAD, answers, from_checkpoint, questions, score, table

MOST = 220


def greedy(model, prompt: list[int]) -> list[int]:
    """mlx-lm's greedy answer, without its end token."""
    cache, out = make_prompt_cache(model), []
    logits = model(mx.array([prompt]), cache=cache)
    while len(out) < MOST:
        token = mx.argmax(logits[0, -1]).item()
        if token in (END, PAD):
            break
        out.append(token)
        logits = model(mx.array([[token]]), cache=cache)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--questions", type=int, default=3, help="for each category")
    args = parser.parse_args()
    mx.set_default_device(mx.cpu)
    model, _ = load(str(args.checkpoint))
    model.set_dtype(mx.float32)
    tokenizer = Tokenizer.from_file(str(args.checkpoint / "tokenizer.json"))
    asked = [(n, c) for n, c in questions(args.questions, seed=99) if n != "long passages"]
    theirs = [greedy(model, tokenizer.encode(chat.prompt_of(c), add_special_tokens=False).ids) for _, c in asked]
    ours = answers(from_checkpoint(args.checkpoint), tokenizer, asked, 16, torch.float32)
    print(table({"mlx-lm": score(tokenizer, asked, theirs), "PyTorch": score(tokenizer, asked, ours)}))
    print(f"{sum(a == b for a, b in zip(theirs, ours))} of {len(asked)} answers are the same, token by token")

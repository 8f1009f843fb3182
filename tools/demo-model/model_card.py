"""Writes the model cards (README.md of both checkpoints) from the scores that evaluate.py wrote.

    python model_card.py scores.json acceptance.json ../../models
"""

import argparse
import json
from pathlib import Path

from evaluate import from_checkpoint, table

FRONT = """---
library_name: mlx
pipeline_tag: text-generation
language: en
tags: [mlx, qwen3, 4-bit]
---

"""

DEMO = """# The nodemlx demo model

A very small language model that comes with nodemlx, so that everything works without a network and tests can check what is answered.
It was trained from scratch on conversations that a program makes (`tools/demo-model`): no text of others went into it.

| | |
|---|---|
| architecture | qwen3: {layers} layers, hidden size {hidden}, {heads} query heads on {kv} key/value heads of {head_dim}, tied embeddings |
| parameters | {parameters:.1f} million |
| weights | 4-bit, MLX affine, groups of {group}; {bytes:.1f} MB |
| tokenizer | byte-level BPE, {vocabulary} tokens, digits one by one |
| context | {context} tokens |
| chat template | ChatML, with tools in the Hermes format (`<tool_call>`) |

## What it can do

Name capitals, opposites, plurals, colours, days, months, animals and what they do; define simple words; add and subtract numbers below one hundred; repeat, spell, sort and count;
remember what was said in the conversation; answer from a text of up to {context} tokens; tell short stories; call tools and answer from their results; write JSON in a given shape; say that it does not know.

## Scores

Held-out prompts, greedy. Held out are one in eight of the wordings of every question with at least sixteen wordings, one in twelve of the pairs of numbers, and one in eight of the made-up tool names.
Greetings and the few wordings of general knowledge are not held out.

{scores}

"Tool calls" asks for exactly the right calls: names, arguments, order. "No tool needed" offers tools and asks for something else; only the generator's own answer counts there, also where others would do (a different joke).

## Limits

- It knows what the generator knows, and nothing else. Questions of other kinds get "I don't know" at best and nonsense at worst.
- The held-out prompts come from the same generator as those it learnt from. A wording far from them, or a longer text in free prose, often fails.
- Sums of numbers above one hundred, counting to much more than fifty in one answer, more than three tool calls at once and deeply nested JSON are beyond it.
- A list of many things may repeat one. Stories follow one plot.
- English only, but for single words; other scripts are only copied.
"""

DRAFT = """# The draft model of the nodemlx demo model

A model of {parameters:.2f} million parameters with the demo model's tokenizer and chat template, for speculative decoding. It learnt the demo model's distributions on the same conversations.

| | |
|---|---|
| architecture | qwen3: {layers} layers, hidden size {hidden}, {heads} query heads on {kv} key/value heads of {head_dim}, tied embeddings |
| weights | 4-bit, MLX affine, groups of {group}; {bytes:.2f} MB |

## Acceptance

The share of the 4-bit demo model's greedy tokens that it predicts from what is before them, on held-out prompts.

{scores}

It is made to guess for the demo model, not to be asked alone.
"""


def card(text: str, folder: Path, scores: str) -> str:
    config = json.loads((folder / "config.json").read_text())
    parameters = sum(p.numel() for p in from_checkpoint(folder).parameters()) / 1e6
    return FRONT + text.format(
        layers=config["num_hidden_layers"], hidden=config["hidden_size"], heads=config["num_attention_heads"], kv=config["num_key_value_heads"], head_dim=config["head_dim"],
        group=config["quantization"]["group_size"], vocabulary=config["vocab_size"], context=config["max_position_embeddings"], parameters=parameters,
        bytes=(folder / "model.safetensors").stat().st_size / 1e6, scores=scores)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path)
    parser.add_argument("acceptance", type=Path)
    parser.add_argument("models", type=Path)
    args = parser.parse_args()
    scores = {k: v for k, v in json.loads(args.scores.read_text()).items() if k != "draft acceptance"}
    accepted = {"accepted": json.loads(args.acceptance.read_text())["draft acceptance"]}
    for name, text, found, unit in (("demo", DEMO, scores, "questions"), ("demo-draft", DRAFT, accepted, "tokens")):
        (args.models / name / "README.md").write_text(card(text, args.models / name, table(found, unit)))

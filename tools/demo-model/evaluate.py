"""Asks a model held-out prompts, greedily, and prints how many answers of each category are right.

    python evaluate.py weights/demo.safetensors demo              # full weights and what 4 bits leave of them
    python evaluate.py --checkpoint ../../models/demo             # the checkpoint itself, unpacked
    python evaluate.py weights/demo.safetensors demo --draft weights/draft.safetensors

Held out are one in eight of the wordings of every question with at least sixteen, one in twelve of the pairs of numbers that are added or
subtracted, and one in eight of the names of made-up tools. Questions with fewer wordings, such as greetings, are asked as they were trained.
"""

import argparse
import json
import re
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

import chat
import export
from conversations import ARITHMETIC, COUNTING, FACTS, NUMBERS, STORIES, TALK, UNKNOWN, WORDS, chat as any_chat, day_in_system, follow_up, persona, short_turn
from lexicon import CATEGORIES
from model import SIZES, Config, Qwen3, rope_table
from phrases import Conversation, Rng
from quantize import dequantized, unpacked
from tasks import json_shapes, passages, recall, tools

END, PAD = 2, 0


def single(mix):
    """Single questions of one kind."""
    return lambda r: (lambda t: Conversation([{"role": "user", "content": t.user}, {"role": "assistant", "content": t.answer}], check=t.check))(mix(r)(r))


CATEGORIES_ASKED = {
    "facts": single(FACTS), "arithmetic": single(ARITHMETIC), "recall": lambda r: recall.conversation(r, short_turn),
    "tool calls": lambda r: until(r, lambda r: tools.conversation(r, short_turn), lambda c: c.check[0] == "calls"),
    "tool answers": lambda r: tool_answer(r), "no tool needed": lambda r: until(r, lambda r: tools.conversation(r, short_turn), lambda c: c.check[0] == "none"),
    "passages": passages.conversation, "long passages": lambda r: passages.conversation(r, "long"), "json": lambda r: json_shapes.conversation(r, short_turn),
    "words": single(WORDS), "counting": single(COUNTING), "other numbers": single(NUMBERS), "stories": single(STORIES), "talk": single(TALK),
    "says it does not know": single(UNKNOWN), "follow-ups": follow_up, "system prompts": lambda r: (persona if r.chance(0.6) else day_in_system)(r), "any chat": any_chat}


def until(r: Rng, make, wanted) -> Conversation:
    while not wanted(c := make(r)):
        pass
    return c


def tool_answer(r: Rng) -> Conversation:
    """The answer after the first results; right is what the generator would say."""
    c = until(r, lambda r: tools.conversation(r, short_turn), lambda c: c.check[0] == "calls")
    at = next(i for i, m in enumerate(c.messages) if m["role"] == "tool")
    while c.messages[at]["role"] == "tool":
        at += 1
    return Conversation(c.messages[:at + 1], tools=c.tools, check=("said", c.messages[at]["content"]))


def plain(text: str) -> str:
    return " ".join(text.lower().split())


def parse_calls(text: str) -> list:
    return [(c["name"], c["arguments"]) for c in (json.loads(t) for t in re.findall(r"<tool_call>\n(.*?)\n</tool_call>", text, re.S))]


def is_right(check: tuple, answer: str, wanted: str) -> bool:
    """Whether an answer passes a check; `wanted` is the answer of the generator."""
    kind, value = check
    try:
        if kind in ("has", "any"):
            found = [re.search(rf"(?<!\w){re.escape(plain(str(v)))}(?!\w)", plain(answer)) is not None if str(v)[-1:].isalnum() else plain(str(v)) in plain(answer) for v in value]
            return bool(answer) and (all if kind == "has" else any)(found)
        if kind == "number":
            numbers = re.findall(r"-?\d+", answer.replace(" - ", " − "))
            return bool(numbers) and str(value) in (numbers[-1], numbers[2] if len(numbers) > 2 else "")
        if kind == "first":
            return (re.findall(r"-?\d+", answer) or [""])[0] == value
        if kind == "exact":
            return answer.strip() == value
        if kind == "exact-or-has":
            return value in answer or answer.strip() == value.split()[-1]
        if kind == "said":
            return plain(answer) == plain(value)
        if kind == "calls":
            return parse_calls(answer) == [tuple(v) for v in value]
        if kind == "none":
            return "<tool_call>" not in answer and plain(answer) == plain(wanted)
        if kind == "json":
            return json.loads(answer) == value
        if kind in ("members", "json members"):
            items = json.loads(answer) if kind[0] == "j" else [i for i in re.split(r", | and |\n?\d+\. |\.$|\n", answer) if i.strip()]
            known = {m.lower() for m in CATEGORIES[value[0]]}
            return len(items) == value[1] == len(set(items)) and all(i.strip().lower() in known for i in items)
        if kind == "lines":
            return len(answer.strip().split("\n")) == value
        if kind == "story":
            return len(answer.split()) > 40 and answer.rstrip()[-1] in '."!' and all(v.lower() in answer.lower() for v in value)
    except (ValueError, KeyError, TypeError, IndexError):
        return False
    raise ValueError(f"no such check: {kind}")


class Cache:
    """Keys and values of one layer."""

    def __init__(self):
        self.k = self.v = None

    def append(self, k, v):
        self.k, self.v = (k, v) if self.k is None else (torch.cat((self.k, k), 2), torch.cat((self.v, v), 2))
        return self.k, self.v


@torch.no_grad()
def complete(model: Qwen3, prompts: list[list[int]], most: int, rope) -> list[list[int]]:
    """Greedy continuations; prompts are padded on the left, which rotary positions do not mind."""
    device = model.model.norm.weight.device
    longest = max(map(len, prompts))
    tokens = torch.tensor([[PAD] * (longest - len(p)) + p for p in prompts], device=device)
    seen = torch.tensor([[False] * (longest - len(p)) + [True] * len(p) for p in prompts], device=device)
    caches = [Cache() for _ in model.model.layers]
    mask = seen[:, None, None, :] & torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
    mask = mask | torch.eye(longest, dtype=torch.bool, device=device)
    logits = model(tokens, tuple(t[:longest] for t in rope), mask, caches=caches)[:, -1]
    out, done = [], torch.zeros(len(prompts), dtype=torch.bool, device=device)
    for i in range(most):
        token = logits.argmax(-1)
        out.append(token)
        done |= (token == END) | (token == PAD)
        if bool(done.all()) or longest + i + 1 >= len(rope[0]):
            break
        seen = torch.cat((seen, torch.ones_like(seen[:, :1])), 1)
        at = longest + i
        logits = model(token[:, None], tuple(t[at:at + 1] for t in rope), seen[:, None, None, :], caches=caches)[:, -1]
    rows = torch.stack(out, 1).tolist()
    return [row[:next((i for i, t in enumerate(row) if t in (END, PAD)), len(row))] for row in rows]


def questions(per_category: int, seed: int, only: list[str] | None = None) -> list[tuple[str, Conversation]]:
    """The held-out questions, the same for every model."""
    asked = []
    for name, make in CATEGORIES_ASKED.items():
        if only is None or name in only:
            r = Rng(seed, held_out=True)
            n = per_category if name != "long passages" else max(per_category // 4, 10)
            while n:
                c = make(r)
                if len(chat.prompt_of(c)) < 12000:
                    asked.append((name, c))
                    n -= 1
    return asked


def answers(model: Qwen3, tokenizer: Tokenizer, asked: list, batch: int, dtype) -> list[list[int]]:
    """Greedy answers in the order of the questions."""
    device = model.model.norm.weight.device
    rope = tuple(t.to(dtype) for t in rope_table(model.c, model.c.max_position_embeddings, device))
    prompts = [tokenizer.encode(chat.prompt_of(c), add_special_tokens=False).ids for _, c in asked]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    out: list = [None] * len(prompts)
    at = 0
    while at < len(order):
        n = max(1, min(batch, 120_000 // len(prompts[order[min(at + batch, len(order)) - 1]])))
        chosen = order[at:at + n]
        for i, tokens in zip(chosen, complete(model, [prompts[i] for i in chosen], 220, rope)):
            out[i] = tokens
        at += n
    return out


def wanted_answer(c: Conversation) -> str:
    return chat.assistant_text(c.messages[chat.scored(c)])


def score(tokenizer: Tokenizer, asked: list, given: list[list[int]], failures: Path | None = None) -> dict[str, tuple[int, int]]:
    """Right answers and questions by category."""
    totals: dict = {}
    wrong = []
    for (name, c), tokens in zip(asked, given):
        answer = tokenizer.decode(tokens, skip_special_tokens=False)
        right = is_right(c.check, answer, wanted_answer(c))
        a, b = totals.get(name, (0, 0))
        totals[name] = (a + right, b + 1)
        if not right:
            wrong.append(f"[{name}] {c.messages[chat.scored(c) - 1]['content'][-300:]!r}\n  wanted {wanted_answer(c)!r}\n  got    {answer!r}\n")
    if failures:
        failures.write_text("\n".join(wrong))
    return totals


@torch.no_grad()
def acceptance(draft: Qwen3, tokenizer: Tokenizer, asked: list, given: list[list[int]], dtype) -> dict[str, tuple[int, int]]:
    """How many of the model's greedy tokens the draft model predicts from what is before them."""
    device = draft.model.norm.weight.device
    rope = tuple(t.to(dtype) for t in rope_table(draft.c, draft.c.max_position_embeddings, device))
    totals: dict = {}
    for (name, c), tokens in zip(asked, given):
        prompt = tokenizer.encode(chat.prompt_of(c), add_special_tokens=False).ids
        said = (tokens + [END])[:220]
        every = torch.tensor([prompt + said], device=device)
        logits = draft(every[:, :-1], tuple(t[:every.shape[1] - 1] for t in rope))
        guessed = logits[0, len(prompt) - 1:].argmax(-1)
        a, b = totals.get(name, (0, 0))
        totals[name] = (a + int((guessed == every[0, len(prompt):]).sum()), b + len(said))
    return totals


def four_bit(model: Qwen3) -> Qwen3:
    """The model with what 4 bits leave of its matrices, and norms in bfloat16."""
    other = Qwen3(model.c)
    with torch.no_grad():
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            q.copy_(dequantized(p, model.c.group_size) if p.ndim == 2 else p.bfloat16().float())
    return other


def rounded(model: Qwen3) -> Qwen3:
    """The model with its weights in bfloat16."""
    other = Qwen3(model.c)
    with torch.no_grad():
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            q.copy_(p.bfloat16().float())
    return other


def from_checkpoint(folder: Path) -> Qwen3:
    """A 4-bit checkpoint, unpacked to float32."""
    written = json.loads((folder / "config.json").read_text())
    config = Config(**{k: v for k, v in written.items() if k in Config.__dataclass_fields__}, group_size=written["quantization"]["group_size"])
    tensors = load_file(str(folder / "model.safetensors"))
    state = {}
    for name, t in tensors.items():
        stem, part = name.rsplit(".", 1)
        if part == "weight":
            parts = {p: tensors[f"{stem}.{p}"] for p in ("weight", "scales", "biases") if f"{stem}.{p}" in tensors}
            state[name] = unpacked(parts) if len(parts) == 3 else t.float()
    model = Qwen3(config)
    model.load_state_dict(state)
    return model


def table(columns: dict[str, dict[str, tuple[int, int]]], unit: str = "questions") -> str:
    """Markdown: a row for each category, a column for each model."""
    names = list(next(iter(columns.values())))
    lines = [f"| category | {unit} | " + " | ".join(columns) + " |", "|---|---:|" + "---:|" * len(columns)]
    for n in names:
        lines.append(f"| {n} | {next(iter(columns.values()))[n][1]} | " + " | ".join(f"{100 * c[n][0] / c[n][1]:.1f} %" for c in columns.values()) + " |")
    sums = [(sum(c[n][0] for n in names), sum(c[n][1] for n in names)) for c in columns.values()]
    lines.append(f"| **all** | {sum(next(iter(columns.values()))[n][1] for n in names)} | " + " | ".join(f"{100 * a / b:.1f} %" for a, b in sums) + " |")
    return "\n".join(lines)


def main(args):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    asked = questions(args.questions, args.seed, args.only)
    if args.checkpoint:
        models = {"4-bit checkpoint": from_checkpoint(args.checkpoint)}
    else:
        full = export.load(args.weights, SIZES[args.size])
        models = {"bfloat16": rounded(full), "4-bit": four_bit(full)}
    columns, given = {}, None
    for name, model in models.items():
        begun = time.monotonic()
        given = answers(model.to(device), tokenizer, asked, args.batch, torch.float32)
        columns[name] = score(tokenizer, asked, given, args.failures and args.failures.with_name(f"{name}-{args.failures.name}"))
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    print(table(columns))
    if args.draft:
        draft = four_bit(export.load(args.draft, SIZES["draft"])) if args.draft.is_file() else from_checkpoint(args.draft)
        columns["draft acceptance"] = acceptance(draft.to(device), tokenizer, asked, given, torch.float32)
        print("\nThe draft model's acceptance: the share of the 4-bit model's greedy tokens that it predicts.\n\n" + table({"accepted": columns["draft acceptance"]}))
    if args.out:
        args.out.write_text(json.dumps(columns, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("size", choices=SIZES, nargs="?", default="demo")
    parser.add_argument("--checkpoint", type=Path, help="evaluate a 4-bit checkpoint instead")
    parser.add_argument("--draft", type=Path, help="weights or checkpoint of the draft model")
    parser.add_argument("--tokenizer", type=Path, default=Path(__file__).parents[2] / "models/demo")
    parser.add_argument("--questions", type=int, default=200, help="for each category")
    parser.add_argument("--only", nargs="*", help="categories")
    parser.add_argument("--seed", type=int, default=12345)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--failures", type=Path, help="write the wrong answers here")
    parser.add_argument("--out", type=Path, help="write the scores here, as JSON")
    main(parser.parse_args())

"""Trains the demo model, or its draft model from the demo model's own distributions, on shards while they are being made.

    python train.py demo /dev/shm/shards weights/demo.safetensors --seconds 780
    python train.py draft /dev/shm/shards weights/draft.safetensors --seconds 200 --teacher weights/demo.safetensors

The length of a run is given in seconds: the learning rate follows the share of them that has gone by. From `QUANTIZE_FROM` on the
forward pass sees only what 4 bits leave of the weights, and its gradients go straight through to the full ones.
"""

import argparse
import time
from pathlib import Path
from threading import Event, Thread

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import export
from make_data import BEGINS, SAID, TOKEN
from model import SIZES, Qwen3, attention, rope_table
from quantize import dequantized

WARM_UP_STEPS = 100
DECAY_FROM = 0.4
QUANTIZE_FROM = 0.62
FINAL_RATE = 0.02
MUON_RATE, ADAM_RATE, WEIGHT_DECAY, MOMENTUM = 0.02, 0.003, 0.02, 0.95


class Rows:
    """Rows of the shards in a folder, new ones first; where the trainer is ahead of the generator, old ones again."""

    def __init__(self, folder: Path, seed: int):
        self.folder, self.fresh, self.all, self.seen = folder, [], [], set()
        self.random = np.random.default_rng(seed)
        self.stopped = Event()
        self.watcher = Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def watch(self):
        while not self.stopped.is_set():
            for path in sorted(self.folder.glob("[0-9]*[0-9].npy")):
                if path.name not in self.seen:
                    self.seen.add(path.name)
                    data = np.load(path)
                    self.all.append(data)
                    self.fresh.extend((data, i) for i in self.random.permutation(len(data)))
            self.stopped.wait(0.5)

    def batch(self, n: int) -> torch.Tensor:
        while not self.all:
            time.sleep(0.1)
        rows = [self.fresh.pop() for _ in range(min(n, len(self.fresh)))]
        while len(rows) < n:
            data = self.all[self.random.integers(len(self.all))]
            rows.append((data, self.random.integers(len(data))))
        return torch.from_numpy(np.stack([data[i] for data, i in rows]).astype(np.int32))


def split(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Inputs, targets, which targets the model is to say, and each input's conversation number, all `[batch, length]`."""
    tokens = rows & TOKEN
    said = (rows[:, 1:] & SAID) > 0
    number = ((rows[:, :-1] & BEGINS) > 0).cumsum(-1)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous().long(), said, number.int()


def same_conversation(number: torch.Tensor):
    """The attention mask that keeps conversations of a row apart: in blocks on a GPU, whole on a CPU."""
    if number.is_cuda:
        def sees(b, h, q, k):
            return (q >= k) & (number[b, q] == number[b, k])
        return build_mask(sees, number.shape[0], None, number.shape[1], number.shape[1], device="cuda")
    causal = torch.ones(number.shape[1], number.shape[1], dtype=torch.bool).tril()
    return (causal & (number[:, :, None] == number[:, None, :]))[:, None]


if torch.cuda.is_available():
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    build_mask = torch.compile(create_block_mask)

    def attend(q, k, v, mask):
        return flex_attention(q, k, v, block_mask=mask, enable_gqa=True)
else:
    attend = attention


def loss_of(model, tokens, targets, said, rope, mask):
    """Mean cross-entropy of the tokens that the model is to say."""
    logits = model(tokens, rope, mask, attend).flatten(0, 1)
    every = F.cross_entropy(logits.float(), targets.flatten(), reduction="none")
    return (every * said.flatten()).sum() / said.sum()


def distillation_loss(model, teacher_logits, tokens, said, rope, mask):
    """Mean Kullback-Leibler divergence from the teacher's distributions to the model's."""
    logits = model(tokens, rope, mask, attend).flatten(0, 1).float()
    wanted = F.log_softmax(teacher_logits.flatten(0, 1).float(), -1)
    every = (wanted.exp() * (wanted - F.log_softmax(logits, -1))).sum(-1)
    return (every * said.flatten()).sum() / said.sum()


def orthogonal(g: torch.Tensor) -> torch.Tensor:
    """The nearest (semi-)orthogonal matrices `[n, rows, columns]`, roughly, by Newton-Schulz steps (Muon, Jordan et al. 2024)."""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if tall else x).to(g.dtype)


class Optimizer:
    """Muon for the matrices inside of layers, AdamW for the embedding and the norms."""

    def __init__(self, parameters: dict[str, torch.Tensor]):
        self.parameters = parameters
        shapes: dict = {}
        for name, p in parameters.items():
            if p.ndim == 2 and "embed" not in name:
                shapes.setdefault(tuple(p.shape), []).append(name)
        self.groups = list(shapes.values())
        self.momentum = {names[0]: torch.zeros(len(names), *parameters[names[0]].shape, device=parameters[names[0]].device) for names in self.groups}
        self.rest = [n for n in parameters if not any(n in g for g in self.groups)]
        self.adam = torch.optim.AdamW([parameters[n] for n in self.rest], lr=ADAM_RATE, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0)

    @torch.no_grad()
    def step(self, gradients: dict[str, torch.Tensor], rate: float):
        for names in self.groups:
            g = torch.stack([gradients[n] for n in names]).float()
            m = self.momentum[names[0]]
            m.lerp_(g, 1 - MOMENTUM)
            update = orthogonal(g.lerp(m, MOMENTUM))
            scale = MUON_RATE * rate * max(1.0, update.shape[-2] / update.shape[-1]) ** 0.5
            for n, u in zip(names, update):
                self.parameters[n].mul_(1 - rate * MUON_RATE * WEIGHT_DECAY).sub_(u, alpha=scale)
        for n in self.rest:
            self.parameters[n].grad = gradients[n].float()
        self.adam.param_groups[0]["lr"] = ADAM_RATE * rate
        self.adam.step()


def rate_at(step: int, share: float) -> float:
    """Warm-up, a plateau, and a straight way down."""
    return min((step + 1) / WARM_UP_STEPS, 1.0, FINAL_RATE + (1 - FINAL_RATE) * max(0.0, (1 - share) / (1 - DECAY_FROM)))


def train(args):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    config = SIZES[args.size]
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    full = export.load(args.start, config) if args.start else Qwen3(config)
    master = {n: p.detach().clone().to(device) for n, p in full.named_parameters()}
    live = full.to(device, kind)
    learned = dict(live.named_parameters())
    optimizer = Optimizer(master)
    rope = rope_table(config, config.max_position_embeddings, device, kind)
    compiled = (lambda f: torch.compile(f, dynamic=False)) if device == "cuda" else (lambda f: f)
    step_loss = compiled(distillation_loss if args.teacher else loss_of)
    if args.teacher:
        teacher = export.load(args.teacher, SIZES["demo"])
        with torch.no_grad():
            for p in teacher.parameters():
                if p.ndim == 2:
                    p.copy_(dequantized(p, config.group_size))
        teacher = teacher.to(device, kind).requires_grad_(False)
        ask_teacher = compiled(lambda tokens, rope, mask: teacher(tokens, rope, mask, attend))
    rows, step, begun, losses = Rows(args.shards, args.seed), 0, None, []
    while True:
        now = time.monotonic()
        share = (now - begun) / args.seconds if begun else 0.0
        if share >= 1:
            break
        with torch.no_grad():
            quantizing = share >= QUANTIZE_FROM or args.start is not None
            for n, p in learned.items():
                p.copy_(dequantized(master[n], config.group_size) if quantizing and p.ndim == 2 else master[n])
        tokens, targets, said, number = split(rows.batch(args.batch).to(device, non_blocking=True))
        mask = same_conversation(number)
        if args.teacher:
            with torch.no_grad():
                wanted = ask_teacher(tokens, rope, mask)
            loss = step_loss(live, wanted, tokens, said, rope, mask)
        else:
            loss = step_loss(live, tokens, targets, said, rope, mask)
        gradients = dict(zip(learned, torch.autograd.grad(loss, list(learned.values()))))
        optimizer.step(gradients, rate_at(step, share) * args.rate)
        losses.append(loss.detach())
        step += 1
        if step == 5:  # the clock starts when everything is compiled
            loss.detach().item()
            begun = time.monotonic()
        if step % args.log_every == 0:
            gone = time.monotonic() - begun if begun else 0
            mean, losses = torch.stack(losses).mean().item(), []
            print(f"step {step} {gone:.0f}s loss {mean:.4f} rate {rate_at(step, share):.3f} {'4-bit' if quantizing else 'full'} "
                  f"{max(step - 5, 0) * tokens.numel() / max(gone, 1e-9) / 1e6:.2f}M tokens/s, shards {len(rows.all)}, fresh rows {len(rows.fresh)}", flush=True)
    rows.stopped.set()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({n: p.cpu().contiguous() for n, p in master.items()}, str(args.out))
    print(f"{step} steps, {step * args.batch * 4096 / 1e6:.0f}M tokens seen, {args.out}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("shards", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=780)
    parser.add_argument("--batch", type=int, default=64, help="rows of 4096 tokens")
    parser.add_argument("--teacher", type=Path, help="learn this demo model's distributions instead of the tokens")
    parser.add_argument("--start", type=Path, help="go on from these weights, looking through 4 bits from the start")
    parser.add_argument("--rate", type=float, default=1.0, help="factor on the learning rates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=50)
    train(parser.parse_args())

"""Checks and times `src/fused/cuda/recurrence_step.cu` and `causal_conv.cu`.

python3 recurrence.py [check[:CASES]] [time]
"""

import itertools
import math

import torch

from card import asked, compile_all, copy_bandwidth, relative, replay, sample, source, start

DTYPES = {0: torch.bfloat16, 1: torch.float16}
LIMITS = {0: 6e-3, 1: 1e-3}
DELTA, SCAN = range(2)
F = torch.nn.functional


def randn(*shape, dtype=torch.float32):
    return torch.randn(*shape, device="cuda").to(dtype)


class Step:
    """A position of a recurrence: sizes, and the arguments of its kernel."""

    def __init__(self, rule=DELTA, x=0, rows=128, key_dim=128, key_heads=16, value_heads=32):
        self.rule, self.x, self.rows, self.key_dim = rule, x, rows, key_dim
        self.key_heads, self.value_heads = key_heads, value_heads

    def defines(self):
        names = ("RULE", "X", "ROWS", "KEY_DIM", "KEY_HEADS", "VALUE_HEADS")
        return dict(zip(names, vars(self).values()))

    def arguments(self):
        dtype, keys = DTYPES[self.x], self.key_heads * self.key_dim
        values = self.value_heads * self.rows
        self.mixed = randn(2 * keys + values, dtype=dtype)
        self.raw, self.bias = randn(self.value_heads, dtype=dtype), randn(self.value_heads)
        self.a = -torch.rand(self.value_heads, device="cuda") - 0.1
        self.before = randn(self.value_heads, self.rows, self.key_dim)
        self.out = torch.full((values,), float("nan"), device="cuda", dtype=dtype)
        self.after = torch.full_like(self.before, float("nan"))
        if self.rule == DELTA:
            self.rate = randn(self.value_heads, dtype=dtype)
            self.gate, self.norm = randn(values, dtype=dtype), randn(self.rows, dtype=dtype)
            own = [self.raw, self.rate, self.gate, self.norm]
            self.numbers = [1 / math.sqrt(self.key_dim), 1e-6]
        else:
            self.skip = randn(self.value_heads)
            own = [self.raw, self.skip]
            self.numbers = [0.05, 2.0]
        self.arrays = [self.mixed, *own, self.bias, self.a, self.before, self.out, self.after]

    def expected(self):
        """y and the state after, in float64."""
        keys, values = self.key_heads * self.key_dim, self.value_heads * self.rows
        mixed, before, a = self.mixed.double(), self.before.double(), self.a.double()
        each = lambda x: x.reshape(self.key_heads, self.key_dim).repeat_interleave(
            self.value_heads // self.key_heads, 0
        )
        steps = F.softplus(self.raw.double() + self.bias.double(), threshold=1e9)
        if self.rule == DELTA:
            queries, keys, value = mixed.split([keys, keys, values])
            unit = lambda x: x / (x.pow(2).sum(-1, keepdim=True) + 1e-6).sqrt()
            query, key = unit(each(queries)) * self.numbers[0], unit(each(keys))
            value, rate = value.reshape(-1, self.rows), self.rate.double().sigmoid()
            decayed = (a * steps).exp()[:, None, None] * before
            read = torch.einsum("hvk,hk->hv", decayed, key)
            after = decayed + torch.einsum("hv,hk->hvk", rate[:, None] * (value - read), key)
            y = torch.einsum("hvk,hk->hv", after, query)
            y = y / (y.pow(2).mean(-1, keepdim=True) + self.numbers[1]).sqrt()
            y = y * self.norm.double() * F.silu(self.gate.double().reshape(y.shape))
        else:
            value, b, c = mixed.split([values, keys, keys])
            value = value.reshape(-1, self.rows)
            steps = steps.clamp(*self.numbers)
            decayed = (a * steps).exp()[:, None, None] * before
            after = decayed + torch.einsum("hv,hk->hvk", steps[:, None] * value, each(b))
            y = torch.einsum("hvk,hk->hv", after, each(c)) + self.skip.double()[:, None] * value
        return y.reshape(-1), after


def launch(kernel, step):
    kernel.launch(step.value_heads, 512, 0, step.arrays, step.numbers)


def check_steps(count):
    sizes = [(128, 128, 16, 32), (64, 128, 1, 80), (64, 64, 8, 24)]
    sizes += [(128, 256, 2, 2), (72, 32, 3, 9)]
    steps = [Step(rule, x, *each) for rule, x, each in itertools.product((0, 1), DTYPES, sizes)]
    steps = sample(steps, count)
    text = source("recurrence_step.cu")
    kernels = compile_all([(text, step.defines()) for step in steps])
    print(len(steps), "steps; spilled", max(kernel.spilled for kernel in kernels), flush=True)
    bad, worst = 0, {}
    for step, kernel in zip(steps, kernels):
        step.arguments()
        launch(kernel, step)
        torch.cuda.synchronize()
        y, after = step.expected()
        errors = relative(step.out, y), relative(step.after, after)
        worst[step.x] = max(worst.get(step.x, 0), errors[0])
        if not (errors[0] < LIMITS[step.x] and errors[1] < 1e-5):
            bad += 1
            print("WRONG", errors, step.defines(), flush=True)
    print("worst", worst, "wrong:", bad, "of", len(steps), flush=True)


def check_convolutions(count):
    sizes = [(1, 1), (1, 300), (1, 2048), (2, 300), (3, 7), (513, 2048)]
    cases = list(itertools.product(DTYPES, (1, 2, 3, 4), (0, 1), (0, 1), sizes))
    cases = sample(cases, count)
    text = source("causal_conv.cu")
    kernels = compile_all(
        [(text, dict(X=x, KERNEL=k, BIAS=bias, SILU=silu)) for x, k, bias, silu, _ in cases]
    )
    bad = 0
    for (x, k, bias, silu, (length, channels)), kernel in zip(cases, kernels):
        make = lambda *shape: randn(*shape, dtype=DTYPES[x])
        before, weight = make(k - 1, channels), make(k, channels)
        new, added = make(length, channels), make(channels)
        y, after = torch.empty_like(new), torch.empty_like(before)
        arrays = [before, new, weight, *([added] if bias else []), y, after]
        kernel.launch(-(-length * channels // 256), 256, 0, arrays, [length, channels])
        torch.cuda.synchronize()
        inputs = torch.cat([before, new])
        seen = inputs.double().unfold(0, k, 1)
        expected = (seen * weight.double().T).sum(-1) + bias * added.double()
        expected = F.silu(expected) if silu else expected
        if not (relative(y, expected) < LIMITS[x] and torch.equal(after, inputs[length:])):
            bad += 1
            print("WRONG", relative(y, expected), x, k, bias, silu, length, channels, flush=True)
    print("convolutions wrong:", bad, "of", len(cases), flush=True)


def time():
    bandwidth = copy_bandwidth()
    print(torch.cuda.get_device_name(), f"copy {bandwidth / 1e9:.0f} GB/s", flush=True)
    text = source("recurrence_step.cu")
    shapes = {"qwen3.5-4b": Step(), "mamba2-2.7b": Step(SCAN, 0, 64, 128, 1, 80)}
    kernels = compile_all([(text, step.defines()) for step in shapes.values()])
    for (name, step), kernel in zip(shapes.items(), kernels):
        steps = [Step(*vars(step).values()) for _ in range(48)]
        for each in steps:
            each.arguments()
        t = replay(lambda: [launch(kernel, each) for each in steps]) / len(steps)
        size = 2 * steps[0].before.numel() * 4
        print(f"{name}: {t * 1e6:.1f} us, {size / t / 1e9:.0f} GB/s of states", flush=True)


if __name__ == "__main__":
    start()
    asked(
        ["check", "time"],
        check=lambda count: [check_steps(count), check_convolutions(count)],
        time=lambda _: time(),
    )

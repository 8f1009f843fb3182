"""Checks and times `src/fused/cuda/recurrence_step.cu` and `causal_conv.cu`.

python3 recurrence.py [check[:CASES]] [time]
"""

import itertools
import math
import random

import torch

from card import (
    ODD,
    asked,
    compile_all,
    copy_bandwidth,
    masks,
    relative,
    replay,
    sample,
    source,
    spoils,
    start,
)

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

    def inputs(self):
        """Each input: a place of it, the heads that see it, and what infinity there spoils of y."""
        head, row, column = map(random.randrange, (self.value_heads, self.rows, self.key_dim))
        group = self.value_heads // self.key_heads
        key_head, keys = head // group, self.key_heads * self.key_dim
        key, value = key_head * self.key_dim + column, head * self.rows + row
        own, shared = slice(head, head + 1), slice(key_head * group, key_head * group + group)
        all_of_y = slice(None)
        yield self.before, (head, row, column), own, value
        yield self.raw, head, own, all_of_y
        if self.rule == DELTA:
            yield self.mixed, key, shared, all_of_y
            yield self.mixed, keys + key, shared, all_of_y
            yield self.mixed, 2 * keys + value, own, value
            yield self.rate, head, own, all_of_y
            yield self.gate, value, own, all_of_y
        else:
            values = self.value_heads * self.rows
            yield self.mixed, value, own, value
            yield self.mixed, values + key, shared, all_of_y
            yield self.mixed, values + keys + key, shared, all_of_y


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

        def run():
            launch(kernel, step)
            return [step.out.clone(), step.after.clone()]

        run()
        y, after = step.expected()
        errors = relative(step.out, y), relative(step.after, after)
        worst[step.x] = max(worst.get(step.x, 0), errors[0])
        if not (errors[0] < LIMITS[step.x] and errors[1] < 1e-5):
            bad += 1
            print("WRONG", errors, step.defines(), flush=True)
        for number, (array, place, heads, spoilt) in itertools.product(ODD, step.inputs()):
            reached = None

            def lost():
                y, after = (~it.isfinite() for it in step.expected())
                return [y & masks([y], (0, spoilt))[0] if reached else y, after]

            if number == math.inf:
                # An infinite sum of squares leaves zeros in the rest of its head, where float64 has
                # NaN already, as it adds up y in another order.
                of_y = slice(heads.start * step.rows, heads.stop * step.rows)
                reached = masks([y, after], (0, of_y), (1, heads))
            if not spoils(run, lost, array, place, number, reached):
                bad += 1
                print("NOT FINITE", number, place, heads, step.defines(), flush=True)
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

        def run():
            y, after = torch.empty_like(new), torch.empty_like(before)
            arrays = [before, new, weight, *([added] if bias else []), y, after]
            kernel.launch(-(-length * channels // 256), 256, 0, arrays, [length, channels])
            return [y, after]

        def expected():
            inputs = torch.cat([before, new])
            seen = inputs.double().unfold(0, k, 1)
            y = (seen * weight.double().T).sum(-1) + bias * added.double()
            return F.silu(y) if silu else y, inputs[length:]

        (y, after), (expected_y, expected_after) = run(), expected()
        error = relative(y, expected_y)
        if not (error < LIMITS[x] and torch.equal(after, expected_after)):
            bad += 1
            print("WRONG", error, x, k, bias, silu, length, channels, flush=True)
        # The positions that see it.
        at, channel = random.randrange(k - 1 + length), random.randrange(channels)
        reached = masks([y, after], (0, (slice(max(0, at - (k - 1)), at + 1), channel)))
        array, place = (before, at) if at < k - 1 else (new, at - (k - 1))
        for number in ODD:
            lost = lambda: [~it.isfinite() for it in expected()]
            if not spoils(run, lost, array, (place, channel), number, reached):
                bad += 1
                print("NOT FINITE", number, x, k, bias, silu, length, channels, flush=True)
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

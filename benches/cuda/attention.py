"""Checks and times `src/fused/cuda/decode_attention.cu` and what joins its shares.

python3 attention.py [check[:CASES]] [time]
"""

import functools
import itertools
import math
import random

import torch

from card import (
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

SOURCES = ("rows.cuh", "prepare.cuh", "decode_attention.cu"), ("decode_attention_join.cu",)
DTYPES = {0: torch.bfloat16, 1: torch.float16}
# Positions of a share, at least.
SHARE = 32
# Of keys and values, four positions for each thread.
STAGED = 2 * 4 * 2 * 16


class Case:
    """What a pair of kernels is compiled for, and sizes."""

    def __init__(
        self,
        x=0,
        dim=128,
        heads=4,
        rope=1,
        rope_dim=None,
        traditional=0,
        norm=0,
        cap=0,
        sinks=0,
        batch=1,
        kv_heads=8,
        at=(600,),
    ):
        self.x, self.dim, self.heads, self.rope, self.traditional = x, dim, heads, rope, traditional
        self.rope_dim = dim if rope_dim is None else rope_dim
        self.norm, self.cap, self.sinks, self.batch, self.kv_heads, self.at = (
            norm,
            cap,
            sinks,
            batch,
            kv_heads,
            at,
        )

    def defines(self):
        first = dict(
            X=self.x,
            DIM=self.dim,
            HEADS=self.heads,
            ROPE=self.rope,
            TRADITIONAL=self.traditional,
            ROPE_DIM=self.rope_dim,
            NORM=self.norm,
            CAP=self.cap,
        )
        return first, dict(X=self.x, DIM=self.dim, HEADS=self.heads, SINKS=self.sinks, SHARES=512)

    def shared_out(self):
        """For each row its first block, its shares, the place of its new position and its capacity;
        the blocks of all rows."""
        processors = torch.cuda.get_device_properties(0).multi_processor_count
        heads = self.batch * self.kv_heads
        seen = [at + 1 for at in self.at]
        share = max(SHARE, -(-sum(seen) // -(-2 * processors // heads)))
        table, blocks = [], 0
        for count in seen:
            shares = -(-count // share)
            table.append([blocks, shares, count - 1, (count + 255) // 256 * 256])
            blocks += heads * shares
        return table, blocks


def rotated(case, x, at, wavelengths, scale, gain):
    """x [..., dim] in float64 at a position."""
    d = case.rope_dim
    if not case.rope:
        return x
    angles = at * scale / wavelengths.double()
    cosine, sine = angles.cos(), angles.sin()
    part, rest = x[..., :d] * gain, x[..., d:]
    if case.traditional:
        a, b = part[..., 0::2], part[..., 1::2]
        part = torch.stack([a * cosine - b * sine, a * sine + b * cosine], -1).flatten(-2)
    else:
        a, b = part[..., : d // 2], part[..., d // 2 :]
        part = torch.cat([a * cosine - b * sine, a * sine + b * cosine], -1)
    return torch.cat([part, rest], -1)


def normed(case, x, weight, eps, dtype):
    if not case.norm:
        return x
    x = x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return (x * weight.double() if case.norm == 2 else x).to(dtype).double()


def addresses(caches):
    return torch.tensor([cache.data_ptr() for cache in caches], device="cuda")


def run(case, kernels, check=True):
    dtype, b, kv, g, d = DTYPES[case.x], case.batch, case.kv_heads, case.heads, case.dim
    table, blocks = case.shared_out()
    randn = lambda *shape: torch.randn(*shape, device="cuda").to(dtype)
    caches = []
    for _, _, at, capacity in table:
        for cache in (randn(b, kv, capacity, d), randn(b, kv, capacity, d)):
            cache[:, :, at + 1 :] = float("nan")
            caches.append(cache)
    rows = len(table)
    # Columns of one array.
    together = randn(rows * b, (g + 2) * kv * d)
    q, k, v = together.split([g * kv * d, kv * d, kv * d], -1)
    q, k, v = q.reshape(rows, b, -1, d), k.reshape(rows, b, -1, d), v.reshape(rows, b, -1, d)
    weights = [1 + 0.1 * randn(d) for _ in range(2)]
    places = addresses(caches)
    on_card = torch.tensor(table, dtype=torch.int32, device="cuda")
    base, scale, gain, eps, cap = 10000.0, 0.5, 1.1, 1e-5, 20.0
    exponents = torch.arange(0, case.rope_dim, 2, device="cuda").double() / max(case.rope_dim, 1)
    # With arrays, each row has its own.
    wavelengths = [(base * (1 + row * (case.rope == 2))) ** exponents for row in range(rows)]
    sinks = randn(kv * g)
    found = torch.full((blocks, g, d + 2), float("nan"), device="cuda")
    out = torch.full((rows, b, kv * g, d), float("nan"), device="cuda", dtype=dtype)
    before = [cache.clone() for cache in caches]
    extra = [torch.cat(wavelengths).float()] if case.rope == 2 else []
    extra += weights if case.norm == 2 else []
    width = together.shape[1]
    columns = [0, width, g * kv * d, width, (g + 1) * kv * d, width]
    numbers = [
        kv,
        *columns,
        rows,
        case.rope_dim // 2,
        b * kv,
        1 / math.sqrt(d),
        cap,
        math.log2(base),
        scale,
        gain,
        eps,
        eps,
    ]

    # The kernels know caches by their addresses alone, so somebody must keep them.
    def launch(_=caches):
        kernels[0].launch(
            blocks,
            256,
            256 * max(STAGED, 8 * 4 * g),
            [places, together, together, together, on_card, *extra, found],
            numbers,
        )
        kernels[1].launch(
            rows * b * kv * g,
            d,
            0,
            [found, *([sinks] if case.sinks else []), on_card, out],
            [b * kv, kv * g],
        )

    if not check:
        return launch, sum(2 * b * kv * (at + 1) * d * 2 for at in case.at)
    launch()
    torch.cuda.synchronize()
    error, intact = 0, True
    for row, at in enumerate(case.at):
        turn = lambda x, weight: rotated(
            case, normed(case, x.double(), weight, eps, dtype), at, wavelengths[row], scale, gain
        )
        query, key = turn(q[row], weights[0]), turn(k[row], weights[1])
        old, new = before[2 * row : 2 * row + 2], caches[2 * row : 2 * row + 2]
        seen_k, seen_v = (cache[:, :, : at + 1].double() for cache in old)
        seen_k[:, :, at], seen_v[:, :, at] = key.to(dtype).double(), v[row].double()
        query = query.reshape(b, kv, g, d)
        scores = torch.einsum("bkgd,bksd->bkgs", query, seen_k) / math.sqrt(d)
        if case.cap:
            scores = cap * (scores / cap).tanh()
        if case.sinks:
            each = sinks.double().reshape(1, kv, g, 1).expand(b, kv, g, 1)
            scores = torch.cat([scores, each], -1)
        share = scores.softmax(-1)[..., : at + 1]
        expected = torch.einsum("bkgs,bksd->bkgd", share, seen_v).reshape(b, kv * g, d)
        error = max(error, relative(out[row], expected))
        others = torch.arange(new[0].shape[2], device="cuda") != at
        bits = lambda cache: cache[:, :, others].view(torch.int16)
        intact &= all(torch.equal(bits(x), bits(y)) for x, y in zip(new, old))
        intact &= relative(new[0][:, :, at], key) < 6e-3 and torch.equal(new[1][:, :, at], v[row])
    intact &= keeps_apart(case, launch, together, caches, out)
    return error, intact


def keeps_apart(case, launch, together, caches, out):
    """Whether what is not finite in a row spoils what sees it, and no other row and head."""
    kv, g, d = case.kv_heads, case.heads, case.dim
    row, batch, head = (random.randrange(most) for most in (len(case.at), case.batch, kv))
    at, position, feature = case.at[row], row * case.batch + batch, random.randrange(d)
    outputs, heads = [out, *caches], slice(head * g, head * g + g)
    keys, values = 1 + 2 * row, 2 + 2 * row

    def run():
        launch()
        return [output.clone() for output in outputs]

    # A query, and a key, whose norm and rotation spoil more of it.
    query, column = head * g + random.randrange(g), (g * kv + head) * d + feature
    lost = masks(outputs, (0, (row, batch, query)))
    fine = spoils(run, lambda: lost, together, (position, query * d + feature), math.nan)
    lost = masks(outputs, (0, (row, batch, heads)), (keys, (batch, head, at, feature)))
    reached = masks(outputs, (keys, (batch, head, at)))
    fine &= spoils(run, lambda: lost, together, (position, column), math.nan, reached)
    # A value that was there before.
    if at:
        place = batch, head, random.randrange(at), feature
        lost = masks(outputs, (0, (row, batch, heads, feature)), (values, place))
        fine &= spoils(run, lambda: lost, caches[2 * row + 1], place, math.inf)
    return fine


def check(count):
    cases = [
        Case(x=x, dim=dim, heads=heads, kv_heads=kv, at=(at,), batch=batch)
        for x, (dim, heads, kv), (at, batch) in itertools.product(
            DTYPES,
            [(128, 4, 8), (64, 8, 4), (64, 1, 3), (256, 2, 2), (128, 7, 2), (256, 8, 1)],
            [(0, 1), (1, 2), (31, 1), (32, 1), (700, 1), (5000, 3)],
        )
    ]
    for more in (
        dict(rope=0),
        dict(rope=2),
        dict(traditional=1),
        dict(rope_dim=64),
        dict(rope_dim=32, traditional=1, rope=2),
        dict(norm=1),
        dict(norm=2),
        dict(cap=1),
        dict(sinks=1),
        dict(norm=2, cap=1, sinks=1, rope=2),
    ):
        cases += [Case(at=(at,), batch=batch, **more) for at, batch in [(0, 1), (77, 2), (1300, 1)]]
        cases += [Case(at=at, **more) for at in [(0, 5000, 1), (64, 63, 65, 700)]]
    for x, rows, rope in itertools.product(DTYPES, (2, 7, 16, 17, 32), (1, 2)):
        at = tuple(37 * row * row for row in range(rows))
        cases.append(Case(x=x, rope=rope, at=at))
    cases = sample(cases, count)
    keys = list({str(defines): defines for case in cases for defines in [case.defines()]}.items())
    texts = [source(*names) for names in SOURCES]
    kernels = compile_all([(text, pair[i]) for _, pair in keys for i, text in enumerate(texts)])
    pairs = {key: kernels[2 * i : 2 * i + 2] for i, (key, _) in enumerate(keys)}
    print(
        len(cases),
        "cases; spilled bytes at most",
        max(kernel.spilled for kernel in kernels),
        flush=True,
    )
    bad, worst = 0, {}
    for case in cases:
        error, intact = run(case, pairs[str(case.defines())])
        limit = {0: 6e-3, 1: 1e-3}[case.x]
        worst[case.x] = max(worst.get(case.x, 0), error)
        if not (error < limit and intact):
            bad += 1
            print("WRONG", error, intact, vars(case), flush=True)
    print("worst", worst, "wrong:", bad, "of", len(cases), flush=True)


def time(_):
    bandwidth = copy_bandwidth()
    print(torch.cuda.get_device_name(), f"copy {bandwidth / 1e9:.0f} GB/s", flush=True)
    case = Case()
    sources = [source(*names) for names in SOURCES]
    compiled = functools.cache(lambda rows: compile_all(list(zip(sources, case.defines()))))
    global SHARE
    positions = (100, 640, 2048, 8192, 32768)
    for rows, SHARE, at in itertools.product((1, 8, 32), (32, 64, 128), positions):
        case.at = (at,) * rows
        kernels = compiled(rows)
        launches = [
            run(case, kernels, check=False)
            for _ in range(max(2, min(32, int(4e8 / (4096 * rows * (at + 1))))))
        ]
        t = replay(lambda: [launch() for launch, _ in launches]) / len(launches)
        print(
            f"{rows} rows, 8 x 4 heads of 128, shares of {SHARE}, {at + 1} positions: "
            f"{t * 1e6:.1f} us, "
            f"{launches[0][1] / t / 1e9:.0f} GB/s",
            flush=True,
        )


if __name__ == "__main__":
    start()
    asked(["check", "time"], check=check, time=time)

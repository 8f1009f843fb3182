"""Checks and times `src/fused/cuda/chunk_place.cu`, `chunk_attention.cu` and what joins its shares.

python3 chunk_attention.py [check[:CASES]] [time]
"""

import itertools
import math
import random

import torch
import torch.nn.attention.bias

from attention import Case, DTYPES, addresses, normed, rotated
from card import asked, compile_all, masks, relative, replay, sample, source, spoils, start

PLACE = source("rows.cuh", "prepare.cuh", "chunk_place.cu")
ATTEND = source("rows.cuh", "chunk_attention.cu")
JOIN = source("chunk_attention_join.cu")


class Chunk(Case):
    """New positions of rows: for each how many it has before, and how many are new."""

    def __init__(self, rows=((0, 512),), share=None, **more):
        super().__init__(at=rows, **more)
        # Keys of a share; all of them where there is none.
        self.share = share
        self.tile = 64 if self.dim == 256 else 128

    def defines(self):
        place, join = super().defines()
        common = dict(X=self.x, DIM=self.dim, HEADS=self.heads, SINKS=self.sinks)
        attend = dict(**common, CAP=self.cap, SHARED=int(self.share is not None))
        return place, attend, dict(**common, TILE=self.tile)

    def tables(self):
        """Rows, tiles of the attention with the longest first, and tiles of the join."""
        rows, tiles, joined, first = [], [], [], 0
        for row, (before, length) in enumerate(self.at):
            rows.append([first, before, (before + length + 255) // 256 * 256, length])
            first += length
            step = self.tile // self.heads
            for position in range(0, length, step):
                end = before + min(position + step, length)
                share = self.share or end
                tiles.append(
                    [[row, position, at, min(at + share, end)] for at in range(0, end, share)]
                )
        tiles.sort(key=lambda shares: -shares[-1][3])
        for shares in tiles:
            joined.append([*shares[0][:2], sum(it[3] for it in joined), len(shares)])
        flat = [share for shares in tiles for share in shares]
        on_card = lambda table: torch.tensor(table, dtype=torch.int32, device="cuda")
        return on_card(rows), on_card(flat), on_card(joined)


def run(case, kernels, check=True):
    dtype, kv, g, d = DTYPES[case.x], case.kv_heads, case.heads, case.dim
    rows, tiles, joined = case.tables()
    randn = lambda *shape: torch.randn(*shape, device="cuda").to(dtype)
    caches = []
    for before, length in case.at:
        capacity = (before + length + 255) // 256 * 256
        for cache in (randn(1, kv, capacity, d), randn(1, kv, capacity, d)):
            cache[:, :, before:] = float("nan")
            caches.append(cache)
    count = sum(length for _, length in case.at)
    together = randn(count, (g + 2) * kv * d)
    weights = [1 + 0.1 * randn(d) for _ in range(2)]
    base, scale, gain, eps, cap = 10000.0, 0.5, 1.1, 1e-5, 20.0
    exponents = torch.arange(0, case.rope_dim, 2, device="cuda").double() / max(case.rope_dim, 1)
    wavelengths = [(base * (1 + r * (case.rope == 2))) ** exponents for r in range(len(case.at))]
    sinks = randn(kv * g)
    queries = torch.full((count, kv * g, d), float("nan"), device="cuda", dtype=dtype)
    places = addresses(caches)
    placed = torch.zeros(1, dtype=torch.int32, device="cuda")
    found = torch.full((len(tiles) * kv, case.tile, d + 2), float("nan"), device="cuda")
    out = torch.full((count, kv * g, d), float("nan"), device="cuda", dtype=dtype)
    before = [cache.clone() for cache in caches]
    extra = [torch.cat(wavelengths).float()] if case.rope == 2 else []
    extra += weights if case.norm == 2 else []
    width = together.shape[1]
    columns = [0, width, g * kv * d, width, (g + 1) * kv * d, width]
    of_sinks = [sinks] if case.sinks else []
    shared = case.share is not None

    def place():
        kernels[0].launch(
            count,
            256,
            0,
            [places, together, together, together, rows, *extra, queries, placed],
            [
                *[kv, *columns, len(case.at), case.rope_dim // 2],
                *[math.log2(base), scale, gain, eps, eps],
            ],
        )

    def attend():
        keys = 32 if d == 256 else 64
        kernels[1].launch(
            len(tiles) * kv,
            128,
            (case.tile + 4 * keys) * d * 2,
            [queries, places, rows, tiles, *([] if shared else of_sinks), found if shared else out],
            [kv, 1 / math.sqrt(d), cap],
        )
        if shared:
            kernels[2].launch(
                len(joined) * kv * case.tile, d, 0, [found, rows, joined, *of_sinks, out], [kv]
            )

    place()
    if not check:
        return place, attend
    attend()
    torch.cuda.synchronize()
    error, intact, first = 0, True, 0
    for row, (start_at, length) in enumerate(case.at):
        own = together[first : first + length].double()
        q, k, v = (
            part.reshape(length, -1, d) for part in own.split([g * kv * d, kv * d, kv * d], -1)
        )
        positions = torch.arange(start_at, start_at + length, device="cuda").double()[:, None, None]
        turn = lambda x, weight: rotated(
            case, normed(case, x, weight, eps, dtype), positions, wavelengths[row], scale, gain
        )
        query, key = turn(q, weights[0]), turn(k, weights[1])
        end = start_at + length
        old, new = before[2 * row : 2 * row + 2], caches[2 * row : 2 * row + 2]
        seen_k, seen_v = (cache[0, :, :end].double() for cache in old)
        seen_k[:, start_at:] = key.to(dtype).double().transpose(0, 1)
        seen_v[:, start_at:] = v.transpose(0, 1)
        query = query.to(dtype).double().reshape(length, kv, g, d)
        scores = torch.einsum("lkgd,ksd->lkgs", query, seen_k) / math.sqrt(d)
        if case.cap:
            scores = cap * (scores / cap).tanh()
        hidden = torch.arange(end, device="cuda")[None] > positions[:, :, 0]
        scores = scores.masked_fill(hidden[:, None, None], -math.inf)
        if case.sinks:
            each = sinks.double().reshape(1, kv, g, 1).expand(length, kv, g, 1)
            scores = torch.cat([scores, each], -1)
        share = scores.softmax(-1)[..., :end]
        expected = torch.einsum("lkgs,ksd->lkgd", share, seen_v).reshape(length, kv * g, d)
        error = max(error, relative(out[first : first + length], expected))
        bits = lambda cache, places: cache[0, :, places].view(torch.int16)
        for places_of in (slice(0, start_at), slice(end, None)):
            intact &= all(
                torch.equal(bits(x, places_of), bits(y, places_of)) for x, y in zip(new, old)
            )
        intact &= relative(new[0][0, :, start_at:end], key.transpose(0, 1)) < 6e-3
        intact &= torch.equal(new[1][0, :, start_at:end].double(), v.transpose(0, 1))
        first += length
    intact &= keeps_apart(case, lambda: [place(), attend()], together, caches, out)
    return error, intact


def keeps_apart(case, launch, together, caches, out):
    """Whether what is not finite in a row spoils what sees it, and no other row, head or position
    before."""
    kv, g, d = case.kv_heads, case.heads, case.dim
    row, head, feature = (random.randrange(most) for most in (len(case.at), kv, d))
    start_at, length = case.at[row]
    first, new = sum(length for _, length in case.at[:row]), random.randrange(length)
    position, at = first + new, start_at + new
    outputs, heads = [out, *caches], slice(head * g, head * g + g)
    seen_by, keys, values = slice(position, first + length), 1 + 2 * row, 2 + 2 * row

    def run():
        launch()
        return [output.clone() for output in outputs]

    # A query, and a key, whose norm and rotation spoil more of it.
    query, column = head * g + random.randrange(g), (g * kv + head) * d + feature
    lost = masks(outputs, (0, (position, query)))
    fine = spoils(run, lambda: lost, together, (position, query * d + feature), math.nan)
    lost = masks(outputs, (0, (seen_by, heads)), (keys, (0, head, at, feature)))
    reached = masks(outputs, (keys, (0, head, at)))
    fine &= spoils(run, lambda: lost, together, (position, column), math.nan, reached)
    # A value. A tile multiplies it with 0 for positions that do not see it, which NaN survives: of
    # positions before, it spares those of other tiles only.
    step, column = case.tile // g, column + kv * d
    lost = masks(outputs, (0, (seen_by, heads, feature)), (values, (0, head, at, feature)))
    of_tile = slice(first + new // step * step, position)
    reached = masks(outputs, (0, (of_tile, heads, feature)))
    fine &= spoils(run, lambda: lost, together, (position, column), math.nan, reached)
    # One that was there before.
    if start_at:
        known = 0, head, random.randrange(start_at), feature
        of_out = slice(first, first + length), heads, feature
        lost = masks(outputs, (0, of_out), (values, known))
        fine &= spoils(run, lambda: lost, caches[2 * row + 1], known, math.inf)
    return fine


def check(count):
    sizes = [
        ((0, 1),),
        ((0, 2),),
        ((0, 130),),
        ((3, 31),),
        ((700, 65),),
        ((5000, 9),),
        ((64, 600),),
    ]
    cases = [
        Chunk(x=x, dim=dim, heads=heads, kv_heads=kv, rows=rows, share=share)
        for x, (dim, heads, kv), rows, share in itertools.product(
            DTYPES,
            [
                (128, 4, 8),
                (64, 8, 4),
                (64, 1, 3),
                (256, 2, 2),
                (128, 7, 2),
                (256, 8, 1),
                (128, 5, 1),
            ],
            sizes,
            (None, 128, 320),
        )
    ]
    mixed = ((0, 5), (100, 1), (31, 200), (1000, 64), (0, 1))
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
        cases += [
            Chunk(rows=rows, share=share, **more)
            for rows, share in itertools.product([((77, 40),), mixed], (None, 256))
        ]
    many = tuple((37 * row, 1 + row * row % 90) for row in range(32))
    cases += [Chunk(x=x, rows=many, rope=rope) for x in DTYPES for rope in (1, 2)]
    cases = sample(cases, count)
    texts = (PLACE, ATTEND, JOIN)
    wanted = {str(pair): pair for case in cases for pair in zip(texts, case.defines())}
    compiled = dict(zip(wanted, compile_all(list(wanted.values()))))
    spilled = max(kernel.spilled for kernel in compiled.values())
    print(len(cases), "cases; spilled bytes at most", spilled, flush=True)
    bad, worst = 0, {}
    for case in cases:
        error, intact = run(case, [compiled[str(pair)] for pair in zip(texts, case.defines())])
        limit = {0: 6e-3, 1: 1e-3}[case.x]
        worst[case.x] = max(worst.get(case.x, 0), error)
        if not (error < limit and intact):
            bad += 1
            print("WRONG", error, intact, vars(case), flush=True)
    print("worst", worst, "wrong:", bad, "of", len(cases), flush=True)


def time(_):
    """Beside PyTorch's attention, cuDNN's or FlashAttention, of as many queries and keys."""
    print(torch.cuda.get_device_name(), flush=True)
    for rows, share in [
        *[
            (((before, length),), None)
            for before, length in [(0, 128), (0, 512), (0, 2048), (2048, 2048), (14336, 2048)]
        ],
        (((0, 64),) * 32, None),
        (((0, 512),) * 4, None),
        (((512, 8),) * 32, None),
        *[(((16384, 8),), share) for share in (None, 256, 512, 1024)],
        *[(((4096, 64),), share) for share in (None, 256, 512, 1024)],
    ]:
        case = Chunk(rows=rows, share=share)
        kernels = compile_all(list(zip((PLACE, ATTEND, JOIN), case.defines())))
        place, attend = run(case, kernels, check=False)
        place_time, time = (
            replay(lambda: [launch() for _ in range(8)]) / 8 for launch in (place, attend)
        )
        products = sum(length * (before + length / 2) for before, length in rows)
        flops = 4 * products * case.dim * case.heads * case.kv_heads
        theirs = float("nan")
        if len(rows) == 1:
            [(before, length)] = rows
            randn = lambda heads, count: torch.randn(
                1, heads, count, 128, device="cuda", dtype=torch.bfloat16
            )
            q, k, v = randn(32, length), randn(32, before + length), randn(32, before + length)
            mask = torch.nn.attention.bias.causal_lower_right(length, before + length)
            ask = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            theirs = replay(lambda: [ask() for _ in range(8)]) / 8
        print(
            f"{len(rows)} x {rows[0]}, shares of {share}: places {place_time * 1e6:.1f} us, "
            f"attention {time * 1e6:.1f} us, {flops / time / 1e12:.0f} TFLOP/s; "
            f"PyTorch {theirs * 1e6:.1f} us",
            flush=True,
        )


if __name__ == "__main__":
    start()
    asked(["check", "time"], check=check, time=time)

"""Checks and times experts: `src/fused/cuda/route.cu`, and `few_rows.cu` with chosen matrices.

python3 experts.py [check[:CASES]] [sweep]
"""

import itertools
import random

import torch
from card import (
    KERNELS,
    ODD,
    asked,
    compile_all,
    copy_bandwidth,
    masks,
    relative,
    replay,
    sample,
    spoils,
    start,
)
from few_rows import (
    ACTIVATIONS,
    AFFINE,
    BF16,
    DTYPES,
    EPS,
    F16,
    F32,
    MODULES,
    MXFP4,
    NVFP4,
    drawn,
    packed,
    prepare,
    unshaped,
)

ROUTE = "".join((KERNELS / name).read_text() for name in ("logits.cuh", "choose.cuh", "route.cu"))


def spec(x, fmt, bits, group, k, which, active, gated=1, **more):
    """The settings of a product but for its shape."""
    gated = gated if which == 1 else 0
    return unshaped(x, fmt, bits, group, 1, k, gated=gated, experts=which, active=active, **more)


def launch(made, arrays, outputs, inputs, rows, *more):
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    tiles = -(-outputs // (16 * made.tiles // (2 if made.gated else 1)))
    blocks = rows * min(tiles, max(1, processors * made.blocks // rows))
    padded = made.shared(inputs)
    numbers = [outputs, inputs, rows, *more]
    MODULES[made.key()].launch(blocks, 32 * made.warps, padded, arrays, numbers)


def stacked(fmt, bits, group, experts, n, k, dtype):
    arrays, matrix = packed(fmt, bits, group, experts * n, k, dtype)
    return arrays, matrix.reshape(experts, n, k)


def check_products(count):
    cases = list(
        itertools.product(
            [(AFFINE, 4, 64), (AFFINE, 8, 64), (AFFINE, 4, 32), (AFFINE, 3, 128), (MXFP4, 4, 32)]
            + [(NVFP4, 4, 16)],
            DTYPES,
            # Experts, chosen, features, hidden features.
            [(8, 2, 512, 256), (16, 4, 640, 384), (6, 6, 1024, 768), (5, 1, 256, 1152)],
            (1, 3, 16),
        )
    )
    random.seed(2)
    cases = sample(cases, count or 90)
    wrong, worst = 0, {}
    wanted, work = 0, []
    for (fmt, bits, group), x, (experts, active, k, hidden), rows in cases:
        gated = random.choice((1, 2, 3, 4))
        # Known experts, or logits that choose them, and then x is normed, too.
        routed = random.choice((None, 0, 1, 2))
        more = {} if routed is None else dict(norm=1, routed=experts, scoring=routed)
        up = spec(x, fmt, bits, group, k, 1, active, gated=gated, **more)
        down = spec(x, fmt, bits, group, hidden, 2, active)
        if min(up.scale_bytes, down.scale_bytes) < 4:
            continue
        wanted += 1
        up, down = drawn(up, active * hidden, k, rows), drawn(down, k, hidden, rows)
        if up and down:
            work.append((up, down, experts, active, k, hidden, rows))
    prepare([made for case in work for made in case[:2]])
    spilled = max(kernel.spilled for kernel in MODULES.values())
    print(wanted - len(work), "of", wanted, "products have no shape that fits")
    print(len(work), "cases; spilled", spilled, flush=True)
    for up, down, experts, active, k, hidden, rows in work:
        dtype = DTYPES[up.x]
        form = (up.fmt, up.bits, up.group)
        (gates, gate_matrix), (ups, up_matrix) = (
            stacked(*form, experts, hidden, k, dtype) for _ in range(2)
        )
        downs, down_matrix = stacked(*form, experts, k, hidden, dtype)
        # Small enough for float16 behind all products.
        x = (torch.randn(rows, k, device="cuda") * 0.02).to(dtype)
        # No two alike, of which either may be chosen.
        logits = torch.rand(rows, experts, device="cuda").argsort(-1).to(dtype) / 4 - 2
        correction = torch.randn(experts, device="cuda") * 0.1
        scores = logits.double()
        if up.routed:
            scores = [scores.softmax(-1), scores, scores.sigmoid()][up.scoring]
        ranks = scores + (correction.double() if up.scoring == 2 else 0)
        chosen = ranks.topk(active, -1).indices
        weights = torch.rand(rows, active, device="cuda")
        wide, scale = x.double(), 0.02
        if up.routed:
            weights = scores.gather(-1, chosen)
            weights = weights.softmax(-1) if up.scoring == 1 else weights
            weights = weights / weights.sum(-1, keepdim=True) * scale
            norm_weight = (1 + 0.2 * torch.randn(k, device="cuda")).to(dtype)
            wide = wide / (wide.pow(2).mean(-1, keepdim=True) + EPS).sqrt() * norm_weight.double()
        width = active * hidden

        def run():
            """The hidden features, what comes out, and the chosen experts."""
            inside = torch.full((rows, width), float("nan"), device="cuda", dtype=dtype)
            out = torch.full((rows, k), float("nan"), device="cuda", dtype=dtype)
            if up.routed:
                ids = torch.full((rows, active), -1, device="cuda", dtype=torch.int32)
                before = [x, norm_weight, logits] + ([correction] if up.scoring == 2 else [])
                arrays = [*before, *gates, *ups, inside, ids]
                launch(up, arrays, width, k, rows, EPS, scale)
            else:
                ids = chosen.to(torch.int32)
                launch(up, [x, ids, weights, *gates, *ups, inside], width, k, rows)
            launch(down, [inside, ids, *downs, out], k, hidden, rows)
            torch.cuda.synchronize()
            return [inside, out, ids]

        outputs = inside, out, ids = run()
        gate = torch.einsum("rk,rahk->rah", wide, gate_matrix[chosen])
        value = torch.einsum("rk,rahk->rah", wide, up_matrix[chosen])
        value = ACTIVATIONS[up.gated - 1](gate) * value * weights[..., None].double()
        result = torch.einsum("rah,rakh->rk", value, down_matrix[chosen])
        limit = {BF16: 1e-2, F16: 1.5e-3, F32: 6e-5}[up.x]
        # The order of the experts is free.
        order = [row.argsort(-1) for row in (ids.long(), chosen)]
        pick = lambda values, at: values.reshape(rows, active, hidden).gather(
            1, at[..., None].expand(-1, -1, hidden)
        )
        inside, value = (
            pick(values, at).reshape(rows, -1) for values, at in zip((inside, value), order)
        )
        # What the type has no room for is infinite.
        fits = result.abs() < 0.999 * torch.finfo(out.dtype).max
        beyond = result.abs() > 1.001 * torch.finfo(out.dtype).max

        def error(found, expected, where):
            """Relative to all that is expected, or to the least numbers with all digits."""
            least = torch.finfo(dtype).smallest_normal * found.numel() ** 0.5
            difference = found[where].double() - expected[where]
            return float(difference.norm() / (expected.norm() + least))

        errors = error(inside, value, slice(None)), error(out, result, fits)
        are_chosen = torch.equal(ids.long().sort(-1).values, chosen.sort(-1).values)
        if not (are_chosen and out[beyond].isinf().all()):
            errors = float("inf"), *errors
        worst[up.x] = max(worst.get(up.x, 0), *errors)
        if not all(error < limit for error in errors):
            wrong += 1
            print("WRONG", errors, up.defines(), experts, k, hidden, rows, flush=True)
        # A row spoils itself, a weight the hidden features of its expert before.
        number, row, at = random.choice(ODD), random.randrange(rows), random.randrange(active)
        lost = masks(outputs, (0, row), (1, row))
        fine = spoils(run, lambda: lost, x, (row, random.randrange(k)), number)
        if not up.routed:
            own = row, slice(at * hidden, at * hidden + hidden)
            lost = masks(outputs, (0, own), (1, row))
            fine &= spoils(run, lambda: lost, weights, (row, at), number)
        if not fine:
            wrong += 1
            print("NOT FINITE", number, up.defines(), experts, k, hidden, rows, flush=True)
    print("products:", {key: f"{error:.1e}" for key, error in worst.items()}, "wrong:", wrong)


def check_choices(count):
    wrong = 0
    cases = list(
        itertools.product(
            DTYPES, [(8, 2), (60, 4), (128, 8), (512, 10), (64, 1), (32, 32)], (0, 1, 2), (0, 1)
        )
    )
    cases = sample(cases, count)
    settings = [
        dict(
            X=x,
            ROUTED=experts,
            ACTIVE=active,
            SCORING=scoring,
            NORMALIZE=normalize,
            CORRECTED=int(scoring == 2),
        )
        for x, (experts, active), scoring, normalize in cases
    ]
    kernels = compile_all([(ROUTE, one) for one in settings])
    for kernel, (x, (experts, active), scoring, normalize) in zip(kernels, cases):
        rows = 7
        logits = torch.randn(rows, experts, device="cuda").to(DTYPES[x])
        logits[3, : experts // 2] = logits[3, 0]
        logits[5, experts // 3] = float("nan")
        correction = torch.randn(experts, device="cuda") * 0.1
        chosen = torch.full((rows, active), -1, device="cuda", dtype=torch.int32)
        weights = torch.full((rows, active), float("nan"), device="cuda")
        more = [correction] if scoring == 2 else []
        kernel.launch(2, 128, 0, [logits, *more, chosen, weights], [rows, 1.5])
        torch.cuda.synchronize()
        ids = chosen.long()
        fine = ((ids >= 0) & (ids < experts)).all() and all(
            len(set(row.tolist())) == active for row in ids
        )
        wide = logits.double()
        scores = [wide.softmax(-1), wide, wide.sigmoid()][scoring]
        ranks = scores + correction.double() if scoring == 2 else scores
        finite = [row for row in range(rows) if row != 5]
        taken = ranks.gather(-1, ids.clamp(0, experts - 1))[finite].sort(-1).values
        best = ranks[finite].topk(active, -1).values.sort(-1).values
        expected = scores.gather(-1, ids.clamp(0, experts - 1))
        if scoring == 1:
            expected = expected.softmax(-1)
        if normalize:
            expected = expected / expected.sum(-1, keepdim=True)
        error = relative(weights[finite], expected[finite] * 1.5)
        if not (fine and torch.allclose(taken, best, atol=1e-6) and error < 1e-5):
            wrong += 1
            print("WRONG", x, experts, active, scoring, normalize, bool(fine), error, flush=True)
    print("choices:", len(cases), "wrong:", wrong, flush=True)


def check(count):
    check_choices(count)
    check_products(count)


def sweep():
    """The experts of a 30B model with 3B active: 128 experts, 8 of a row, 768 hidden features."""
    bandwidth = copy_bandwidth()
    print(torch.cuda.get_device_name(), f"copy {bandwidth / 1e9:.0f} GB/s", flush=True)
    experts, active, k, hidden, fmt = 128, 8, 2048, 768, (AFFINE, 4, 64)
    shapes = itertools.product((1, 2), (4, 8, 16), ((2, 1), (3, 1), (4, 1), (2, 2), (3, 2), (2, 4)))
    shapes = [
        (tiles, warps, *more, 0) for tiles, warps, more in shapes if 8 <= warps * more[1] <= 32
    ]
    made = {}
    for which, inputs in ((1, k), (2, hidden)):
        specs = [spec(BF16, *fmt, inputs, which, active).shaped(*shape) for shape in shapes]
        made[which] = [one for one in specs if one.fits(inputs)]
    prepare(made[1] + made[2])
    sets = []
    for _ in range(6):
        q = [
            torch.empty(experts * 3 * hidden * k // 2, device="cuda", dtype=torch.uint8).random_()
            .chunk(3)
        ][0]
        s = (torch.rand(6, experts * hidden * k // 64, device="cuda") * 0.01).bfloat16()
        sets.append((q, s))
    for rows in (1, 2, 4, 8, 16):
        x = torch.randn(rows, k, device="cuda").bfloat16()
        inside = torch.randn(rows, active * hidden, device="cuda").bfloat16()
        out = torch.empty(rows, k, device="cuda", dtype=torch.bfloat16)
        weights = torch.rand(rows, active, device="cuda")
        ids = [
            torch.stack(
                [torch.randperm(experts, device="cuda")[:active] for _ in range(rows)]
            ).int()
            for _ in range(8)
        ]
        for which in (1, 2):
            size = rows * active * hidden * k * (2 if which == 1 else 1) * 4.5 / 8
            results = []
            for one in made[which]:

                def launches():
                    for chosen in ids:
                        for q, s in sets:
                            gate, up, down = [q[0], *s[:2]], [q[1], *s[2:4]], [q[2], *s[4:]]
                            if which == 1:
                                arrays = [x, chosen, weights, *gate, *up, inside]
                                launch(one, arrays, active * hidden, k, rows)
                            else:
                                launch(one, [inside, chosen, *down, out], k, hidden, rows)

                t = replay(launches, 5) / (len(ids) * len(sets))
                name = f"t{one.tiles}w{one.warps}s{one.stages}b{one.blocks}"
                results.append((t * 1e6, name))
            results.sort()
            best = results[0][0]
            print(
                f"experts {'gate_up' if which == 1 else 'down':8} rows {rows:2} {best:.1f} us "
                f"{size / best * 1e6 / bandwidth:.2f} ",
                " ".join(f"{name}:{t:.1f}" for t, name in results[:6]),
                flush=True,
            )


if __name__ == "__main__":
    start()
    asked(["check"], check=check, sweep=lambda _: sweep())

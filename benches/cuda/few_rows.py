"""Checks and times `src/fused/cuda/few_rows.cu`.

python3 few_rows.py [check[:CASES]] [sweep] [rows] [plain] [profile]
"""

import copy
import itertools
import math
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
    shared_memory,
    spoils,
    start,
)

SOURCE = "".join(
    (KERNELS / name).read_text()
    for name in ("choose.cuh", "activation.cuh", "product.cuh", "few_rows.cu")
)
PLAIN, AFFINE, MXFP4, MXFP8, NVFP4 = range(5)
BF16, F16, F32 = range(3)
DTYPES = {BF16: torch.bfloat16, F16: torch.float16, F32: torch.float32}
F = torch.nn.functional
ACTIVATIONS = [F.silu, F.gelu, lambda x: F.gelu(x, approximate="tanh"), F.relu]
EPS = 1e-5


class Spec:
    """The settings of a kernel; see the source."""

    def __init__(
        self,
        x,
        fmt,
        bits,
        group,
        cols,
        tiles=1,
        stages=2,
        blocks=1,
        scale_bytes=4,
        stream_x=0,
        norm=0,
        norm_weight=None,
        gated=0,
        warps=8,
        experts=0,
        active=1,
        routed=0,
        scoring=0,
    ):
        self.x, self.fmt, self.bits, self.group = x, fmt, bits, group
        self.cols, self.tiles, self.stages, self.blocks = cols, tiles, stages, blocks
        self.scale_bytes, self.stream_x = scale_bytes, stream_x
        self.norm, self.norm_weight = norm, int(bool(norm)) if norm_weight is None else norm_weight
        self.gated, self.warps = gated, warps
        self.experts, self.active = experts, active
        self.routed, self.scoring = routed, scoring

    def key(self):
        return tuple(vars(self).values())

    def shaped(self, tiles, warps, stages, blocks, stream_x):
        """The same with another shape."""
        made = copy.copy(self)
        made.tiles, made.warps, made.stages = tiles, warps, stages
        made.blocks, made.stream_x = blocks, stream_x
        return made

    def defines(self):
        return dict(
            X=self.x,
            FORMAT=self.fmt,
            BITS=self.bits or 16,
            GROUP=self.group or 64,
            COLS=self.cols,
            TILES=self.tiles,
            STAGES=self.stages,
            BLOCKS=self.blocks,
            SCALE_BYTES=self.scale_bytes,
            STREAM_X=self.stream_x,
            NORM=self.norm,
            NORM_WEIGHT=self.norm_weight,
            GATED=self.gated,
            WARPS=self.warps,
            EXPERTS=self.experts,
            ACTIVE=self.active,
            ROUTED=self.routed,
            SCORING=self.scoring,
            NORMALIZE=1,
            CORRECTED=int(self.scoring == 2),
        )

    @property
    def chunk(self):
        return 128 if self.fmt == PLAIN else 256

    @property
    def weight_bits(self):
        return 16 if self.fmt == PLAIN else self.bits

    @property
    def entry_bytes(self):
        return (4 if self.x == F32 else 2) if self.fmt == AFFINE else 1

    def shared(self, k):
        row_bytes = self.chunk * self.weight_bits // 8
        stride = row_bytes if row_bytes % 128 == 0 else row_bytes + 16
        rows, unit = 16 * self.tiles, 32 if self.fmt == PLAIN else min(self.group, 64)
        arrays = {PLAIN: 0, AFFINE: 2}.get(self.fmt, 1)
        scales = 0 if self.fmt == PLAIN else self.chunk // self.group * self.entry_bytes
        stage = (
            rows * stride
            + arrays * rows * scales
            + (self.cols * self.chunk * 2 if self.stream_x else 0)
        )
        padded = -(-k // self.chunk) * self.chunk * (self.active if self.experts == 2 else 1)
        operand = (
            0
            if self.stream_x
            else padded * self.cols * 2
            + (padded // unit * self.cols * 4 if self.fmt == AFFINE else 0)
        )
        turns = 2 if self.cols < 8 else 1
        return (
            operand + turns * self.warps * rows * self.cols * 4 + self.warps * self.stages * stage
        )

    def fits(self, k):
        fixed = 1024 if self.norm or self.experts else 0
        return self.shared(k) <= shared_memory(self.blocks) - fixed


def scale_bytes(fmt, group, entry_bytes, k):
    if fmt == PLAIN:
        return 4
    return math.gcd(math.gcd(k // group * entry_bytes, 256 // group * entry_bytes), 16)


MODULES = {}


def prepare(specs):
    """Compiles what is not there yet, all at once."""
    missing = {spec.key(): spec for spec in specs if spec.key() not in MODULES}
    kernels = compile_all([(SOURCE, spec.defines()) for spec in missing.values()])
    MODULES.update(zip(missing, kernels))


def launch(spec, arrays, n, k, m, eps=None):
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    # Blocks next to each other work for other rows, as many as the operand has columns.
    groups = -(-m // (spec.cols // (3 if spec.x == F32 else 1)))
    blocks = groups * min(-(-n // (16 * spec.tiles)), max(1, processors * spec.blocks // groups))
    numbers = [n, k, m] + ([eps] if spec.norm else [])
    MODULES[spec.key()].launch(blocks, 32 * spec.warps, spec.shared(k), arrays, numbers)


E2M1 = torch.tensor(
    [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=torch.float64
)


def packed(fmt, bits, group, n, k, dtype):
    """Random weights in MLX's layout: arrays, and the matrix in float64."""
    if fmt == PLAIN:
        w = torch.randn(n, k, device="cuda").to(dtype)
        return [w], w.double()
    q = torch.randint(0, 2**bits, (n, k), device="cuda")
    if fmt == MXFP8:
        q[(q & 0x7F) == 0x7F] = 0x11
    stream = (q[:, :, None] >> torch.arange(bits, device="cuda")) & 1
    bytes_ = (
        (stream.reshape(n, k * bits // 8, 8) << torch.arange(8, device="cuda"))
        .sum(-1)
        .to(torch.uint8)
    )
    groups = k // group
    if fmt == AFFINE:
        s = (torch.rand(n, groups, device="cuda") * 0.02 + 0.001).to(dtype)
        b = (-(2 ** (bits - 1)) * s.float() + 0.01 * torch.randn(n, groups, device="cuda")).to(
            dtype
        )
        w = q.double().reshape(n, groups, group) * s.double()[..., None] + b.double()[..., None]
        return [bytes_, s, b], w.reshape(n, k)
    if fmt == MXFP8:
        values = bytes_.reshape(n, k).view(torch.float8_e4m3fn).double()
    else:
        values = E2M1.cuda()[q]
    if fmt == NVFP4:
        scales = (torch.rand(n, groups, device="cuda") * 4 + 0.05).to(torch.float8_e4m3fn)
        factors = scales.double()
        scales = scales.view(torch.uint8)
    else:
        scales = torch.randint(118, 130, (n, groups), device="cuda").to(torch.uint8)
        factors = torch.exp2(scales.double() - 127)
    return [bytes_, scales], (values.reshape(n, groups, group) * factors[..., None]).reshape(n, k)


def columns(m, x):
    return next(c for c in (1, 2, 4, 8, 16) if c >= min(16, m * (3 if x == F32 else 1)))


def shapes(spec, n, k, m):
    """The shapes that the Rust side tries, the best first: tiles, warps, stages, blocks, stream_x.
    The table is that of `shapes()` in few_rows.rs, line by line."""
    plain, cols, experts = spec.fmt == PLAIN, spec.cols, spec.experts
    long, wide = k >= 8 * 1024, n >= 16 * 1024
    table = [
        (experts == 1, (2, 4, 2, 4, 0)),
        (experts == 2 and m == 1, (1, 8, 3, 2, 0)),
        (experts == 2, (2, 8, 2, 2, 0)),
        (plain and cols == 1, (1, 8, 4, 1, 0)),
        (plain and cols == 16, (2, 8, 2, 1, 1)),
        (plain, (1, 8, 4, 1, 1)),
        (spec.bits > 6 and cols == 1, (1, 8, 2, 2, 0)),
        (spec.bits > 6 and cols <= 4 and not wide, (1, 8, 3, 1, 0)),
        (cols >= 8 and long, (2, 8, 2, 1, 1)),
        (spec.bits > 6, (1, 16, 2, 1, 0)),
        (cols == 1 and n >= 64 * 1024, (2, 8, 2, 2, 0)),
        (cols == 1 and wide, (2, 8, 3, 1, 0)),
        (cols <= 4 and long, (2, 8, 2, 1, 0)),
        (cols == 1 and n <= 4 * 1024, (1, 4, 3, 2, 0)),
        (cols <= 4 and not wide, (1, 8, 3, 1, 0)),
        (cols <= 4, (2, 8, 3, 1, 0)),
        (cols == 8 and wide, (2, 16, 2, 1, 0)),
        (True, (1, 16, 2, 1, 0)),
    ]
    others = [(1, 16, 2, 1, 0), (1, 8, 3, 1, 0), (1, 8, 2, 1, 0)]
    others += [(2, 8, 3, 1, 1), (2, 8, 2, 1, 1), (1, 8, 2, 1, 1), (1, 4, 2, 1, 0)]
    return [next(shape for holds, shape in table if holds), *others]


def fitting(spec, n, k, m):
    """A product with each of these shapes that it can have and that fits on the card."""
    can_stream = not spec.norm and not spec.experts and spec.x != F32 and spec.fmt != NVFP4
    # A tile has gates and ups of one expert.
    whole = lambda made: spec.experts != 1 or n // spec.active % (8 * made.tiles) == 0  # noqa: E731
    found = [spec.shaped(*shape) for shape in shapes(spec, n, k, m)]
    found = [made for made in found if whole(made) and (can_stream or not made.stream_x)]
    return [made for made in found if made.fits(k)]


def unshaped(x, fmt, bits, group, m, k, **more):
    """The settings of a product but for its shape."""
    spec = Spec(x, fmt, bits, group, columns(m, x), **more)
    spec.scale_bytes = scale_bytes(fmt, group, spec.entry_bytes, k)
    return spec


def drawn(spec, n, k, m):
    """A product with one of the shapes that the Rust side has for it, or for more outputs: every
    second time the best that fits. None where none does."""
    found = [fitting(spec, outputs, k, m) for outputs in (n, 16 * 1024, 64 * 1024)]
    found = [specs for specs in found if specs]
    if not found:
        return None
    specs = random.choice(found)
    return random.choice((specs[0], random.choice(specs)))


def inputs_of(spec, weights, n, k, m):
    """Arrays of a matrix, which `weights` keeps, its numbers in float64, and rows of x."""
    dtype = DTYPES[spec.x]
    key = (spec.fmt, spec.bits, spec.group, n, k, dtype)
    if key not in weights:
        weights[key] = packed(spec.fmt, spec.bits, spec.group, n, k, dtype)
    # Now and then x begins where no 16 bytes do.
    shift = random.choice((0, 0, 0, 1))
    x = (torch.randn(m * k + shift, device="cuda") + 0.1).to(dtype)[shift:].reshape(m, k)
    return *weights[key], x


def activated(y, gated):
    """What is gated of a product, if it is."""
    if not gated:
        return y
    gate, up = y.chunk(2, -1)
    return ACTIVATIONS[gated - 1](gate) * up


def check(count=300):
    random.seed(1)
    formats = [(AFFINE, b, g) for b in (4, 8) for g in (32, 64, 128)] + [
        (AFFINE, b, g) for b in (2, 3, 5, 6) for g in (32, 64, 128)
    ]
    formats += [(PLAIN, 0, 0), (MXFP4, 4, 32), (MXFP8, 8, 32), (NVFP4, 4, 16)]
    sizes = [(24, 256), (100, 512), (1000, 1152), (4104, 640), (520, 4096), (264, 14336)]
    wanted = []
    for (fmt, bits, group), x in itertools.product(formats, DTYPES):
        if x == F32 and fmt == PLAIN:
            continue
        main = fmt in (PLAIN,) or (fmt == AFFINE and bits in (4, 8))
        for n, k in sizes:
            for m in (1, 2, 3, 5, 8, 11, 16, 17, 33, 64) if main and x != F32 else (1, 2, 5, 19):
                if fmt and (k % 256 and (bits in (3, 5, 6)) and k * bits // 8 % 16):
                    continue
                wanted.append((unshaped(x, fmt, bits, group, m, k), n, k, m, False))
    # Norms and gates.
    for (fmt, bits, group), x, (n, k), m in itertools.product(
        [(AFFINE, 4, 64), (AFFINE, 8, 64), (PLAIN, 0, 0), (AFFINE, 4, 32)],
        DTYPES,
        sizes[1:5],
        (1, 3, 8, 21),
    ):
        if x == F32 and (fmt == PLAIN or m == 8):
            continue
        for more in (
            dict(norm=1),
            dict(norm=2),
            dict(norm=2, gated=1),
            dict(norm=1, norm_weight=0),
            dict(gated=2),
            dict(gated=3),
            dict(gated=4),
            dict(gated=1),
        ):
            wanted.append((unshaped(x, fmt, bits, group, m, k, **more), n, k, m, True))
    wanted = [case for case in wanted if case[0].scale_bytes >= 4]
    cases = [(drawn(spec, n, k, m), n, k, m, fused) for spec, n, k, m, fused in wanted]
    cases = [case for case in cases if case[0]]
    print(len(wanted) - len(cases), "of", len(wanted), "products have no shape that fits")
    random.shuffle(cases)
    seen = set()

    def is_known(case):
        spec = case[0]
        kind = spec.fmt, spec.tiles, spec.warps, spec.stages, spec.blocks, spec.stream_x
        known = kind in seen
        seen.add(kind)
        return known

    # Each format comes with each of its shapes first.
    cases = sorted(cases, key=is_known)[:count]
    print(len(cases), "cases", len({c[0].key() for c in cases}), "kernels", flush=True)
    prepare([c[0] for c in cases])
    print(
        "compiled; spilled bytes at most",
        max(m.spilled for m in MODULES.values()),
        "image bytes",
        sorted({m.size for m in MODULES.values()})[::20],
        flush=True,
    )
    worst, bad = {}, 0
    weights = {}
    for spec, n, k, m, fused in cases:
        dtype = DTYPES[spec.x]
        arrays, w, x = inputs_of(spec, weights, n, k, m)
        randn = lambda *shape: torch.randn(*shape, device="cuda")  # noqa: E731
        inputs = [x, randn(m, k).to(dtype)] if spec.norm == 2 else [x]
        weight = [(1 + 0.2 * randn(k)).to(dtype)] if spec.norm_weight else []
        width = n // 2 if spec.gated else n

        def run():
            """The product, and the sum if there is one."""
            outputs = [torch.full((m, width), float("nan"), device="cuda", dtype=dtype)]
            outputs += [torch.full_like(delta, float("nan")) for delta in inputs[1:]]
            launch(spec, [*inputs, *weight, *arrays, *outputs], n, k, m, EPS)
            torch.cuda.synchronize()
            return outputs

        total = sum(inputs)
        h = total.double()
        if spec.norm:
            h = h / (h.pow(2).mean(-1, keepdim=True) + EPS).sqrt()
            h = h * weight[0].double() if weight else h
        outputs = run()
        error = relative(outputs[0], activated(h @ w.T, spec.gated))
        if spec.norm == 2 and not torch.equal(outputs[1], total):
            error = float("nan")
        limit = {BF16: 4e-3, F16: 6e-4, F32: 3e-5}[spec.x] * (2 if spec.gated or spec.norm else 1)
        name = (spec.fmt, spec.bits, spec.group, spec.x, fused)
        worst[name] = max(worst.get(name, 0), error if error == error else 9e9)
        if not error < limit:
            bad += 1
            if bad < 30:
                print("WRONG", error, spec.defines(), n, k, m, flush=True)
        # What is not finite spoils all outputs of its row, and its place of the sum.
        number, place = random.choice(ODD), (random.randrange(m), random.randrange(k))
        lost = masks(outputs, *[(0, place[0]), (1, place)][: len(outputs)])
        if not spoils(run, lambda: lost, random.choice(inputs), place, number):
            bad += 1
            print("NOT FINITE", number, spec.defines(), n, k, m, flush=True)
    for name, error in worst.items():
        print(name, f"{error:.1e}")
    print("wrong:", bad, "of", len(cases), flush=True)


SHAPES = {
    "o": (4096, 4096),
    "qkv": (6144, 4096),
    "gate_up": (28672, 4096),
    "down": (4096, 14336),
    "head": (128256, 4096),
}


def weight_sets(fmt, bits, group, n, k, dtype):
    size = n * k * (16 if fmt == PLAIN else bits) // 8
    count = max(3, min(48, int(7e8 / size)))
    sets = []
    for _ in range(count):
        if fmt == PLAIN:
            sets.append(
                [torch.randn(n, k, device="cuda", dtype=torch.float32).mul_(0.02).to(dtype)]
            )
            continue
        w = torch.empty(n, k * bits // 8, device="cuda", dtype=torch.uint8).random_()
        if fmt == AFFINE:
            s = (torch.rand(n, k // group, device="cuda") * 0.01 + 0.005).to(dtype)
            sets.append([w, s, (-(2 ** (bits - 1)) * s.float()).to(dtype)])
        else:
            sets.append(
                [
                    w,
                    torch.randint(
                        40 if fmt == NVFP4 else 118,
                        60 if fmt == NVFP4 else 126,
                        (n, k // group),
                        device="cuda",
                    ).to(torch.uint8),
                ]
            )
    return sets, sum(a.numel() * a.element_size() for s in sets for a in s)


def candidates(fmt, bits, group, m, k, norm=0, gated=0):
    found = []
    stages = [(4, 2), (2, 2), (3, 2), (3, 1), (4, 1), (2, 1), (2, 3), (2, 4)]
    for tiles, warps, (stages, blocks), stream_x in itertools.product(
        (1, 2), (4, 8, 16), stages, (0, 1) if m >= 4 and not norm else (0,)
    ):
        if warps * blocks > 32 or warps * blocks < 8:
            continue
        spec = Spec(
            BF16,
            fmt,
            bits,
            group,
            columns(m, BF16),
            tiles,
            stages,
            blocks,
            4,
            stream_x,
            norm,
            gated=gated,
            warps=warps,
        )
        spec.scale_bytes = scale_bytes(fmt, group, spec.entry_bytes, k)
        if spec.fits(k):
            found.append(spec)
    return found


FUSED = {"qkv": (2, 0), "gate_up": (2, 1)}


def sweep(which, rows, fused):
    """The fastest settings of every shape, if `fused` with norms and gates as models have them."""
    bandwidth = copy_bandwidth()
    print(torch.cuda.get_device_name(), f"copy {bandwidth / 1e9:.0f} GB/s", flush=True)
    work = []
    for f, s, m in itertools.product(which, SHAPES, rows):
        norm, gated = FUSED.get(s, (0, 0)) if fused else (0, 0)
        work.append((f, s, m, candidates(*f, m, SHAPES[s][1], norm, gated)))
    prepare([spec for *_, specs in work for spec in specs])
    print(
        len(MODULES),
        "kernels; spilled:",
        sum(1 for kernel in MODULES.values() if kernel.spilled),
        flush=True,
    )
    sets = None
    for (fmt, bits, group), shape, m, specs in work:
        n, k = SHAPES[shape]
        if sets is None or sets[0] != (fmt, bits, group, shape):
            sets = None
            torch.cuda.empty_cache()
            sets = (fmt, bits, group, shape), *weight_sets(fmt, bits, group, n, k, torch.bfloat16)
        _, weights, size = sets
        x, delta = torch.randn(2, m, k, device="cuda").bfloat16()
        weight = torch.ones(k, device="cuda").bfloat16()
        out, total = torch.empty(m, n, device="cuda", dtype=torch.bfloat16), torch.empty_like(x)
        results = []
        for spec in specs:
            before, after = ([x, delta, weight], [out, total]) if spec.norm else ([x], [out])
            try:
                t = replay(
                    lambda: [launch(spec, [*before, *w, *after], n, k, m, 1e-5) for w in weights], 7
                )
            except AssertionError as error:
                results.append((0, f"{error}", 0))
                continue
            results.append(
                (
                    size / t / 1e9,
                    f"t{spec.tiles}w{spec.warps}s{spec.stages}b{spec.blocks}x{spec.stream_x}",
                    t / len(weights) * 1e6,
                )
            )
        results.sort(key=lambda r: -r[0])
        top = " ".join(f"{r[1]}:{r[0]:.0f}" for r in results[:7])
        print(
            f"fmt{fmt} {bits or 16}bit {shape:8} m{m:<2} {results[0][0] / bandwidth * 1e9:.2f} "
            f"{results[0][2]:.1f}us  {top}",
            flush=True,
        )


def many_rows():
    """The settings of 16 columns with more rows, beside unpacked weights and cuBLAS."""
    bandwidth = copy_bandwidth()
    print(torch.cuda.get_device_name(), f"copy {bandwidth / 1e9:.0f} GB/s", flush=True)
    sweep([(AFFINE, 4, 64), (AFFINE, 8, 64)], (16, 32, 48, 64), True)
    for (shape, (n, k)), m in itertools.product(SHAPES.items(), (16, 32, 64)):
        weights = [torch.randn(n, k, device="cuda").bfloat16() for _ in range(3)]
        x = torch.randn(m, k, device="cuda").bfloat16()
        t = replay(lambda: [x @ w.T for w in weights], 7) / len(weights)
        # Unpacking reads codes and writes numbers, at some 85 % of a copy's bandwidth.
        unpack = [n * k * (2 + bits / 8) / bandwidth / 0.85 for bits in (4.5, 8.5)]
        each = " ".join(f"{(t + more) * 1e6:.1f}us" for more in (0, *unpack))
        print(f"numbers {shape:8} m{m:<2} {each} (numbers, with 4 bits, with 8)", flush=True)


def profile():
    """One launch of each shape, for a profiler."""
    for shape, (tiles, warps, stages, blocks) in {
        "o": (1, 4, 3, 2),
        "qkv": (1, 8, 3, 1),
        "gate_up": (2, 8, 3, 1),
        "down": (2, 8, 2, 1),
        "head": (2, 8, 2, 2),
    }.items():
        n, k = SHAPES[shape]
        norm, gated = FUSED.get(shape, (0, 0))
        for norm, gated in {(norm, gated), (0, 0)}:
            spec = Spec(
                BF16, AFFINE, 4, 64, 1, tiles, stages, blocks, 8, 0, norm, gated=gated, warps=warps
            )
            prepare([spec])
            weights = weight_sets(AFFINE, 4, 64, n, k, torch.bfloat16)[0][:3]
            x, delta = torch.randn(2, 1, k, device="cuda").bfloat16()
            out, total = torch.empty(1, n, device="cuda", dtype=torch.bfloat16), torch.empty_like(x)
            before, after = (
                ([x, delta, torch.ones(k, device="cuda").bfloat16()], [out, total])
                if norm
                else ([x], [out])
            )
            for w in weights:
                launch(spec, [*before, *w, *after], n, k, 1, 1e-5)
                torch.cuda.synchronize()


if __name__ == "__main__":
    start()
    asked(
        ["check"],
        check=lambda count: check(count or 300),
        sweep=lambda _: [
            sweep([(AFFINE, 4, 64)], (1, 2, 4, 8, 16), True),
            sweep([(AFFINE, 8, 64), (PLAIN, 0, 0)], (1, 4, 8, 16), True),
        ],
        rows=lambda _: many_rows(),
        plain=lambda _: sweep([(AFFINE, 4, 64)], (1,), False),
        profile=lambda _: profile(),
    )

"""Checks and times `src/fused/cuda/many_rows.cu` and `norm_rows.cu`.

python3 many_rows.py [check[:CASES]] [sweep] [shapes] [profile]
"""

import itertools
import math
import random

import few_rows
import torch
from card import (
    KERNELS,
    ODD,
    asked,
    compile_all,
    copy_bandwidth,
    is_hopper,
    masks,
    relative,
    replay,
    shared_memory,
    source,
    spoils,
    start,
)
from few_rows import (
    AFFINE,
    BF16,
    DTYPES,
    EPS,
    F16,
    MXFP4,
    MXFP8,
    NVFP4,
    SHAPES,
    activated,
    inputs_of,
    scale_bytes,
    weight_sets,
)

SOURCE = "".join(
    (KERNELS / name).read_text() for name in ("activation.cuh", "product.cuh", "many_rows.cu")
)


class Spec:
    """The settings of a kernel; see the source."""

    def __init__(self, x, fmt, bits, group, operands, inputs, shape, gated=0):
        self.x, self.fmt, self.bits, self.group = x, fmt, bits or 16, group or 64
        self.operands, self.gated = operands, gated
        self.tiles, self.groups, self.stages, self.blocks, self.split = shape
        self.scale_bytes = scale_bytes(fmt, self.group, 2 if fmt == AFFINE else 1, inputs)

    def key(self):
        return tuple(vars(self).values())

    def defines(self):
        return dict(
            X=self.x,
            FORMAT=self.fmt,
            BITS=self.bits,
            GROUP=self.group,
            OPERANDS=self.operands,
            TILES=self.tiles,
            WARP_GROUPS=self.groups,
            STAGES=self.stages,
            BLOCKS=self.blocks,
            SPLIT=self.split,
            SCALE_BYTES=self.scale_bytes,
            GATED=self.gated,
        )

    @property
    def rows(self):
        return 64 * self.tiles * self.groups

    def shared(self):
        up = lambda n: -(-n // 128) * 128  # noqa: E731
        row_bytes = 256 * self.bits // 8
        stride = row_bytes if row_bytes % 128 == 0 else row_bytes + 16
        arrays, entry_bytes = (2, 2) if self.fmt == AFFINE else (1, 1)
        scales = 256 // self.group * entry_bytes
        cols = 8 * self.operands
        stage = up(self.rows * (stride + arrays * scales)) + cols * 512
        return max(self.stages * stage, cols * (self.rows + 4) * 4)

    def fits(self):
        return self.shared() <= shared_memory(self.blocks)


def operands(m):
    return next(o for o in (1, 2, 3, 4, 6, 8) if 8 * o >= m)


def shapes(operands, k):
    """Those that the Rust side chooses from: tiles, warp groups, stages, blocks, split. See `best`
    in many_rows.rs."""
    orders = {1: [(1, 4), (2, 2)], 2: [(2, 2), (1, 4)]}
    order = orders.get(operands, [(4, 1), (3, 1), (2, 1), (1, 1), (2, 2), (1, 2)])
    for split, (groups, blocks), stages in itertools.product((1, 2, 4, 8), order, (2, 3)):
        if k >= 256 * split and (stages == 2 or operands in (3, 4)):
            yield 1, groups, stages, blocks, split


MODULES = {}


def prepare(specs):
    missing = {spec.key(): spec for spec in specs if spec.key() not in MODULES}
    kernels = compile_all([(SOURCE, spec.defines()) for spec in missing.values()])
    MODULES.update(zip(missing, kernels))


def launch(spec, arrays, n, k, m):
    width = n // 2 if spec.gated else n
    tiles = -(-width // (spec.rows // 2 if spec.gated else spec.rows))
    MODULES[spec.key()].launch(
        tiles * spec.split, 128 * spec.groups, spec.shared(), arrays, [n, k, m]
    )


def check_products(count):
    if not is_hopper():
        print("products: only Hopper has what they need")
        return
    formats = [(AFFINE, b, g) for b in (2, 3, 4, 5, 6, 8) for g in (32, 64, 128)]
    formats += [(MXFP4, 4, 32), (MXFP8, 8, 32), (NVFP4, 4, 16)]
    sizes = [(24, 256), (100, 512), (1000, 1152), (4104, 640), (520, 4096), (264, 14336)]
    random.seed(1)
    cases = []
    for (fmt, bits, group), x, (n, k), m, gated in itertools.product(
        formats, (BF16, F16), sizes, (1, 9, 16, 17, 24, 31, 32, 40, 64), range(5)
    ):
        # Gated products of so many inputs are beyond the greatest float16.
        if k * bits // 8 % 16 or (gated and x == F16 and (k > 1000 or fmt != AFFINE)):
            continue
        settings = x, fmt, bits, group, operands(m), k
        specs = [Spec(*settings, shape, gated) for shape in shapes(operands(m), k)]
        specs = [spec for spec in specs if spec.scale_bytes >= 4 and spec.fits()]
        if specs:
            cases.append((random.choice(specs), n, k, m))
    cases = random.sample(cases, min(count, len(cases)))
    prepare([c[0] for c in cases])
    print(len(cases), "cases", len(MODULES), "kernels", flush=True)
    worst, bad, weights = {}, 0, {}
    for spec, n, k, m in cases:
        dtype = DTYPES[spec.x]
        arrays, w, x = inputs_of(spec, weights, n, k, m)

        def run():
            width = n // 2 if spec.gated else n
            out = torch.full((m, width), float("nan"), device="cuda", dtype=dtype)
            launch(spec, [x, *arrays, out], n, k, m)
            torch.cuda.synchronize()
            return [out]

        ref, [out] = activated(x.double() @ w.T, spec.gated), run()
        # What the type has no room for is infinite.
        fits = ref.abs() < 0.999 * torch.finfo(dtype).max
        beyond = ref.abs() > 1.001 * torch.finfo(dtype).max
        found, expected = out[fits], ref[fits]
        # What is cut off by ReLU may be all of it.
        error = relative(found, expected) if expected.any() else float(found.abs().max())
        if not out[beyond].isinf().all():
            error = math.inf
        name = (spec.fmt, spec.bits, spec.group, spec.x)
        worst[name] = max(worst.get(name, 0), error if error == error else 9e9)
        if not error < {BF16: 4e-3, F16: 6e-4}[spec.x] * (2 if spec.gated else 1):
            bad += 1
            if bad < 30:
                print("WRONG", error, spec.defines(), n, k, m, flush=True)
        number, place = random.choice(ODD), (random.randrange(m), random.randrange(k))
        if not spoils(run, lambda: masks([out], (0, place[0])), x, place, number):
            bad += 1
            print("NOT FINITE", number, spec.defines(), n, k, m, flush=True)
    for name, error in worst.items():
        print(name, f"{error:.1e}")
    print("wrong:", bad, "of", len(cases), flush=True)


def norm_kernels():
    settings = list(itertools.product((BF16, F16), (0, 1), (0, 1)))
    text = source("norm_rows.cu")
    kernels = compile_all(
        [(text, dict(X=x, DELTA=delta, WEIGHT=weight)) for x, delta, weight in settings]
    )
    return dict(zip(settings, kernels))


def norm_threads(dims):
    return min(1024, -(-dims // 256) * 32)


def check_norms():
    bad = 0
    for (x_type, has_delta, has_weight), kernel in norm_kernels().items():
        for dims, rows, shift in itertools.product((64, 77, 1152, 4096, 20000), (1, 33), (0, 1)):
            dtype = DTYPES[x_type]
            make = lambda *shape: torch.randn(*shape, device="cuda").to(dtype)  # noqa: E731
            inputs = [make(rows * dims + shift)[shift:].reshape(rows, dims)]
            inputs += [make(rows * dims + shift)[shift:].reshape(rows, dims)] * has_delta
            weight = [make(dims + shift)[shift:]] * has_weight

            def run():
                """The norm, and the sum if there is one."""
                outputs = [torch.full_like(x, float("nan")) for x in inputs]
                arrays = [*inputs, *weight, *outputs]
                kernel.launch(rows, norm_threads(dims), 0, arrays, [dims, EPS])
                torch.cuda.synchronize()
                return outputs

            def expected():
                """The norm in float64, and the sum."""
                total = sum(inputs)
                ref = total.double()
                ref = ref / (ref.pow(2).mean(-1, keepdim=True) + EPS).sqrt()
                return ref * weight[0].double() if weight else ref, total

            outputs, (ref, total) = run(), expected()
            limit = {BF16: 4e-3, F16: 6e-4}[x_type]
            exact = not has_delta or torch.equal(outputs[1], total)
            if not relative(outputs[0], ref) < limit or not exact:
                bad += 1
                error = relative(outputs[0], ref)
                print("WRONG NORM", x_type, has_delta, has_weight, dims, rows, error)
            for number in ODD:
                place = random.randrange(rows), random.randrange(dims)
                lost = lambda: [~it.isfinite() for it in expected()]  # noqa: E731
                # An infinite sum of squares leaves zeros in the rest of its row.
                reached = masks(outputs, (0, place[0]))
                if not spoils(run, lost, random.choice(inputs), place, number, reached):
                    bad += 1
                    print("NOT FINITE", number, x_type, has_delta, has_weight, dims, rows)
    print("wrong norms:", bad, flush=True)


# Which norm and gate a shape has in models.
FUSED = {"qkv": (2, 0), "gate_up": (2, 1)}


def norm_and_gate(shape):
    return FUSED.get(shape, (0, 0))


def few(fmt, bits, group, shape, m):
    """The settings of the Rust side for products of few rows."""
    n, k = SHAPES[shape]
    norm, gated = norm_and_gate(shape)
    spec = few_rows.unshaped(BF16, fmt, bits, group, m, k, norm=norm, gated=gated)
    return few_rows.fitting(spec, n, k, m)[0]


def candidates(fmt, bits, group, m, shape, wide):
    n, k = SHAPES[shape]
    for tiles, groups, stages, blocks, split in itertools.product(
        (1, 2), (1, 2, 3, 4) if wide else (1, 2, 4), (2, 3, 4), (1, 2, 3), (1, 2, 4, 8)
    ):
        settings = (tiles, groups, stages, blocks, split)
        spec = Spec(BF16, fmt, bits, group, operands(m), k, settings, norm_and_gate(shape)[1])
        grid = -(-n // spec.rows) * split
        busy = 2 <= groups * blocks <= 5
        if busy and spec.fits() and 64 <= grid and (split == 1 or grid <= 132 * blocks * 2):
            yield spec


def sweep(formats, rows, wide):
    bandwidth = copy_bandwidth()
    print(torch.cuda.get_device_name(), f"copy {bandwidth / 1e9:.0f} GB/s", flush=True)
    work = [
        (f, s, m, list(candidates(*f, m, s, wide)))
        for f, s, m in itertools.product(formats, SHAPES, rows)
    ]
    prepare([spec for *_, specs in work for spec in specs])
    few_rows.prepare([few(*f, s, m) for f, s, m, _ in work])
    spilled = sum(1 for kernel in MODULES.values() if kernel.spilled)
    print(len(MODULES), "kernels; spilled:", spilled, flush=True)
    sets, layers, norms = None, {}, norm_kernels()
    for (fmt, bits, group), shape, m, specs in work:
        n, k = SHAPES[shape]
        if sets is None or sets[0] != (fmt, bits, group, shape):
            sets = None
            torch.cuda.empty_cache()
            sets = (fmt, bits, group, shape), *weight_sets(fmt, bits, group, n, k, torch.bfloat16)
        _, weights, size = sets
        x, delta, normed, total = (torch.randn(m, k, device="cuda").bfloat16() for _ in range(4))
        weight = torch.ones(k, device="cuda").bfloat16()
        norm, gated = norm_and_gate(shape)
        out = torch.empty(m, n // 2 if gated else n, device="cuda", dtype=torch.bfloat16)

        def time(run):
            return replay(lambda: [run(w) for w in weights], 5) / len(weights) * 1e6

        def product(w, spec):
            if norm:
                arrays = [x, delta, weight, normed, total]
                norms[BF16, 1, 1].launch(m, norm_threads(k), 0, arrays, [k, 1e-5])
            launch(spec, [normed if norm else x, *w, out], n, k, m)

        results = []
        for spec in specs:
            name = f"t{spec.tiles}g{spec.groups}s{spec.stages}b{spec.blocks}c{spec.split}"
            name += "!" if MODULES[spec.key()].spilled else ""
            results.append((time(lambda w, spec=spec: product(w, spec)), name))
        results.sort()
        spec = few(fmt, bits, group, shape, m)
        before, after = ([x, delta, weight], [out, total]) if norm else ([x], [out])
        t = time(
            lambda w: few_rows.launch(spec, [*before, *w, *after], n, k, m, 1e-5 if norm else None)
        )
        layers.setdefault((fmt, bits, m), {})[shape] = (results[0][0], t)
        top = " ".join(f"{name}:{t:.1f}" for t, name in results[:6])
        rate = size / len(weights) / results[0][0] * 1e6 / bandwidth
        print(f"fmt{fmt} {bits}bit {shape:8} m{m:<2} {rate:.2f} few {t:.1f}us | {top}", flush=True)
    for key, times in layers.items():
        total = [sum(t[i] for s, t in times.items() if s != "head") for i in (0, 1)]
        print(key, "a layer: {:.0f} us, few rows {:.0f} us".format(*total), flush=True)


def profile():
    """One launch of each shape, for a profiler."""
    for shape, settings in {"gate_up": (2, 4, 2, 1, 1), "down": (1, 4, 3, 1, 4)}.items():
        n, k = SHAPES[shape]
        spec = Spec(BF16, AFFINE, 4, 64, operands(32), k, settings, norm_and_gate(shape)[1])
        prepare([spec])
        weights = weight_sets(AFFINE, 4, 64, n, k, torch.bfloat16)[0][:3]
        x = torch.randn(32, k, device="cuda").bfloat16()
        out = torch.empty(32, n // 2 if spec.gated else n, device="cuda", dtype=torch.bfloat16)
        for w in weights:
            launch(spec, [x, *w, out], n, k, 32)
            torch.cuda.synchronize()


if __name__ == "__main__":
    start()
    asked(
        ["check"],
        check=lambda count: [check_norms(), check_products(count or 300)],
        sweep=lambda _: [
            sweep([(AFFINE, 4, 64)], (8, 16, 24, 32, 48, 64), True),
            sweep([(AFFINE, 8, 64)], (8, 16, 32, 64), False),
        ],
        shapes=lambda _: sweep([(AFFINE, 4, 64), (AFFINE, 8, 64)], (8, 16, 32), False),
        profile=lambda _: profile(),
    )

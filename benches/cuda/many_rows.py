"""Checks and times `src/fused/cuda/many_rows.cu` and `norm_rows.cu`.

python3 many_rows.py [check[:CASES]] [sweep] [shapes] [profile]
"""

import itertools
import random

import few_rows
import torch
from card import (
    KERNELS,
    SHARED,
    asked,
    compile_all,
    copy_bandwidth,
    relative,
    replay,
    source,
    start,
)
from few_rows import (
    ACTIVATIONS,
    AFFINE,
    BF16,
    DTYPES,
    F16,
    MXFP4,
    MXFP8,
    NVFP4,
    SHAPES,
    inputs_of,
    keeps_to_its_row,
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
        return self.shared() <= (SHARED + 1024) // self.blocks - 1024


def operands(m):
    return next(o for o in (1, 2, 3, 4, 6, 8) if 8 * o >= m)


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
    formats = [(AFFINE, b, g) for b in (2, 3, 4, 5, 6, 8) for g in (32, 64, 128)]
    formats += [(MXFP4, 4, 32), (MXFP8, 8, 32), (NVFP4, 4, 16)]
    sizes = [(24, 256), (100, 512), (1000, 1152), (4104, 640), (520, 4096), (264, 14336)]
    shapes = [(2, 2, 3, 1, 1), (2, 2, 2, 1, 4), (1, 4, 2, 1, 2), (1, 1, 3, 2, 8), (2, 1, 2, 1, 1)]
    cases = []
    for (fmt, bits, group), x, (n, k), m, gated, shape in itertools.product(
        formats, (BF16, F16), sizes, (1, 9, 16, 17, 24, 31, 32, 40, 64), range(5), shapes
    ):
        # Gated products of so many inputs are beyond the greatest float16.
        if k * bits // 8 % 16 or (gated and x == F16 and (k > 1000 or fmt != AFFINE)):
            continue
        spec = Spec(x, fmt, bits, group, operands(m), k, shape, gated)
        if spec.scale_bytes >= 4 and spec.fits():
            cases.append((spec, n, k, m))
    random.seed(1)
    cases = random.sample(cases, min(count, len(cases)))
    prepare([c[0] for c in cases])
    print(len(cases), "cases", len(MODULES), "kernels", flush=True)
    worst, bad, weights = {}, 0, {}
    for spec, n, k, m in cases:
        dtype = DTYPES[spec.x]
        arrays, w, x = inputs_of(spec, weights, n, k, m)
        ref, width = x.double() @ w.T, n
        if spec.gated:
            width = n // 2
            ref = ACTIVATIONS[spec.gated - 1](ref[:, :width]) * ref[:, width:]
        out = torch.full((m, width), float("nan"), device="cuda", dtype=dtype)
        launch(spec, [x, *arrays, out], n, k, m)
        torch.cuda.synchronize()
        # What is cut off by ReLU may be all of it.
        error = relative(out, ref) if ref.any() else float(out.abs().max())
        name = (spec.fmt, spec.bits, spec.group, spec.x)
        worst[name] = max(worst.get(name, 0), error if error == error else 9e9)
        if not error < {BF16: 4e-3, F16: 6e-4}[spec.x] * (2 if spec.gated else 1):
            bad += 1
            if bad < 30:
                print("WRONG", error, spec.defines(), n, k, m, flush=True)

        def run(x, out):
            launch(spec, [x, *arrays, out], n, k, m)

        if m > 1 and not spec.gated and not keeps_to_its_row(run, x, out):
            bad += 1
            print("NOT FINITE", spec.defines(), n, k, m, flush=True)
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
            x, delta = (make(rows * dims + shift)[shift:].reshape(rows, dims) for _ in range(2))
            weight = make(dims + shift)[shift:]
            total = x + delta if has_delta else x
            ref = total.double()
            ref = ref / (ref.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
            ref = ref * weight.double() if has_weight else ref
            out, sums = torch.empty_like(x), torch.empty_like(x)
            arrays = [x] + [delta] * has_delta + [weight] * has_weight + [out] + [sums] * has_delta
            kernel.launch(rows, norm_threads(dims), 0, arrays, [dims, 1e-5])
            torch.cuda.synchronize()
            limit = {BF16: 4e-3, F16: 6e-4}[x_type]
            exact = not has_delta or torch.equal(sums, total)
            if not relative(out, ref) < limit or not exact:
                bad += 1
                print("WRONG NORM", x_type, has_delta, has_weight, dims, rows, relative(out, ref))
    print("wrong norms:", bad, flush=True)


# Which norm and gate a shape has in models.
FUSED = {"qkv": (2, 0), "gate_up": (2, 1)}


def norm_and_gate(shape):
    return FUSED.get(shape, (0, 0))


def few(fmt, bits, group, shape, m):
    """What products of few rows take, in blocks of 16, with the settings of the Rust side."""
    n, k = SHAPES[shape]
    norm, gated = norm_and_gate(shape)
    cols = few_rows.columns(m, BF16)
    wide = [(2, 16, 0)] if m <= 8 and n >= 16384 else []
    streamed = [(2, 8, 1), (1, 8, 1)] if k >= 8192 and not norm else []
    for tiles, warps, stream in [*wide, *streamed, (1, 16, 0), (1, 8, 0), (1, 4, 0)]:
        more = dict(warps=warps, norm=norm, gated=gated, stream_x=stream)
        spec = few_rows.Spec(BF16, fmt, bits, group, cols, tiles, 2, 1, **more)
        spec.scale_bytes = scale_bytes(fmt, group, spec.entry_bytes, k)
        if spec.fits(k):
            return spec
    raise ValueError(f"no settings for {bits} bits, {shape}, {m} rows")


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

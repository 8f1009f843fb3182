"""Checks and times `src/fused/cuda/unpack.cu`.

python3 unpack.py
"""

import itertools
import random

import torch
from card import ODD, compile_all, copy_bandwidth, masks, relative, replay, source, spoils, start
from few_rows import AFFINE, packed

SOURCE = source("unpack.cu")


def run(kernel, arrays, out):
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    eighths = out.numel() // 8
    blocks = min(-(-eighths // 256), processors * 8)
    kernel.launch(blocks, 256, 0, [*arrays, out], [eighths])


def main():
    start()
    formats = list(itertools.product((0, 1), (2, 3, 4, 5, 6, 8), (32, 64, 128)))
    kernels = compile_all([(SOURCE, dict(X=x, BITS=b, GROUP=g)) for x, b, g in formats])
    wrong = 0
    for kernel, (x, bits, group) in zip(kernels, formats):
        dtype = (torch.bfloat16, torch.float16)[x]
        for n, k in ((24, 256), (1000, 1152), (4104, 640)):
            arrays, matrix = packed(AFFINE, bits, group, n, k, dtype)

            def unpacked():
                out = torch.full((n, k), float("nan"), device="cuda", dtype=dtype)
                run(kernel, arrays, out)
                return [out]

            [out] = unpacked()
            error = relative(out, matrix)
            if not error < (4e-3, 5e-4)[x]:
                wrong += 1
                print("WRONG", error, x, bits, group, n, k, flush=True)
            # A scale or a bias spoils its group.
            row, at = random.randrange(n), random.randrange(k // group)
            lost = masks([out], (0, (row, slice(at * group, at * group + group))))
            for array, number in itertools.product(arrays[1:], ODD):
                if not spoils(unpacked, lambda: lost, array, (row, at), number):
                    wrong += 1
                    print("NOT FINITE", number, x, bits, group, n, k, flush=True)
    print("cases:", 3 * len(formats), "wrong:", wrong)
    bandwidth = copy_bandwidth()
    for bits in (3, 4, 8):
        kernel = kernels[formats.index((0, bits, 64))]
        for n, k in ((4096, 4096), (28672, 4096), (128 * 768, 2048)):
            arrays, _ = packed(AFFINE, bits, 64, n // 8, k, torch.bfloat16)
            arrays = [array.repeat(8, 1) for array in arrays]
            out = torch.empty(n, k, device="cuda", dtype=torch.bfloat16)
            size = out.numel() * 2 + sum(a.numel() * a.element_size() for a in arrays)
            t = replay(lambda: [run(kernel, arrays, out) for _ in range(8)]) / 8
            print(f"{bits} bits {n} x {k}: {t * 1e6:.1f} us {size / t / bandwidth:.2f} of a copy")


if __name__ == "__main__":
    main()

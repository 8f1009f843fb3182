"""Checks `src/fused/cuda/gate_rows.cu` and `cache_room.cu`. Norms are checked by many_rows.py.

python3 small.py [check[:CASES]]
"""

import itertools
import random

import torch

from card import KERNELS, ODD, asked, compile_all, masks, sample, source, spoils, start
from few_rows import ACTIVATIONS

DTYPES = {0: torch.bfloat16, 1: torch.float16}
# What one rounding of the result gives.
LIMITS = {0: 4e-3, 1: 5e-4}


def columns(dtype, rows, width, gap, shift):
    """Gates and ups: the array that has them and its first column of theirs. The other columns are
    NaN; without a gap each has an array of its own."""
    if gap is None:
        make = lambda: torch.randn(rows * width + shift, device="cuda").to(dtype)[shift:]
        return [(make().reshape(rows, width), 0) for _ in range(2)]
    stride = 2 * width + 3 * gap
    whole = torch.full((rows * stride + shift,), float("nan"), device="cuda", dtype=dtype)
    whole = whole[shift:].reshape(rows, stride)
    firsts = gap, width + 2 * gap
    for first in firsts:
        whole[:, first : first + width] = torch.randn(rows, width, device="cuda")
    return [(whole, first) for first in firsts]


def check_gates(count):
    cases = list(
        itertools.product(
            DTYPES,
            (1, 2, 3, 4),
            (1, 3, 8, 77, 256, 1001, 1152, 8192),
            (1, 2, 7, 32, 33),
            # In arrays of their own, or columns of one, with so many others around them.
            (None, 0, 1, 8),
            # Where arrays begin, in numbers behind 16 bytes.
            (0, 1, 8),
        )
    )
    cases = sample(cases, count or 600)
    settings = list(itertools.product(DTYPES, (1, 2, 3, 4)))
    text = source("activation.cuh", "gate_rows.cu")
    kernels = compile_all([(text, dict(X=x, GATED=gated)) for x, gated in settings])
    kernels = dict(zip(settings, kernels))
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    wrong, worst = 0, {}
    for x, gated, width, rows, gap, shift in cases:
        (gates, gate_first), (ups, up_first) = columns(DTYPES[x], rows, width, gap, shift)
        gate = gates[:, gate_first : gate_first + width]
        up = ups[:, up_first : up_first + width]
        blocks = min(-(-rows * width // (256 * 8)), processors * 8)
        numbers = [rows, width, gate_first, gates.shape[1], up_first, ups.shape[1]]

        def run():
            out = torch.full((rows, width), float("nan"), device="cuda", dtype=DTYPES[x])
            kernels[x, gated].launch(blocks, 256, 0, [gates, ups, out], numbers)
            torch.cuda.synchronize()
            return [out]

        def expected():
            return ACTIVATIONS[gated - 1](gate.double()) * up.double()

        [out], ref = run(), expected()
        # Near 0 activations are differences of larger numbers.
        error = float((out.double() - ref).norm() / (ref.norm() + 0.1))
        worst[x] = max(worst.get(x, 0), error if error == error else 9e9)
        case = x, gated, width, rows, gap, shift
        if not error < LIMITS[x]:
            wrong += 1
            print("WRONG", error, case, flush=True)
        place = random.randrange(rows), random.randrange(width)
        for array, number in itertools.product((gate, up), ODD):
            lost = lambda: [~expected().isfinite()]
            if not spoils(run, lost, array, place, number, masks([out], (0, place))):
                wrong += 1
                print("NOT FINITE", number, case, flush=True)
    print("gates: worst", worst, "wrong:", wrong, "of", len(cases), flush=True)


def check_rooms(count):
    cases = list(
        itertools.product(
            # Heads of all rows, features, capacities before (0: there was no buffer) and after.
            (1, 3, 8, 33),
            (64, 128, 256),
            (0, 256, 512, 1280),
            (256, 512, 1280, 2048),
            # How much of what was held is copied.
            (0.0, 0.3, 1.0),
        )
    )
    cases = sample([case for case in cases if case[2] <= case[3]], count)
    text = (KERNELS / "cache_room.cu").read_text()
    kernels = compile_all([(text, dict(HELD=held)) for held in (0, 1)])
    wrong = 0
    for heads, dim, held_capacity, capacity, share in cases:
        # Bits of all kinds, NaN among them.
        make = lambda *shape: torch.randint(
            -(2**15), 2**15, shape, device="cuda", dtype=torch.int16
        )
        held = [make(heads, held_capacity, dim) for _ in range(2)] if held_capacity else []
        positions = int(share * held_capacity)
        # What stands behind must stay.
        size, behind = heads * capacity * dim, make(1000)
        made = [torch.cat([make(size), behind]) for _ in range(2)]
        blocks = min(-(-size // 8 // 256), 1024)
        numbers = [heads, dim // 8, held_capacity, capacity, positions]
        kernels[bool(held)].launch(blocks, 256, 0, [*held, *made], numbers)
        torch.cuda.synchronize()
        fine = True
        for i, array in enumerate(made):
            expected = torch.zeros_like(array[:size]).reshape(heads, capacity, dim)
            if held:
                expected[:, :positions] = held[i][:, :positions]
            fine &= torch.equal(array[:size], expected.flatten())
            fine &= torch.equal(array[size:], behind)
        if not fine:
            wrong += 1
            print("WRONG", heads, dim, held_capacity, capacity, positions, flush=True)
    print("rooms wrong:", wrong, "of", len(cases), flush=True)


if __name__ == "__main__":
    start()
    asked(["check"], check=lambda count: [check_gates(count), check_rooms(count)])

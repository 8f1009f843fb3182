"""Compiling, launching and timing kernels of `src/fused/cuda` with PyTorch and cuda-python."""

import concurrent.futures
import ctypes
import functools
import pathlib
import random
import sys

import torch
from cuda.bindings import driver, nvrtc

KERNELS = pathlib.Path(__file__).parents[2] / "src/fused/cuda"
# Numbers that are not finite.
ODD = (float("nan"), float("inf"))


def source(*names):
    """The text of a kernel of 16-bit numbers, with what stands before it."""
    return "".join((KERNELS / name).read_text() for name in ("numbers.cuh", *names))


def sample(cases, count):
    """So many of the cases, always the same ones; all of them without a count."""
    return random.Random(1).sample(cases, min(count, len(cases))) if count else cases


def asked(default, **functions):
    """Runs the functions that the command line names, with the number behind a colon, if any."""
    for what in sys.argv[1:] or default:
        name, _, count = what.partition(":")
        if name not in functions:
            sys.exit(f"there is no {name}, only {', '.join(functions)}")
        functions[name](int(count or 0))


def ok(result):
    error, *rest = result
    assert int(error) == 0, error
    return rest[0] if rest else None


@functools.cache
def attribute(name):
    """What the driver says of the card."""
    device = ok(driver.cuDeviceGet(torch.cuda.current_device()))
    attributes = driver.CUdevice_attribute
    return ok(
        driver.cuDeviceGetAttribute(getattr(attributes, f"CU_DEVICE_ATTRIBUTE_{name}"), device)
    )


def shared_memory(blocks=1):
    """Bytes of shared memory that a block may have if so many are to fit on a multiprocessor; as
    `Card::shared_memory` in src/mlx/gpu.rs."""
    # The driver keeps 1 KiB for itself for each block.
    share = attribute("MAX_SHARED_MEMORY_PER_MULTIPROCESSOR") // blocks - 1024
    return min(attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"), share)


def is_hopper():
    """Whether the card has warp groups that multiply together."""
    return torch.cuda.get_device_capability() == (9, 0)


def compile_image(source, defines):
    program = ok(nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], []))
    options = [
        # With "a" a kernel may use what only this generation has: Hopper's warp groups.
        b"--gpu-architecture=sm_%d%d" % torch.cuda.get_device_capability() + b"a" * is_hopper(),
        b"--std=c++17",
        b"-DNAME=kernel",
    ]
    options += [f"-D{name}={value}".encode() for name, value in defines.items()]
    if int(nvrtc.nvrtcCompileProgram(program, len(options), options)[0]):
        log = b" " * ok(nvrtc.nvrtcGetProgramLogSize(program))
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(f"{defines}: {log.decode()}")
    image = b" " * ok(nvrtc.nvrtcGetCUBINSize(program))
    ok(nvrtc.nvrtcGetCUBIN(program, image))
    return image


class Kernel:
    """A compiled kernel."""

    def __init__(self, image):
        self.size = len(image)
        self.module = ok(driver.cuModuleLoadData(image))
        self.function = ok(driver.cuModuleGetFunction(self.module, b"kernel"))
        attributes = driver.CUfunction_attribute
        self.spilled = ok(
            driver.cuFuncGetAttribute(attributes.CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, self.function)
        )
        static = ok(
            driver.cuFuncGetAttribute(attributes.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, self.function)
        )
        ok(
            driver.cuFuncSetAttribute(
                self.function,
                attributes.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                shared_memory() - static,
            )
        )

    def launch(self, blocks, threads, shared, arrays, numbers):
        values = [array.data_ptr() for array in arrays] + list(numbers)
        types = [ctypes.c_void_p] * len(arrays) + [
            ctypes.c_float if isinstance(n, float) else ctypes.c_int for n in numbers
        ]
        stream = torch.cuda.current_stream().cuda_stream
        ok(
            driver.cuLaunchKernel(
                self.function,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                shared,
                stream,
                (tuple(values), tuple(types)),
                0,
            )
        )


def compile_all(sources):
    """Kernels of (source, defines), compiled at the same time."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda pair: compile_image(*pair), sources))
    return [Kernel(image) for image in images]


def replay(launches, reps=12):
    """Seconds of a CUDA graph of the launches, the median of replays."""
    graph = torch.cuda.CUDAGraph()
    launches()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        launches()
    times = []
    for _ in range(reps + 2):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return sorted(times[2:])[reps // 2]


def copy_bandwidth():
    """Bytes read and written in a second, by the better of two ways to copy."""
    a = torch.empty(2**30, dtype=torch.bfloat16, device="cuda").normal_()
    b = torch.empty_like(a)
    times = []
    for copy in (lambda: b.copy_(a), lambda: torch.add(a, 1, out=b)):
        copy()
        for _ in range(6):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            copy()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
    return 4 * a.numel() / min(times)


def relative(a, b):
    return float((a.double() - b).norm() / b.norm())


def masks(outputs, *places):
    """A mask of each output. Places come with the number of theirs."""
    made = [torch.zeros(output.shape, dtype=torch.bool, device="cuda") for output in outputs]
    for which, place in places:
        made[which][place] = True
    return made


def spoils(run, lost, array, place, number, reached=None):
    """Whether `number`, NaN or infinite, at a place of an input spoils what it has to, and nothing
    else. `run` gives the outputs, new ones each time. `lost` gives for each the mask of what is not
    finite then, and NaN if `number` is. All else has the bits of a run without it, but for what the
    masks `reached` let differ."""
    before, known = run(), array[place].clone()
    array[place] = number
    found, lost = run(), lost()
    torch.cuda.synchronize()
    array[place] = known
    fine = True
    for old, new, mask, more in zip(before, found, lost, reached or lost):
        is_spoilt = new[mask].isnan() if number != number else ~new[mask].isfinite()
        # As whole numbers NaN is equal to itself.
        whole = {2: torch.int16, 4: torch.int32}[new.element_size()]
        others = [it.view(whole).masked_fill(mask | more, 0) for it in (old, new)]
        fine &= bool(is_spoilt.all()) and torch.equal(*others)
    return fine


def start():
    torch.manual_seed(1)
    random.seed(1)
    torch.cuda.init()
    torch.zeros(1, device="cuda")

"""Times MLX's own products of the shapes of few_rows.py, launches included.

python3 mlx_products.py [rows…], with MLX for CUDA.
"""

import sys
import time

import mlx.core as mx

SHAPES = {
    "o": (4096, 4096),
    "qkv": (6144, 4096),
    "gate_up": (28672, 4096),
    "down": (4096, 14336),
    "head": (128256, 4096),
}
mx.set_default_device(mx.gpu)


def copy_bandwidth():
    a = mx.random.normal((1 << 30,)).astype(mx.bfloat16)
    mx.eval(a)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        mx.eval(a + 1)
        mx.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * a.nbytes / min(times)


def matrices(n, k, bits):
    count = max(3, min(48, int(7e8 / (n * k * bits / 8))))
    for _ in range(count):
        if bits == 16:
            yield [(mx.random.normal((n, k)) * 0.02).astype(mx.bfloat16)]
        else:
            w = mx.random.randint(0, 2**31 - 1, (n, k * bits // 32)).astype(mx.uint32) * 2
            s = (mx.random.uniform(0.5, 1.5, (n, k // 64)) * 0.01).astype(mx.bfloat16)
            yield [w, s, (-(2 ** (bits - 1)) * s.astype(mx.float32)).astype(mx.bfloat16)]


def product(x, w, bits):
    return (
        x @ w[0].T
        if bits == 16
        else mx.quantized_matmul(x, *w, transpose=True, group_size=64, bits=bits)
    )


def unpacked_product(x, w, bits):
    return x @ mx.dequantize(*w, group_size=64, bits=bits).T


bandwidth = copy_bandwidth()
print(f"copy {bandwidth / 1e9:.0f} GB/s", flush=True)
for bits in (4, 8, 16):
    for name, (n, k) in SHAPES.items():
        weights = list(matrices(n, k, bits))
        mx.eval(weights)
        size = sum(a.nbytes for w in weights for a in w)
        for m in [int(rows) for rows in sys.argv[1:]] or [1, 4, 8]:
            x = mx.random.normal((m, k)).astype(mx.bfloat16)
            mx.eval(x)
            ways = {"": product}
            if bits != 16 and m > 16:
                ways["unpacked"] = unpacked_product
            for way, multiply in ways.items():
                times = []
                for _ in range(6):
                    start = time.perf_counter()
                    for w in weights:
                        mx.async_eval(multiply(x, w, bits))
                    mx.synchronize()
                    times.append(time.perf_counter() - start)
                t = min(times)
                print(
                    f"MLX {bits:2} bits {name:8} m{m:<2} {t / len(weights) * 1e6:.1f} us "
                    f"{size / t / 1e9:.0f} GB/s {size / t / bandwidth:.2f} {way}",
                    flush=True,
                )

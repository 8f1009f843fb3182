"""Checks and times drawing tokens: `src/fused/cuda/draw.cu`.

python3 sampling.py [check[:CASES]] [time]
"""

import random

import numpy
import torch
from card import KERNELS, asked, compile_all, replay, start

SOURCE = (KERNELS / "logits.cuh").read_text() + (KERNELS / "draw.cu").read_text()
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
MODULES = {}


def prepare(keys):
    keys = sorted(set(keys) - set(MODULES))
    MODULES.update(
        zip(
            keys, compile_all([(SOURCE, dict(X=x, WIDE=wide, ROWS=rows)) for x, wide, rows in keys])
        )
    )


def key(x, vocabulary, rows):
    return x, int(vocabulary % 8 == 0), 1 << (rows - 1).bit_length()


def settings(rows):
    """What the kernel reads of (temperature, top_p, min_p, top_k, uniform) of each row."""
    arrays = []
    for temperature, top_p, min_p, top_k, uniform in rows:
        reach = -numpy.log(min_p) if min_p > 0 else numpy.inf
        floats = numpy.array([temperature, top_p, reach], numpy.float32).view(numpy.uint32)
        number = int(uniform * 2**64)
        for words in ([*floats, top_k], [number >> 32, number & 0xFFFFFFFF]):
            words = numpy.array(words, numpy.uint32).view(numpy.int32)
            arrays.append(torch.from_numpy(words).cuda())
    return arrays


class Rows:
    """Logits, what is wanted of them, and memory for what comes out."""

    def __init__(self, x, logits, wanted):
        rows, self.vocabulary = logits.shape
        self.kernel = MODULES[key(x, self.vocabulary, rows)]
        given = key(x, self.vocabulary, rows)[2]
        self.tokens = torch.zeros(rows, dtype=torch.int32, device="cuda")
        told = torch.zeros(given, 2, dtype=torch.int32, device="cuda")
        self.told, self.rows = told[:rows], rows
        inputs = settings(wanted)
        inputs += inputs[-2:] * (given - rows)
        self.arrays = [logits, *inputs, self.tokens, *told]

    def launch(self):
        self.kernel.launch(self.rows, 1024, 0, self.arrays, [self.vocabulary])

    def drawn(self):
        """Tokens and largest logits."""
        self.launch()
        told = self.told.cpu()
        assert torch.equal(told[:, 0], self.tokens.cpu())
        return told[:, 0].tolist(), told[:, 1].contiguous().view(torch.float32).tolist()


def expected(logits, temperature, top_p, min_p, top_k, uniform):
    """The token, and those beside it that rounding may give, in float64."""
    largest = logits.max()
    if temperature == 0:
        return {int(logits.argmax())}
    distance = largest - logits
    kept = numpy.ones(len(logits), bool)
    if top_p < 1:
        order = numpy.argsort(distance, kind="stable")
        mass = numpy.exp(-distance[order])
        nearer = numpy.cumsum(mass) - mass
        last = order[nearer < top_p * mass.sum()][-1]
        kept &= distance <= distance[last]
    if min_p > 0:
        kept &= distance <= numpy.float32(-numpy.log(min_p))
    if 0 < top_k < kept.sum():
        order = numpy.argsort(numpy.where(kept, distance, numpy.inf), kind="stable")
        kept = numpy.isin(numpy.arange(len(logits)), order[:top_k]) & kept
    mass = numpy.where(kept, numpy.exp(-distance / temperature), 0)
    up_to = numpy.cumsum(mass) / mass.sum()
    possible = numpy.flatnonzero(mass > 0)
    near = [numpy.searchsorted(up_to, uniform + e, "right") for e in (-1e-5, 0, 1e-5)]
    return {int(possible[numpy.searchsorted(possible, min(n, possible[-1]))]) for n in near}


def check(cases):
    random.seed(1)
    numpy.random.seed(1)
    sizes = [1, 7, 1000, 32000, 50257, 128256, 151936, 262144, 1 << 21]
    plan = [
        (random.choice(sizes), random.randrange(3), random.choice([1, 2, 9])) for _ in range(cases)
    ]
    prepare([key(x, vocabulary, rows) for vocabulary, x, rows in plan])
    wrong = 0
    for vocabulary, x, rows in plan:
        spread = random.choice([0.5, 2.5, 6])
        logits = torch.randn(rows, vocabulary, device="cuda") * spread
        if random.random() < 0.3:
            # As a grammar leaves them.
            logits[:, torch.randperm(vocabulary)[: vocabulary // 2].cuda()] = -torch.inf
        logits = logits.to(DTYPES[x])
        wanted = [
            (
                random.choice([0, 0.6, 1, 1.7, 1e-6]),
                random.choice([1, 1, 0.95, 0.3, 1e-6]),
                random.choice([0, 0, 0.05, 0.9]),
                random.choice([0, 0, 1, 20, 64, 5000]),
                random.random(),
            )
            for _ in range(rows)
        ]
        # What keeps as many as there are keeps all.
        wanted = [(*w[:3], w[3] if w[3] < vocabulary else 0, w[4]) for w in wanted]
        tokens, largest = Rows(x, logits, wanted).drawn()
        values = logits.double().cpu().numpy()
        for row in range(rows):
            most = values[row].max()
            right = {0} if most == -numpy.inf else expected(values[row], *wanted[row])
            if tokens[row] not in right or largest[row] != most:
                wrong += 1
                print(
                    "wrong",
                    vocabulary,
                    DTYPES[x],
                    wanted[row],
                    tokens[row],
                    right,
                    flush=True,
                )
    for odd in (torch.nan, torch.inf):
        logits = torch.randn(2, 32000, device="cuda")
        logits[0, 77] = odd
        prepare([key(2, 32000, 2)])
        _, told = Rows(2, logits, [(1, 0.9, 0, 10, 0.5)] * 2).drawn()
        told = (told[0] != told[0] if odd != odd else told[0] == odd) and told[1] < 100
        wrong += not told
    print(f"{cases} cases, {wrong} wrong", flush=True)


def time():
    kinds = {
        "largest": (0, 1, 0, 0),
        "temperature": (0.7, 1, 0, 0),
        "min-p": (0.7, 1, 0.05, 0),
        "top-p": (0.7, 0.9, 0, 0),
        "top-k": (0.7, 1, 0, 40),
        "top-p and top-k": (0.7, 0.95, 0, 20),
    }
    vocabularies = (32000, 128256, 262144)
    prepare([key(0, vocabulary, rows) for vocabulary in vocabularies for rows in (1, 32)])
    for name, kind in kinds.items():
        figures = []
        for vocabulary in vocabularies:
            for rows in (1, 32):
                logits = (torch.randn(rows, vocabulary, device="cuda") * 2.5).bfloat16()
                made = Rows(0, logits, [(*kind, 0.4)] * rows)
                seconds = replay(lambda: [made.launch() for _ in range(20)]) / 20
                figures.append(seconds * 1e6)
        print(f"{name:16}", " ".join(f"{figure:8.1f}" for figure in figures), "µs", flush=True)


if __name__ == "__main__":
    start()
    asked(["check", "time"], check=lambda count: check(count or 300), time=lambda _: time())

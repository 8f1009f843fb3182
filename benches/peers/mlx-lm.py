"""One round of mlx-lm on the CPU: python mlx-lm.py MODEL PROMPT TOKENS. Prints JSON."""

import json
import resource
import sys
import time
from pathlib import Path

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

mx.set_default_device(mx.cpu)
# On the CPU it would start a compiler for each new kernel.
mx.disable_compile()
path, prompt, tokens = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

started = time.perf_counter()
model, _ = load_model(path)
loaded = time.perf_counter()
cache = make_prompt_cache(model)


def step(words: list[int]) -> int:
    logits = model(mx.array([words]), cache=cache)
    return mx.argmax(logits[0, -1]).item()


token = step([300 + index * 37 % 30000 for index in range(prompt)])
read = time.perf_counter()
for _ in range(tokens):
    token = step([token])
end = time.perf_counter()
print(
    json.dumps(
        {
            "load": loaded - started,
            "prefill": prompt / (read - loaded),
            "decode": tokens / (end - read),
            "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        }
    )
)

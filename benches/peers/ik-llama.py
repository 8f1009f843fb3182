"""One round of ik_llama.cpp on the CPU: python ik-llama.py MODEL PROMPT TOKENS THREADS [STREAMS].

Prints JSON; of several streams, sequences of one batch, the tokens per second of all together.
"""

import json
import sys
import time

from ik_llama_cpp import _ctypes_api as api

path, prompt, tokens, threads = sys.argv[1], *map(int, sys.argv[2:5])
streams = int(sys.argv[5]) if len(sys.argv) > 5 else 1

api.llama_backend_init()
settings = api.llama_model_default_params()
# Rows of weights are interleaved, which is what makes it read prompts fast.
settings.use_mmap, settings.repack_tensors = False, True
started = time.perf_counter()
model = api.llama_model_load_from_file(path.encode(), settings)
settings = api.llama_context_default_params()
settings.n_ctx, settings.n_seq_max = streams * (prompt + tokens + 64), streams
settings.n_batch = max(512, prompt)
settings.n_threads = settings.n_threads_batch = threads
# Its flash attention ends the process ("S > 0") where a processor's AVX-VNNI is not used.
settings.flash_attn = False
context = api.llama_init_from_model(model, settings)
loaded = time.perf_counter()


def step(words, position):
    """One pass over the tokens of each stream; the last one's logits."""
    batch = api.llama_batch_init(streams * len(words), 0, 1)
    batch.n_tokens = streams * len(words)
    for index in range(batch.n_tokens):
        stream, place = divmod(index, len(words))
        batch.token[index], batch.pos[index] = words[place] + stream, position + place
        batch.n_seq_id[index], batch.seq_id[index][0] = 1, stream
        batch.logits[index] = place == len(words) - 1
    status = api.llama_decode(context, batch)
    api.llama_batch_free(batch)
    assert status == 0, f"llama_decode gives {status}"
    return api.llama_get_logits_ith(context, streams * len(words) - 1)[0]


step([300 + index * 37 % 30000 for index in range(prompt)], 0)
read = time.perf_counter()
for index in range(tokens):
    step([300 + index * 91 % 30000], prompt + index)
end = time.perf_counter()
print(
    json.dumps(
        {
            "load": loaded - started,
            "prefill": streams * prompt / (read - loaded),
            "decode": streams * tokens / (end - read),
        }
    )
)

"""mlx-lm's models as they are computed with here."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model


class MlxOracle:
    """A checkpoint in mlx-lm: stored values, floating-point parameters cast to `dtype`, on the CPU."""

    def __init__(self, folder: Path, dtype: mx.Dtype = mx.float32):
        # transformers 5 nests what mlx-lm reads at the top level in most of its models.
        nested = json.loads((folder / "config.json").read_text()).get("rope_parameters")
        overrides = (
            {"rope_theta": nested["rope_theta"], "rope_scaling": nested} if nested and "rope_theta" in nested else None
        )
        self.model, _ = load_model(folder, model_config=overrides)
        self.model.set_dtype(dtype)

    def start(self):
        return make_prompt_cache(self.model)

    def step(self, tokens: np.ndarray, cache) -> np.ndarray:
        """Logits `[n, vocab]` of `n` more tokens."""
        return np.array(self.model(mx.array(tokens[None].astype(np.int32)), cache=cache)[0].astype(mx.float32))

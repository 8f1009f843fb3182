"""The Qwen3 architecture in PyTorch, with weights named as in Hugging Face checkpoints."""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Config:
    vocab_size: int = 4096
    hidden_size: int = 384
    intermediate_size: int = 768
    num_hidden_layers: int = 8
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    head_dim: int = 64
    max_position_embeddings: int = 4096
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    group_size: int = 64

    def to_json(self) -> dict:
        """config.json as mlx-lm writes it for a 4-bit checkpoint."""
        fields = asdict(self)
        group = fields.pop("group_size")
        quantization = {"group_size": group, "bits": 4, "mode": "affine"}
        return {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **fields, "hidden_act": "silu", "attention_bias": False,
                "attention_dropout": 0.0, "tie_word_embeddings": True, "rope_scaling": None, "use_sliding_window": False, "torch_dtype": "bfloat16",
                "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0, "use_cache": True,
                "quantization": quantization, "quantization_config": quantization}


SIZES = {"demo": Config(), "draft": Config(hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)}


def attention(q, k, v, mask=None):
    """Attention `[batch, heads, length, head_dim]`, causal unless a mask `[batch, 1, queries, keys]` says what is seen."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)


def linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


class Attention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.q_proj = linear(c.hidden_size, c.num_attention_heads * c.head_dim)
        self.k_proj = linear(c.hidden_size, c.num_key_value_heads * c.head_dim)
        self.v_proj = linear(c.hidden_size, c.num_key_value_heads * c.head_dim)
        self.o_proj = linear(c.num_attention_heads * c.head_dim, c.hidden_size)
        self.q_norm = nn.RMSNorm(c.head_dim, eps=c.rms_norm_eps)
        self.k_norm = nn.RMSNorm(c.head_dim, eps=c.rms_norm_eps)

    def forward(self, x, rope, mask, attend, cache=None):
        b, t, _ = x.shape
        q, k, v = (p(x).view(b, t, -1, self.c.head_dim).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(self.q_norm(q), rope), rotate(self.k_norm(k), rope)
        if cache is not None:
            k, v = cache.append(k, v)
        return self.o_proj(attend(q, k, v, mask).transpose(1, 2).reshape(b, t, -1))


class Mlp(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.gate_proj = linear(c.hidden_size, c.intermediate_size)
        self.up_proj = linear(c.hidden_size, c.intermediate_size)
        self.down_proj = linear(c.intermediate_size, c.hidden_size)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.self_attn = Attention(c)
        self.mlp = Mlp(c)
        self.input_layernorm = nn.RMSNorm(c.hidden_size, eps=c.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(c.hidden_size, eps=c.rms_norm_eps)

    def forward(self, x, rope, mask, attend, cache=None):
        x = x + self.self_attn(self.input_layernorm(x), rope, mask, attend, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.norm = nn.RMSNorm(c.hidden_size, eps=c.rms_norm_eps)


class Qwen3(nn.Module):
    """Tokens `[batch, length]` to logits `[batch, length, vocabulary]`."""

    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.model = Body(c)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                scale = 0.02 if "embed" in name else p.shape[1] ** -0.5 * (0.3 if "o_proj" in name or "down_proj" in name else 0.7)
                nn.init.normal_(p, std=scale)

    def forward(self, tokens, rope, mask=None, attend=attention, caches=None):
        x = self.model.embed_tokens(tokens)
        for i, layer in enumerate(self.model.layers):
            x = layer(x, rope, mask, attend, caches and caches[i])
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)


def rope_table(c: Config, length: int, device=None, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines `[length, head_dim / 2]`, angle of pair i at position p: p · theta^(−2i/d)."""
    frequencies = c.rope_theta ** (-torch.arange(0, c.head_dim, 2, device=device, dtype=torch.float32) / c.head_dim)
    angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequencies
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: torch.Tensor, rope) -> torch.Tensor:
    """Rotary positions on halves (not interleaved pairs), as in Llama and Qwen checkpoints; `[…, length, head_dim]`."""
    cos, sin = rope
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x.dtype)

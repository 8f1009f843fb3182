"""Tiny checkpoints in the formats of other programs, and the logits of transformers with the weights that they stand for, in float32."""

import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

from . import foreign
from .checkpoints import drawn
from .declaration import Architecture
from .writing import write_json

SHARED = {
    "vocab_size": 32,
    "hidden_size": 64,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
EXPERTS = {
    "num_experts": 3,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
TOKENS = 24
KEPT_LOGITS = 8


@dataclass
class Checkpoint:
    """A checkpoint of one format."""

    name: str
    pack: Callable
    config: dict
    """Its `quantization_config`."""
    experts: bool = False
    dtype: str = "float16"
    file: str | None = None
    """Where the configuration of the format stands, if not in `config.json`."""
    extra: dict = field(default_factory=dict)
    """Further tensors, which nobody needs."""
    ignored: tuple[str, ...] = ()
    """Layers that are not quantized."""


def gptq(name: str, bits: int, group: int, sym: bool, act_order: bool = False, version: int = 1, **fields) -> Checkpoint:
    config = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": act_order, "sym": sym}
    config["checkpoint_format"] = "gptq" if version == 1 else "gptq_v2"
    return Checkpoint(name, foreign.gptq(bits, group, sym, act_order, version), config, **fields)


def awq(name: str, version: str, pack: Callable, bits: int = 4, **fields) -> Checkpoint:
    config = {"quant_method": "awq", "bits": bits, "group_size": 32, "zero_point": True, "version": version}
    return Checkpoint(name, pack, config, **fields)


def compressed(name: str, format: str, act_order: bool = False, fields: dict | None = None, **weights) -> Checkpoint:
    said = {key: "torch.uint8" if key == "scale_dtype" else value for key, value in weights.items()}
    config = {
        "quant_method": "compressed-tensors",
        "format": format,
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {**said, "actorder": "group" if act_order else None}}},
        "ignore": ["lm_head"],
    }
    pack = foreign.compressed(format, act_order=act_order, **weights)
    return Checkpoint(name, pack, config, dtype="bfloat16", **(fields or {}))


def fp8(name: str, pack: Callable, **config) -> Checkpoint:
    config = {"quant_method": "fp8", "activation_scheme": "dynamic", **config}
    return Checkpoint(name, pack, config, dtype="bfloat16")


INT = {"type": "int", "strategy": "group"}
FLOAT = {"type": "float", "symmetric": True}
POWERS = {"strategy": "group", "group_size": 32, "scale_dtype": torch.uint8, **FLOAT}
CACHE_SCALES = {f"model.layers.0.self_attn.{part}_scale": torch.tensor(0.5) for part in "kv"}

CHECKPOINTS = [
    gptq("gptq-4bit", 4, 32, sym=True),
    gptq("gptq-4bit-act-order", 4, 32, sym=False, act_order=True),
    gptq("gptq-8bit-v2", 8, -1, sym=False, version=2),
    gptq("gptq-3bit", 3, 32, sym=False),
    gptq("gptq-2bit-file", 2, 32, sym=True, file="quantize_config.json"),
    gptq("gptq-experts", 4, 32, sym=True, experts=True),
    gptq("gptq-experts-act-order", 4, 32, sym=True, act_order=True, experts=True),
    awq("awq-gemm", "gemm", foreign.awq_gemm(32), ignored=("self_attn.o_proj",)),
    awq("awq-gemv", "gemv", foreign.awq_gemv(32)),
    awq("awq-8bit", "gemm", foreign.awq_8bit(32), bits=8),
    awq("awq-experts", "gemm", foreign.awq_gemm(32), experts=True),
    compressed("compressed-int4", "pack-quantized", num_bits=4, symmetric=False, group_size=32, **INT),
    compressed("compressed-int4-act-order", "pack-quantized", True, num_bits=4, symmetric=True, group_size=32, **INT),
    compressed("compressed-int8", "pack-quantized", num_bits=8, symmetric=True, type="int", strategy="channel"),
    compressed("compressed-int3", "pack-quantized", num_bits=3, symmetric=False, group_size=32, **INT),
    compressed("compressed-bytes", "int-quantized", num_bits=8, symmetric=True, type="int", strategy="channel"),
    compressed("compressed-nvfp4", "nvfp4-pack-quantized", num_bits=4, strategy="tensor_group", group_size=16, **FLOAT),
    compressed(
        "compressed-nvfp4-experts",
        "nvfp4-pack-quantized",
        num_bits=4,
        strategy="tensor_group",
        group_size=16,
        fields={"experts": True},
        **FLOAT,
    ),
    compressed("compressed-mxfp4", "mxfp4-pack-quantized", num_bits=4, **POWERS),
    compressed("compressed-mxfp8", "mxfp8-quantized", num_bits=8, **POWERS),
    compressed("compressed-fp8", "float-quantized", num_bits=8, strategy="tensor", fields={"extra": CACHE_SCALES}, **FLOAT),
    compressed("compressed-fp8-channel", "float-quantized", num_bits=8, strategy="channel", **FLOAT),
    compressed("compressed-fp8-block", "float-quantized", num_bits=8, strategy="block", block_structure=[16, 32], **FLOAT),
    compressed("compressed-fp8-experts", "float-quantized", num_bits=8, strategy="channel", fields={"experts": True}, **FLOAT),
    fp8("fp8-block", foreign.fp8((16, 32)), weight_block_size=[16, 32]),
    fp8("fp8-uneven-blocks", foreign.fp8((24, 24)), weight_block_size=[24, 24]),
    fp8("fp8-ue8m0", foreign.fp8((16, 32), powers=True), weight_block_size=[16, 32], scale_fmt="ue8m0"),
    fp8("fp8-e8m0", foreign.fp8((16, 32), True, torch.float8_e8m0fnu), weight_block_size=[16, 32], scale_fmt="ue8m0"),
    fp8("fp8-tensor", foreign.fp8(None), weight_block_size=None),
    Checkpoint(
        "modelopt-nvfp4",
        foreign.modelopt_nvfp4,
        {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16}},
        dtype="bfloat16",
        file="hf_quant_config.json",
        extra=CACHE_SCALES,
    ),
    Checkpoint(
        "modelopt-fp8", foreign.fp8(None, name="weight_scale"), {"quant_method": "modelopt", "quant_algo": "FP8"}, dtype="bfloat16"
    ),
    Checkpoint("bitnet", foreign.bitnet(False), {"quant_method": "bitnet"}, dtype="bfloat16"),
    Checkpoint(
        "bitnet-multiplied",
        foreign.bitnet(True),
        {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"},
        dtype="bfloat16",
    ),
    Checkpoint("bitsandbytes-nf4", foreign.bitsandbytes_4bit("nf4", True), {"quant_method": "bitsandbytes", "load_in_4bit": True}),
    Checkpoint("bitsandbytes-fp4", foreign.bitsandbytes_4bit("fp4", False), {"quant_method": "bitsandbytes", "load_in_4bit": True}),
    Checkpoint("bitsandbytes-int8", foreign.bitsandbytes_8bit, {"quant_method": "bitsandbytes", "load_in_8bit": True}),
]


def make_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    folder.mkdir(parents=True)
    model_type = "qwen3_moe" if checkpoint.experts else "llama"
    config_class = transformers.Qwen3MoeConfig if checkpoint.experts else transformers.LlamaConfig
    model_class = transformers.Qwen3MoeForCausalLM if checkpoint.experts else transformers.LlamaForCausalLM
    arguments = {**SHARED, **(EXPERTS if checkpoint.experts else {})}
    model = model_class(config_class(**arguments, attn_implementation="eager")).float().eval()
    stored: dict[str, torch.Tensor] = {}

    def packed(path: str, shape) -> torch.Tensor:
        generator = np.random.default_rng(zlib.crc32(f"{checkpoint.name} {path}".encode()))
        tensors, weights = checkpoint.pack(tuple(shape), generator)
        stored.update({f"{path}.{end}": tensor.contiguous() for end, tensor in tensors.items()})
        return weights

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            path, shape = name.removesuffix(".weight"), parameter.shape
            if name.endswith("experts.gate_up_proj"):
                path = path.removesuffix(".gate_up_proj")
                halves = ([packed(f"{path}.{i}.{half}_proj", (shape[1] // 2, shape[2])) for half in ("gate", "up")] for i in range(shape[0]))
                parameter.copy_(torch.stack([torch.cat(pair) for pair in halves]))
            elif name.endswith("experts.down_proj"):
                path = path.removesuffix(".down_proj")
                parameter.copy_(torch.stack([packed(f"{path}.{i}.down_proj", shape[1:]) for i in range(shape[0])]))
            elif path.endswith("_proj") and not path.endswith(checkpoint.ignored or ("nothing",)):
                parameter.copy_(packed(path, shape))
            else:
                start = parameter.numpy()
                value = torch.from_numpy(drawn(name, tuple(shape), start, Architecture({}, [])))
                stored[name] = value.to(getattr(torch, checkpoint.dtype))
                parameter.copy_(stored[name].float())
        tokens = torch.from_numpy(np.random.default_rng(1).integers(0, SHARED["vocab_size"], TOKENS))
        logits = model(tokens[None], use_cache=False).logits[0, -KEPT_LOGITS:].float()
    save_file({**stored, **checkpoint.extra}, folder / "model.safetensors", metadata={"format": "pt"})
    save_file({"tokens": tokens.int(), "logits": logits.contiguous()}, folder / "golden.safetensors")
    config = {"model_type": model_type, **arguments, "torch_dtype": checkpoint.dtype}
    if checkpoint.file:
        write_json(folder / checkpoint.file, checkpoint.config)
    else:
        config["quantization_config"] = checkpoint.config
    write_json(folder / "config.json", config)


def make(out: Path) -> None:
    shutil.rmtree(out / "formats", ignore_errors=True)
    for checkpoint in CHECKPOINTS:
        make_checkpoint(checkpoint, out / "formats" / checkpoint.name)

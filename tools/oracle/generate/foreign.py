"""Linear layers as other programs pack them, by the programs' own code: each function takes a shape `[out, in]` and a generator of
random numbers, and returns the tensors of the layer by the ends of their names and the weights that they stand for, in float32."""

import importlib
import importlib.util
import sys
import types

import bitsandbytes.functional as bitsandbytes
import numpy as np
import torch
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute as dequantized_4bit
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from transformers.integrations.bitnet import pack_weights, unpack_weights
from transformers.integrations.finegrained_fp8 import Fp8Dequantize


def bare(*packages: str) -> None:
    """Makes modules below these packages loadable without what the packages themselves load, which wants a GPU or older libraries."""
    for name in packages:
        parent, _, leaf = name.rpartition(".")
        if parent:
            path = [f"{folder}/{leaf}" for folder in sys.modules[parent].__path__]
        else:
            path = list(importlib.util.find_spec(name).submodule_search_locations)
        module = types.ModuleType(name)
        module.__path__, module.__version__ = path, "0"
        sys.modules[name] = module


def stub(name: str, **contents: object) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(contents)
    sys.modules[name] = module


bare("auto_gptq", "auto_gptq.nn_modules", "auto_gptq.nn_modules.qlinear")
bare("awq", "awq.utils", "awq.modules", "awq.modules.linear")
stub("awq.utils.utils", get_best_device=lambda: "cpu")
modelopt = "modelopt.torch.quantization"
bare("modelopt", "modelopt.torch", modelopt, f"{modelopt}.qtensor", f"{modelopt}.backends")
stub(f"{modelopt}.backends.utils", fp4_compatible=lambda: False)

GptqLinear = importlib.import_module("auto_gptq.nn_modules.qlinear.qlinear_cuda").QuantLinear
AwqGemm = importlib.import_module("awq.modules.linear.gemm").WQLinear_GEMM
AwqGemv = importlib.import_module("awq.modules.linear.gemv").WQLinear_GEMV
awq_dequantized = importlib.import_module("awq.utils.packing_utils").dequantize_gemm
NVFP4 = importlib.import_module(f"{modelopt}.qtensor.nvfp4_tensor").NVFP4QTensor

Layer = tuple[dict[str, torch.Tensor], torch.Tensor]


def same(ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """The weights by the format's definition, of which the program's own code must say the same."""
    torch.testing.assert_close(theirs.float(), ours, rtol=1e-6, atol=1e-7)
    return ours


def normal(shape, generator: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy((generator.standard_normal(shape) * 1.6 / np.sqrt(shape[-1])).astype(np.float32))


def linear(weights: torch.Tensor) -> torch.nn.Linear:
    module = torch.nn.Linear(weights.shape[1], weights.shape[0], bias=False)
    module.weight.data = weights.clone()
    return module


def integers(shape, generator, bits, group, symmetric, groups=None, dtype=torch.float16):
    """Codes, zeros and scales `[out, …]`, and the weights that they stand for; `groups` is the group of each input."""
    outputs, inputs = shape
    count = -(-inputs // group)
    groups = np.arange(inputs) // group if groups is None else groups
    codes = torch.from_numpy(generator.integers(0, 1 << bits, shape))
    middle = 1 << (bits - 1)
    spread = max(1, middle // 2)
    zeros = generator.integers(middle - spread + 1, middle + spread, (outputs, count))
    zeros = torch.full((outputs, count), middle) if symmetric else torch.from_numpy(zeros)
    size = 2.0 / np.sqrt(inputs) / (1 << bits)
    scales = torch.from_numpy(size * generator.uniform(0.5, 1.5, (outputs, count))).to(dtype)
    weights = (codes - zeros[:, groups]).float() * scales.float()[:, groups]
    return codes, zeros, scales, weights


def gptq(bits: int, group: int, symmetric: bool, act_order: bool = False, version: int = 1):
    def pack(shape, generator) -> Layer:
        outputs, inputs = shape
        size = inputs if group == -1 else group
        groups = np.arange(inputs) // size
        if act_order:
            groups = generator.permutation(groups)
        _, zeros, scales, weights = integers(shape, generator, bits, size, symmetric, groups)
        indices = torch.from_numpy(groups.astype(np.int32))

        def packed_with(zeros):
            packed = GptqLinear(bits, size, inputs, outputs, bias=False)
            packed.pack(linear(weights), scales.float(), zeros.float(), indices)
            return packed

        packed = packed_with(zeros)
        tensors = {name: getattr(packed, name) for name in ("qweight", "qzeros", "scales")}
        if version == 2:
            # The program subtracts one from the zeros, which the second version of the format does not.
            tensors["qzeros"] = packed_with(zeros + 1).qzeros
        return {**tensors, "g_idx": indices}, same(weights, gptq_dequantized(packed, inputs))

    return pack


def gptq_dequantized(packed: GptqLinear, inputs: int) -> torch.Tensor:
    packed.scales = packed.scales.float()
    return packed(torch.eye(inputs)).T


def awq_gemm(group: int):
    def pack(shape, generator) -> Layer:
        _, zeros, scales, weights = integers(shape, generator, 4, group, symmetric=False)
        packed = AwqGemm.from_linear(linear(weights), 4, group, scales=scales.float().T, zeros=zeros.T)
        theirs = awq_dequantized(packed.qweight, packed.qzeros, packed.scales.float(), 4, group).T
        return {name: getattr(packed, name) for name in ("qweight", "qzeros", "scales")}, same(weights, theirs)

    return pack


# The outputs of a word, from its lowest byte on, as vLLM's kernels read them. AutoAWQ writes 4 bits alone.
AWQ_BYTES = [0, 2, 1, 3]


def awq_8bit(group: int):
    def words(codes) -> torch.Tensor:
        """`[rows, outputs]` as words of four."""
        codes = np.asarray(codes).astype(np.uint8)
        in_order = codes.reshape(len(codes), -1, 4)[..., AWQ_BYTES]
        return torch.from_numpy(np.ascontiguousarray(in_order).reshape(len(codes), -1).view(np.int32).copy())

    def pack(shape, generator) -> Layer:
        codes, zeros, scales, weights = integers(shape, generator, 8, group, symmetric=False)
        return {"qweight": words(codes.T), "qzeros": words(zeros.T), "scales": scales.T.half()}, weights

    return pack


def awq_gemv(group: int):
    def pack(shape, generator) -> Layer:
        _, zeros, scales, weights = integers(shape, generator, 4, group, symmetric=False)
        packed = AwqGemv.from_linear(linear(weights), 4, group, scales=scales.float(), zeros=zeros.float())
        return {name: getattr(packed, name) for name in ("qweight", "qzeros", "scales")}, weights

    return pack


def compressed(format: str, stored=torch.bfloat16, act_order: bool = False, **arguments):
    """compressed-tensors' own compressor of a format; `arguments` are those of its scheme for weights, `stored` is the type of scales."""
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**arguments))
    args = scheme.weights
    compressor = BaseCompressor.get_value_from_registry(format)

    def group_of(inputs: int) -> int:
        return inputs if args.strategy == "channel" else args.group_size

    def pack_integers(shape, generator) -> Layer:
        groups = np.arange(shape[1]) // group_of(shape[1])
        if act_order:
            groups = generator.permutation(groups)
        size = group_of(shape[1])
        _, zeros, scales, weights = integers(shape, generator, args.num_bits, size, args.symmetric, groups, stored)
        state = {"weight": weights, "weight_scale": scales.float()}
        state["weight_zero_point"] = (zeros - (1 << (args.num_bits - 1))).to(torch.int8)
        # Its compressor wants the inputs sorted by their groups.
        order = torch.from_numpy(np.argsort(groups, kind="stable"))
        packed = compressor.compress({**state, "weight": weights[:, order]}, scheme)
        same(weights[:, order], compressor.decompress(dict(packed), scheme)["weight"])
        if act_order:
            codes = unpack_from_int32(packed["weight_packed"], args.num_bits, torch.Size(shape))
            packed["weight_packed"] = pack_to_int32(codes[:, torch.argsort(order)].contiguous(), args.num_bits)
            packed["weight_g_idx"] = torch.from_numpy(groups.astype(np.int32))
        packed["weight_scale"] = scales
        return packed, weights

    def greatest(weights: torch.Tensor) -> torch.Tensor:
        outputs, inputs = weights.shape
        if args.strategy == "tensor":
            return weights.abs().max().reshape(1)
        if args.strategy == "block":
            height, width = args.block_structure
            return weights.abs().reshape(outputs // height, height, inputs // width, width).amax((1, 3))
        return weights.abs().reshape(outputs, -1, group_of(inputs)).amax(-1)

    def pack_floats(shape, generator) -> Layer:
        state = {"weight": normal(shape, generator)}
        scales = greatest(state["weight"]) / (6.0 if args.num_bits == 4 else 448.0)
        if args.scale_dtype == torch.uint8:
            scales = torch.exp2(torch.ceil(torch.log2(scales)))
        elif args.group_size == 16:
            # All scales times this are within e4m3's range.
            state["weight_global_scale"] = (448.0 / scales.max()).reshape(1)
            scales = (scales * state["weight_global_scale"]).to(torch.float8_e4m3fn).float()
        else:
            scales = scales.to(stored).float()
        packed = compressor.compress({**state, "weight_scale": scales}, scheme)
        if args.num_bits == 8:
            codes = packed["weight"].float()
        else:
            codes = unpack_fp4_from_uint8(packed["weight_packed"], *shape, dtype=torch.float32)
        grid = (scales / state.get("weight_global_scale", 1.0)).reshape(-1, scales.shape[-1])
        height, width = (size // count for size, count in zip(shape, grid.shape, strict=True))
        weights = codes * grid.repeat_interleave(height, 0).repeat_interleave(width, 1)
        theirs = compressor.decompress(dict(packed), scheme)["weight"].float()
        # It computes some of them in bfloat16.
        torch.testing.assert_close(theirs, weights, rtol=2**-7, atol=0)
        if packed["weight_scale"].dtype == torch.float32:
            packed["weight_scale"] = scales.to(stored)
        return packed, weights

    return pack_integers if args.type == "int" else pack_floats


def fp8(block: tuple[int, int] | None, powers: bool = False, scale_dtype=torch.float32, name: str = "weight_scale_inv"):
    """float8 with a scale for each block; the last blocks may be smaller."""

    def pack(shape, generator) -> Layer:
        weights = normal(shape, generator)
        height, width = block or shape
        down, across = -(-shape[0] // height), -(-shape[1] // width)
        packed, scales = torch.empty(shape, dtype=torch.float8_e4m3fn), torch.empty(down, across)
        values = torch.empty(shape)
        for row in range(down):
            for column in range(across):
                at = (slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width))
                scale = weights[at].abs().max() / 448.0
                scale = torch.exp2(torch.ceil(torch.log2(scale))) if powers else scale
                packed[at] = (weights[at] / scale).to(torch.float8_e4m3fn)
                scales[row, column] = scale
                values[at] = packed[at].float() * scale
        scales = scales.to(scale_dtype)
        if shape[0] % height == 0 and shape[1] % width == 0:
            same(values, Fp8Dequantize(None)._dequantize_one(packed, scales, torch.float32))
        return {"weight": packed, name: scales if block else scales.reshape(())}, values

    return pack


def modelopt_nvfp4(shape, generator) -> Layer:
    weights = normal(shape, generator)
    tensor, scale, factor = NVFP4.quantize(weights, 16)
    values = tensor.dequantize(torch.float32, scale=scale, double_scale=factor, block_sizes={-1: 16})
    packed = {"weight": tensor._quantized_data, "weight_scale": scale, "weight_scale_2": factor}
    return {**packed, "input_scale": torch.tensor(0.01)}, values.float()


def bitnet(multiplied: bool):
    def pack(shape, generator) -> Layer:
        codes = torch.from_numpy(generator.integers(-1, 2, shape).astype(np.int8))
        scale = torch.tensor([generator.uniform(0.1, 0.2) if multiplied else generator.uniform(5.0, 10.0)]).bfloat16()
        packed = pack_weights(codes.clone())
        assert torch.equal(unpack_weights(packed, torch.int8), codes)
        weights = codes.float() * (scale.float() if multiplied else 1 / scale.float())
        return {"weight": packed, "weight_scale": scale}, weights

    return pack


def bitsandbytes_4bit(kind: str, nested: bool):
    def pack(shape, generator) -> Layer:
        weights = normal(shape, generator).bfloat16()
        packed, state = bitsandbytes.quantize_4bit(weights, blocksize=64, compress_statistics=nested, quant_type=kind)
        tensors = {f"weight.{name}": value for name, value in state.as_dict(packed=True).items()}
        scales = state.absmax
        if nested:
            scales = bitsandbytes.dequantize_blockwise(state.absmax, state.state2) + state.offset
        # Not the program's kernel for the CPU, which takes blocks that span rows wrongly.
        values = dequantized_4bit(packed.reshape(-1), scales, state.code, state.blocksize, shape, torch.float32)
        return {"weight": packed, **tensors}, values.reshape(shape)

    return pack


def bitsandbytes_8bit(shape, generator) -> Layer:
    weights = normal(shape, generator).half()
    packed, scales, _ = bitsandbytes.int8_vectorwise_quant(weights)
    values = bitsandbytes.int8_vectorwise_dequant(packed, scales)
    format = torch.tensor(0, dtype=torch.uint8)
    return {"weight": packed, "SCB": scales, "weight_format": format}, same(packed * (scales / 127)[:, None], values)

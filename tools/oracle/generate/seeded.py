"""Checkpoints made from a seed: a fixture keeps what its tensors are, and Python and Rust (`tests/seeded`) make the same bytes of it.

`<name>.json` of a fixture has `config`, the configuration (first, and with 1e999 for infinite numbers), `golden`, what is to be said of the values in
`<name>.safetensors`, `index`, whether the checkpoint has one, `seed`, and in `files` for each file of the checkpoint its `metadata` and `tensors`: of each a type (of
safetensors), a shape, and one rule, in an object. Element *i* of a tensor comes of a word of 64 bits, wᵢ = mix(s + (i + 1) · 0x9e3779b97f4a7c15), where s is
FNV-1a of the tensor's name (or of `name`, where it is another's) xor the seed, and mix is that of SplitMix64 (Steele et al. 2014):

| Rule | Element |
|---|---|
| `fill: v` | v |
| `uniform: [low, high]` | low + (high − low) · u, u = (w >> 40) · 2⁻²⁴ |
| `signed: [low, high]` | the same, negative where the lowest bit of w is 1 |
| `grid: [low, high, step]` | low + step · ⌊u · n⌋, n = (high − low) / step + 1 |
| `integers: [low, high]` | low + ((w >> 32) · (high − low + 1) >> 32) |
| `bits` | the highest bits of w |
| `e4m3` | byte by byte, also of longer elements: a float8 that is a number, sign w >> 63, the rest (w >> 32) · 127 >> 32 |
| `times: [other, factor]` | the element of another tensor of the file, times a factor |

All in float64, rounded to float32 and then to the tensor's type, each to the nearest, ties to even. Tensors that no rule makes (those of
published packings) are stored in `<name>.safetensors`, as `<file>/<tensor>`. Other files of the checkpoint are in the folder `<name>`.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors import deserialize

from .writing import write_compact, write_json

GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)
FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
WIDTHS = {"U32": np.uint32, "U8": np.uint8}
# Values that are all multiples of this are on a grid: norms to which one can be added in any type.
STEP = 1 / 128
CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
# What was computed with a checkpoint, among its files while a fixture is made.
GOLDEN = "golden.safetensors"


def words(name: str, seed: int, count: int) -> np.ndarray:
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(state ^ seed) + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN_RATIO
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def below(w: np.ndarray, count: int) -> np.ndarray:
    """Whole numbers below `count`."""
    return (w >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)


def floats(values: np.ndarray, dtype: str) -> bytes:
    rounded = torch.from_numpy(values.astype(np.float32)).to(FLOATS[dtype])
    return rounded.view(torch.uint8).numpy().tobytes() if rounded.numel() else b""


def decoded(data: bytes, dtype: str) -> np.ndarray:
    """Floating-point numbers of a file."""
    return torch.frombuffer(bytearray(data), dtype=FLOATS[dtype]).double().numpy()


def made(name: str, entry: dict, seed: int, others: dict[str, tuple[str, bytes]]) -> bytes:
    """The bytes of a tensor; `others` are those of the file that are made already."""
    count = int(np.prod(entry["shape"], dtype=np.int64))
    dtype = entry["dtype"]
    if "fill" in entry:
        return floats(np.full(count, entry["fill"]), dtype)
    if "times" in entry:
        other, factor = entry["times"]
        return floats(decoded(others[other][1], others[other][0]) * factor, dtype)
    seed_name = entry.get("name", name)
    if "e4m3" in entry:
        w = words(seed_name, seed, count * (4 if dtype == "U32" else 1))
        return ((w >> np.uint64(63) << np.uint64(7)) | below(w, 127)).astype(np.uint8).tobytes()
    w = words(seed_name, seed, count)
    if "bits" in entry:
        width = WIDTHS[dtype]
        return (w >> np.uint64(64 - 8 * np.dtype(width).itemsize)).astype(width).tobytes()
    if "integers" in entry:
        low, high = entry["integers"]
        return (below(w, high - low + 1) + np.uint64(low)).astype(WIDTHS[dtype]).tobytes()
    u = (w >> np.uint64(40)).astype(np.float64) * 2.0**-24
    if "grid" in entry:
        low, high, step = entry["grid"]
        return floats(low + step * np.floor(u * ((high - low) / step + 1)), dtype)
    if "signed" in entry:
        low, high = entry["signed"]
        return floats((low + (high - low) * u) * np.where(w & np.uint64(1), -1.0, 1.0), dtype)
    low, high = entry["uniform"]
    return floats(low + (high - low) * u, dtype)


def rule(name: str, tensor: dict, tensors: dict[str, dict]) -> dict | None:
    """The rule that makes a tensor like this one, of its spread; none for what has to stay as it is."""
    dtype, data, shape = tensor["dtype"], tensor["data"], tensor["shape"]
    base, _, last = name.rpartition(".")
    if dtype in FLOATS:
        values = decoded(data, dtype)
        if values.size == 0 or not np.isfinite(values).all():
            return None
        if np.ptp(values) == 0:
            return {"fill": float(values[0])}
        if last == "biases" and f"{base}.scales" in tensors:
            scales = tensors[f"{base}.scales"]
            x = decoded(scales["data"], scales["dtype"])
            factor = abs((values * x).sum() / (x * x).sum())
            # So that the middle of the codes stands for zero, whatever the number of bits.
            middle = min(((2**bits - 1) / 2 for bits in (2, 3, 4, 5, 6, 8)), key=lambda it: abs(np.log(it / factor)))
            return {"times": [f"{base}.scales", -middle]}
        if np.equal(np.abs(values), 1).all():
            return {"signed": [1.0, 1.0]}
        signed = last == "scales" and f"{base}.biases" in tensors
        if signed:
            # All codes are as likely, the outer ones more than in a matrix that was packed.
            values = 0.65 * np.abs(values)
        spread = np.sqrt(3) * values.std()
        low = float(f"{max(values.mean() - spread, values.min()):.3g}")
        high = float(f"{min(values.mean() + spread, values.max()):.3g}")
        if signed:
            return {"signed": [low, high]}
        if np.equal(values / STEP, np.round(values / STEP)).all():
            return {"grid": [np.floor(low / STEP) * STEP, np.ceil(high / STEP) * STEP, STEP]}
        return {"uniform": [low, high]}
    if dtype == "F8_E4M3":
        return {"e4m3": None}
    if dtype == "U32":
        scales = tensors.get(f"{base}.scales")
        # mxfp8: bytes that are numbers, 32 with a scale.
        packed = scales and scales["dtype"] == "U8" and shape[-1] * 4 == scales["shape"][-1] * 32
        return {"e4m3": None} if packed else {"bits": None}
    if dtype == "U8":
        values = np.frombuffer(data, np.uint8)
        low, high = int(values.min()), int(values.max())
        return {"bits": None} if high - low > 240 else {"integers": [low, high]}
    return None


def read(path: Path) -> tuple[dict[str, str], dict[str, dict]]:
    """The metadata of a file, and its tensors by name."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    tensors = {name: {**tensor, "data": bytes(tensor["data"])} for name, tensor in deserialize(data)}
    return header.get("__metadata__", {}), tensors


def write(path: Path, tensors: dict[str, dict], metadata: dict[str, str]) -> None:
    header, parts, end = {"__metadata__": metadata} if metadata else {}, [], 0
    # The widest first, so that each lies where its type wants it.
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1]["dtype"] in ("U8", "F8_E4M3"), item[0])):
        start, end = end, end + len(tensor["data"])
        header[name] = {"dtype": tensor["dtype"], "shape": tensor["shape"], "data_offsets": [start, end]}
        parts.append(bytes(tensor["data"]))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("model*.safetensors"))


def redraw(folder: Path, seed: int, adjust=lambda _, values: values) -> dict[str, dict]:
    """Gives the tensors of a checkpoint values that rules make, and returns the rules, by name, with the bytes that each makes (`data`).

    `adjust` takes a name and the float32 values of a matrix to those that can be packed.
    """
    rules = {}
    for path in files(folder):
        metadata, saved = read(path)
        tensors = dict(saved)
        fresh: dict[str, tuple[str, bytes]] = {}
        # Biases of packed matrices come of their scales.
        for name in sorted(saved, key=lambda name: name.endswith(".biases")):
            tensor = saved[name]
            chosen = rule(name, tensor, saved)
            if chosen is None:
                continue
            entry = {"dtype": tensor["dtype"], "shape": tensor["shape"], **chosen}
            data = made(name, entry, seed, fresh)
            fresh[name] = tensor["dtype"], data
            rules[name] = {**entry, "data": data}
            if tensor["dtype"] in FLOATS:
                values = decoded(data, tensor["dtype"]).astype(np.float32).reshape(tensor["shape"])
                data = floats(adjust(name, values).astype(np.float64).ravel(), tensor["dtype"])
            tensors[name] = {**tensor, "data": data}
        write(path, tensors, metadata)
    return rules


def store(checkpoint: Path, fixture: Path, rules: dict[str, dict], seed: int, facts: dict | None = None) -> None:
    """Writes the files of a fixture, `fixture` being their path without an ending: of the checkpoint in a folder, of the `golden.safetensors`
    among its files, and of the `facts` that are to be said of that."""
    by_bytes = {(entry["dtype"], entry["data"]): (name, entry) for name, entry in rules.items() if "times" not in entry}
    described_files, stored = {}, {}
    for path in files(checkpoint):
        metadata, tensors = read(path)
        described = {}
        for name in sorted(tensors, key=lambda name: (name.endswith(".biases"), name)):
            tensor = tensors[name]
            same = rules.get(name)
            if same is None or same["data"] != tensor["data"]:
                same_name, same = by_bytes.get((tensor["dtype"], tensor["data"]), (None, None))
                if same is not None and "fill" not in same:
                    same = {**same, "name": same_name}
            if same is None and tensor["dtype"] in FLOATS and len(set(decoded(tensor["data"], tensor["dtype"]))) == 1:
                same = {"fill": float(decoded(tensor["data"], tensor["dtype"])[0])}
            if same is None:
                stored[f"{path.name}/{name}"] = tensor
                continue
            rest = {key: value for key, value in same.items() if key not in ("dtype", "shape", "data")}
            described[name] = [tensor["dtype"], tensor["shape"], rest]
        described_files[path.name] = {"metadata": metadata, "tensors": described}
    index, golden = (checkpoint / name for name in (INDEX, GOLDEN))
    content = {
        "config": json.loads((checkpoint / CONFIG).read_text()),
        **({"golden": facts} if facts else {}),
        "seed": seed,
        "index": index.exists(),
        "files": described_files,
    }
    write_compact(fixture.with_name(f"{fixture.name}.json"), content)
    tensors = fixture.with_name(f"{fixture.name}.safetensors")
    if stored:
        write(tensors, {**(read(golden)[1] if golden.exists() else {}), **stored}, {})
    elif golden.exists():
        shutil.copyfile(golden, tensors)
    told = {checkpoint / CONFIG, index, golden, *files(checkpoint)}
    for path in checkpoint.rglob("*"):
        if path.is_file() and path not in told:
            copy = fixture / path.relative_to(checkpoint)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def names(fixtures: Path) -> list[str]:
    """The names of the fixtures in a folder, sorted."""
    return sorted(path.stem for path in fixtures.glob("*.json"))


def materialize(fixture: Path, folder: Path) -> Path:
    """Writes the checkpoint of a fixture into `folder`, as it was saved; `fixture` is the path of its files without an ending."""
    content = json.loads(fixture.with_name(f"{fixture.name}.json").read_text())
    tensors = fixture.with_name(f"{fixture.name}.safetensors")
    stored = read(tensors)[1] if tensors.exists() else {}
    if fixture.exists():
        shutil.copytree(fixture, folder, dirs_exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / CONFIG, content["config"], infinite=True)
    weight_map = {}
    for file, described in content["files"].items():
        prefix = f"{file}/"
        of_file = {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}
        fresh: dict[str, tuple[str, bytes]] = {}
        for name, (dtype, shape, rest) in described["tensors"].items():
            data = made(name, {"dtype": dtype, "shape": shape, **rest}, content["seed"], fresh)
            fresh[name] = dtype, data
            of_file[name] = {"dtype": dtype, "shape": shape, "data": data}
        write(folder / file, of_file, described["metadata"])
        weight_map |= dict.fromkeys(of_file, file)
    if content["index"]:
        write_json(folder / INDEX, {"metadata": {}, "weight_map": weight_map})
    return folder

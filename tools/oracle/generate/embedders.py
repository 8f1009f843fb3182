"""Fixtures of encoders, embedders and cross-encoders: tiny checkpoints, and what transformers
computes with them behind the modules of sentence-transformers.

A checkpoint has the files that sentence-transformers writes (`modules.json` and the folders of its
modules), and `golden` of a fixture has tokens and the embeddings, or the labels' logits, of each list
of them. Pooling, dense layers and normalization are computed here by the
formulas of `sentence_transformers.sentence_transformer.modules.pooling.Pooling` and its neighbours,
text by text and without padding.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from . import seeded
from .checkpoints import versions
from .writing import write_json

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
ROBERTA = {
    **SMALL,
    "pad_token_id": 1,
    "max_position_embeddings": 66,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-2,
}
MODERN = {
    **SMALL,
    "num_hidden_layers": 4,
    "local_attention": 6,
    "global_attn_every_n_layers": 3,
    "norm_eps": 1e-2,
    "cls_token_id": 2,
    "sep_token_id": 3,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
GEMMA = {
    **SMALL,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 6,
    "sliding_window_pattern": 3,
    "use_bidirectional_attention": True,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
QWEN = {
    **SMALL,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "tie_word_embeddings": True,
}

# The name, the class, the configuration, how states become one, and the layers behind that: outputs
# and activation.
EMBEDDERS = [
    ("bert", hf.BertModel, hf.BertConfig(**SMALL, layer_norm_eps=1e-2), ["mean"], [(24, "Tanh")]),
    (
        "bert-several",
        hf.BertModel,
        hf.BertConfig(**SMALL, hidden_act="relu"),
        ["cls", "max", "mean_sqrt_len_tokens"],
        [],
    ),
    ("xlm-roberta", hf.XLMRobertaModel, hf.XLMRobertaConfig(**ROBERTA), ["cls"], []),
    ("modernbert", hf.ModernBertModel, hf.ModernBertConfig(**MODERN), ["mean"], []),
    (
        "modernbert-biases",
        hf.ModernBertModel,
        hf.ModernBertConfig(**MODERN, attention_bias=True, mlp_bias=True, norm_bias=True),
        ["weightedmean"],
        [],
    ),
    (
        "nomic-bert",
        hf.NomicBertModel,
        hf.NomicBertConfig(**SMALL, layer_norm_eps=1e-2),
        ["mean"],
        [],
    ),
    ("qwen3", hf.Qwen3Model, hf.Qwen3Config(**QWEN), ["lasttoken"], []),
    ("roberta-last", hf.RobertaModel, hf.RobertaConfig(**ROBERTA), ["lasttoken"], []),
    (
        "gemma3",
        hf.Gemma3TextModel,
        hf.Gemma3TextConfig(**GEMMA),
        ["mean"],
        [(40, "Identity"), (32, "Identity")],
    ),
]
JUDGES = [
    ("bert-judge", hf.BertForSequenceClassification, hf.BertConfig(**SMALL, num_labels=1)),
    (
        "xlm-roberta-judge",
        hf.XLMRobertaForSequenceClassification,
        hf.XLMRobertaConfig(**ROBERTA, num_labels=1),
    ),
    (
        "modernbert-judge",
        hf.ModernBertForSequenceClassification,
        hf.ModernBertConfig(**MODERN, num_labels=1),
    ),
    (
        "modernbert-judge-mean",
        hf.ModernBertForSequenceClassification,
        hf.ModernBertConfig(
            **MODERN, num_labels=3, classifier_pooling="mean", classifier_bias=True
        ),
    ),
]
LENGTHS = [3, 17, 9, 1]


def pooled(states: np.ndarray, mode: str) -> np.ndarray:
    count = len(states)
    weights = np.arange(1, count + 1)[:, None]
    return {
        "cls": lambda: states[0],
        "lasttoken": lambda: states[-1],
        "max": lambda: states.max(0),
        "mean": lambda: states.mean(0),
        "mean_sqrt_len_tokens": lambda: states.sum(0) / np.sqrt(count),
        "weightedmean": lambda: (states * weights).sum(0) / weights.sum(),
    }[mode]()


def write_modules(folder: Path, width: int, modes: list[str], dense: list[tuple[int, str]]) -> list:
    """Writes what sentence-transformers does; gives the dense layers."""
    kinds, layers = ["Transformer", "Pooling"], []
    legacy = {
        "cls": "cls_token",
        "max": "max_tokens",
        "mean": "mean_tokens",
        "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    }
    legacy |= {"weightedmean": "weightedmean_tokens", "lasttoken": "lasttoken"}
    (folder / "1_Pooling").mkdir()
    config = {f"pooling_mode_{name}": mode in modes for mode, name in legacy.items()}
    write_json(
        folder / "1_Pooling/config.json",
        {"word_embedding_dimension": width, **config, "include_prompt": True},
    )
    inputs = width * len(modes)
    for number, (outputs, activation) in enumerate(dense, 2):
        kinds.append("Dense")
        name = folder / f"{number}_Dense"
        name.mkdir()
        bias = activation == "Tanh"
        generator = torch.Generator().manual_seed(number)
        tensors = {"linear.weight": torch.randn(outputs, inputs, generator=generator) / inputs**0.5}
        if bias:
            tensors["linear.bias"] = torch.randn(outputs, generator=generator)
        save_file(tensors, name / "model.safetensors")
        package = (
            "torch.nn.modules.activation.Tanh"
            if activation == "Tanh"
            else "torch.nn.modules.linear.Identity"
        )
        sizes = {"in_features": inputs, "out_features": outputs, "bias": bias}
        write_json(name / "config.json", {**sizes, "activation_function": package})
        layers.append((load_file(name / "model.safetensors"), activation))
        inputs = outputs
    kinds.append("Normalize")
    paths = [
        "" if kind == "Transformer" else f"{number}_{kind}" for number, kind in enumerate(kinds)
    ]
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 48, "do_lower_case": False})
    prompts = {"query": "find: ", "document": ""}
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": None},
    )
    return layers


def embedded(states: np.ndarray, modes: list[str], layers: list) -> np.ndarray:
    x = np.concatenate([pooled(states, mode) for mode in modes])
    for tensors, activation in layers:
        x = tensors["linear.weight"].numpy() @ x + (
            tensors["linear.bias"].numpy() if "linear.bias" in tensors else 0
        )
        x = np.tanh(x) if activation == "Tanh" else x
    return x / max(float(np.linalg.norm(x)), 1e-12)


def make_one(folder: Path, kind, config, number: int):
    """Makes a checkpoint; gives its model and the rules of its tensors."""
    torch.manual_seed(number)
    model = kind(config)
    for name, parameter in model.named_parameters():
        # What begins as ones or zeros would hide that it is left out.
        scale = 0.3 if parameter.dim() == 1 else 1.5 / parameter.shape[-1] ** 0.5
        noise = torch.randn(parameter.shape) * scale
        with torch.no_grad():
            parameter.copy_(
                noise + 1 if parameter.dim() == 1 and name.endswith("weight") else noise
            )
    model.float().save_pretrained(folder)
    rules = seeded.redraw(folder, number)
    (folder / "generation_config.json").unlink(missing_ok=True)
    return kind.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval(), rules


def tokens_of(number: int) -> list[np.ndarray]:
    random = np.random.default_rng(number)
    return [random.integers(4, SMALL["vocab_size"], length) for length in LENGTHS]


def make_embedder(out: Path, number: int, kind, config, modes: list[str], dense: list) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, rules = make_one(folder, kind, config, number)
        layers = write_modules(folder, SMALL["hidden_size"], modes, dense)
        texts, rows = tokens_of(number), []
        for tokens in texts:
            with torch.no_grad():
                states = model(torch.tensor(tokens)[None]).last_hidden_state[0].numpy()
            rows.append(embedded(states, modes, layers))
        store(folder, out, rules, number, texts, rows)


def make_judge(out: Path, number: int, kind, config) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, rules = make_one(folder, kind, config, number)
        texts, rows = tokens_of(number), []
        for tokens in texts:
            segments = np.arange(len(tokens)) >= len(tokens) // 2
            types = (
                {"token_type_ids": torch.tensor(segments.astype(np.int64))[None]}
                if kind.__name__.startswith("Bert")
                else {}
            )
            with torch.no_grad():
                rows.append(model(torch.tensor(tokens)[None], **types).logits[0].numpy())
        store(folder, out, rules, number, texts, rows)


def make(out: Path) -> None:
    root = out / "embedders"
    shutil.rmtree(root, ignore_errors=True)
    for number, (name, *arguments) in enumerate(EMBEDDERS):
        make_embedder(root / name, number, *arguments)
    for number, (name, *arguments) in enumerate(JUDGES, len(EMBEDDERS)):
        make_judge(root / name, number, *arguments)


def store(folder: Path, out: Path, rules: dict, seed: int, texts: list, rows: list) -> None:
    numbers = [[float(f"{value:.7g}") for value in row] for row in rows]
    facts = {
        "tokens": [tokens.tolist() for tokens in texts],
        "outputs": numbers,
        "versions": versions(),
    }
    seeded.store(folder, out, rules, seed, facts)

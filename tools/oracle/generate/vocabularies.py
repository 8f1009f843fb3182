"""Tokenizers without a `tokenizer.json`: the files that training programs write, and the ids that those programs give.

SentencePiece's models are trained with `sentencepiece`, vocabularies with ranks are read by `tiktoken` and `mistral-common`, and
`vocab.json` with `merges.txt` by transformers.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shutil
import tempfile
from pathlib import Path

import sentencepiece
import tiktoken
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer

from .corpus import CORPUS
from .tokenizers import TEXTS, WORDS, byte_level
from .writing import write_json

# Texts that SentencePiece and the library read differently: control symbols spelled out, and characters below the space.
PLAIN = [text for text in TEXTS if "<s>" not in text and "<|" not in text and "\u0000" not in text]
SYMBOLS = ["<tool>", "</tool>"]


def sentencepiece_model(rules: dict[str, str] | None = None, **options) -> bytes:
    model = io.BytesIO()
    # The model holds the name of the file with the rules.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        if rules is not None:
            codes = [[" ".join(f"{ord(sign):X}" for sign in text) for text in rule] for rule in rules.items()]
            Path("rules.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in codes))
            options["normalization_rule_tsv"] = "rules.tsv"
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_writer=model,
            num_threads=1,
            minloglevel=2,
            character_coverage=1.0,
            **options,
        )
    return model.getvalue()


# What published models have: no normalization, spaces kept, bytes for unknown characters.
LLAMA = {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False, "split_digits": True}
# A few rules of NFKC; all of them take 200 KB.
RULES = {"\uff21": "A", "\uff22": "B", "\ufb01": "fi", "\u00bd": "1/2", "\u3000": " ", "\u00a0": " ", "\t": " ", "\n": " ", "\r": " "}
SENTENCEPIECE = {
    "sentencepiece-bpe": {"model_type": "bpe", "vocab_size": 560, **LLAMA},
    "sentencepiece-unigram": {"model_type": "unigram", "vocab_size": 560, **LLAMA, "add_dummy_prefix": False},
    "sentencepiece-rules": {"model_type": "unigram", "vocab_size": 300, "rules": RULES},
    "sentencepiece-symbols": {
        "model_type": "bpe",
        "vocab_size": 560,
        **LLAMA,
        "user_defined_symbols": SYMBOLS,
        "control_symbols": ["<mark>"],
    },
}


def sentencepieces(out: Path) -> None:
    for name, options in SENTENCEPIECE.items():
        folder = out / name
        folder.mkdir(parents=True)
        model = sentencepiece_model(**options)
        (folder / "tokenizer.model").write_bytes(model)
        loaded = sentencepiece.SentencePieceProcessor(model_proto=model)
        texts = list(PLAIN)
        if "symbols" in name:
            texts += ["a<tool>b</tool> c", "The <tool> river", "water <tool></tool>"]
            # With such symbols there is no second space in front of a text that begins with one.
            texts = [text for text in texts if not text.startswith((" ", "▁"))]
        cases = []
        for text in texts:
            ids = loaded.encode(text)
            # SentencePiece writes ⁇ for an unknown token, which is a special one here.
            decoded = None if loaded.unk_id() in ids else loaded.decode(ids)
            cases.append({"text": text, "ids": ids, "decoded": decoded})
        write_json(folder / "cases.json", {"vocab_size": loaded.vocab_size(), "bos": [1], "encodings": cases})


def merges(out: Path) -> None:
    kinds = {
        "merges-gpt2": ("GPT2Tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)),
        "merges-qwen2": ("Qwen2Tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)),
    }
    for name, (kind, split) in kinds.items():
        folder = out / name
        folder.mkdir(parents=True)
        model = json.loads(byte_level(split, size=400).to_str())["model"]
        vocabulary = dict(model["vocab"])
        end = len(vocabulary)
        if kind == "GPT2Tokenizer":
            vocabulary["<|endoftext|>"] = end
        (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
        lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        config = {"tokenizer_class": kind, "eos_token": "<|endoftext|>"}
        if kind == "Qwen2Tokenizer":
            # Ids that leave a gap.
            declared = {end: "<|endoftext|>", end + 1: "<|im_start|>", end + 5: "<|im_end|>"}
            flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
            config["added_tokens_decoder"] = {str(id): {"content": token, **flags} for id, token in declared.items()}
        write_json(folder / "tokenizer_config.json", config)
        # transformers numbers added tokens in a row, so texts have none of those with a gap.
        loaded = AutoTokenizer.from_pretrained(folder)
        encodings = [
            {"text": text, "ids": loaded.encode(text), "decoded": loaded.decode(loaded.encode(text))} for text in PLAIN
        ]
        write_json(folder / "cases.json", {"vocab_size": None, "bos": [], "encodings": encodings})


def ranks() -> list[bytes]:
    """Tokens in the order of their ranks: all bytes, then what a byte-level BPE merges."""
    model = json.loads(byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), size=420).to_str())["model"]
    table = {character: byte for byte, character in enumerate(sorted_bytes())}
    tokens = [bytes([byte]) for byte in range(256)]
    for left, right in model["merges"]:
        tokens.append(bytes(table[character] for character in left + right))
    return tokens


def sorted_bytes() -> list[str]:
    """GPT-2's characters, by byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}
    return [characters[byte] for byte in range(256)]


def tekken(out: Path, tokens: list[bytes]) -> None:
    folder = out / "tekken"
    folder.mkdir(parents=True)
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"]
    count = 10
    content = {
        "config": {
            "pattern": WORDS.replace("{1,3}", ""),
            "num_vocab_tokens": len(tokens),
            "default_vocab_size": len(tokens) - 7 + count,
            "default_num_special_tokens": count,
            "version": "v7",
        },
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None} for rank, token in enumerate(tokens)
        ],
        "special_tokens": [{"rank": rank, "token_str": token, "is_control": True} for rank, token in enumerate(special)],
    }
    write_json(folder / "tekken.json", content)
    loaded = Tekkenizer.from_file(folder / "tekken.json")
    cases = []
    for text in PLAIN:
        ids = loaded.encode(text, bos=False, eos=False)
        cases.append({"text": text, "ids": ids, "decoded": loaded.decode(ids)})
    write_json(folder / "cases.json", {"vocab_size": loaded.n_words, "bos": [1], "encodings": cases})


def tiktokens(out: Path, tokens: list[bytes]) -> None:
    lines = "".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens))
    for name, file, pattern, config in (
        ("tiktoken-llama3", "tokenizer.model", WORDS, {}),
        ("tiktoken-qwen", "qwen.tiktoken", WORDS.replace("{1,3}", ""), {"tokenizer_class": "QWenTokenizer"}),
    ):
        folder = out / name
        folder.mkdir(parents=True)
        (folder / file).write_text(lines, encoding="utf-8")
        write_json(folder / "tokenizer_config.json", config)
        loaded = tiktoken.Encoding(
            name, pat_str=pattern, mergeable_ranks={token: rank for rank, token in enumerate(tokens)}, special_tokens={}
        )
        texts = PLAIN if not config else [text for text in PLAIN if "\u0301" not in text and "\u1100" not in text]
        cases = [{"text": text, "ids": loaded.encode(text), "decoded": loaded.decode(loaded.encode(text))} for text in texts]
        write_json(folder / "cases.json", {"vocab_size": None, "bos": [], "encodings": cases})


def make(out: Path) -> None:
    folder = out / "vocabularies"
    shutil.rmtree(folder, ignore_errors=True)
    tokens = ranks()
    sentencepieces(folder)
    merges(folder)
    tekken(folder, tokens)
    tiktokens(folder, tokens)

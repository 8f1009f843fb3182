"""Tokenizer fixtures: tiny tokenizers of every common kind, trained here, and what transformers makes of difficult texts."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from .corpus import CORPUS
from .writing import write_json

# Words with their contractions, numbers in groups of up to three, runs of signs, and line breaks: the rule of the
# tokenizers that came after GPT-2.
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

TEXTS = [
    "",
    " ",
    "   ",
    "Hello",
    " Hello",
    "  two spaces in front",
    "Hello world",
    "The river runs past the mill.",
    "trailing space ",
    "trailing spaces   ",
    "a\nb",
    "a\n\nb\n\n\nc\n",
    "\n",
    "\r\n windows \r\n",
    "tab\tand  double  spaces",
    "it's they'd WE'LL don't",
    "12345 3.14 1,000,000 007",
    "f(x) = {x: [1, 2]}; // !?#$%^&*",
    "https://example.org/a?b=c&d=%20",
    "Größe Maß Œuvre naïve",
    "e\u0301 versus \u00e9; A\u030a \u212b",
    "\ufb01 \u2460 \uff21\uff22 \u00bd",
    "Река течёт. Ελληνικά",
    "川は流れる。河水很冷，水。",
    "강물은 \u1100\u1161",
    "النهر بارد نَصّ",
    "नदी बहती है",
    "😀",
    "a😀b 🌍🌍",
    "👩‍👩‍👧 👋🏽 🏳️‍🌈 🇨🇭",
    "𝔘𝔫𝔦 𐍈 \U0001f9ff",
    "\u200b\u00a0\u3000\ufeffx",
    "\u0000\u0001\u007f",
    "<s> </s> <|user|>Hi<|end|>",
    "<|end|><|end|> x<|end|>\n y",
    "<think>so</think>",
    "<tool_call>{}</tool_call> <tool_call >",
    "<|EN",
    "▁x Ġy <0x41>",
    "�",
]


@dataclass
class Kind:
    """A tokenizer and the texts beside the common ones that it is tried with."""

    name: str
    tokenizer: Tokenizer
    special_tokens: dict
    texts: list[str] = field(default_factory=list)


def special(*names: str) -> list[AddedToken]:
    return [AddedToken(name, special=True, normalized=False) for name in names]


def ordinary(*names: str) -> list[AddedToken]:
    return [AddedToken(name, special=False, normalized=False) for name in names]


def train(tokenizer: Tokenizer, trainer) -> dict:
    """Trains in place; returns the model as it stands in `tokenizer.json`."""
    tokenizer.train_from_iterator(CORPUS, trainer)
    return json.loads(tokenizer.to_str())["model"]


def byte_level(split, normalizer=None, size=512, ignore_merges=False) -> Tokenizer:
    """Byte-level BPE over the words that `split` finds."""
    made = Tokenizer(models.BPE())
    if normalizer is not None:
        made.normalizer = normalizer
    made.pre_tokenizer = split
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learnt = train(made, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False))
    made.model = models.BPE(
        vocab=learnt["vocab"], merges=[tuple(pair) for pair in learnt["merges"]], ignore_merges=ignore_merges
    )
    made.decoder = decoders.ByteLevel()
    return made


def gpt2() -> Kind:
    """As GPT-2 has it: one end token and nothing put in front."""
    made = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    made.add_tokens(special("<|end|>"))
    return Kind("byte-level", made, {"bos_token": "<|end|>", "eos_token": "<|end|>", "unk_token": "<|end|>"})


def llama3() -> Kind:
    """As Llama 3 has it: whole words are looked up before merging, and a begin token is put in front."""
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made = byte_level(split, ignore_merges=True)
    made.add_tokens(special("<s>", "</s>", "<|user|>", "<|end|>"))
    made.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", made.token_to_id("<s>"))]
            ),
        ]
    )
    return Kind("byte-level-words", made, {"bos_token": "<s>", "eos_token": "<|end|>"})


def qwen() -> Kind:
    """As Qwen has it: composed characters, no begin token, added tokens that are ordinary text."""
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS.replace("{1,3}", "")), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made = byte_level(split, normalizer=normalizers.NFC())
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    made.add_tokens(special("<|end|>", "<|user|>"))
    made.add_tokens(ordinary("<think>", "</think>", "<tool_call>", "</tool_call>"))
    return Kind("byte-level-nfc", made, {"eos_token": "<|end|>", "pad_token": "<|end|>"})


def sentencepiece_vocabulary(size: int) -> tuple[dict, list]:
    """A BPE as SentencePiece trains it: ids in the order control tokens, bytes, pieces; merges between the pieces."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    # The trainer's own choice of rare characters differs from run to run.
    alphabet = sorted(
        character for character, count in Counter("▁".join(CORPUS)).items() if count > 3 and character != " "
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, limit_alphabet=len(alphabet), show_progress=False
    )
    learnt = train(made, trainer)
    pieces = [piece for piece, _ in sorted(learnt["vocab"].items(), key=lambda entry: entry[1])]
    vocabulary = {token: id for id, token in enumerate(["<unk>", "<s>", "</s>", *BYTES, *pieces])}
    return vocabulary, [tuple(pair) for pair in learnt["merges"]]


def sentencepiece_model() -> models.BPE:
    vocabulary, merges = sentencepiece_vocabulary(400)
    return models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def begin_with(made: Tokenizer, token: str) -> None:
    made.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token} $B", special_tokens=[(token, made.token_to_id(token))]
    )


def llama2() -> Kind:
    """As Llama 2 has it: spaces become ▁ in the normalizer, one is put in front, unknown characters fall back to bytes."""
    made = Tokenizer(sentencepiece_model())
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_tokens(special("<unk>", "<s>", "</s>"))
    begin_with(made, "<s>")
    return Kind("sentencepiece-bpe", made, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def mistral() -> Kind:
    """As later Mistral tokenizers have it: Metaspace as the pre-tokenizer, a space in front of the first word only."""
    made = Tokenizer(sentencepiece_model())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_tokens(special("<unk>", "<s>", "</s>", "<|user|>", "<|end|>"))
    begin_with(made, "<s>")
    return Kind("sentencepiece-metaspace", made, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def gemma() -> Kind:
    """As Gemma has it: spaces become ▁ and nothing is put in front; bytes as a fallback; a begin token."""
    made = Tokenizer(sentencepiece_model())
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous", invert=False)
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_tokens(special("<unk>", "<s>", "</s>", "<|user|>", "<|end|>"))
    begin_with(made, "<s>")
    return Kind("sentencepiece-no-prefix", made, {"bos_token": "<s>", "eos_token": "<|end|>", "unk_token": "<unk>"})


def unigram_vocabulary(size: int, longest: int = 6) -> list[tuple[str, float]]:
    """The commonest pieces of words with the logarithms of their frequencies.

    The library's trainer gives other pieces on every run; what a fixture needs is pieces that overlap.
    """
    pieces = Counter()
    for word in " ".join(CORPUS).split():
        marked = "▁" + word
        pieces.update(
            marked[start:end]
            for start in range(len(marked))
            for end in range(start + 1, min(start + longest, len(marked)) + 1)
        )
    chosen = sorted(pieces.items(), key=lambda entry: (-entry[1] * len(entry[0]), entry[0]))[:size]
    total = sum(count for _, count in chosen)
    control = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return control + [(piece, round(math.log(count / total), 6)) for piece, count in chosen]


def unigram() -> Kind:
    """As T5 has it: a unigram model over NFKC text, an unknown token, an end token put behind."""
    made = Tokenizer(models.Unigram(unigram_vocabulary(400), unk_id=2))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_tokens(special("<pad>", "</s>", "<unk>", "<|user|>", "<|end|>"))
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", made.token_to_id("</s>"))]
    )
    return Kind("unigram", made, {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"})


def flags() -> Kind:
    """As Phi has it: named tokens that take the spaces around them, or are found as single words only."""
    made = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    made.add_tokens(
        [
            AddedToken("<|user|>", special=True, normalized=False, rstrip=True),
            AddedToken("<|end|>", special=True, normalized=False, rstrip=True),
            AddedToken("<mask>", special=True, normalized=False, lstrip=True),
            AddedToken("<word>", special=True, normalized=False, single_word=True),
        ]
    )
    texts = ["<|user|>  Hi <|end|> \n x", "a  <mask> b<mask>", "a<word>b <word> c<word>", " <mask>\n<|end|>\n\n<word>"]
    named = {"bos_token": "<|user|>", "eos_token": "<|end|>", "mask_token": "<mask>", "image_token": "<word>"}
    return Kind("byte-level-flags", made, named, texts)


def wordpiece() -> Kind:
    """As BERT has it: lower case, pieces that go on with ##, and a decoder that puts words together again."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    alphabet = sorted(set("".join(CORPUS).lower()) - {" ", "\t"})
    trained = ["[UNK]", "[CLS]", "[SEP]"]
    words = Counter(word for line in CORPUS for word in line.lower().split() if word.isalpha())
    pieces = [word for word, _ in sorted(words.items(), key=lambda entry: (-entry[1], entry[0]))[:120]]
    endings = sorted({"##" + word[-size:] for word in pieces for size in (1, 2, 3) if len(word) > size})
    vocabulary = dict.fromkeys([*trained, *alphabet, *("##" + sign for sign in alphabet), *pieces, *endings])
    made.model = models.WordPiece({piece: id for id, piece in enumerate(vocabulary)}, unk_token="[UNK]")
    # How it cleans up differs from version to version of the library.
    made.decoder = decoders.WordPiece(cleanup=False)
    made.add_tokens(special(*trained))
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return Kind("wordpiece", made, {"bos_token": "[CLS]", "eos_token": "[SEP]", "unk_token": "[UNK]"})


def suffixes() -> Kind:
    """As the first GPT has it: a mark at the end of a word, which reads as a space only if another word follows."""
    # The library's trainer numbers the ends of words differently from run to run; here common words grow from the left.
    words = Counter(word for line in CORPUS for word in line.split() if word.isascii() and word.isalpha())
    letters = sorted({letter for line in CORPUS for letter in line if letter.isascii()} - {" ", "\t"})
    pieces = dict.fromkeys(["<unk>", *letters, *(letter + "</w>" for letter in letters)])
    merges = {}
    for word, _ in sorted(words.items(), key=lambda entry: (-entry[1], entry[0]))[:60]:
        parts = [*word[:-1], word[-1] + "</w>"]
        grown = parts[0]
        for part in parts[1:]:
            merges[grown, part] = None
            grown += part
            pieces[grown] = None
    made = Tokenizer(
        models.BPE(
            vocab={piece: id for id, piece in enumerate(pieces)},
            merges=list(merges),
            unk_token="<unk>",
            end_of_word_suffix="</w>",
        )
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.decoder = decoders.BPEDecoder(suffix="</w>")
    made.add_tokens(special("<unk>", "<|end|>"))
    return Kind("word-suffixes", made, {"eos_token": "<|end|>", "unk_token": "<unk>"})


def decoded(loaded: PreTrainedTokenizerFast, ids: list[int], skip: bool) -> str:
    """The text of `ids`. Of a broken run of byte tokens the whole characters stay, as `errors="replace"` has it.

    The library turns every byte of such a run into U+FFFD.
    """
    hidden = set(loaded.all_special_ids) | {
        id for id, token in loaded.added_tokens_decoder.items() if token.special
    }
    tokens = [loaded.convert_ids_to_tokens(id) for id in ids if not (skip and id in hidden)]
    tokens = [token for token in tokens if token is not None]
    if not any("ByteFallback" in part for part in [str(loaded.backend_tokenizer.decoder)]):
        return loaded.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
    whole, run = [], b""
    for token in [*tokens, ""]:
        if token in BYTES:
            run += bytes([BYTES.index(token)])
            continue
        for character in run.decode("utf-8", errors="replace"):
            broken = character == "\ufffd"
            whole += [character] if broken else [BYTES[byte] for byte in character.encode()]
        run = b""
        whole.append(token)
    return loaded.backend_tokenizer.decoder.decode(whole[:-1]) if whole[:-1] else ""


def decodings(made: Tokenizer, loaded: PreTrainedTokenizerFast) -> list:
    """Id sequences that no text encodes to: single tokens, cut characters, special tokens amid text."""
    emoji = loaded.encode("a👩‍👧é川", add_special_tokens=False)
    size = made.get_vocab_size()
    sequences = [
        [],
        emoji[:-1],
        emoji[1:],
        emoji[:2],
        emoji[2:5],
        emoji[:4] + loaded.encode(" the", add_special_tokens=False),
        [size - 1, size - 1],
        loaded.encode("x", add_special_tokens=False) + [size - 1] + loaded.encode("y", add_special_tokens=False),
        loaded.encode("the water", add_special_tokens=False) * 2,
        list(range(size - 12, size)),
        list(range(300, 340)),
    ]
    return [
        {
            "ids": ids,
            "text": decoded(loaded, ids, skip=False),
            "text_without_special": decoded(loaded, ids, skip=True),
        }
        for ids in sequences
    ]


def encoding(loaded: PreTrainedTokenizerFast, text: str) -> dict:
    ids = loaded.encode(text)
    plain = loaded.encode(text, add_special_tokens=False)
    return {
        "text": text,
        "ids": ids,
        "ids_without_special": plain,
        "decoded": loaded.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
        "decoded_without_special": loaded.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False),
    }


def configuration(kind: Kind) -> dict:
    """`tokenizer_config.json` as checkpoints have it."""
    added = json.loads(kind.tokenizer.to_str())["added_tokens"]
    return {
        "added_tokens_decoder": {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in added},
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        **kind.special_tokens,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def make(out: Path) -> None:
    shutil.rmtree(out / "tokenizers", ignore_errors=True)
    for kind in (gpt2(), llama3(), qwen(), llama2(), mistral(), gemma(), unigram(), flags(), wordpiece(), suffixes()):
        folder = out / "tokenizers" / kind.name
        write_json(folder / "tokenizer.json", json.loads(kind.tokenizer.to_str()))
        write_json(folder / "tokenizer_config.json", configuration(kind))
        loaded = PreTrainedTokenizerFast.from_pretrained(folder)
        content = {
            "vocab_size": kind.tokenizer.get_vocab_size(),
            "bos_token_id": loaded.bos_token_id,
            "eos_token_id": loaded.eos_token_id,
            "encodings": [encoding(loaded, text) for text in TEXTS + kind.texts],
            "decodings": decodings(kind.tokenizer, loaded),
        }
        write_json(folder / "cases.json", content)

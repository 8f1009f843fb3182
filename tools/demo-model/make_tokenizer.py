"""Trains the tokenizer (byte-level BPE, 4096 tokens, digits one by one) on generated conversations and writes its files.

    python make_tokenizer.py ../../models/demo
"""

import argparse
import json
import random
import shutil
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

import chat
from conversations import conversation
from lexicon import ACCENTED, EMOJI
from phrases import Rng

VOCABULARY = 4096
CONTEXT = 4096
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TAGS = ["<tools>", "</tools>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
# A word with its leading space, one digit, a run of signs, or blanks (the last blank goes with the word after it).
SPLIT = r"'(?:s|t|re|ve|m|ll|d)\b| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def corpus(n: int, seed: int = 1):
    """Texts to count pairs in. Emoji and foreign scripts are left out, so that they stay several tokens: streaming must cope with that."""
    r = Rng(seed)
    odd = set("".join(EMOJI)) | {c for w in ACCENTED for c in w if ord(c) > 0x24F}
    for _ in range(n):
        yield "".join(c for c in chat.text_of(conversation(r)) if c not in odd)


def train(conversations: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(t, special=True, normalized=False) for t in SPECIAL]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - len(TAGS), special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(conversations), trainer)
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in TAGS])
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path):
    """tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT, "bos_token": None, "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>", "unk_token": None, "clean_up_tokenization_spaces": False, "add_bos_token": False,
        "added_tokens_decoder": {str(tokenizer.token_to_id(t)): {"content": t, "special": t in SPECIAL, "lstrip": False, "rstrip": False,
                                                                   "normalized": False, "single_word": False} for t in SPECIAL + TAGS}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    shutil.copy(chat.TEMPLATE, folder / "chat_template.jinja")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--conversations", type=int, default=60000)
    args = parser.parse_args()
    random.seed(0)
    made = train(args.conversations)
    write(made, args.folder)
    print(f"{made.get_vocab_size()} tokens")

"""Writes shards of packed training tokens for as long as it is let, with several processes.

    python make_data.py ../../models/demo /dev/shm/shards --processes 15 --shards 2000

A shard is a NumPy file `[rows, 4097]` of uint16: the lower 13 bits are a token, bit 15 says that the model is to say it,
bit 14 that a conversation begins with it. Conversations are never cut; a row's end is filled with token 0.
"""

import argparse
import os
from multiprocessing import Process
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import chat
from conversations import conversation
from phrases import Rng

ROW = 4097
ROWS = 512
SAID, BEGINS, TOKEN = 1 << 15, 1 << 14, (1 << 13) - 1
PAD, START, END = 0, 1, 2


class Encoder:
    """Conversations to marked tokens."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        opening = tokenizer.encode("<|im_start|>assistant\n").ids
        if len(opening) != 3:
            raise ValueError("the tokenizer must hold `assistant` and the line feed as one token each")
        self.assistant, self.line = opening[1:]

    def __call__(self, texts: list[str]) -> list[np.ndarray]:
        return [self.mark(np.array(e.ids, dtype=np.uint16)) for e in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def mark(self, ids: np.ndarray) -> np.ndarray:
        opens = np.zeros(len(ids) + 1, dtype=np.int8)
        opens[3:] = (ids[:-2] == START) & (ids[1:-1] == self.assistant) & (ids[2:] == self.line)
        closes = np.zeros(len(ids) + 1, dtype=np.int8)
        closes[1:] = ids == END
        # Between an opening and the next end token (which belongs to it) the count of openings is ahead.
        turns = np.cumsum(opens)[:-1]
        ends = np.cumsum(closes)[:-1]
        begun = np.flatnonzero(opens[:-1])
        said = np.zeros(len(ids), dtype=bool)
        if len(begun):
            said = (turns > 0) & (ends == ends[begun][np.maximum(turns - 1, 0)])
        out = ids | np.where(said, SAID, 0).astype(np.uint16)
        out[0] |= BEGINS
        return out


class Packer:
    """Puts conversations into rows, each into the fullest open row that it fits in."""

    def __init__(self, open_rows: int = 24):
        self.rows = [[] for _ in range(open_rows)]
        self.sizes = [0] * open_rows

    def add(self, tokens: np.ndarray) -> np.ndarray | None:
        """Takes a conversation; gives back a row when one had to make room."""
        if len(tokens) > ROW:
            return None
        full, fits = None, [s for s in self.sizes if s + len(tokens) <= ROW]
        if fits:
            at = self.sizes.index(max(fits))
        else:
            at = self.sizes.index(max(self.sizes))
            full = np.zeros(ROW, dtype=np.uint16)
            packed = np.concatenate(self.rows[at])
            full[:len(packed)] = packed
            if len(packed) < ROW:
                full[len(packed)] |= BEGINS
            self.rows[at], self.sizes[at] = [], 0
        self.rows[at].append(tokens)
        self.sizes[at] += len(tokens)
        return full


def shard(encode: Encoder, packer: Packer, r: Rng, rows: int = ROWS) -> np.ndarray:
    made = []
    while len(made) < rows:
        for tokens in encode([chat.text_of(conversation(r)) for _ in range(256)]):
            row = packer.add(tokens)
            if row is not None:
                made.append(row)
    return np.stack(made[:rows])


def work(folder: Path, out: Path, seed: int, step: int, last: int):
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    encode, packer = Encoder(Tokenizer.from_file(str(folder / "tokenizer.json"))), Packer()
    for n in range(seed, last, step):
        data = shard(encode, packer, Rng(1_000_003 * (n + 1)))
        np.save(out / f"{n}.part.npy", data)
        os.rename(out / f"{n}.part.npy", out / f"{n:06}.npy")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--shards", type=int, default=2000)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    workers = [Process(target=work, args=(args.tokenizer, args.out, n, args.processes, args.shards)) for n in range(args.processes)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()

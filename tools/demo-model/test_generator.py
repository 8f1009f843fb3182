"""Checks of the generator: its own answers pass its checks, the split holds, and rendering and marking are exact.

    python -m pytest
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import chat
from conversations import conversation
from evaluate import is_right, questions, wanted_answer
from make_data import BEGINS, ROW, SAID, TOKEN, Encoder, Packer, shard
from phrases import Phrases, Rng, is_held_out
from quantize import dequantized, packed, unpacked
from tasks import facts, numbers

DEMO = Path(__file__).parents[2] / "models/demo"


def test_every_wanted_answer_passes_its_own_check():
    for name, c in questions(60, seed=1):
        assert is_right(c.check, wanted_answer(c), wanted_answer(c)), (name, c)


def test_an_empty_or_foreign_answer_passes_no_check():
    for name, c in questions(20, seed=2):
        assert not is_right(c.check, "", wanted_answer(c)), (name, c)
        assert not is_right(c.check, "xyzzy", wanted_answer(c)), (name, c)


def test_held_out_wordings_are_never_trained_on():
    for phrases in (facts.CAPITAL, facts.OPPOSITE, facts.DEFINE, numbers.PLUS, numbers.COUNT):
        assert not set(phrases.train) & set(phrases.held_out)
        assert 0.05 < len(phrases.held_out) / (len(phrases.train) + len(phrases.held_out)) < 0.2


def test_held_out_pairs_of_numbers_are_never_trained_on():
    r = Rng(3)
    assert not any(is_held_out(f"{a}+{b}", 12) for a, b in (numbers.pair(r, "+") for _ in range(2000)))
    r = Rng(3, held_out=True)
    assert all(is_held_out(f"{a}+{b}", 12) for a, b in (numbers.pair(r, "+") for _ in range(200)))


def test_alternatives_nest():
    assert Phrases("[a|b[c|]]d").train == ["ad", "bcd", "bd"]


def test_the_same_seed_makes_the_same_conversations():
    one, two = Rng(4), Rng(4)
    assert [chat.text_of(conversation(one)) for _ in range(50)] == [chat.text_of(conversation(two)) for _ in range(50)]


def test_the_quick_renderer_writes_what_the_chat_template_writes():
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    r = Rng(5)
    for _ in range(200):
        c = conversation(r)
        assert chat.text_of(c) == tokenizer.apply_chat_template(c.messages, tools=c.tools, tokenize=False)


def test_exactly_the_answers_and_their_ends_are_marked_to_be_learnt():
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    encode, r = Encoder(tokenizer), Rng(6)
    for _ in range(100):
        c = conversation(r)
        ids = encode([chat.text_of(c)])[0]
        said = tokenizer.decode((ids & TOKEN)[(ids & SAID) > 0].tolist(), skip_special_tokens=False)
        assert said == "".join(text for text, learnt in chat.segments(c.messages, c.tools) if learnt)
        assert tokenizer.decode((ids & TOKEN).tolist(), skip_special_tokens=False) == chat.text_of(c)


def test_a_row_holds_whole_conversations():
    rows = shard(Encoder(Tokenizer.from_file(str(DEMO / "tokenizer.json"))), Packer(), Rng(7), rows=8)
    assert rows.shape == (8, ROW)
    for row in rows:
        assert row[0] & BEGINS
        starts = np.flatnonzero(row & BEGINS)
        assert all((row[s] & TOKEN) in (0, 1) for s in starts)


def test_packed_numbers_unpack_to_what_training_saw():
    w = torch.randn(8, 128, generator=torch.Generator().manual_seed(0)) * 0.1
    w[0, :64] = 0.0
    assert torch.equal(unpacked(packed(w, 64)), dequantized(w, 64))
    assert (unpacked(packed(w, 64)) - w).abs().max() < 0.05


@pytest.mark.parametrize("check,answer", [(("calls", [("a", {})]), '<tool_call>\n{"name": }\n</tool_call>'), (("json", {"a": 1}), '{"a": 1'), (("story", []), "")])
def test_broken_output_is_wrong_and_no_crash(check, answer):
    assert not is_right(check, answer, "")

"""Wordings, and the source of chance that picks them.

A wording is written once with its alternatives, `"[What is|what's] the capital of {country}[?|]"`, and expanded to all
of them. One in eight of the wordings of a pattern with at least sixteen, chosen by a checksum, is kept out of training; the evaluation uses only those.
"""

import itertools
import random
import zlib
from dataclasses import dataclass
from typing import Any

HELD_OUT_ONE_IN = 8
FEWEST_TO_HOLD_OUT = 16
MOST_EXPANSIONS = 6000


def is_held_out(text: str, one_in: int = HELD_OUT_ONE_IN) -> bool:
    """Whether a wording or a combination belongs to the evaluation; the same on every machine."""
    return zlib.crc32(text.encode()) % one_in == 0


def _expand(text: str) -> list[str]:
    parts, depth, start, options = [], 0, 0, []
    for i, c in enumerate(text):
        if c == "[":
            if depth == 0:
                parts.append([text[start:i]])
                start, options = i + 1, []
            depth += 1
        elif c == "|" and depth == 1:
            options += _expand(text[start:i])
            start = i + 1
        elif c == "]":
            depth -= 1
            if depth == 0:
                parts.append(options + _expand(text[start:i]))
                start = i + 1
    parts.append([text[start:]])
    return ["".join(p) for p in itertools.islice(itertools.product(*parts), MOST_EXPANSIONS)]


class Phrases:
    """All wordings of some patterns, split into those to train on and those to evaluate with."""

    def __init__(self, *patterns: str):
        every = list(dict.fromkeys(w for p in patterns for w in _expand(p)))
        held = [w for w in every if is_held_out(w)] if len(every) >= FEWEST_TO_HOLD_OUT else []
        if held:
            kept = set(held)
            self.train, self.held_out = [w for w in every if w not in kept], held
        else:
            self.train = self.held_out = every


@dataclass(slots=True)
class Turn:
    """A question, its whole answer, the same in a word or two (if it has one), and how to tell whether an answer is right."""

    user: str
    answer: str
    brief: str | None = None
    check: tuple[str, Any] | None = None


@dataclass(slots=True)
class Conversation:
    """Messages in the form of chat APIs, the tools they may use, and the check of the last answer."""

    messages: list[dict]
    tools: list[dict] | None = None
    check: tuple[str, Any] | None = None
    kind: str = ""


class Rng(random.Random):
    """Chance with a side: training wordings, or the held-out ones."""

    def __init__(self, seed: int, held_out: bool = False):
        super().__init__(seed)
        self.held_out = held_out

    def chance(self, p: float) -> bool:
        return self.random() < p

    def wording(self, phrases: Phrases) -> str:
        return self.choice(phrases.held_out if self.held_out else phrases.train)

    def ask(self, phrases: Phrases, plain: float = 0.65, **values) -> str:
        """A user's wording, sometimes typed carelessly: in lower case, or without its last mark."""
        text = self.wording(phrases).format(**values)
        if self.random() < plain:
            return text
        style = self.random()
        if style < 0.65:
            text = text.lower()
        if style > 0.35 and text[-1] in ".?!":
            text = text[:-1]
        return text

    def exact(self, phrases: Phrases, **values) -> str:
        """A user's wording as it is, where letter case matters."""
        return self.wording(phrases).format(**values)

    def combination(self, draw, key, one_in: int = HELD_OUT_ONE_IN):
        """Draws until the drawn thing is on this side of the split."""
        for _ in range(200):
            drawn = draw()
            if is_held_out(key(drawn), one_in) == self.held_out:
                return drawn
        return drawn


def article(noun: str) -> str:
    """The noun with its indefinite article."""
    return ("an " if noun[0].lower() in "aeiou" and not noun.startswith(("uku", "uni", "one")) else "a ") + noun


def cap(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def listing(items: list[str], last: str = "and") -> str:
    """`a, b and c`."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + f" {last} " + items[-1]

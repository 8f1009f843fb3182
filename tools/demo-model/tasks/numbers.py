"""Arithmetic with numbers below one hundred, small products, comparisons, counting, number words."""

from lexicon import NUMBER_WORDS, OBJECTS, PLURALS, TENS
from phrases import Phrases, Rng, Turn, cap

PLUS = Phrases(
    "[What is|what's|What's|Calculate|Compute|Work out|How much is|Tell me|Please calculate|Can you work out|Find|Solve|Give me|Add up|And|Now] {a}[ + |+| plus ]{b}[?||.| =|, please.]",
    "[Add|Please add|Can you add|add up] {a} [and|to] {b}[.||, please.]", "{a}[ + |+]{b}[| =|=|?| = ?]",
    "[What is|What's|Tell me|Calculate] the sum of {a} and {b}[?||.]", "[What do you get when you add|What do I get if I add] {a} [and|to] {b}?")
MINUS = Phrases(
    "[What is|what's|What's|Calculate|Compute|Work out|How much is|Tell me|Please calculate|Can you work out|Find|Solve|Give me|And|Now] {a}[ - |-| minus ]{b}[?||.| =|, please.]",
    "[Subtract|Please subtract|Take|Can you subtract|Take away] {b} from {a}[.||, please.]", "{a}[ - |-]{b}[| =|=|?| = ?]",
    "[What is|What's|Tell me|Calculate] the difference {a} [minus|-] {b}[?||.]", "[What do you get when you take|What do I get if I take] {b} from {a}?")
TIMES = Phrases(
    "[What is|what's|What's|Calculate|Compute|Work out|How much is|Tell me|Please calculate|Find|Solve|And|Now] {a}[ * |*| times | x | × ]{b}[?||.| =|, please.]",
    "{a}[ * |*| x | × | times ]{b}[| =|=|?]", "[Multiply|Please multiply|Can you multiply] {a} [by|and|with] {b}[.||, please.]")
GAIN = Phrases("[I have|There are|We have|You have|A basket holds|A box holds] {a} {things}[. |, and then ][I get|I find|Someone brings|They add|I buy] {b} more. How many [{things} |][are there now|is that|are there in all|do we have|does that make]?")
LOSS = Phrases("[I have|There are|We have|You have|A basket holds|A box holds] {a} {things}[. |, and then ][I eat|I lose|I give away|They take|I sell] {b}[| of them]. How many [{things} |][are left|are still there|remain|is that]?")
BIGGER = Phrases("[Which is|Which number is|What is|Tell me which is|which one is] [bigger|larger|greater|more|the bigger number|the larger one][:|,|] {a} or {b}?", "[Is {a} or {b} bigger|Which is more, {a} or {b}|bigger: {a} or {b}|{a} or {b}, which is bigger][?|]")
SMALLER = Phrases("[Which is|Which number is|What is|Tell me which is|which one is] [smaller|less|the smaller number|the smaller one][:|,|] {a} or {b}?", "[Is {a} or {b} smaller|Which is less, {a} or {b}|smaller: {a} or {b}|{a} or {b}, which is smaller][?|]")
PARITY = Phrases("[Is|Tell me, is|Would you say] {a} [even or odd|odd or even|an even or an odd number]?", "[{a}: even or odd|even or odd: {a}|Is the number {a} even or odd][?|]")
NEXT = Phrases("[What number comes|Which number comes|What comes|Tell me what comes|Say what comes] [after|right after|next after] {a}[?||.]")
PREVIOUS = Phrases("[What number comes|Which number comes|What comes|Tell me what comes|Say what comes] [before|right before|just before] {a}[?||.]")
IN_WORDS = Phrases("[Write|Spell|Say|Put|Can you write|Please write] [the number |]{a} [in words|as a word|in letters][.||?]", "[What is|How do you write|How do I write] {a} in words?")
IN_DIGITS = Phrases("[Write|Put|Say|Can you write|Please write] {w} [in digits|as a number|in figures|with digits][.||?]", "[What is|How do you write|How do I write] {w} [in digits|as a number]?")
COUNT = Phrases(
    "[Count|Please count|Can you count|count up|Could you count|Now count|I want you to count] from {a} to {b}[.||!|?]", "[Count|Please count|Can you count] [up |]to {b}[, starting at {a}|, starting from {a}| from {a}| beginning with {a}][.||?]",
    "[Give me|Write|List|Say|Tell me] [the numbers|all numbers|every number] from {a} to {b}[.||, please.]", "[count {a} to {b}|{a} to {b}, count|numbers from {a} to {b}][|.|!]")
COUNT_TO = Phrases("[Count|Please count|Can you count|count up|Could you count|Now count|I want you to count] to {b}[.||!|?]", "[Give me|Write|List|Say] the numbers [up to|to] {b}[.|]")
COUNT_DOWN = Phrases("[Count|Please count|Can you count|Could you count|Now count] [down|backwards] from {b} to {a}[.||!|?]", "[Count down|Please count down|Give me a countdown|Count backwards|countdown] from {b}[ to {a}][.||!]", "[Count|Go] [backwards|down][:|,] {b} to {a}[.|]")
COUNT_BY = Phrases("[Count|Please count|Can you count|Could you count|Now count] [by|in] {step}s from {a} to {b}[.||!|?]", "[Count|Go] from {a} to {b} [in steps of|by] {n}[.||!]", "[Count up to|Count to] {b} by {step}s, [starting at|starting from|from] {a}[.|]")


def in_words(n: int) -> str:
    """A number from 0 to 100 as English words."""
    if n == 100:
        return "one hundred"
    if n < 20:
        return NUMBER_WORDS[n]
    return TENS[n // 10] + ("-" + NUMBER_WORDS[n % 10] if n % 10 else "")


def operand(r: Rng) -> int:
    """Small numbers are asked for more often than they would be by chance."""
    return r.randint(0, 12) if r.chance(0.3) else r.randint(0, 99)


def pair(r: Rng, sign: str) -> tuple[int, int]:
    if r.chance(0.18):
        return r.combination(lambda: (r.randint(0, 999), r.choice([r.randint(0, 9), r.randint(0, 99), r.randint(0, 999)])), lambda p: f"{p[0]}{sign}{p[1]}", 12)
    return r.combination(lambda: (operand(r), operand(r)), lambda p: f"{p[0]}{sign}{p[1]}", 12)


def addition(r: Rng) -> Turn:
    a, b = (2, 2) if not r.held_out and r.chance(0.01) else pair(r, "+")
    total = a + b
    if r.chance(0.08) and min(a, b) > 1:
        things = r.choice([PLURALS.get(t, t + "s") for t in OBJECTS[:12]])
        return Turn(r.ask(GAIN, a=a, b=b, things=things), f"{a} + {b} = {total}, so there are {total} {things}.", str(total), ("number", total))
    if r.chance(0.07) and max(a, b) <= 20:
        return Turn(r.ask(PLUS, a=in_words(a), b=in_words(b)), f"{cap(in_words(a))} plus {in_words(b)} is {in_words(total)}.", cap(in_words(total)), ("has", [in_words(total)]))
    return Turn(r.ask(PLUS, a=a, b=b), f"{a} + {b} = {total}", str(total), ("number", total))


def subtraction(r: Rng) -> Turn:
    a, b = pair(r, "-")
    if a < b and r.chance(0.4):
        a, b = r.combination(lambda: tuple(sorted((operand(r), operand(r)), reverse=True)), lambda p: f"{p[0]}-{p[1]}", 12)
    left = a - b
    if r.chance(0.08) and a > b > 1:
        things = r.choice([PLURALS.get(t, t + "s") for t in OBJECTS[:12]])
        return Turn(r.ask(LOSS, a=a, b=b, things=things), f"{a} - {b} = {left}, so {left} are left.", str(left), ("number", left))
    return Turn(r.ask(MINUS, a=a, b=b), f"{a} - {b} = {left}", str(left), ("number", left))


def product(r: Rng) -> Turn:
    a, b = r.randint(0, 12), r.randint(0, 12)
    return Turn(r.ask(TIMES, a=a, b=b), f"{a} × {b} = {a * b}", str(a * b), ("number", a * b))


def comparison(r: Rng) -> Turn:
    a, b = r.sample(range(100), 2)
    if r.chance(0.5):
        return Turn(r.ask(BIGGER, a=a, b=b), f"{max(a, b)} is bigger than {min(a, b)}.", str(max(a, b)), ("first", str(max(a, b))))
    return Turn(r.ask(SMALLER, a=a, b=b), f"{min(a, b)} is smaller than {max(a, b)}.", str(min(a, b)), ("first", str(min(a, b))))


def small(r: Rng) -> Turn:
    n, what = r.randint(1, 99), r.randrange(5)
    if what == 0:
        word = "odd" if n % 2 else "even"
        return Turn(r.ask(PARITY, a=n), f"{n} is {word}.", cap(word), ("has", [word]))
    if what == 1:
        return Turn(r.ask(NEXT, a=n), f"After {n} comes {n + 1}.", str(n + 1), ("number", n + 1))
    if what == 2:
        return Turn(r.ask(PREVIOUS, a=n), f"Before {n} comes {n - 1}.", str(n - 1), ("number", n - 1))
    if what == 3:
        return Turn(r.ask(IN_WORDS, a=n), f"{n} in words is {in_words(n)}.", cap(in_words(n)), ("has", [in_words(n)]))
    return Turn(r.ask(IN_DIGITS, w=in_words(n)), f"{cap(in_words(n))} is {n}.", str(n), ("number", n))


def counting(r: Rng) -> Turn:
    what = r.randrange(5)
    if what == 0:
        b = r.choice([r.randint(3, 30), r.choice([10, 20, 30, 40, 50, 60, 100])])
        numbers, asked = range(1, b + 1), r.ask(COUNT_TO, b=in_words(b) if r.chance(0.3) else b)
    elif what == 1:
        a = r.choice([0, 1, 1, 1, r.randint(1, 20)])
        b = a + r.randint(3, 12)
        numbers, asked = range(b, a - 1, -1), r.exact(COUNT_DOWN, a=a, b=b)
    elif what == 2:
        n = r.choice([2, 3, 5, 10])
        a = r.choice([0, n, n, r.randint(1, 10)])
        numbers = range(a, a + n * r.randint(3, 10) + 1, n)
        asked = r.ask(COUNT_BY, a=a, b=numbers[-1], n=n, step={2: "two", 3: "three", 5: "five", 10: "ten"}[n])
    else:
        a = r.randint(0, 90)
        b = a + (r.randint(2, 15) if r.chance(0.8) else r.randint(16, 50))
        if r.chance(0.15):
            a, b = 1, r.choice([20, 25, 30, 40, 50, 60, 80, 100])
        numbers, asked = range(a, b + 1), r.ask(COUNT, a=a, b=b)
    text = ", ".join(map(str, numbers))
    return Turn(asked, text, text, ("exact", text))


ARITHMETIC = [(addition, 5), (subtraction, 5)]
OTHER = [(product, 2), (comparison, 1.5), (small, 2)]

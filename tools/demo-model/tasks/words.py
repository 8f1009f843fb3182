"""Working on words: repeating, spelling, sorting, picking, changing case."""

from lexicon import ACCENTED, CITIES, COLOURS, EMOJI, FRUITS, OBJECTS, WORDS, ANIMALS, NAMES_OF_PETS
from phrases import Phrases, Rng, Turn, cap

REPEAT = Phrases(
    "[Repeat|Please repeat|Say|Echo|Can you repeat|Write|Copy|Say exactly|Repeat exactly|Please say|Just repeat|Type] [after me|this|the following|this text|these words|what I write]: {x}",
    "[Repeat|Please repeat|Say|Echo|Can you say|Write|Copy|Please write] \"{x}\"[.||, please.| back to me.]", "[Repeat after me|Echo|Say this|Repeat|Copy this|Repeat this word for word]:\n{x}")
REPLY_WITH = Phrases("[Reply with|Answer with|Respond with|Just say|Say only|Say just|Only say|Say] [the word |]\"{x}\"[.||!|, please.]", "[Reply with|Answer with|Respond with|Just say|Say only|Only say] [the word |]{x}[.||!|, please.]", "[Reply with|Answer with|Respond with|Say] [exactly |just |only |]'{x}'[.||!| and nothing else.]")
BACKWARDS = Phrases("[Spell|Please spell|Can you spell|How do you spell|Write|Say] [the word |]{x} [backwards|in reverse|from the end][?||.]", "[Reverse|Turn around] the [word|letters of] {x}[.|]")
REPEAT_TIMES = Phrases("[Say|Write|Repeat|Please say|Please write|Can you write|Type] [the word |]{x} {n} times[.||!|, please.]", "[Write down|Give me|Say] {x} {n} times in a row[.|]")
SPELL = Phrases(
    "[Spell|Please spell|Can you spell|How do you spell|How do I spell|Spell out|spell for me|Could you spell|How would you spell|How is] [the word |]\"{x}\"[?||.]",
    "[Spell|Please spell|Can you spell|How do you spell|How do I spell|Spell out|Could you spell|How would you spell] [the word |]{x}[?||.| letter by letter.|, please.]",
    "[Give me|Tell me|List|Write] the letters of [the word |]{x}[.||, please.]", "[spelling of|letters of|spelling:|spell:] {x}")
HOW_MANY_LETTERS = Phrases("[How many letters does|How many letters has] [the word |]{x} have?", "[How many letters are in|Count the letters in|Count the letters of|How long is|What is the number of letters in] [the word |]{x}[?||.]")
FIRST_LETTER = Phrases("[What is|What's|Tell me|Give me|Name|Say] the first letter of [the word |]{x}[?||.]", "[Which letter does {x} start with|What letter does {x} begin with|{x} begins with which letter|{x} starts with which letter][?|]")
LAST_LETTER = Phrases("[What is|What's|Tell me|Give me|Name|Say] the last letter of [the word |]{x}[?||.]", "[Which letter does {x} end with|What letter does {x} end in|{x} ends with which letter][?|]")
SORT = Phrases(
    "[Sort|Please sort|Order|Can you sort|Arrange|Put|Could you sort] [these words|the words|these|this list|the following words|the following|my words] [alphabetically|in alphabetical order|by the alphabet|from A to Z][: |:\n]{x}[|.]",
    "[Sort|Order|Arrange|Alphabetise|Please sort][: | this: | alphabetically: | from A to Z: | by letter: ]{x}", "{x}[. |: |\n][Sort these words.|Put these in alphabetical order.|Sort them alphabetically.|Please sort.|Sort this list from A to Z.]")
SORT_NUMBERS = Phrases(
    "[Sort|Please sort|Order|Can you sort|Arrange|Put|Could you sort] [these numbers|the numbers|these|this list|the following numbers|my numbers] [from small to large|in ascending order|from smallest to largest|by size|from low to high][: |:\n]{x}[|.]",
    "{x}[. |: |\n][Sort these numbers.|Put these numbers in order.|Sort them by size.|Sort from smallest to largest.]", "[Sort the numbers|Sort these numbers|Order these numbers|sort numbers][: |:\n]{x}")
REVERSE = Phrases("[Reverse|Please reverse|Turn around|Can you reverse|Flip] [this list|these words|the order of these|the list|the order of these words]: {x}[|.]", "[Say|Write|Give me|Repeat] [these words|this list|these] [backwards|in reverse order|from last to first|the other way round]: {x}[|.]")
UPPER = Phrases("[Write|Put|Say|Please write|Can you write|Type|Convert] {x} in [capital letters|upper case|capitals|all caps|uppercase][.||, please.]", "[Make {x} upper case|Change {x} to upper case|uppercase {x}|Shout {x}|Convert {x} to capitals][.||!]")
LOWER = Phrases("[Write|Put|Say|Please write|Can you write|Type|Convert] {x} in [small letters|lower case|lowercase][.||, please.]", "[Make {x} lower case|Change {x} to lower case|lowercase {x}][.||!]")
PICK = Phrases("[What is|Which is|What's|Tell me|Give me|Say|Name] the {n} [word|item|one|thing|entry] [in this list|of these|here|in the list|of this list][:| -] {x}[?|]", "{x}[. |\n|: ][What is|Which is|Tell me] the {n} [word|item|one][?|]")
HOW_MANY = Phrases("[How many words|How many items|How many things|Count the words|What number of words][ are in this list| are there| do you see here|][:| -] {x}[?|]", "{x}[. |\n|: ]How many [words|items|things] [is that|are there|are these]?")

SYLLABLES = [c + v for c in ["b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z", "br", "tr", "st", "sh", "ch"] for v in "aeiou"]
ENDINGS = ["", "", "n", "r", "x", "s", "l", "m", "t", "k", "ck", "nd"]


def made_up(r: Rng, capital: bool = False) -> str:
    """A word that does not exist, so that copying it can't be done from memory."""
    word = "".join(r.choices(SYLLABLES, k=r.randint(2, 3))) + r.choice(ENDINGS)
    return cap(word) if capital else word


def anything(r: Rng) -> str:
    """One word or sign of any sort."""
    what = r.random()
    if what < 0.5:
        return r.choice(WORDS)
    if what < 0.62:
        return made_up(r, r.chance(0.4))
    if what < 0.72:
        return str(r.randint(0, 9999))
    if what < 0.84:
        return r.choice(ACCENTED)
    if what < 0.9:
        return r.choice(EMOJI)
    return r.choice(CITIES + NAMES_OF_PETS)


def shuffled_keys(r: Rng) -> str:
    """Letters without a sense, as they are typed to see what happens."""
    return "".join(r.choices("asdfghjklqwertyuiopzxcvbnm", k=r.randint(4, 9)))


def sentence(r: Rng) -> str:
    """A short sentence of no importance."""
    a, b = r.choice(list(ANIMALS)), r.choice(OBJECTS)
    return r.choice([
        f"The {r.choice(COLOURS)} {a} likes the {b}.", f"My {a} lost a {b} in {r.choice(CITIES)}.", f"{r.randint(2, 99)} {r.choice(FRUITS)} cakes are on the table.",
        f"The {b} is {r.choice(COLOURS)}!", f"We go to {r.choice(CITIES)} on the {a}.", f"Hello, {made_up(r)} world {r.choice(EMOJI)}", f"{cap(r.choice(ACCENTED))} and {r.choice(ACCENTED)}",
        f"A {a}, a {b} and {r.randint(2, 50)} {r.choice(COLOURS)} hats."])


def repetition(r: Rng) -> Turn:
    if r.chance(0.2):
        x, n = r.choice(WORDS) if r.chance(0.7) else anything(r), r.randint(2, 6)
        text = " ".join([x] * n)
        return Turn(r.exact(REPEAT_TIMES, x=x, n=n if r.chance(0.5) else ["", "", "two", "three", "four", "five", "six"][n]), text, text, ("exact", text))
    if r.chance(0.2):
        x = r.choice(["yes", "no", "ok", "OK", "hello", "pong", "done", "Yes", "Hello", r.choice(WORDS)]) if r.chance(0.6) else " ".join(r.sample(WORDS, r.randint(1, 3)))
        return Turn(r.exact(REPLY_WITH, x=x), x, x, ("exact", x))
    x = sentence(r) if r.chance(0.35) else " ".join(anything(r) for _ in range(r.randint(1, 8)))
    return Turn(r.exact(REPEAT, x=x), x, x, ("exact", x))


def spelling(r: Rng) -> Turn:
    word = r.choice(WORDS) if r.chance(0.8) else made_up(r)
    what = r.random()
    if what < 0.1:
        text = "-".join(reversed(word))
        return Turn(r.ask(BACKWARDS, x=word), text, text, ("exact", text))
    if what < 0.6:
        text = "-".join(word)
        return Turn(r.ask(SPELL, x=word), text, text, ("exact", text))
    if what < 0.74:
        return Turn(r.ask(HOW_MANY_LETTERS, x=word), f'The word "{word}" has {len(word)} letters: {"-".join(word)}.', str(len(word)), ("has", [str(len(word))]))
    if what < 0.87:
        return Turn(r.ask(FIRST_LETTER, x=word), f'The first letter of "{word}" is {word[0].upper()}.', word[0].upper(), ("exact-or-has", f"is {word[0].upper()}"))
    return Turn(r.ask(LAST_LETTER, x=word), f'The last letter of "{word}" is {word[-1].upper()}.', word[-1].upper(), ("exact-or-has", f"is {word[-1].upper()}"))


def sorting(r: Rng) -> Turn:
    joiner = r.choice([", ", ", ", " ", "\n"])
    if r.chance(0.35):
        numbers = r.sample(range(100), r.randint(3, 6))
        text = ", ".join(map(str, sorted(numbers)))
        return Turn(r.exact(SORT_NUMBERS, x=joiner.join(map(str, numbers))), text, text, ("exact", text))
    words = r.sample(r.choice([FRUITS, OBJECTS, COLOURS, list(ANIMALS), WORDS]), r.randint(3, 6))
    text = ", ".join(sorted(words))
    return Turn(r.exact(SORT, x=joiner.join(words)), text, text, ("exact", text))


def lists(r: Rng) -> Turn:
    words = r.sample(r.choice([FRUITS, OBJECTS, COLOURS, list(ANIMALS), WORDS, CITIES]), r.randint(3, 7))
    what, x = r.randrange(3), ", ".join(words)
    if what == 0:
        text = ", ".join(reversed(words))
        return Turn(r.exact(REVERSE, x=x), text, text, ("exact", text))
    if what == 1:
        i = r.randrange(min(5, len(words)))
        name, pick = [("first", 0), ("second", 1), ("third", 2), ("last", -1), ("fourth", 3)][i if len(words) > 3 else min(i, 3)]
        return Turn(r.exact(PICK, x=x, n=name), f"The {name} one is {words[pick]}.", words[pick], ("has", [words[pick]]))
    return Turn(r.exact(HOW_MANY, x=x), f"There are {len(words)}.", str(len(words)), ("number", len(words)))


def case(r: Rng) -> Turn:
    x = r.choice(WORDS) if r.chance(0.6) else " ".join(r.sample(WORDS, r.randint(2, 3)))
    if r.chance(0.65):
        return Turn(r.exact(UPPER, x=x), x.upper(), x.upper(), ("exact", x.upper()))
    x = x.upper()
    return Turn(r.exact(LOWER, x=x), x.lower(), x.lower(), ("exact", x.lower()))


KINDS = [(repetition, 4), (spelling, 3.5), (sorting, 4), (lists, 2), (case, 1.5)]

"""Facts of the lexicon: capitals, opposites, animals, colours, the calendar, plurals, definitions, general knowledge, translations."""

from lexicon import (ANIMALS, CATEGORIES, COLOUR_OF, COUNTRIES, COUNTRY_ALIASES, DAYS, DEFINITIONS, GENERAL, LANGUAGES, MIXES, MONTH_LENGTH,
                     MONTHS, NUMBER_WORDS, ONE_WAY_OPPOSITES, OPPOSITES, ORDINALS, PLURALS, SEASON, SILENT, WORDS_ABROAD)
from phrases import Phrases, Rng, Turn, article, cap, listing

LEAD = "[||||Please tell me: |Tell me, |Quick question: |I have a question. |Do you know this? |Can you tell me: |Question: |One more thing: |Next: |Hey, ]"
KNOW = "[Tell me|Please tell me|Can you tell me|Could you tell me|Do you know|I want to know|I'd like to know|Say|Let me know]"

CAPITAL = Phrases(
    LEAD + "[What is|what is|what's|Which city is|which city is] the capital[| city] of {c}[?||, please?]",
    KNOW + " [the capital of {c}|what the capital of {c} is|which city is the capital of {c}|the name of {c}'s capital][.|?|]",
    "[{c} capital|capital of {c}|the capital of {c}|{c}'s capital|capital city of {c}|{c}: capital][?|||:| please]",
    LEAD + "[{c} has which capital|The capital of {c} is|the capital of {c} is called what|What city is {c}'s capital|Name the capital of {c}][?||.]")
IS_CAPITAL = Phrases(LEAD + "[Is {x} the capital of {c}|Is the capital of {c} {x}|Am I right that {x} is the capital of {c}|True or false: {x} is the capital of {c}|{x} is the capital of {c}, right][?|]")
COUNTRY_OF = Phrases(
    LEAD + "[{c} is the capital of which country|Which country has the capital {c}|Of which country is {c} the capital|What country is {c} the capital of|In which country is {c}|{c} is in which country|what country is {c} in|Where is {c}][?|]",
    KNOW + " [which country {c} is in|where {c} is|which country has {c} as its capital][.|?|]")
CONTINENT = Phrases(
    LEAD + "[Which continent is {c} on|What continent is {c} in|On which continent is {c}|{c} is on which continent|On what continent do I find {c}|Where in the world is {c}|Where is {c}][?|]",
    KNOW + " [which continent {c} is on|on which continent {c} is][.|?|]")
LANGUAGE = Phrases(
    LEAD + "[What language do people speak in {c}|Which language is spoken in {c}|What do people speak in {c}|What is the language of {c}|What language is used in {c}|In {c}, which language do people speak][?|]",
    KNOW + " [which language people speak in {c}|the language of {c}][.|?|]")
OPPOSITE = Phrases(
    LEAD + "[What is|what's|Give me|Name|Tell me] the opposite of [{a}|\"{a}\"|the word {a}|'{a}'][?||.]",
    KNOW + " [the opposite of {a}|what the opposite of {a} is|a word that means the opposite of {a}|the antonym of {a}][.|?|]",
    "[opposite of {a}|{a} opposite|the opposite of {a}|antonym of {a}|{a} <-> |not {a} but][?||:]",
    LEAD + "[The opposite of {a} is|Which word is the opposite of {a}|What word means the opposite of {a}|What is the antonym of {a}][?|]")
SOUND = Phrases(
    LEAD + "[What sound does {a} make|What does {a} say|How does {a} sound|Which sound does {a} make|What noise does {a} make|What noise comes from {a}][?|]",
    KNOW + " [what sound {a} makes|which noise {a} makes|how {a} sounds|what {a} says][.|?|]")
LEGS = Phrases(
    LEAD + "[How many legs does {a} have|What number of legs does {a} have|How many legs has {a} got|{a} has how many legs|Count the legs of {a}][?|]",
    KNOW + " [how many legs {a} has|the number of legs of {a}][.|?|]")
KIND = Phrases(
    LEAD + "[What kind of animal is {a}|What type of animal is {a}|Which kind of animal is {a}|What sort of animal is {a}|{a} is what kind of animal][?|]",
    KNOW + " [what kind of animal {a} is|what {a} is|which group of animals {a} belongs to][.|?|]")
WHAT_ANIMAL = Phrases(LEAD + "[What is|what's|Describe|Tell me about|Explain|Tell me something about|What do you know about] {a}[?||.]")
IS_KIND = Phrases(LEAD + "[Is {a} {k}|Would you say {a} is {k}|Am I right that {a} is {k}|True or false: {a} is {k}|{a} is {k}, right][?|]")
YOUNG = Phrases(
    LEAD + "[What is a baby {a} called|What do you call a baby {a}|What is the young of {an} called|What is a young {a} called|A baby {a} is called what|what's the name for a baby {a}][?|]",
    KNOW + " [what a baby {a} is called|the word for a baby {a}|what to call a young {a}][.|?|]")
HOME = Phrases(
    LEAD + "[Where does {a} live|Where do you find {a}|What is the home of {a}|Where can I see {a}|In what place does {a} live|{a} lives where][?|]",
    KNOW + " [where {a} lives|where I can find {a}][.|?|]")
EATS = Phrases(
    LEAD + "[What does {a} eat|What is the food of {a}|What should I feed {a}|What do you give {a} to eat|{a} eats what|What food does {a} like][?|]",
    KNOW + " [what {a} eats|what food {a} likes][.|?|]")
COLOUR = Phrases(
    LEAD + "[What colour is|What color is|Which colour is|What is the colour of|What is the color of|Which color has] {a}[?||, usually?]",
    KNOW + " [the colour of {a}|what colour {a} is|which colour {a} has|what color {a} is][.|?|]", "[colour of {a}|color of {a}|{a} colour][?||:]")
MIX = Phrases(
    LEAD + "[What do you get when you mix {a} and {b}|What colour do {a} and {b} make|What happens when I mix {a} and {b}|Which colour comes from {a} and {b}|What color is {a} mixed with {b}|{a} and {b} make which colour|I mix {a} paint with {b} paint. What do I get][?|]",
    "[mix {a} and {b}|{a} + {b}|{a} plus {b} paint][?||.]")
AFTER = Phrases(
    LEAD + "[What {u} comes after {x}|Which {u} comes after {x}|Which {u} follows {x}|What is the {u} after {x}|What comes after {x}|What's the next {u} after {x}|After {x} comes which {u}][?|]",
    KNOW + " [the {u} after {x}|which {u} comes after {x}|what follows {x}][.|?|]")
BEFORE = Phrases(
    LEAD + "[What {u} comes before {x}|Which {u} comes before {x}|What is the {u} before {x}|What comes before {x}|What's the {u} just before {x}|Before {x} comes which {u}|Which {u} comes right before {x}][?|]",
    KNOW + " [the {u} before {x}|which {u} comes before {x}|what comes just before {x}][.|?|]")
TODAY = Phrases(LEAD + "[Today is|If today is|Say today is|It is|Suppose today is] {x}[. What|, what|: what] [day is it tomorrow|will tomorrow be|day comes tomorrow|is tomorrow][?|]")
YESTERDAY = Phrases(LEAD + "[Today is|If today is|Say today is|It is|Suppose today is] {x}[. What|, what|: what] [day was it yesterday|was yesterday|day came yesterday|day was yesterday][?|]")
NTH_MONTH = Phrases(LEAD + "[What is the {n} month|Which month is the {n}|What is the {n} month of the year|Name the {n} month|The {n} month is which one|Which month is number {d}|What is month number {d}][?||.]")
NTH_DAY = Phrases(LEAD + "[What is the {n} day of the week|Which day of the week is the {n}|Name the {n} day of the week|The {n} day of the week is which one|Which weekday is number {d}][?||.]")
LENGTH = Phrases(LEAD + "[How many days does {m} have|How many days are there in {m}|How many days are in {m}|How long is {m}|What is the number of days in {m}|{m} has how many days][?|]")
IN_SEASON = Phrases(LEAD + "[Which season is {m} in|What season is {m}|In which season is {m}|{m} is in which season|What season does {m} belong to][?||, in the north?]")
PLURAL = Phrases(
    LEAD + "[What is|what's|Give me|Name|Write] the plural of [{a}|\"{a}\"|the word {a}|'{a}'][?||.]",
    KNOW + " [the plural of {a}|what the plural of {a} is|the plural form of {a}|how to say more than one {a}][.|?|]",
    "[plural of {a}|{a} plural|one {a}, two|the plural of {a}|{a} -> plural][?||:]",
    LEAD + "[One {a}, many what|The plural of {a} is|I have one {a}, you have two what|How do I write {a} in the plural][?|]")
SINGULAR = Phrases(LEAD + "[What is|what's|Give me|Name|Write|Tell me] the singular of [{a}|\"{a}\"|the word {a}|'{a}'][?||.]", "[singular of {a}|{a} singular|many {a}, one][?||:]")
DEFINE = Phrases(
    LEAD + "[What is|what's|Define|Explain|Describe] {a}[?||.]",
    LEAD + "[What does \"{n}\" mean|What does the word {n} mean|What is the meaning of {n}|Define {n}|define the word {n}|Explain the word {n}|What does {n} mean][?||.]",
    KNOW + " [what {a} is|what the word {n} means|the meaning of {n}|the definition of {n}][.|?|]")
WHICH_WORD = Phrases(LEAD + "[What do you call|Which word means|What is the word for|What's the name for|Give me the word for|Which word do I need for] {d}[?||.]")
LIST = Phrases(
    LEAD + "[Name|List|Give me|Tell me|Write|Can you name|Please list|I need|Show me|Write down] {n} {k}[.||, please.|!]",
    "{n} {k}[|, please|.]", "[What are|Do you know|Can you think of] {n} {k}?")
TRANSLATE = Phrases(
    LEAD + "[How do you say {w} in {l}|What is {w} in {l}|What is the {l} word for {w}|Translate {w} to {l}|Translate \"{w}\" into {l}|How do I say \"{w}\" in {l}|Say {w} in {l}|What's \"{w}\" in {l}|{w} in {l}][?||.]",
    KNOW + " [the {l} word for {w}|what {w} is in {l}|how to say {w} in {l}][.|?|]")
FROM_ABROAD = Phrases(LEAD + "[What does the {l} word {w} mean|What does {w} mean in {l}|What is the {l} word {w} in English|Translate {w} from {l}|What does \"{w}\" mean in {l}][?||.]")
WRAP = Phrases("[|||||||Please tell me: |Tell me, |Quick question: |I have a question. |Do you know this? |Can you tell me: |Question: |Help me with this: |A question for you: |I wonder: |I need to know this. ]{q}")


def capital(r: Rng) -> Turn:
    c, (city, _, _) = r.choice(list(COUNTRIES.items()))
    if r.chance(0.08):
        c, city = "France", "Paris"
    if r.chance(0.06):
        c, whole = r.choice(list(COUNTRY_ALIASES.items()))
        city = COUNTRIES[whole][0]
        return Turn(r.ask(CAPITAL, c=c), f"The capital of {whole} is {city}.", city, ("has", [city]))
    if r.chance(0.1):
        other = city if r.chance(0.5) else r.choice(list(COUNTRIES.values()))[0]
        said = f"{city} is the capital of {c}."
        right = other == city
        return Turn(r.ask(IS_CAPITAL, c=c, x=other), f"Yes, {said}" if right else f"No, {said}", "Yes" if right else "No", ("has", ["yes" if right else "no"]))
    return Turn(r.ask(CAPITAL, c=c), f"The capital of {c} is {city}.", city, ("has", [city]))


def country_of(r: Rng) -> Turn:
    c, (city, _, _) = r.choice(list(COUNTRIES.items()))
    if city == "London":
        c = "the United Kingdom"
    return Turn(r.ask(COUNTRY_OF, c=city), f"{city} is the capital of {c}.", cap(c), ("has", [c]))


def continent(r: Rng) -> Turn:
    c, (_, where, _) = r.choice(list(COUNTRIES.items()))
    return Turn(r.ask(CONTINENT, c=c), f"{cap(c)} is in {where}.", where, ("has", [where]))


def language(r: Rng) -> Turn:
    c, (_, _, spoken) = r.choice(list(COUNTRIES.items()))
    return Turn(r.ask(LANGUAGE, c=c), f"In {c}, people speak {spoken}.", spoken, ("has", [spoken]))


def opposite(r: Rng) -> Turn:
    if r.chance(0.06):
        a, b = r.choice(ONE_WAY_OPPOSITES)
    else:
        a, b = r.choice(OPPOSITES)
        if r.chance(0.5):
            a, b = b, a
    return Turn(r.ask(OPPOSITE, a=a), f"The opposite of {a} is {b}.", cap(b), ("has", [b]))


def animal(r: Rng) -> Turn:
    name, (sound, legs, kind, young, home, food) = r.choice(list(ANIMALS.items()))
    a, an = article(name), cap(article(name))
    what = r.randrange(9)
    if what == 0:
        if name in SILENT:
            return Turn(r.ask(SOUND, a=a), f"{an} makes hardly any sound.", "Hardly any sound", ("has", ["hardly any"]))
        verb = "sings its song" if sound == "song" else f'says "{sound}"'
        return Turn(r.ask(SOUND, a=a), f"{an} {verb}.", cap(sound), ("has", [sound]))
    if what == 1:
        n = NUMBER_WORDS[legs] if legs else "no"
        return Turn(r.ask(LEGS, a=a), f"{an} has {n} legs.", str(legs), ("any", [n, str(legs)]))
    if what == 2:
        return Turn(r.ask(KIND, a=a), f"{an} is {article(kind)}.", cap(article(kind)), ("has", [kind]))
    if what == 3:
        return Turn(r.ask(YOUNG, a=name, an=a), f"A baby {name} is called {article(young)}.", cap(article(young)), ("has", [young]))
    if what == 4:
        return Turn(r.ask(HOME, a=a), f"{an} lives {home}.", cap(home), ("has", [home]))
    if what == 5:
        return Turn(r.ask(EATS, a=a), f"{an} eats {food}.", cap(food), ("has", [food]))
    if what == 6:
        other = kind if r.chance(0.5) else r.choice(["mammal", "bird", "fish", "insect", "reptile"])
        if other == kind:
            return Turn(r.ask(IS_KIND, a=a, k=article(kind)), f"Yes, {a} is {article(kind)}.", "Yes", ("has", ["yes"]))
        return Turn(r.ask(IS_KIND, a=a, k=article(other)), f"No, {a} is not {article(other)}. It is {article(kind)}.", "No", ("has", ["no"]))
    about = f"{an} is {article(kind)} that lives {home} and eats {food}."
    return Turn(r.ask(WHAT_ANIMAL, a=a), about, cap(article(kind)), ("has", [kind]))


def colour(r: Rng) -> Turn:
    if r.chance(0.3):
        (a, b), made = r.choice(list(MIXES.items()))
        if r.chance(0.5):
            a, b = b, a
        return Turn(r.ask(MIX, a=a, b=b), f"{cap(a)} and {b} make {made}.", cap(made), ("has", [made]))
    thing, shade = r.choice(list(COLOUR_OF.items()))
    return Turn(r.ask(COLOUR, a=thing), f"{cap(thing)} is {shade}.", cap(shade), ("has", [shade]))


def calendar(r: Rng) -> Turn:
    what = r.randrange(8)
    if what in (0, 1):
        ring, unit = (DAYS, "day") if r.chance(0.5) else (MONTHS, "month")
        i = r.randrange(len(ring))
        if what == 0:
            x, y = ring[i], ring[(i + 1) % len(ring)]
            return Turn(r.ask(AFTER, u=unit, x=x), f"After {x} comes {y}.", y, ("has", [y]))
        x, y = ring[i], ring[i - 1]
        return Turn(r.ask(BEFORE, u=unit, x=x), f"Before {x} comes {y}.", y, ("has", [y]))
    if what == 2:
        i = r.randrange(7)
        y = DAYS[(i + 1) % 7]
        return Turn(r.ask(TODAY, x=DAYS[i]), f"Tomorrow is {y}.", y, ("has", [y]))
    if what == 3:
        i = r.randrange(7)
        return Turn(r.ask(YESTERDAY, x=DAYS[i]), f"Yesterday was {DAYS[i - 1]}.", DAYS[i - 1], ("has", [DAYS[i - 1]]))
    if what == 4:
        i = r.randrange(12)
        return Turn(r.ask(NTH_MONTH, n=ORDINALS[i], d=i + 1), f"The {ORDINALS[i]} month is {MONTHS[i]}.", MONTHS[i], ("has", [MONTHS[i]]))
    if what == 5:
        i = r.randrange(7)
        return Turn(r.ask(NTH_DAY, n=ORDINALS[i], d=i + 1), f"The {ORDINALS[i]} day of the week is {DAYS[i]}.", DAYS[i], ("has", [DAYS[i]]))
    i = r.randrange(12)
    m = MONTHS[i]
    if what == 6:
        days = MONTH_LENGTH[i]
        leap = ", and 29 in a leap year" if days == 28 else ""
        return Turn(r.ask(LENGTH, m=m), f"{m} has {days} days{leap}.", str(days), ("has", [str(days)]))
    return Turn(r.ask(IN_SEASON, m=m), f"{m} is in {SEASON[i]}.", cap(SEASON[i]), ("has", [SEASON[i]]))


def plural(r: Rng) -> Turn:
    one, many = r.choice(list(PLURALS.items()))
    if r.chance(0.2):
        return Turn(r.ask(SINGULAR, a=many), f"The singular of {many} is {one}.", cap(one), ("has", [one]))
    return Turn(r.ask(PLURAL, a=one), f"The plural of {one} is {many}.", cap(many), ("has", [many]))


def definition(r: Rng) -> Turn:
    noun, meaning = r.choice(list(DEFINITIONS.items()))
    a = noun if noun in ("snow", "winter", "summer", "bread", "cheese", "honey", "soup", "breakfast") else article(noun)
    if r.chance(0.25):
        return Turn(r.ask(WHICH_WORD, d=meaning), f"That is {a}.", cap(a), ("has", [noun]))
    return Turn(r.ask(DEFINE, a=a, n=noun), f"{cap(a)} is {meaning}.", cap(meaning), ("has", [meaning]))


def general(r: Rng) -> Turn:
    questions, whole, brief = r.choice(GENERAL)
    return Turn(r.ask(WRAP, q=r.choice(questions)), whole, cap(brief), ("has", [brief]) if brief in whole else ("has", whole.rstrip(".").split()[-1:]))


def members(r: Rng) -> Turn:
    kind, every = r.choice(list(CATEGORIES.items()))
    n = r.randint(2, min(6, len(every)))
    chosen = r.sample(every, n)
    number = NUMBER_WORDS[n] if r.chance(0.6) else str(n)
    if kind == "colours" and r.chance(0.5):
        kind = "colors"
    if r.chance(0.5):
        answer = "\n".join(f"{i}. {cap(c)}" for i, c in enumerate(chosen, 1))
    else:
        answer = f"{cap(listing(chosen))}."
    return Turn(r.ask(LIST, n=number, k=kind), answer, cap(", ".join(chosen)), ("members", ["colours" if kind == "colors" else kind, n]))


def translation(r: Rng) -> Turn:
    word, abroad = r.choice(list(WORDS_ABROAD.items()))
    i = r.randrange(3)
    if r.chance(0.25):
        meanings = [w for w, t in WORDS_ABROAD.items() if t[i] == abroad[i]]
        return Turn(r.ask(FROM_ABROAD, l=LANGUAGES[i], w=abroad[i]), f'"{cap(abroad[i])}" means "{meanings[0]}".', meanings[0], ("has", [meanings[0]]))
    return Turn(r.ask(TRANSLATE, w=word, l=LANGUAGES[i]), f'In {LANGUAGES[i]}, "{word}" is "{abroad[i]}".', abroad[i], ("has", [abroad[i]]))


KINDS = [(capital, 5), (country_of, 1.5), (continent, 1), (language, 1), (opposite, 3), (animal, 4), (colour, 2), (calendar, 3), (plural, 2.5),
         (definition, 3.5), (general, 3), (members, 2), (translation, 2)]

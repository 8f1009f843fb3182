"""Remembering what was said earlier in the conversation or in the system prompt, and knowing when nothing was said."""

from dataclasses import dataclass
from collections.abc import Callable

from lexicon import (CITIES, COLOURS, DAYS, FLOWERS, FOODS, FRUITS, INSTRUMENTS, JOBS, MONTHS, NAMES_OF_PETS, OBJECTS, PETS, PLACES, PLURALS,
                     SPORTS, TREES, ANIMALS, WORDS)
from phrases import Conversation, Phrases, Rng, cap
from tasks.words import made_up

TAIL = "[|||||, please| again|, do you remember]"
START = "[|||||By the way, |Do you remember: |Tell me, |Now, |One question: |Back to me: |Let me test you: |And ]"


@dataclass(frozen=True, slots=True)
class Memory:
    """Something a user may say about himself: how it is said, asked for and answered. `{k}` says of what, `{v}` is to be remembered."""

    tell: Phrases
    ask: Phrases
    answer: str
    key: Callable[[Rng], str]
    value: Callable[[Rng], str]


def pet_name(r: Rng) -> str:
    return r.choice(NAMES_OF_PETS) if r.chance(0.5) else made_up(r, True)


def nickname(r: Rng) -> str:
    return cap(r.choice([*TREES, *FLOWERS, *ANIMALS, *OBJECTS, *FRUITS])) if r.chance(0.4) else pet_name(r)


def clock(r: Rng) -> str:
    return f"{r.randint(1, 12)}:{r.choice(['00', '15', '30', '45', '10', '20', '40', '50', '05'])}"


def code(r: Rng) -> str:
    return str(r.randint(10, 9999)) if r.chance(0.7) else made_up(r)


def things(r: Rng) -> str:
    return PLURALS.get(o := r.choice([*OBJECTS, *PETS]), o + "s") if r.chance(0.8) else r.choice(["brothers", "sisters", "cousins", "friends", "neighbours"])


FAVOURITES = {"colour": COLOURS, "food": FOODS, "animal": sorted(ANIMALS), "city": CITIES, "sport": SPORTS, "fruit": FRUITS, "day": DAYS,
              "month": MONTHS, "flower": FLOWERS, "instrument": INSTRUMENTS, "number": [str(n) for n in range(2, 100)], "tree": TREES}

PET = Memory(
    Phrases("[My {k} is called|I have a {k} named|My {k}'s name is|I have a {k} called|The name of my {k} is|My {k} has the name|I named my {k}|We call our {k}|I just got a {k} named|This is my {k},|My little {k} is called|You should know that my {k} is called] {v}[.|!]"),
    Phrases(START + "[What is my {k} called|What is my {k}'s name|What is the name of my {k}|what's my {k}'s name|How is my {k} called|What did I name my {k}|Which name does my {k} have|What do I call my {k}]" + TAIL + "[?|]", START + "[Tell me|Say|Do you know|Can you tell me] [my {k}'s name|the name of my {k}|what my {k} is called][?||.]"),
    "Your {k} is called {v}.", lambda r: r.choice(PETS), pet_name)
COLOUR = Memory(
    Phrases("[My {k} is|I have a {k} that is|The colour of my {k} is|I painted my {k}|My new {k} is|I bought a {k}. It is|I own a {k} which is] {v}[.|!]"),
    Phrases(START + "[What colour is my {k}|Which colour is my {k}|What is the colour of my {k}|what color is my {k}|Which colour does my {k} have|What colour did I say my {k} is]" + TAIL + "[?|]", START + "[Tell me|Say|Do you know] [the colour of my {k}|what colour my {k} is][?||.]"),
    "Your {k} is {v}.", lambda r: r.choice(OBJECTS), lambda r: r.choice(COLOURS))
WHERE = Memory(
    Phrases("[The {k} is|I put the {k}|I left the {k}|You will find the {k}|I keep the {k}|The {k} lies|I have hidden the {k}|Someone put the {k}|Remember that the {k} is] in the {v}[.|!]"),
    Phrases(START + "[Where is the {k}|Where's the {k}|Where can I find the {k}|Where do I find the {k}|In which place is the {k}|Where did I say the {k} is|Where should I look for the {k}]" + TAIL + "[?|]", START + "[Tell me|Say|Do you know] [where the {k} is|where to find the {k}|where I can find the {k}][?||.]"),
    "The {k} is in the {v}.", lambda r: r.choice(OBJECTS), lambda r: r.choice(PLACES))
COUNT = Memory(
    Phrases("[I have|I own|We have|There are in my house|I counted my {k}: there are|At home I have|I bought] {v} {k}[.|!]"),
    Phrases(START + "[How many {k} do I have|How many {k} have I got|What number of {k} do I have|How many {k} did I say I have|How many {k} are mine]" + TAIL + "[?|]", START + "[Tell me|Say|Do you know] how many {k} I have[?||.]"),
    "You have {v} {k}.", things, lambda r: str(r.randint(2, 60)))
FAVOURITE = Memory(
    Phrases("[My favourite {k} is|My favorite {k} is|The {k} I like best is|I like one {k} most of all:|Of all, my favourite {k} is|You should know that my favourite {k} is|The best {k} for me is] {v}[.|!]"),
    Phrases(START + "[What is my favourite {k}|What's my favorite {k}|Which {k} do I like best|Which {k} is my favourite|What {k} do I like most|What did I say is my favourite {k}]" + TAIL + "[?|]", START + "[Tell me|Say|Name|Do you know] my favourite {k}[?||.]"),
    "Your favourite {k} is {v}.", lambda r: r.choice(list(FAVOURITES)), None)
HOME = Memory(
    Phrases("[I live in|My home is in|I am from|I moved to|My house is in|I have lived for years in|I just moved to|My home town is] {v}[.|!]"),
    Phrases(START + "[Where do I live|In which city do I live|Where is my home|What city do I live in|Where did I say I live|Which city do I live in]" + TAIL + "[?|]", START + "[Tell me|Say|Do you know] where I live[?||.]"),
    "You live in {v}.", lambda r: "", lambda r: r.choice(CITIES))
NAME = Memory(
    Phrases("[My name is|I am called|Call me|You can call me|Please call me|People call me|My nickname is|Hi, my name is|Hello, I'm|Hi, I am|My friends call me] {v}[.|!]"),
    Phrases(START + "[What is my name|What's my name|Who am I|How am I called|What do people call me|What did I say my name is|Which name did I give you]" + TAIL + "[?|]", START + "[Tell me|Say|Do you know|Do you remember] my name[?||.]"),
    "Your name is {v}.", lambda r: "", nickname)
CODE = Memory(
    Phrases("[The code of the {k} is|The code for the {k} is|The {k} has the code|Remember this code for the {k}:|You open the {k} with the code|The secret code of the {k} is] {v}[.|]"),
    Phrases(START + "[What is the code of the {k}|What's the code for the {k}|Which code does the {k} have|Which code opens the {k}|What code did I give you for the {k}]" + TAIL + "[?|]", START + "[Tell me|Say|Give me|Do you know] the code [of|for] the {k}[?||.]"),
    "The code of the {k} is {v}.", lambda r: r.choice(["door", "safe", "gate", "box", "bicycle", "garage", "office", "phone", "locker", "chest"]), code)
TRIP = Memory(
    Phrases("[On {k} I am going to|I travel on {k} to|On {k} I fly to|I am planning a trip on {k} to|My trip on {k} goes to|On {k} we drive to|I will be on {k} in] {v}[.|!]"),
    Phrases(START + "[Where am I going on {k}|Where do I travel on {k}|Where will I be on {k}|To which city am I going on {k}|Which city do I visit on {k}|What is my plan for {k}]" + TAIL + "[?|]"),
    "On {k} you are going to {v}.", lambda r: r.choice(DAYS), lambda r: r.choice(CITIES))
MEAL = Memory(
    Phrases("[For {k} I had|I ate for {k}|My {k} was|For {k} I am making|I am having for {k}|For {k} I want] {v}[.|!]"),
    Phrases(START + "[What did I have for {k}|What was my {k}|What did I eat for {k}|What is my {k}|Which food did I have for {k}|What do I have for {k}]" + TAIL + "[?|]"),
    "For {k} you had {v}.", lambda r: r.choice(["breakfast", "lunch", "dinner", "supper"]), lambda r: r.choice(FOODS))
TIME = Memory(
    Phrases("[My {k} starts at|My {k} is at|The {k} begins at|Remember that my {k} is at|I have a {k} at|There is a {k} at] {v}[.|]"),
    Phrases(START + "[When is my {k}|When does my {k} start|At what time is my {k}|At what time does the {k} begin|What time is my {k}|When do I have my {k}]" + TAIL + "[?|]", START + "[Tell me|Say|Do you know] when my {k} [is|starts][?||.]"),
    "Your {k} is at {v}.", lambda r: r.choice(["meeting", "train", "lesson", "class", "concert", "lunch", "flight", "game", "bus", "party", "call", "film"]), clock)
JOB = Memory(
    Phrases("[I work as a|I am a|My job is|By trade I am a|I earn my money as a] {v}[.|!]"),
    Phrases(START + "[What is my job|What do I work as|What do I do for work|What's my job|Which job do I have|How do I earn my money]" + TAIL + "[?|]"),
    "You are a {v}.", lambda r: "", lambda r: r.choice([j for j in JOBS if j[0] not in "aeiou"]))
GENERIC_KEYS = ["secret word", "password", "lucky number", "room number", "phone number", "seat", "plan", "team", "wifi password", "nickname", "postcode", "order number", "magic word", "user name", "birthday", "locker", "table", "hotel",
                "train", "gift", "idea", "favourite word", "code word", "pin", "bike", "street", "school", "language", "wish", "goal", "task", "dream", "size", "group", "flight", "parcel", "invoice", "project", "branch", "theme"]
ANYTHING = Memory(
    Phrases("[My {k} is|The {k} is|The {k} today is|Our {k} is|Remember that the {k} is|Remember: the {k} is|Note that my {k} is|Please note: the {k} is|Remember my {k}:] {v}[.|!|]"),
    Phrases(START + "[What is the {k}|What's the {k}|What is my {k}|What's my {k}|Which {k} did I tell you|What did I say is the {k}|What was the {k}|what was my {k}]" + TAIL + "[?|]", START + "[Tell me|Say|Do you know|Repeat|Give me] [the|my] {k}[?||.]"),
    "The {k} is {v}.", lambda r: r.choice(GENERIC_KEYS), lambda r: r.choice([code(r), made_up(r), r.choice(OBJECTS), r.choice(COLOURS), cap(r.choice(TREES)), r.choice(CITIES), str(r.randint(1, 999)), r.choice(FRUITS)]))
BARE_NUMBER = Memory(
    Phrases("[Remember the number|Keep the number|Please remember the number|My number is|I am thinking of the number|The number is|Note the number|Memorize the number] {v}[.|!|]"),
    Phrases(START + "[What number did I tell you|Which number did I tell you|What is the number|What was the number|What's my number|Which number should you remember|What number was it|Which number did I say]" + TAIL + "[?|]"),
    "The number is {v}.", lambda r: "", lambda r: str(r.randint(1, 9999)))
BARE_WORD = Memory(
    Phrases("[Remember the word|Keep the word|Please remember the word|My word is|I am thinking of the word|The word is|Note the word|Memorize the word] {v}[.|!|]"),
    Phrases(START + "[What word did I tell you|Which word did I tell you|What is the word|What was the word|What's my word|Which word should you remember|What word was it|Which word did I say]" + TAIL + "[?|]"),
    "The word is {v}.", lambda r: "", lambda r: r.choice(WORDS) if r.chance(0.6) else made_up(r))
MEMORIES = [ANYTHING, ANYTHING, ANYTHING, BARE_NUMBER, BARE_WORD, PET, COLOUR, WHERE, COUNT, FAVOURITE, HOME, NAME, CODE, TRIP, MEAL, TIME, JOB]

TOLD = ["Thank you, I will remember that.", "I will remember that."]
CHANGED = Phrases("[Actually, |No, wait. |Sorry, I was wrong. |I have to correct myself. |That has changed. |Wait, ]{t}")
LEAD_IN = Phrases("[|||||Remember this: |Please remember: |Hello! |Just so you know: |Here is something about me. |Listen: |Keep in mind: ]{t}")
FIRST_ASKED = Phrases("[What was|What's|Tell me|Repeat|Do you remember] my [first|very first] [question|message|request][?||.]", "[What did I ask first|What was the first thing I said|What did I say first|What did I write at the beginning][?|]")
LAST_ASKED = Phrases("[What was|What's|Tell me|Repeat|Do you remember] my [last|previous] [question|message|request][?||.]", "[What did I just say|What did I just ask|What was the last thing I said|What did I write just now|What did I ask before this][?|]")


def value_of(m: Memory, key: str, r: Rng) -> str:
    return r.choice(FAVOURITES[key]) if m is FAVOURITE else m.value(r)


def some(r: Rng, n: int) -> list[tuple[Memory, str, str]]:
    """Different things to remember, each with its key and value."""
    seen, found = set(), []
    while len(found) < n:
        m = r.choice(MEMORIES)
        key = m.key(r)
        if (m, key) not in seen and not (m in (COLOUR, WHERE) and ((COLOUR, key) in seen or (WHERE, key) in seen)):
            seen.add((m, key))
            found.append((m, key, value_of(m, key, r)))
    return found


def told(r: Rng, m: Memory, key: str, value: str) -> str:
    return r.exact(m.tell, k=key, v=value)


def conversation(r: Rng, filler, brief: bool = False) -> Conversation:
    """Facts are told, other things are talked about (`filler` makes such turns), then the facts are asked for."""
    n = r.choice([1, 1, 2, 2, 3, 4, 5])
    facts = some(r, n)
    messages = []

    def add(user: str, answer: str):
        messages.extend(({"role": "user", "content": user}, {"role": "assistant", "content": answer}))

    def fill(most: int):
        for _ in range(r.randint(0, most)):
            t = filler(r)
            add(t.user, t.brief if brief and t.brief else t.answer)

    remembered = "OK." if brief else TOLD[r.random() < 0.3]
    fill(1)
    if r.chance(0.15) and not brief:
        messages.insert(0, {"role": "system", "content": "What the user told you before: " + " ".join(told(r, *f) for f in facts)})
    elif r.chance(0.4):
        add(r.exact(LEAD_IN, t=" ".join(told(r, *f) for f in facts)), remembered)
    else:
        for f in facts:
            text = r.exact(LEAD_IN, t=told(r, *f))
            if f[0] is NAME and not brief:
                add(text, f"Nice to meet you, {f[2]}!")
            else:
                add(text, remembered)
            fill(1)
    known = {(m, k): v for m, k, v in facts}
    if r.chance(0.15):
        m, key, _ = r.choice(facts)
        value = value_of(m, key, r)
        known[m, key] = value
        add(r.exact(CHANGED, t=told(r, m, key, value)), remembered)
    fill(r.choice([0, 0, 1, 2, 4]))
    check = None
    for _ in range(r.randint(1, min(3, n + 1))):
        if r.chance(0.12):
            m = r.choice(MEMORIES)
            key = m.key(r)
        else:
            m, key, _ = r.choice(facts)
        asked = r.ask(m.ask, k=key)
        if (m, key) in known:
            value = known[m, key]
            add(asked, cap(value) + "." * (not value[-1].isdigit() and not brief) if brief else m.answer.format(k=key, v=value))
            check = ("has", [value])
        else:
            add(asked, "I don't know." if brief else "I don't know. You have not told me.")
            check = ("has", ["don't know"])
    return Conversation(messages, check=check, kind="recall")


def what_was_said(r: Rng, filler) -> Conversation:
    """The first or the last message is asked for."""
    messages = []
    for _ in range(r.randint(1, 4)):
        t = filler(r)
        messages += [{"role": "user", "content": t.user}, {"role": "assistant", "content": t.answer}]
    first = r.chance(0.5)
    said = messages[0]["content"] if first else messages[-2]["content"]
    answer = f'You {"first " if first else ""}said: "{said}"'
    messages += [{"role": "user", "content": r.ask(FIRST_ASKED if first else LAST_ASKED)}, {"role": "assistant", "content": answer}]
    return Conversation(messages, check=("has", [said]), kind="recall")

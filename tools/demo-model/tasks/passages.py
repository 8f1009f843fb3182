"""Answering from a text, short or thousands of tokens long, and saying when the text does not tell."""

from lexicon import ANIMALS, CITIES, COLOURS, DAYS, FLOWERS, FOODS, FRUITS, INSTRUMENTS, JOBS, MONTHS, OBJECTS, PLACES, PLURALS, SPORTS, WEATHER
from phrases import Conversation, Phrases, Rng, cap
from tasks.words import made_up, sentence

BUILDINGS = ["lighthouse", "bridge", "tower", "castle", "library", "station", "school", "mill", "church", "harbour", "theatre", "museum", "hotel", "factory", "old house", "town hall", "statue", "windmill"]
EVENTS = ["meeting", "concert", "lesson", "party", "game", "exam", "talk", "market", "festival", "workshop", "film", "dinner", "race", "tour", "class"]

# How a fact stands in the text, how it is asked for, and the whole answer; {k} is what it is about and {v} the answer.
FACTS = [
    (["The {k} box holds {v}.", "In the {k} box there are {v}.", "Someone filled the {k} box with {v}."], Phrases("[What is in|What does|What can I find in|What's inside|Tell me what is in] the {k} box[?| hold?| contain?]", "[Which things are in|What did someone put in] the {k} box[?|]"), "The {k} box holds {v}.",
     lambda r: r.choice(COLOURS), lambda r: f"{r.randint(2, 99)} {PLURALS.get(o := r.choice(OBJECTS + FRUITS), o + 's')}"),
    (["{K} lives in {v}.", "The home of {k} is {v}.", "{K} has lived in {v} for years."], Phrases("[Where does {k} live|In which city does {k} live|Where is the home of {k}|What city does {k} live in|Which city is the home of {k}|Tell me where {k} lives][?|]"), "{K} lives in {v}.",
     lambda r: "the " + r.choice(COLOURS) + " " + r.choice(list(ANIMALS)), lambda r: r.choice(CITIES)),
    (["A {k} costs {v} coins.", "The price of a {k} is {v} coins.", "You can buy a {k} for {v} coins."], Phrases("[How much is a {k}|What does a {k} cost|How much does a {k} cost|What is the price of a {k}|How many coins do I need for a {k}|Tell me the price of a {k}][?|]"), "A {k} costs {v} coins.",
     lambda r: r.choice(OBJECTS), lambda r: str(r.randint(2, 999))),
    (["The {k} shop opens at {v}.", "At {v} the {k} shop opens.", "You can visit the {k} shop from {v} on."], Phrases("[When does the {k} shop open|At what time does the {k} shop open|What is the opening time of the {k} shop|From when on can I visit the {k} shop|When can I go to the {k} shop][?|]"), "The {k} shop opens at {v}.",
     lambda r: r.choice(OBJECTS + FRUITS + FLOWERS), lambda r: f"{r.randint(6, 11)}:{r.choice(['00', '15', '30', '45'])}"),
    (["On {k} the children play {v}.", "{k} is the day for {v}.", "The class does {v} on {k}."], Phrases("[What do the children play on {k}|Which sport is on {k}|What does the class do on {k}|What is planned for {k}|What is {k} the day for|Which activity is on {k}][?|]"), "On {k} it is {v}.",
     lambda r: r.choice(DAYS), lambda r: r.choice(SPORTS)),
    (["In {k} the museum bought {v}.", "The museum got {v} in {k}.", "{k} brought {v} to the museum."], Phrases("[What did the museum buy in {k}|What did the museum get in {k}|What came to the museum in {k}|Which thing did the museum buy in {k}|What is new in the museum since {k}][?|]"), "In {k} the museum bought {v}.",
     lambda r: r.choice(MONTHS), lambda r: "a " + r.choice(COLOURS[:4]) + " " + r.choice(OBJECTS + INSTRUMENTS)),
    (["The secret code of {k} is {v}.", "{K} has the secret code {v}.", "Remember the code {v} for {k}."], Phrases("[What is the secret code of {k}|What is the code for {k}|Which code belongs to {k}|What code does {k} have|Tell me the secret code of {k}|Which secret code has {k}][?|]"), "The secret code of {k} is {v}.",
     lambda r: made_up(r, True), lambda r: str(r.randint(1000, 9999)) if r.chance(0.7) else made_up(r)),
    (["The {k} was found in the {v}.", "They found the {k} in the {v}.", "Somebody had left the {k} in the {v}."], Phrases("[Where was the {k} found|Where did they find the {k}|Where had somebody left the {k}|In which place was the {k}|Where was the {k}][?|]"), "The {k} was found in the {v}.",
     lambda r: r.choice(COLOURS) + " " + r.choice(OBJECTS), lambda r: r.choice(PLACES)),
    (["The {k} eats {v} every day.", "Every morning the {k} gets {v}.", "{v} is what the {k} likes to eat."], Phrases("[What does the {k} eat|What does the {k} get every morning|Which food does the {k} eat|What does the {k} like to eat|What is the food of the {k}][?|]"), "The {k} eats {v}.",
     lambda r: r.choice(["old", "young", "small", "big", "grey", "brown"]) + " " + r.choice(list(ANIMALS)), lambda r: r.choice(FOODS + FRUITS)),
    (["{k} has {v} people.", "{v} people live in {k}.", "The town of {k} counts {v} people."], Phrases("[How many people live in {k}|How many people does {k} have|How many people does {k} count|What is the number of people in {k}|How big is the town of {k}][?|]"), "{v} people live in {k}.",
     lambda r: made_up(r, True), lambda r: str(r.randint(100, 99999))),
    (["The {k} train goes to {v}.", "To {v} you take the {k} train.", "The {k} train leaves for {v}."], Phrases("[Where does the {k} train go|To which city does the {k} train go|What is the goal of the {k} train|Where can I get with the {k} train|Which city does the {k} train leave for][?|]"), "The {k} train goes to {v}.",
     lambda r: r.choice(["first", "second", "third", "fourth", "fifth", "last", "night", "morning", "slow", "fast", *COLOURS[:8]]), lambda r: r.choice(CITIES)),
    (["The {k} plays the {v}.", "Everyone knows that the {k} plays the {v}.", "The {v} is played by the {k}."], Phrases("[What does the {k} play|Which instrument does the {k} play|What instrument is played by the {k}|On what does the {k} play|What can the {k} play][?|]"), "The {k} plays the {v}.",
     lambda r: r.choice(JOBS), lambda r: r.choice(INSTRUMENTS)),
    (["The {k} was built in {v}.", "It was in {v} that the {k} was built.", "People built the {k} in {v}.", "The {k} dates from {v}."], Phrases("[When was the {k} built|In which year was the {k} built|When did people build the {k}|How old is the {k}|What year is the {k} from|From when is the {k}][?|]"), "The {k} was built in {v}.",
     lambda r: r.choice(BUILDINGS), lambda r: str(r.randint(1100, 2025))),
    (["The {k} is {v} metres tall.", "With its {v} metres the {k} can be seen from far away.", "The height of the {k} is {v} metres."], Phrases("[How tall is the {k}|How high is the {k}|What is the height of the {k}|How many metres tall is the {k}|Tell me how tall the {k} is][?|]"), "The {k} is {v} metres tall.",
     lambda r: r.choice(BUILDINGS), lambda r: str(r.randint(3, 300))),
    (["The {k} is on {v}.", "The {k} takes place on {v}.", "On {v} there will be a {k}.", "They planned the {k} for {v}."], Phrases("[When is the {k}|On which day is the {k}|What day is the {k}|When does the {k} take place|On what day is the {k}|For when is the {k} planned][?|]"), "The {k} is on {v}.",
     lambda r: r.choice(EVENTS), lambda r: r.choice(DAYS) + (f" at {r.randint(1, 12)}" + r.choice(["", ":30", ":15"]) if r.chance(0.5) else "")),
    (["The {k} is in {v}.", "For the {k} please go to {v}.", "The {k} will be held in {v}."], Phrases("[Where is the {k}|In which place is the {k}|Where will the {k} be held|Where do I have to go for the {k}|Which room is the {k} in|Where does the {k} happen][?|]"), "The {k} is in {v}.",
     lambda r: r.choice(EVENTS), lambda r: f"room {r.randint(1, 99)}" if r.chance(0.6) else r.choice(CITIES)),
    (["The {k} belongs to {v}.", "{V} owns the {k}.", "{V} bought the {k} last year.", "The owner of the {k} is {v}."], Phrases("[Who owns the {k}|Whose is the {k}|Who bought the {k}|To whom does the {k} belong|Who is the owner of the {k}|Who has the {k}][?|]"), "The {k} belongs to {v}.",
     lambda r: r.choice(COLOURS) + " " + r.choice(OBJECTS), lambda r: "the " + r.choice(JOBS)),
    (["The {k} weighs {v} kilograms.", "They weighed the {k}: {v} kilograms.", "At {v} kilograms the {k} is not light."], Phrases("[How heavy is the {k}|How much does the {k} weigh|What is the weight of the {k}|How many kilograms does the {k} weigh|What does the {k} weigh][?|]"), "The {k} weighs {v} kilograms.",
     lambda r: r.choice(OBJECTS + list(ANIMALS)), lambda r: str(r.randint(2, 500))),
    (["The {k} is made of {v}.", "They made the {k} of {v}.", "You can see that the {k} is {v}."], Phrases("[What is the {k} made of|Of what is the {k} made|Which material is the {k}|What did they make the {k} of|From what is the {k} made][?|]"), "The {k} is made of {v}.",
     lambda r: r.choice(BUILDINGS + OBJECTS), lambda r: r.choice(["wood", "stone", "glass", "iron", "gold", "paper", "brick", "clay", "silver", "steel"])),
    (["{K} is known for its {v}.", "People come to {k} for the {v}.", "The {v} of {k} are famous."], Phrases("[What is {k} known for|Why do people come to {k}|What is famous in {k}|For what is {k} known|What do people like about {k}][?|]"), "{K} is known for its {v}.",
     lambda r: r.choice(CITIES) if r.chance(0.6) else made_up(r, True), lambda r: r.choice(["bridges", "gardens", "towers", "bakeries", "markets", "beaches", "museums", "castles", "tulips", "clocks", "trains", "parks"])),
    (["{v} {k} came to the fair.", "There were {v} {k} at the fair.", "At the fair I counted {v} {k}."], Phrases("[How many {k} were at the fair|How many {k} came to the fair|How many {k} were there|What was the number of {k} at the fair|Count the {k} at the fair][?|]"), "There were {v} {k} at the fair.",
     lambda r: PLURALS.get(o := r.choice(list(ANIMALS) + JOBS), o + "s"), lambda r: str(r.randint(2, 900))),
]

FILL = ["The weather was {weather}.", "It was a {weather} day.", "Nobody said a word for a while.", "A {animal} sat by the road.", "The streets were full of people.", "Many years ago this was different.",
        "Some people like it, others do not.", "There is more to tell about this.", "In the evening it became quiet.", "This is well known.", "The market was open.", "A bell rang three times.",
        "Everybody looked at the {animal}.", "The old bridge was closed.", "Then it began to get dark.", "A {colour} flag hung from the tower.", "The {animal} was asleep.", "They talked about {sport} all day.", "Somebody was eating {food}.",
        "It is not far from {city}.", "The road to {city} is long.", "The guests came from {city}."]
ASK = Phrases("{q}", "[Question: |My question: |Now tell me: |According to the text: |From the text: |Answer from the text: |Use the text: ]{q}")
BEFORE = Phrases("[Read this text|Here is a text|Text|Read the following|Use this text|This is a text|Look at this text|Context|Document|Passage|Please read this][:|.|:|]\n[|\n]{p}\n[|\n]{q}", "{p}\n[|\n]{q}", "[Answer the question with the text|Answer from this text|Read and answer|Use the text to answer|Text|Note|Info|Facts][:|.]\n[|\n]{p}\n[|\n]{q}")
AFTER = Phrases("{q}\n[|\n][Text|The text|Context|Here is the text|Look in this text|Document|Passage]:[\n| ]{p}", "[Find the answer in the text below|Answer with the text below|The answer is in the text]. {q}\n\n{p}")
ONLY = Phrases("[Read this text|Here is a text|Remember this text|I give you a text|Please read this|I will ask you about this text|Keep this text in mind][:|.]\n[|\n]{p}")
SYSTEM = Phrases("[Answer from this text|Use this text to answer|You know this text|Here is what you know|Context|Answer questions about this text][:|.]\n[|\n]{p}")


def text_with_facts(r: Rng, sentences: int) -> tuple[str, list, set]:
    """A text, the facts in it that can be asked for, and all (pattern, key) pairs it tells of."""
    known, parts, facts = set(), [], []
    share = r.choice([0.4, 0.6, 0.8, 0.95]) if sentences < 40 else r.choice([0.03, 0.1, 0.5, 0.8])
    while len(parts) < sentences or not facts:
        if facts and not r.chance(share):
            parts.append(r.choice(FILL).format(weather=r.choice(WEATHER), animal=r.choice(list(ANIMALS)), colour=r.choice(COLOURS), sport=r.choice(SPORTS), food=r.choice(FOODS), city=r.choice(CITIES)) if r.chance(0.8) else sentence(r))
            continue
        i = r.randrange(len(FACTS))
        wordings, _, _, key_of, value_of = FACTS[i]
        key = key_of(r)
        if (i, key) in known:
            if len(known) > 100 or r.chance(0.2):
                share = min(share, 0.3)
            continue
        known.add((i, key))
        value = value_of(r)
        facts.append((i, key, value))
        line = cap(r.choice(wordings).format(k=key, K=cap(key), v=value, V=cap(value)))
        if parts and r.chance(0.1) and line.startswith("The ") and parts[-1].endswith("."):
            parts[-1] = parts[-1][:-1] + " and t" + line[1:]
        else:
            parts.append(line)
    if r.chance(0.7):
        first = facts[0]
        r.shuffle(parts)
        facts = [first, *facts[1:]]
    lines = r.random()
    if lines < 0.6:
        text = " ".join(parts)
    elif lines < 0.8:
        text = "\n".join(parts)
    else:
        text, i = [], 0
        while i < len(parts):
            n = r.randint(2, 6)
            text.append(" ".join(parts[i:i + n]))
            i += n
        text = "\n\n".join(text)
    return text, facts, known


def question(r: Rng, facts: list, known: set) -> tuple[str, str, str, tuple]:
    """A question about the text, its whole answer, its short answer, its check."""
    if r.chance(0.1):
        for _ in range(20):
            i = r.randrange(len(FACTS))
            key = FACTS[i][3](r)
            if (i, key) not in known:
                return r.ask(FACTS[i][1], plain=0.9, k=key), "The text does not say.", "The text does not say.", ("has", ["does not say"])
    i, key, value = r.choice(facts)
    asked = r.ask(FACTS[i][1], plain=0.9, k=key)
    return asked, cap(FACTS[i][2].format(k=key, K=cap(key), v=value)), cap(value), ("has", [value])


def conversation(r: Rng, length: str = "any", brief: bool = False) -> Conversation:
    """`length` is "any" or "long": up to what fits in the longest context that is trained."""
    sentences = r.randint(60, 260) if length == "long" else int(r.choice([r.randint(1, 8), r.randint(3, 20), r.randint(3, 20), r.randint(10, 60)]))
    text, facts, known = text_with_facts(r, sentences)
    asked, answer, short, check = question(r, facts, known)
    form, messages = r.random(), []
    asked = r.exact(ASK, q=asked)
    if form < 0.5:
        messages = [{"role": "user", "content": r.exact(BEFORE, p=text, q=asked)}]
    elif form < 0.7:
        messages = [{"role": "user", "content": r.exact(AFTER, p=text, q=asked)}]
    elif form < 0.85:
        messages = [{"role": "user", "content": r.exact(ONLY, p=text)}, {"role": "assistant", "content": "OK." if brief else "I have read the text. What do you want to know?"}, {"role": "user", "content": asked}]
    else:
        messages = [{"role": "system", "content": r.exact(SYSTEM, p=text)}, {"role": "user", "content": asked}]
    messages.append({"role": "assistant", "content": short if brief else answer})
    for _ in range(r.choice([0, 0, 1, 1, 2, 4])):
        asked, answer, short, check = question(r, facts, known)
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": short if brief else answer}]
    return Conversation(messages, check=check, kind="passage" if length != "long" else "long passage")

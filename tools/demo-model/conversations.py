"""Puts the tasks together to conversations: several turns, system prompts, ways of answering."""

from bisect import bisect
from itertools import accumulate

from lexicon import CITIES, DAYS, NAMES_OF_PETS
from phrases import Conversation, Phrases, Rng, Turn, article
from tasks import facts, json_shapes, numbers, passages, recall, stories, talk, tools, words

PLAIN_SYSTEM = Phrases(
    "[You are a helpful assistant.|You are a friendly assistant.|You are a helpful and honest assistant.|Be helpful.|You are an assistant.|You are a chat bot.|You help people with small questions.|Answer the questions of the user.|You are a helpful AI assistant.|You are nodemlx.|You are a useful model.][| Be polite.| Be kind.| Answer in English.| Think before you answer.| Answer correctly.]")
BRIEF_SYSTEM = Phrases(
    "[Answer briefly|Be brief|Answer with one word if you can|Give short answers|Keep it short|Answer in as few words as possible|Be concise|Only give the answer|Answer tersely|Use as few words as you can|Short answers only|Reply with the answer only][.||!]", "You are a [terse|brief|short-spoken|laconic|concise] [assistant|bot|model][.|]")
PERSONA = Phrases("[You are {name}, {what}|Your name is {name}. You are {what}|You play {name}, {what}|Act as {name}, {what}|You are called {name} and you are {what}][.||!]")
ENDING = Phrases("[End every answer with|Always finish with|After each answer, say|Every answer must end with|Finish all answers with|Close each answer with] \"{x}\"[.||!]")
OPENING = Phrases("[Begin every answer with|Always start with|Before each answer, say|Every answer must begin with|Start all answers with|Open each answer with] \"{x}\"[.||!]")
CAPITALS = Phrases("[Answer in capital letters|Write everything in capital letters|ALWAYS ANSWER IN CAPITALS|Use only capital letters|Reply in upper case|Shout every answer in capital letters][.||!]")
TODAY = Phrases("[Today is {day}|It is {day} today|The current day is {day}|Current day: {day}][.|]")
WHICH_DAY = Phrases("[What day is it|What day is today|Which day is it|Which day is today|What is today|Tell me what day it is|what weekday do we have|Do you know what day it is][?| today?|]")
TOMORROW = Phrases("[What day is tomorrow|Which day comes tomorrow|What day will it be tomorrow|And tomorrow|What is tomorrow|Tell me what day tomorrow is][?|]")
BRIEF_ASK = Phrases("{q} [Answer briefly.|Be brief.|One word, please.|Just the answer.|Short answer, please.|Only the answer.|Answer in one word.|Keep it short.]", "[Answer briefly: |In short: |Just the answer: |One word: |Only the answer, please: |Briefly: ]{q}")
AND_WHAT = Phrases("[And|and|What about|what about|How about|And what about|Now|And for|then] {x}?", "[And|and|Same for|Now the same for|and for] {x}[?|.|]")
FURTHER = Phrases("[Now add|Add|And plus|plus|Then add|And add|Now plus] {n}[.||!| to that.| more.]", "[What if I add {n} more|And {n} more|How much is that plus {n}|what is that plus {n}][?|]")
FURTHER_LESS = Phrases("[Now subtract|Subtract|And minus|minus|Then take away|Now minus] {n}[.||!| from that.]", "[What if I take away {n}|How much is that minus {n}|what is that minus {n}][?|]")


class Mix:
    """A weighted choice that is quick."""

    def __init__(self, choices):
        self.made = [c for c, _ in choices]
        self.sums = list(accumulate(w for _, w in choices))

    def __call__(self, r: Rng):
        return self.made[bisect(self.sums, r.random() * self.sums[-1])]


FACTS, ARITHMETIC, NUMBERS, WORDS, TALK, STORIES = (Mix(k) for k in (facts.KINDS, numbers.ARITHMETIC, numbers.OTHER, words.KINDS, talk.KINDS, stories.KINDS))
COUNTING = Mix([(numbers.counting, 1)])
UNKNOWN = Mix([(talk.unknown, 1)])
TURNS = Mix([(FACTS, 30), (ARITHMETIC, 26), (NUMBERS, 5), (COUNTING, 3), (WORDS, 14), (TALK, 7), (STORIES, 7), (UNKNOWN, 8)])
SHORT_TURNS = Mix([(FACTS, 40), (ARITHMETIC, 18), (NUMBERS, 5), (WORDS, 8), (TALK, 8), (UNKNOWN, 1)])


def any_turn(r: Rng) -> Turn:
    return TURNS(r)(r)(r)


def short_turn(r: Rng) -> Turn:
    """A turn to fill a conversation with: no stories, nothing that a later question could be about."""
    return SHORT_TURNS(r)(r)(r)


def quiz_turn(r: Rng) -> Turn:
    return (FACTS if r.chance(0.7) else ARITHMETIC)(r)(r)


def follow_up(r: Rng) -> Conversation:
    """A question that needs the one before: "And of Italy?", "Now add 5."."""
    if r.chance(0.5):
        a, b = r.combination(lambda: (r.randint(0, 60), r.randint(0, 40)), lambda p: f"{p[0]}+{p[1]}", 12)
        total, messages = a + b, [{"role": "user", "content": r.ask(numbers.PLUS, a=a, b=b)}, {"role": "assistant", "content": f"{a} + {b} = {a + b}"}]
        for _ in range(r.randint(1, 3)):
            more = r.chance(0.6)
            so_far = f"{total}{'+' if more else '-'}"
            n = r.combination(lambda: r.randint(1, 30), lambda n, so_far=so_far: f"{so_far}{n}", 12)
            if more:
                messages += [{"role": "user", "content": r.ask(FURTHER, n=n)}, {"role": "assistant", "content": f"{total} + {n} = {total + n}"}]
                total += n
            else:
                messages += [{"role": "user", "content": r.ask(FURTHER_LESS, n=n)}, {"role": "assistant", "content": f"{total} - {n} = {total - n}"}]
                total -= n
        return Conversation(messages, check=("number", total), kind="follow-up")
    what = r.choice(["capital", "opposite", "plural", "colour"])
    messages = []
    for i in range(r.randint(2, 4)):
        if what == "capital":
            c, (city, _, _) = r.choice(list(facts.COUNTRIES.items()))
            first, again, answer, must = r.ask(facts.CAPITAL, c=c), c, f"The capital of {c} is {city}.", city
        elif what == "opposite":
            a, b = r.choice(facts.OPPOSITES)
            first, again, answer, must = r.ask(facts.OPPOSITE, a=a), a, f"The opposite of {a} is {b}.", b
        elif what == "plural":
            a, b = r.choice(list(facts.PLURALS.items()))
            first, again, answer, must = r.ask(facts.PLURAL, a=a), a, f"The plural of {a} is {b}.", b
        else:
            a, b = r.choice(list(facts.COLOUR_OF.items()))
            first, again, answer, must = r.ask(facts.COLOUR, a=a), a, f"{a[0].upper() + a[1:]} is {b}.", b
        messages += [{"role": "user", "content": r.ask(AND_WHAT, x=again) if i else first}, {"role": "assistant", "content": answer}]
    return Conversation(messages, check=("has", [must]), kind="follow-up")


def persona(r: Rng) -> Conversation:
    name = recall.nickname(r)
    what = article(r.choice(["helpful robot", "robot cat", "friendly parrot", "wise owl", "little dragon", "talking " + r.choice(["tree", "clock", "lamp", "book"]), "pirate", "ship's computer", "tour guide in " + r.choice(CITIES), "cook", "librarian", "teacher of " + r.choice(["maths", "music"]), "shop assistant", "gardener"]))
    nameless = r.chance(0.35)
    messages = [{"role": "system", "content": r.exact(talk.YOU_ARE, what=what) if nameless else r.exact(PERSONA, name=name, what=what)}]
    check = None
    for _ in range(r.randint(1, 3)):
        if check is None or r.chance(0.4):
            asked, (answer, must) = r.ask(talk.WHO), (f"I am {what}.", ("has", [what])) if nameless else (f"I am {name}, {what}.", ("has", [name]))
        else:
            t = short_turn(r)
            if "nodemlx" in t.answer:
                continue
            asked, answer, must = t.user, t.answer, t.check
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        check = must
    return Conversation(messages, check=check, kind="system")


def day_in_system(r: Rng) -> Conversation:
    i = r.randrange(7)
    system = r.exact(TODAY, day=DAYS[i])
    messages = [{"role": "system", "content": r.wording(PLAIN_SYSTEM) + " " + system if r.chance(0.5) else system}]
    if r.chance(0.5):
        messages += [{"role": "user", "content": r.ask(WHICH_DAY)}, {"role": "assistant", "content": f"Today is {DAYS[i]}."}]
        check = DAYS[i]
    if len(messages) == 1 or r.chance(0.5):
        check = DAYS[(i + 1) % 7]
        messages += [{"role": "user", "content": r.ask(TOMORROW)}, {"role": "assistant", "content": f"Tomorrow is {check}."}]
    return Conversation(messages, check=("has", [check]), kind="system")


def chat(r: Rng, pick=any_turn) -> Conversation:
    """Turns of all kinds, with a system prompt or none."""
    style = r.random()
    system, change, brief = None, None, False
    if style < 0.15:
        system = r.wording(PLAIN_SYSTEM)
    elif style < 0.25:
        system, brief = r.wording(BRIEF_SYSTEM), True
        if r.chance(0.3):
            system = r.wording(PLAIN_SYSTEM) + " " + system
    elif style < 0.275:
        word = r.choice(["Meow!", "Arr!", "Over.", "Bye.", "🎉", "Have a nice day!", "That is all.", r.choice(NAMES_OF_PETS) + "!", words.made_up(r, True) + "."])
        system, change = r.exact(ENDING, x=word), (lambda a: a + " " + word)
    elif style < 0.3:
        word = r.choice(["Well,", "Arr!", "My friend,", "Answer:", "🎉", "Sure!", r.choice(NAMES_OF_PETS) + "!", words.made_up(r, True) + ":"])
        system, change = r.exact(OPENING, x=word), (lambda a: word + " " + a)
    elif style < 0.315:
        system, change, pick = r.wording(CAPITALS), str.upper, quiz_turn
    messages = [{"role": "system", "content": system}] if system else []
    check = None
    for _ in range(r.choice([1, 1, 2, 3, 4, 6])):
        t = pick(r)
        asked, answer = t.user, t.brief if brief and t.brief else t.answer
        if not system and t.brief and t.brief != t.answer and r.chance(0.05):
            asked, answer = r.exact(BRIEF_ASK, q=asked), t.brief
        if change:
            answer = change(answer)
        check = ("said", answer) if change else t.check
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return Conversation(messages, check=check, kind="chat")


CONVERSATIONS = Mix([
    (chat, 44), (lambda r: recall.conversation(r, short_turn, r.chance(0.15)), 14), (lambda r: recall.what_was_said(r, short_turn), 1.5),
    (lambda r: passages.conversation(r, "any", r.chance(0.15)), 7), (lambda r: passages.conversation(r, "long"), 0.9),
    (lambda r: tools.conversation(r, short_turn), 20), (lambda r: json_shapes.conversation(r, short_turn), 8), (follow_up, 3), (persona, 1.5), (day_in_system, 0.8)])


def conversation(r: Rng) -> Conversation:
    """One conversation to train on."""
    return CONVERSATIONS(r)(r)

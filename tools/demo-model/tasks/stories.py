"""Short stories, haikus and little poems about things that were asked for."""

from lexicon import ANIMALS, CITIES, COLOURS, FOODS, OBJECTS, WEATHER
from phrases import Phrases, Rng, Turn, article, cap

STORY = Phrases(
    "[Tell me|Tell|Write|Can you tell me|Please write|Please tell me|I want|Give me|Could you write|Make up|I would like|Invent] a [story|short story|little story|tale|bedtime story|nice story] about {x}[.||!|?|, please.]",
    "[story about|a story about|short story:|Story:|story with] {x}[.||, please]", "[Tell me|Write] [something|a few sentences|a paragraph] about {x}'s adventure[.|]")
ANY_STORY = Phrases("[Once upon a time|A story, please|story|a story|Story time|Tell me a very long story|Tell me a long story|read me a story][|.|!|...]", "[Tell me|Tell|Write|Can you tell me|Please write|Please tell me|I want|Give me|Could you write|Make up] [a story|a short story|a little story|a tale|a bedtime story|another story][.||!|?|, please.]")
HAIKU = Phrases("[Write|Write me|Please write|Can you write|Make|Give me|Compose|I want|Could you write] a haiku about {x}[.||!|?|, please.]", "[haiku about|a haiku about|Haiku:|haiku on] {x}[.||, please]")
ANY_HAIKU = Phrases("[Write|Write me|Please write|Can you write|Make|Give me|Compose|I want|Could you write] a haiku[.||!|?|, please.]", "[haiku|a haiku][.|!|, please|]")
POEM = Phrases("[Write|Write me|Please write|Can you write|Make|Give me|Compose|I want|Could you write] a [poem|short poem|little poem|rhyme] about {x}[.||!|?|, please.]", "[poem about|a poem about|Poem:|rhyme about] {x}[.||, please]")

WANTS = [
    ("wanted to find {o}", "looked under every stone", "found {o} behind an old tree"), ("had lost {o}", "searched the whole day", "saw {o} in the tall grass"),
    ("wished to see the sea", "walked for three days", "heard the waves and felt the sand"), ("wanted to learn to sing", "practised every morning", "sang so well that everyone came to listen"),
    ("was afraid of the dark", "sat at the window and counted the stars", "saw how bright the moon was"), ("had no friends", "went to the village square", "met {f} who was lonely too"),
    ("wanted to bake a cake", "asked everyone for a little flour", "made the sweetest cake of the year"), ("dreamed of flying", "built wings from paper and string", "rode high up in a red balloon"),
    ("heard a strange noise at night", "followed the noise to the river", "found {f} stuck in the reeds"), ("got a letter with a map", "followed the map over the hills", "found {o} in a small chest"),
]
PLACES = ["in a small village", "near a quiet lake", "in a house on a hill", "at the edge of a forest", "in the middle of {city}", "on a little farm", "by the sea", "under an old bridge"]
HELP = ["A friendly {f} came by and said, \"I will help you.\"", "\"Do not give up,\" said a wise old {f}.", "Along the way a {f} shared some {food}.", "It began to rain, but a kind {f} offered a dry place to wait.", "\"May I come with you?\" asked a curious {f}."]
ENDS = ["From that day on they were the best of friends.", "That night {it} slept deeply and smiled.", "And everyone had {food} and danced until the morning.", "It was the happiest day of the whole year.", "Since then, {it} has never been afraid again."]
HAIKU_FIRST = ["Cold wind in the trees", "A quiet garden", "Deep night, silver moon", "Slow clouds in the sky", "The long road is still"]
HAIKU_MIDDLE = ["a {n} is waiting in the light", "a {n} is dreaming of the sea", "I see the {n} beside the road", "the {n} sings its little song"]
HAIKU_LAST = ["the day says goodnight", "then silence again", "the world holds its breath", "a small heart at peace", "and the stars look down"]
RHYMES = [
    ("I saw {a} beside the door,", "it asked me for a little more."), ("The night was calm, the moon was bright,", "{a} was dancing in the light."), ("The wind was cold, the hill was high,", "{a} was looking at the sky."),
    ("The sun came up, the day was new,", "{a} said softly: how are you?"), ("The rain came down upon the town,", "{a} put on a paper crown."), ("So close your eyes and dream of me,", "and of {a} beside the sea."),
]


def subject(r: Rng) -> tuple[str, str]:
    """Something to write about: as it is asked for, and its bare noun."""
    if r.chance(0.7):
        noun = r.choice(list(ANIMALS))
        text = article(noun)
        if r.chance(0.3):
            colour = r.choice(COLOURS)
            noun = f"{colour} {noun}"
            text = article(noun)
        return text, noun
    noun = r.choice(["robot", "dragon", "knight", "princess", "wizard", "pirate", "ghost", "farmer", "baker", "child", "king", "queen", "tree", "cloud", "star", "boat", "train", "snowman", "giant", "teapot"])
    return article(noun), noun


def story_text(r: Rng, noun: str, thing: str | None, place: str | None) -> str:
    friend = r.choice([a for a in ANIMALS if a not in noun])
    want, search, found = r.choice(WANTS[:2] if thing else WANTS)
    thing = thing or r.choice(OBJECTS)
    fill = {"o": article(thing), "f": friend, "food": r.choice(FOODS), "city": r.choice(CITIES), "it": f"the {noun}"}
    where = f"in {place}" if place else r.choice(PLACES).format(**fill)
    fill_friend = {**fill, "f": article(friend)}
    first = r.choice([f"Once upon a time, {article(noun)} lived {where}.", f"There was once {article(noun)} who lived {where}.", f"Long ago, {where}, there lived {article(noun)}."])
    want = want.format(**fill_friend)
    second = r.choice([f"One {r.choice(WEATHER)} day, the {noun} {want}.", f"The {noun} {want}."]) if not want.startswith(("heard", "got")) else f"One {r.choice(WEATHER)} day, the {noun} {want}."
    tried = r.choice([f"So the {noun} {search}.", f"The {noun} {search}, again and again."])
    end = r.choice(ENDS[1:] if "friends" not in want else ENDS).format(**fill)
    text = [first, second, tried, r.choice(HELP).format(**fill), f"At last the {noun} {found.format(**fill_friend)}.", end]
    return " ".join(text)


def story(r: Rng) -> Turn:
    if r.chance(0.12):
        _, noun = subject(r)
        return Turn(r.ask(ANY_STORY), story_text(r, noun, None, None), None, ("story", []))
    asked, noun = subject(r)
    thing = place = None
    if r.chance(0.3):
        thing = r.choice(OBJECTS)
        asked += " and " + article(thing)
    elif r.chance(0.2):
        place = r.choice(CITIES)
        asked += f" in {place}"
    return Turn(r.ask(STORY, plain=1.0 if place else 0.6, x=asked), story_text(r, noun, thing, place), None, ("story", [w for w in (noun, thing, place) if w]))


def haiku(r: Rng) -> Turn:
    if r.chance(0.35):
        noun = r.choice([a for a in ANIMALS if " " not in a])
        asked = r.ask(ANY_HAIKU)
    else:
        noun = r.choice(["moon", "sea", "rain", "snow", "wind", "cat", "dog", "fox", "tree", "spring", "night", "frog", "owl", "bird", "sun", "star", "sky", "rose", "hill", "lake"])
        asked = r.ask(HAIKU, x=noun if noun in ("rain", "snow", "wind", "spring", "night") else "the " + noun if noun in ("moon", "sea", "sun", "sky") else article(noun))
    middle = r.choice(HAIKU_MIDDLE).format(n=noun)
    text = f"{r.choice(HAIKU_FIRST)}\n{middle}\n{r.choice(HAIKU_LAST)}"
    return Turn(asked, text, None, ("lines", 3))


def poem(r: Rng) -> Turn:
    asked, noun = subject(r)
    one, two = r.sample(RHYMES, 2)
    text = "\n".join(cap(line.format(a=asked if i < 2 else f"the {noun}")) for i, line in enumerate([*one, *two]))
    return Turn(r.ask(POEM, x=asked), text, None, ("has", [noun]))


KINDS = [(story, 6), (haiku, 1.5), (poem, 1.5)]

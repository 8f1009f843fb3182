"""JSON in a shape given by key names, by an example or by a JSON schema."""

import json

from lexicon import ANIMALS, CATEGORIES, CITIES, COLOURS, COUNTRIES, DAYS, FOODS, FRUITS, NAMES_OF_PETS, OBJECTS, PLACES, SPORTS, WEATHER
from phrases import Conversation, Phrases, Rng, article, listing
from tasks.words import made_up

# Each makes a sentence, and what can be read from it: key names to choose from, and the value.


def _pet(r):
    name, animal, age, colour = r.choice(NAMES_OF_PETS) if r.chance(0.6) else made_up(r, True), r.choice(list(ANIMALS)), r.randint(1, 20), r.choice(COLOURS)
    return (r.choice([f"{name} is a {colour} {animal} and {age} years old.", f"The {colour} {animal} {name} is {age} years old.", f"My {animal} {name} is {colour}. It is {age}."]),
            {("name", "pet", "title"): name, ("animal", "kind", "species", "type"): animal, ("age", "years"): age, ("colour", "color"): colour})


def _thing(r):
    thing, colour, price, place = r.choice(OBJECTS), r.choice(COLOURS), r.randint(2, 500), r.choice(CITIES)
    return (r.choice([f"The {colour} {thing} from {place} costs {price} euros.", f"A {colour} {thing} is sold in {place} for {price} euros.", f"In {place} a {colour} {thing} costs {price}."]),
            {("item", "product", "object", "thing", "name"): thing, ("colour", "color"): colour, ("price", "cost", "euros"): price, ("city", "place", "location"): place})


def _weather(r):
    place, sky, degrees = r.choice(CITIES), r.choice(WEATHER), r.randint(-10, 38)
    return (r.choice([f"It is {sky} in {place} with {degrees} degrees.", f"{place} is {sky} today, {degrees} degrees.", f"The weather in {place}: {sky}, {degrees} degrees."]),
            {("city", "place", "location"): place, ("weather", "condition", "sky"): sky, ("temperature", "degrees", "temp"): degrees})


def _trip(r):
    start, end, hours, day = *r.sample(CITIES, 2), r.randint(1, 24), r.choice(DAYS)
    return (r.choice([f"The train from {start} to {end} on {day} takes {hours} hours.", f"On {day} we travel from {start} to {end} in {hours} hours.", f"From {start} to {end}: {hours} hours, on {day}."]),
            {("from", "start", "origin"): start, ("to", "destination", "end"): end, ("hours", "duration"): hours, ("day", "weekday"): day})


def _order(r):
    dish, count, table, paid = r.choice(FOODS), r.randint(1, 12), r.randint(1, 40), r.chance(0.5)
    return (r.choice([f"Table {table} wants {count} times {dish}. It is {'paid' if paid else 'not paid'}.", f"{count} portions of {dish} for table {table}, {'already paid' if paid else 'not paid yet'}."]),
            {("dish", "food", "item"): dish, ("count", "quantity", "portions"): count, ("table", "table_number"): table, ("paid", "is_paid"): paid})


def _room(r):
    things, place, full = r.sample(OBJECTS, r.randint(1, 4)), r.choice(PLACES), r.chance(0.5)
    return (f"In the {place} there {'is' if len(things) == 1 else 'are'} {listing([article(t) for t in things])}. It is {'full' if full else 'not full'}.",
            {("place", "room", "location"): place, ("things", "items", "objects"): things, ("full", "is_full"): full})


def _team(r):
    colour, sport, points, rank = r.choice(COLOURS), r.choice(SPORTS), r.randint(0, 99), r.randint(1, 20)
    return (r.choice([f"The {colour} team has {points} points in {sport} and is number {rank}.", f"In {sport} the {colour} team is number {rank} with {points} points."]),
            {("team", "colour", "color"): colour, ("sport", "game"): sport, ("points", "score"): points, ("rank", "position", "number"): rank})


def _place(r):
    country, (capital, continent, language) = r.choice(list(COUNTRIES.items()))
    return (r.choice([f"{capital} is in {country}.", f"The capital of {country} is {capital}.", f"I flew to {capital}, {country}.", f"{capital}, {country}"]), {("city", "capital", "town"): capital, ("country", "nation", "land"): country})


def _event(r):
    name, day, hour, room = r.choice(["meeting", "lesson", "concert", "party", "class", "talk", "game", "workshop"]), r.choice(DAYS), f"{r.randint(1, 12)}:{r.choice(['00', '15', '30', '45'])}", r.randint(1, 60)
    return (r.choice([f"The {name} is on {day} at {hour} in room {room}.", f"On {day} at {hour} there is a {name} in room {room}.", f"{day}, {hour}: {name}, room {room}."]),
            {("event", "name", "title", "what"): name, ("day", "date", "weekday"): day, ("time", "start", "at"): hour, ("room", "room_number"): room})


SOURCES = [_place, _event, _pet, _thing, _weather, _trip, _order, _room, _team]
TYPES = {str: "string", int: "integer", bool: "boolean", list: "array"}

BY_KEYS = Phrases(
    "[Extract|Read|Give me|Return|Write|Get|Find] {keys} [as JSON|as a JSON object|in JSON|and answer with JSON][:|: |\n|.\n]{text}", "[Turn|Convert|Change|Put|Make] this [sentence|text] into [JSON|a JSON object] with [the keys |the fields |]{keys}[: |:\n|. ]{text}",
    "{text}[\n| ][Give me|Return|Write|Answer with|Make] [JSON|a JSON object] with [the keys |the fields |]{keys}[.|]")
BY_EXAMPLE = Phrases(
    "[Extract|Read|Answer|Reply|Respond|Give me] [JSON|the data as JSON|JSON only] [in this shape|like this|in this form|of this form|in this format|with this structure|matching]: {shape}\n[Text: |Sentence: ||Input: ]{text}", "{text}\n[Write this as JSON|Give me JSON|Fill this in|Answer in this format|Return JSON][:| like this:| in this shape:] {shape}")
BY_SCHEMA = Phrases(
    "[Extract the data as JSON|Answer with JSON|Reply only with JSON|Return JSON|Write JSON|Give me JSON] [that matches this schema|for this JSON schema|following this schema|with this schema]: {schema}\n[Text: |Sentence: ||Input: ]{text}", "{text}\n[Answer in JSON|Return JSON|Write JSON|Give me a JSON object] [with this schema|that matches the schema|for this schema]: {schema}")
SYSTEM_SCHEMA = Phrases("[Answer only with JSON|You always answer with JSON|Respond with JSON|Return only JSON|You extract data as JSON|Output JSON] [that matches this schema|for this JSON schema|following this schema|with this schema]: {schema}", "[JSON schema:\n{schema}\nYou MUST answer with a JSON object that matches the JSON schema above.|Schema: {schema}\nAnswer with JSON.]")
SYSTEM_EXAMPLE = Phrases("[Answer only with JSON|You always answer with JSON|Respond with JSON|Return only JSON|You extract data as JSON|Output JSON] [in this shape:|like this:|in this form:|of this form:|in this format:|matching|like] {shape}[|.]")
ARRAY = Phrases("[Give me|Write|List|Return|Name|Make] {n} {kind} [as a JSON array|as JSON|in a JSON array|as a JSON list][.||, please.]", "[Write|Give me|Make|Return] a JSON array [of|with] {n} {kind}[.||, please.]", "{n} {kind} as [JSON|a JSON array]")
FROM_LIST = Phrases("[Write|Put|Turn|Make|Convert] {items} [as a JSON array|into a JSON array|in a JSON array|as a JSON list][.||, please.]", "[JSON array of|A JSON array with|Make a JSON array from|JSON list of]: {items}")
GIVEN = Phrases("[Make|Write|Give me|Create|Return] a JSON object with {pairs}[.||, please.]", "[JSON with|A JSON object with|Write JSON with] {pairs}[.|]")
WRAPPED = Phrases("{q}\n[Answer|Reply|Respond] [with JSON|in JSON|as JSON] [like|in the form|as]: {shape}", "[Answer with JSON|Reply in JSON|Give JSON] [like|of the form|in the shape] {shape}[: |\n]{q}", "{q} [Answer as|Reply as|Return] {shape}[.|]")
WRAPPED_SYSTEM = Phrases("[Always answer|Answer|Reply|Respond] [with JSON|in JSON|as JSON|with a JSON object] [like|in the form|in the shape|of the form]: {shape}")


def dump(value) -> str:
    return json.dumps(value, ensure_ascii=False)


def schema_of(r: Rng, data: dict) -> str:
    """A JSON schema that the data matches."""
    properties = {}
    for k, v in data.items():
        properties[k] = {"type": "number" if isinstance(v, int) and not isinstance(v, bool) and r.chance(0.4) else TYPES[type(v)]}
        if isinstance(v, list):
            properties[k]["items"] = {"type": "string"}
    schema = {"type": "object", "properties": properties, "required": list(data)}
    if r.chance(0.4):
        schema["additionalProperties"] = False
    if r.chance(0.15):
        schema = {"$schema": "http://json-schema.org/draft-07/schema#", **schema}
    return dump(schema)


def blank(value):
    """The value's type as it is written in an example of a shape."""
    if isinstance(value, bool):
        return False
    return {str: "...", int: 0}.get(type(value), ["..."])


def shape_of(r: Rng, data: dict) -> str:
    """An example of a shape: empty values, or the names of their types."""
    if r.chance(0.6):
        return dump({k: blank(v) for k, v in data.items()})
    quote = '"' if r.chance(0.6) else ""
    types = {k: {str: "string", int: "number", bool: "boolean", list: "string[]"}[type(v)] for k, v in data.items()}
    return "{" + ", ".join(f'{quote}{k}{quote}: {t}' for k, t in types.items()) + "}"


def record(r: Rng) -> tuple[str, dict]:
    """A sentence and some of its facts under chosen names, in a chosen order."""
    text, facts = r.choice(SOURCES)(r)
    chosen = r.sample(list(facts), r.randint(1, len(facts)))
    data = {}
    for names in chosen:
        name = r.choice(names)
        if name not in data:
            data[name] = facts[names]
    return text, data


def extraction(r: Rng) -> Conversation:
    text, data = record(r)
    form = r.random()
    messages = []
    if form < 0.3:
        user = r.exact(BY_KEYS, text=text, keys=listing([f'"{k}"' for k in data] if r.chance(0.5) else list(data)))
    elif form < 0.5:
        user = r.exact(BY_EXAMPLE, text=text, shape=shape_of(r, data))
    elif form < 0.7:
        user = r.exact(BY_SCHEMA, text=text, schema=schema_of(r, data))
    else:
        system = r.exact(SYSTEM_SCHEMA, schema=schema_of(r, data)) if form < 0.88 else r.exact(SYSTEM_EXAMPLE, shape=shape_of(r, data))
        messages.append({"role": "system", "content": system})
        user = text
    messages += [{"role": "user", "content": user}, {"role": "assistant", "content": dump(data)}]
    return Conversation(messages, check=("json", data), kind="json")


def array(r: Rng) -> Conversation:
    if r.chance(0.5):
        kind, every = r.choice(list(CATEGORIES.items()))
        n = r.randint(2, min(6, len(every)))
        data = r.sample(every, n)
        user = r.ask(ARRAY, n=["", "", "two", "three", "four", "five", "six"][n] if r.chance(0.5) else n, kind=kind)
        check = ("json members", [kind, n])
    else:
        data = r.sample(r.choice([FRUITS, COLOURS, CITIES, OBJECTS]), r.randint(2, 6))
        if r.chance(0.3):
            data = [r.randint(0, 99) for _ in data]
        user = r.exact(FROM_LIST, items=", ".join(map(str, data)))
        check = ("json", data)
    return Conversation([{"role": "user", "content": user}, {"role": "assistant", "content": dump(data)}], check=check, kind="json")


def given(r: Rng) -> Conversation:
    _, data = record(r)
    pairs = listing([f'{k} {dump(v)}' if r.chance(0.6) else f'"{k}": {dump(v)}' for k, v in data.items()])
    return Conversation([{"role": "user", "content": r.exact(GIVEN, pairs=pairs)}, {"role": "assistant", "content": dump(data)}], check=("json", data), kind="json")


def wrapped(r: Rng, filler) -> Conversation:
    """The answer to a question of another kind, as the value of one key."""
    for _ in range(20):
        t = filler(r)
        if t.brief and len(t.brief) < 40:
            break
    else:
        return given(r)
    value = int(t.brief) if t.brief.lstrip("-").isdigit() else t.brief
    key = r.choice(["answer", "result", "value", "reply", "response", "output", "text"])
    shape = dump({key: blank(value)})
    if r.chance(0.4):
        messages = [{"role": "system", "content": r.exact(WRAPPED_SYSTEM, shape=shape)}, {"role": "user", "content": t.user}]
    else:
        messages = [{"role": "user", "content": r.exact(WRAPPED, q=t.user, shape=shape)}]
    return Conversation([*messages, {"role": "assistant", "content": dump({key: value})}], check=("json", {key: value}), kind="json")


def conversation(r: Rng, filler) -> Conversation:
    what = r.random()
    return extraction(r) if what < 0.55 else array(r) if what < 0.7 else given(r) if what < 0.82 else wrapped(r, filler)

"""Tool calls: choosing among several tools, filling in arguments, several calls in a turn, answering from results.

Next to tools with a story of their own there is a family of lookups whose name, parameter and result are put together at
random, so that what is learnt is to read the tool's description and not a list of tools.
"""

import json
from dataclasses import dataclass, field
from collections.abc import Callable

from lexicon import ANIMALS, CITIES, COLOURS, COUNTRIES, DAYS, FOODS, FRUITS, MONTHS, NAMES_OF_PETS, OBJECTS, WEATHER, WORDS
from phrases import Conversation, Phrases, Rng, article, cap, listing
from tasks.words import made_up


@dataclass(slots=True)
class Param:
    names: list[str]
    kind: str
    description: str
    value: Callable[[Rng], object]
    required: bool = True
    enum: list | None = None


@dataclass(slots=True)
class Family:
    """Tools that do the same under different names."""

    names: list[str]
    descriptions: list[str]
    params: dict[str, Param]
    asks: Phrases
    results: list[tuple[Callable[[Rng, dict], object], str]] = field(default_factory=list)


@dataclass(slots=True)
class Tool:
    """One tool as it is offered in a conversation."""

    family: Family
    name: str
    schema: dict
    param_names: dict[str, str]


def city(r: Rng) -> str:
    return r.choice(CITIES) if r.chance(0.85) else made_up(r, True)


def number(r: Rng) -> int:
    return r.randint(1, 99) if r.chance(0.7) else r.randint(100, 2000)


def message(r: Rng) -> str:
    return r.choice(["I am late", "see you soon", "dinner is ready", "call me back", "happy birthday", "the train is late", "I am at home", "good luck", "where are you", "the meeting starts at nine",
                     "bring some " + r.choice(FRUITS) + " cake", "the " + r.choice(OBJECTS) + " is " + r.choice(COLOURS), "I like " + r.choice(FOODS), "thank you for the " + r.choice(OBJECTS)])


def address(r: Rng) -> str:
    who = r.choice(WORDS) if r.chance(0.6) else made_up(r)
    return f"{who}@{r.choice(['example', 'mail', 'home', made_up(r)])}.{r.choice(['com', 'org', 'net', 'de'])}"


def chore(r: Rng) -> str:
    return r.choice(["feed the", "wash the", "find the", "buy a", "bring the", "paint the", "repair the", "clean the", "look after the", "draw a"]) + " " + r.choice(OBJECTS + list(ANIMALS))


def clock(r: Rng) -> str:
    return f"{r.randint(1, 23)}:{r.choice(['00', '15', '30', '45', '05', '20'])}"


CITY = Param(["city", "location", "place", "town", "city_name"], "string", "The name of the city", city)
POLITE = "[|||Please |Can you |Could you |Hey, |I need you to |I want you to |Now ]"

FAMILIES = [
    Family(["get_weather", "weather", "get_current_weather", "weather_lookup", "fetch_weather", "current_weather", "check_weather", "getWeather"],
           ["Get the weather in a city", "Returns the current weather for a place", "Look up the weather", "Current weather and temperature of a city", "Get the current weather for a location"],
           {"city": CITY, "unit": Param(["unit", "units", "scale"], "string", "Unit of the temperature", lambda r: r.choice(["celsius", "fahrenheit"]), False, ["celsius", "fahrenheit"])},
           Phrases("[What is|How is|what's|Tell me|What's|Check|Look up|Find out|I need|Can you tell me|Show me] the weather [in|like in|for|today in|right now in] {city}[?||.| today?|, please.]", "[Is it warm|Is it cold|Will it rain|Is it raining|Is it sunny|Do I need an umbrella|How warm is it|What temperature is it|What is the temperature|How cold is it] in {city}[?| today?| now?|]", "[weather|weather in|temperature in] {city}[|?]",
                   "[I am going to|I travel to|I am in|I will visit] {city}. [How is the weather|What is the weather|What will the weather be|Is the weather good] there[?|]"),
           [(lambda r, a: {"temperature": r.randint(-10, 38), "condition": r.choice(WEATHER)}, "It is {condition} in {city}, with {temperature} degrees."),
            (lambda r, a: {"temp": r.randint(-10, 38), "weather": r.choice(WEATHER)}, "It is {weather} in {city}, with {temp} degrees."),
            (lambda r, a: {"city": a["city"], "temperature": r.randint(-10, 38), "unit": "celsius", "conditions": r.choice(WEATHER)}, "It is {conditions} in {city}, with {temperature} degrees."),
            (lambda r, a: {"condition": r.choice(WEATHER)}, "It is {condition} in {city}."), (lambda r, a: {"temperature": r.randint(-10, 38)}, "It is {temperature} degrees in {city}."),
            (lambda r, a: f"{r.choice(WEATHER)}, {r.randint(-10, 38)} degrees", "In {city} it is {text}."), (lambda r, a: f"{r.randint(-10, 38)}°C and {r.choice(WEATHER)}", "In {city} it is {text}.")]),
    Family(["get_time", "current_time", "get_current_time", "time_in", "local_time", "clock", "get_local_time"],
           ["Get the current time in a city", "Tells what time it is in a place", "Local time of a city", "Returns the time in a location"], {"city": CITY},
           Phrases("[What time is it|what's the time|What is the time|Tell me the time|How late is it|Can you tell me the time|What time do they have|What is the local time|Check the time|Show me the time] in {city}[?||.| now?| right now?|, please.]", "[time in|current time in|local time in] {city}[|?]"),
           [(lambda r, a: {"time": clock(r)}, "It is {time} in {city}."), (lambda r, a: clock(r), "It is {text} in {city}."), (lambda r, a: {"city": a["city"], "local_time": clock(r)}, "It is {local_time} in {city}.")]),
    Family(["calculate", "calculator", "add_numbers", "sum", "add", "math_add"],
           ["Add two numbers", "Adds numbers", "Computes the sum of two numbers", "Returns the sum of a and b"],
           {"a": Param(["a", "x", "first", "left"], "number", "The first number", number), "b": Param(["b", "y", "second", "right"], "number", "The second number", number)},
           Phrases(POLITE + "[add|sum up] {a} and {b}[.||, please.| with the tool.]", "[What is|What's|Calculate|Compute|How much is|Work out] {a}[ + | plus |+]{b}[?||.]", "[What is|Calculate|Tell me] the sum of {a} and {b}[?||.]"),
           [(lambda r, a: {"result": a["a"] + a["b"]}, "{a} + {b} = {result}"), (lambda r, a: str(a["a"] + a["b"]), "{a} + {b} = {text}"), (lambda r, a: {"sum": a["a"] + a["b"]}, "{a} + {b} = {sum}")]),
    Family(["multiply", "multiply_numbers", "product", "times", "math_multiply"],
           ["Multiply two numbers", "Returns the product of two numbers", "Multiplies a and b"],
           {"a": Param(["a", "x", "first", "left"], "number", "The first number", number), "b": Param(["b", "y", "second", "right"], "number", "The second number", number)},
           Phrases(POLITE + "multiply {a} [by|and|with] {b}[.||, please.| with the tool.]", "[What is|What's|Calculate|Compute|How much is|Work out] {a}[ * | times | x | × ]{b}[?||.]", "[What is|Calculate|Tell me] the product of {a} and {b}[?||.]"),
           [(lambda r, a: {"result": a["a"] * a["b"]}, "{a} × {b} = {result}"), (lambda r, a: str(a["a"] * a["b"]), "{a} × {b} = {text}"), (lambda r, a: {"product": a["a"] * a["b"]}, "{a} × {b} = {product}")]),
    Family(["send_message", "send_text", "message", "send_sms", "write_message"],
           ["Send a message to someone", "Sends a text message", "Send a short text to a receiver"],
           {"to": Param(["to", "recipient", "receiver", "contact"], "string", "Who gets the message", lambda r: r.choice(["the baker", "my sister", "the office", "my brother", "the teacher", "my team", "the library", "my neighbour", "the farm", "the captain", *NAMES_OF_PETS[:12]])),
            "text": Param(["text", "message", "body", "content"], "string", "What to say", message)},
           Phrases(POLITE + "[send|write] a [message|text|note] to {to}[: |, saying: | that says: | saying ]\"{text}\"[.||, please.]", POLITE + "[tell|text|message|write to|let] {to}[: | this: | know: ]{text}[.|]", POLITE + "send \"{text}\" to {to}[.||, please.]"),
           [(lambda r, a: {"status": "sent"}, "I have sent the message to {to}."), (lambda r, a: "ok", "I have sent the message to {to}."), (lambda r, a: {"ok": True}, "I have sent the message to {to}."), (lambda r, a: {"success": True, "id": r.randint(1, 999)}, "I have sent the message to {to}.")]),
    Family(["send_email", "email", "send_mail", "write_email", "compose_email"], ["Send an email", "Sends an email to an address", "Write and send an email"],
           {"to": Param(["to", "recipient", "address", "email"], "string", "Address of the receiver", address), "subject": Param(["subject", "title"], "string", "Subject line", lambda r: cap(r.choice(WORDS)) if r.chance(0.6) else cap(message(r))),
            "body": Param(["body", "text", "content", "message"], "string", "The text of the email", message)},
           Phrases(POLITE + "[send|write] an email to {to} with [the |]subject {subject} and [the |]body {body}[.|]", POLITE + "[send|write] an email to {to}[. Subject|, subject]: {subject}[. Body|, body|. Text]: {body}[.|]", POLITE + "[email|mail] {to} [about|with the subject] \"{subject}\"[: |, saying ]\"{body}\"[.|]"),
           [(lambda r, a: {"status": "sent"}, "I have sent the email to {to}."), (lambda r, a: "ok", "I have sent the email to {to}."), (lambda r, a: {"ok": True}, "I have sent the email to {to}.")]),
    Family(["create_event", "add_event", "new_event", "schedule_meeting", "add_to_calendar"], ["Create an event in the calendar", "Adds an event on a day at a time", "Schedule an event"],
           {"title": Param(["title", "name", "event", "what"], "string", "What it is", lambda r: r.choice(["meeting", "lesson", "concert", "party", "dinner", "lunch", "talk", "workshop", "dentist", "training", "game night"])), "day": Param(["day", "date", "when"], "string", "The day", lambda r: r.choice(DAYS + ["tomorrow"])),
            "time": Param(["time", "start", "at", "start_time"], "string", "When it starts", clock), "place": Param(["place", "location", "where", "room"], "string", "Where it is", lambda r: r.choice(CITIES + ["room 4", "room 12", "the office", "the library", "the park"]))},
           Phrases(POLITE + "[create|add|make|schedule|plan] [an event|a calendar entry]: {title} on {day} at {time} in {place}[.|]", POLITE + "[put|add|schedule|plan] {title} [in my calendar |]on {day} at {time} in {place}[.||, please.]", "[On {day} at {time} there is {title} in {place}.|{title} in {place}, {day} at {time}.] [Put it in my calendar.|Please schedule it.|Add it, please.]"),
           [(lambda r, a: {"status": "created"}, "I have added {title} on {day} at {time}."), (lambda r, a: "ok", "I have added {title} on {day} at {time}."), (lambda r, a: {"id": r.randint(1, 99)}, "I have added {title} on {day} at {time}.")]),
    Family(["book_flight", "book_ticket", "find_flights", "search_trains", "book_trip"], ["Book a trip between two cities", "Finds a connection on a day", "Book a ticket from one city to another"],
           {"from": Param(["from", "origin", "departure", "from_city"], "string", "Where to start", city), "to": Param(["to", "destination", "arrival", "to_city"], "string", "Where to go", city), "day": Param(["day", "date", "when"], "string", "The day of the trip", lambda r: r.choice(DAYS + ["tomorrow"]))},
           Phrases(POLITE + "[book|find|get me|search] a [trip|flight|ticket|train] from {from} to {to} [on |for |]{day}[.||, please.]", "[I want|I need|I have] to [go|travel|get] from {from} to {to} [on |]{day}[.| Book it.|. Please book.]"),
           [(lambda r, a: {"price": r.randint(20, 900)}, "The trip from {from} to {to} costs {price}."), (lambda r, a: {"status": "booked", "seat": f"{r.randint(1, 40)}{r.choice('ABCDEF')}"}, "The trip to {to} is booked. The seat is {seat}."), (lambda r, a: "ok", "The trip from {from} to {to} is booked.")]),
    Family(["create_user", "add_user", "register", "new_account"], ["Create a user", "Registers a new account", "Add a user with name and age"],
           {"name": Param(["name", "username", "user"], "string", "Name of the account", lambda r: r.choice(NAMES_OF_PETS) if r.chance(0.5) else made_up(r, r.chance(0.5))), "age": Param(["age", "years"], "integer", "Age in years", lambda r: r.randint(1, 99)), "email": Param(["email", "mail", "address"], "string", "Email address", address)},
           Phrases(POLITE + "[create|add|register|make] [a user|an account|a new user] [named|called|with the name] {name}, [age|aged] {age}, [with email|email|mail] {email}[.||, please.]", POLITE + "[register|add] {name}, {age} years old, {email}[.|]"),
           [(lambda r, a: {"id": r.randint(1, 999)}, "The account {name} has the number {id}."), (lambda r, a: "ok", "The account {name} is made."), (lambda r, a: {"error": "name is taken"}, "Sorry, that did not work: {error}.")]),
    Family(["set_temperature", "thermostat", "heat_room", "set_thermostat"], ["Set the temperature of a room", "Sets the heating to a temperature", "Control the heating"],
           {"room": Param(["room", "where", "zone"], "string", "The room", lambda r: r.choice(["kitchen", "bedroom", "garage", "bathroom", "office", "hallway", "cellar", "attic", "library"])), "temperature": Param(["temperature", "degrees", "value", "target"], "number", "Degrees", lambda r: r.choice([r.randint(10, 30), r.randint(10, 29) + 0.5]))},
           Phrases(POLITE + "[set|turn] the [heating|temperature|thermostat] [in|of] the {room} to {temperature}[.|| degrees.| degrees]", POLITE + "[heat|warm|cool] the {room} to {temperature} degrees[.||, please.]"),
           [(lambda r, a: {"status": "set"}, "The {room} is set to {temperature} degrees."), (lambda r, a: "ok", "The {room} is set to {temperature} degrees.")]),
    Family(["set_timer", "start_timer", "timer", "create_timer"], ["Set a timer", "Starts a timer for some minutes", "Set a timer for a number of minutes"],
           {"minutes": Param(["minutes", "duration", "duration_minutes", "length"], "integer", "How many minutes", lambda r: r.randint(1, 90))},
           Phrases(POLITE + "[set|start|make|give me] a timer [for|of] {minutes} minutes[.||, please.|!]", "[Set|start] a {minutes} minute timer[.||, please.]", "[Wake me|Remind me|Ring|Beep] in {minutes} minutes[.||, please.]", "[timer|timer for] {minutes} minutes[|.]"),
           [(lambda r, a: {"status": "started"}, "The timer is set for {minutes} minutes."), (lambda r, a: "ok", "The timer is set for {minutes} minutes."), (lambda r, a: {"ok": True}, "The timer is set for {minutes} minutes.")]),
    Family(["set_alarm", "create_alarm", "alarm", "wake_up"], ["Set an alarm", "Sets an alarm for a time of day", "Set an alarm clock"],
           {"time": Param(["time", "at", "when", "alarm_time"], "string", "Time of day, like 7:30", clock)},
           Phrases(POLITE + "[set|make] an alarm [for|at] {time}[.||, please.|!]", "[Wake me up|Wake me] at {time}[.||, please.]", "[alarm at|alarm for] {time}[|.]", "I [have to|must|want to] get up at {time}[. Set an alarm.|. Wake me.]"),
           [(lambda r, a: {"status": "set"}, "The alarm is set for {time}."), (lambda r, a: "ok", "The alarm is set for {time}."), (lambda r, a: {"ok": True, "time": a["time"]}, "The alarm is set for {time}.")]),
    Family(["add_reminder", "create_reminder", "remind", "set_reminder", "new_reminder"], ["Create a reminder", "Reminds the user of something on a day", "Add a reminder"],
           {"task": Param(["task", "text", "what", "title"], "string", "What to be reminded of", chore), "day": Param(["day", "date", "when"], "string", "The day", lambda r: r.choice(DAYS + ["tomorrow", "today"]))},
           Phrases(POLITE + "[remind me|remind us] [on|for|about] {day} to {task}[.||, please.]", POLITE + "remind me to {task} [on |]{day}[.||, please.]", POLITE + "[add|create|set|make] a reminder [for|on] {day}: {task}[.|]"),
           [(lambda r, a: {"status": "created"}, "I will remind you to {task}."), (lambda r, a: "ok", "I will remind you to {task}."), (lambda r, a: {"id": r.randint(1, 99), "ok": True}, "I will remind you to {task}.")]),
    Family(["turn_on_light", "switch_light", "set_light", "light", "control_light"], ["Switch a light on or off", "Turns the light in a room on or off", "Control the light of a room"],
           {"room": Param(["room", "where", "location"], "string", "The room", lambda r: r.choice(["kitchen", "bedroom", "garage", "bathroom", "office", "hallway", "garden", "cellar", "attic", "library"])),
            "on": Param(["on", "state", "enabled", "is_on"], "boolean", "true for on, false for off", lambda r: r.chance(0.5))},
           Phrases(POLITE + "[turn|switch] {onoff} the [light|lights|lamp] in the {room}[.||, please.|!]", POLITE + "[turn|switch] the {room} [light|lights] {onoff}[.||, please.|!]", "[Light|Lights] {onoff} in the {room}[.||, please.|!]"),
           [(lambda r, a: {"status": "done"}, "The light in the {room} is {onoff}."), (lambda r, a: "ok", "The light in the {room} is {onoff}."), (lambda r, a: {"ok": True}, "The light in the {room} is {onoff}.")]),
    Family(["convert_currency", "currency", "exchange", "convert_money"], ["Convert an amount of money", "Converts money between currencies", "Exchange money"],
           {"amount": Param(["amount", "value", "sum"], "number", "How much", number), "from": Param(["from", "source", "from_currency"], "string", "Currency to convert from", lambda r: r.choice(["USD", "EUR", "GBP"])), "to": Param(["to", "target", "to_currency"], "string", "Currency to convert to", lambda r: r.choice(["JPY", "CHF", "SEK", "NOK"]))},
           Phrases(POLITE + "[convert|change|exchange] {amount} {from} [to|into] {to}[.||, please.]", "[How much is|What is|How many {to} are] {amount} {from} in {to}[?|]", "{amount} {from} [to|in] {to}[|?|, please.]"),
           [(lambda r, a: {"result": r.randint(10, 999)}, "{amount} {from} are {result} {to}."), (lambda r, a: str(r.randint(10, 999)), "{amount} {from} are {text} {to}."), (lambda r, a: {"amount": r.randint(10, 999), "currency": a["to"]}, "{~amount} {from} are {amount} {to}.")]),
    Family(["get_distance", "distance", "route_distance", "calculate_distance", "how_far"], ["Distance between two cities", "Returns how far it is from one place to another", "Get the distance between two places"],
           {"from": Param(["from", "origin", "start", "from_city"], "string", "Where to start", city), "to": Param(["to", "destination", "end", "to_city"], "string", "Where to go", city)},
           Phrases("[How far is it|What is the distance|How many kilometres is it|How long is the way|Tell me the distance|Find the distance|Look up the distance] from {from} to {to}[?||.]", "[What is|Tell me|Find] the distance between {from} and {to}[?||.]", "[distance|How far] {from} to {to}[|?]"),
           [(lambda r, a: {"distance_km": r.randint(20, 9000)}, "It is {distance_km} kilometres from {from} to {to}."), (lambda r, a: {"distance": r.randint(20, 9000), "unit": "km"}, "It is {distance} kilometres from {from} to {to}."), (lambda r, a: f"{r.randint(20, 9000)} km", "It is {text} from {from} to {to}.")]),
    Family(["search", "web_search", "search_web", "find_pages", "google", "lookup"], ["Search the web", "Searches for pages about something", "Web search"],
           {"query": Param(["query", "q", "text", "search_query", "term"], "string", "What to search for", lambda r: " ".join(r.sample(WORDS, r.randint(1, 3))) if r.chance(0.7) else made_up(r) + " " + r.choice(OBJECTS))},
           Phrases(POLITE + "[search|search the web|search online|look] for {query}[.||, please.]", POLITE + "[find|look up|google] [pages about |something about |information about |]{query}[ on the web| online| with the search][.||, please.]", "[search|search:|web search:] {query}"),
           [(lambda r, a: {"results": [r.choice(WORDS) + " guide"], "count": 1}, "I found one page about {query}."), (lambda r, a: {"results": []}, "I found nothing about {query}."), (lambda r, a: "no results", "I found nothing about {query}.")]),
    Family(["play_music", "play_song", "play", "music"], ["Play music", "Plays a song or a kind of music", "Starts the music"],
           {"title": Param(["title", "song", "track", "name", "genre"], "string", "What to play", lambda r: r.choice(["jazz", "rock", "piano music", "the blue song", "summer rain", "quiet music", "folk", "drums", "the moon song"]) if r.chance(0.6) else r.choice(COLOURS) + " " + r.choice(OBJECTS))},
           Phrases(POLITE + "[play|put on|start] {title}[.||, please.|!]", "I [want|would like] to [hear|listen to] {title}[.||, please.]", "[Let us hear|play|music:] {title}[|.|!]"),
           [(lambda r, a: {"status": "playing"}, "Now playing {title}."), (lambda r, a: "ok", "Now playing {title}."), (lambda r, a: {"ok": True}, "Now playing {title}.")]),
    Family(["add_to_list", "shopping_list_add", "add_items", "buy_items", "add_shopping"], ["Add things to the shopping list", "Puts items on the shopping list", "Add items to a list"],
           {"items": Param(["items", "things", "products", "entries"], "array", "The items to add", lambda r: r.sample(FRUITS + ["bread", "milk", "cheese", "rice", "soup", "salt", "honey"], r.randint(1, 4)))},
           Phrases(POLITE + "[add|put|write] {items} [on|to|onto] [the|my] [shopping list|list][.||, please.]", "[I need to buy|We need|Shopping list:|For the shopping list:|We have to buy|Put on my list:] {items}[.|]"),
           [(lambda r, a: {"status": "added"}, "I have added {items} to the list."), (lambda r, a: "ok", "I have added {items} to the list."), (lambda r, a: {"ok": True, "count": len(a["items"])}, "I have added {items} to the list.")]),
    Family(["order_food", "order", "place_order", "order_meal"], ["Order food", "Orders a dish a number of times", "Place an order for food"],
           {"dish": Param(["dish", "item", "food", "meal"], "string", "What to order", lambda r: r.choice(FOODS)), "count": Param(["count", "quantity", "number", "portions"], "integer", "How many", lambda r: r.randint(1, 12))},
           Phrases(POLITE + "[order|get me|get us|buy] {count} [portions of |times |plates of ]{dish}[.||, please.]", "[We|I] [want|would like|take] {count} [portions of|times|plates of] {dish}[.||, please.]"),
           [(lambda r, a: {"status": "ordered", "minutes": r.randint(5, 60)}, "Your {dish} will be there in {minutes} minutes."), (lambda r, a: "ok", "I have ordered {dish} for you."), (lambda r, a: {"order": r.randint(100, 999)}, "I have ordered {dish}. The order number is {order}.")]),
    Family(["roll_dice", "dice", "throw_dice", "roll"], ["Roll a die", "Throws dice with some sides", "Roll dice"],
           {"sides": Param(["sides", "n", "faces", "max"], "integer", "How many sides the die has", lambda r: r.choice([4, 6, 8, 10, 12, 20, 100]))},
           Phrases(POLITE + "[roll|throw] a [die|dice] with {sides} sides[.||, please.|!]", "[Roll|throw] a {sides}-sided [die|dice][.||, please.|!]"),
           [(lambda r, a: {"result": r.randint(1, a["sides"])}, "You rolled a {result}."), (lambda r, a: str(r.randint(1, a["sides"])), "You rolled a {text}."), (lambda r, a: {"roll": r.randint(1, a["sides"])}, "You rolled a {roll}.")]),
    Family(["get_date", "today", "current_date", "get_today"], ["Get the date of today", "Returns today's date", "What day it is"], {},
           Phrases("[What day is it|What is the date|What's today's date|Which day is today|What is today's date|What date is it|Tell me the date|What day is today] [today|now|, please|right now][?||.]", "[What day is it|today's date|What is the date|Tell me today's date|date today|What day is today][?|]"),
           [(lambda r, a: {"date": f"{r.choice(MONTHS)} {r.randint(1, 28)}"}, "Today is {date}."), (lambda r, a: {"day": r.choice(DAYS)}, "Today is {day}."), (lambda r, a: f"{r.choice(DAYS)}", "Today is {text}.")]),
    Family(["read_file", "open_file", "get_file", "file_read", "cat_file"], ["Read a file", "Returns what is in a file", "Open a file and read it"],
           {"path": Param(["path", "file", "filename", "file_path"], "string", "The file to read", lambda r: r.choice(["", "notes/", "src/", "docs/"]) + r.choice(WORDS) + r.choice([".txt", ".md", ".json", ".js", ".csv"]))},
           Phrases(POLITE + "[read|open|show me|print|look into] [the file |]{path}[.||, please.]", "[What is in|What does|Show me what is in] [the file |]{path}[?| say?|]"),
           [(lambda r, a: f"The {r.choice(OBJECTS)} is {r.choice(COLOURS)}.", "The file says: {text}"), (lambda r, a: {"content": f"{r.choice(COLOURS)} {r.choice(OBJECTS)}"}, "The file says: {content}"), (lambda r, a: {"error": "file not found"}, "Sorry, that did not work: {error}.")]),
]

NOUNS = ["population", "price", "height", "age", "colour", "size", "weight", "score", "stock", "status", "length", "rating", "phone_number", "address", "owner", "speed", "temperature", "balance", "level", "title",
         "country", "language", "currency", "mayor", "flag", "area", "depth", "name", "category", "delivery_date", "opening_hours", "battery", "volume", "distance_to_sun", "definition", "recipe", "synonym", "nickname", "capital"]
LOOKUP_VERBS = ["get", "find", "lookup", "fetch", "check", "read", "query", "show"]
SUBJECTS = [("city", CITIES), ("country", [c for c in COUNTRIES if not c.startswith("the ")]), ("animal", sorted(ANIMALS)), ("product", OBJECTS), ("item", OBJECTS), ("word", WORDS), ("name", NAMES_OF_PETS), ("symbol", None), ("id", None), ("user", NAMES_OF_PETS), ("team", COLOURS), ("fruit", FRUITS)]
LOOKUP = Phrases("[What is|what's|Tell me|Find|Look up|Check|Get|Show me|I need|Can you find|Can you tell me|Please find|Give me|Do you know|I want to know] the {noun} of {x}[?||.|, please.]", "[What {noun} does {x} have|Which {noun} does {x} have][?|]", "[{noun} of {x}|{x}'s {noun}|{x} {noun}|the {noun} of {x}][?|]", POLITE + "[get|look up|find|check] {x}'s {noun}[.||, please.]")
ACTION_VERBS = ["delete", "open", "close", "start", "stop", "save", "book", "cancel", "paint", "clean", "sell", "buy", "print", "move", "copy", "lock", "unlock", "share", "hide", "repair"]
DO = Phrases(POLITE + "{verb} the {noun} {x}[.||, please.|!]", POLITE + "{verb} {x}, the {noun}[.||, please.|!]", "[I want to|I would like to|You should|Let us] {verb} the {noun} {x}[.|]")


def lookup_family(r: Rng) -> tuple[Family, dict]:
    """A made-up lookup such as `find_rating(product)`."""
    noun, verb = r.combination(lambda: (r.choice(NOUNS), r.choice(LOOKUP_VERBS)), lambda p: "_".join(p))
    spoken = noun.replace("_", " ")
    kind, values = r.choice(SUBJECTS)
    if kind == noun:
        kind, values = "item", OBJECTS

    def subject(r: Rng):
        if kind == "id":
            return r.randint(1, 9999)
        return made_up(r).upper()[:4] if kind == "symbol" else r.choice(values) if r.chance(0.85) else made_up(r, True)

    def value(r: Rng):
        what = r.random()
        return r.randint(1, 9999) if what < 0.5 else r.choice(COLOURS) if what < 0.65 else made_up(r, True) if what < 0.8 else r.choice(WORDS)

    named = r.choice([f"{verb}_{noun}", f"{verb}_{kind}_{noun}", noun, f"{verb}{''.join(map(cap, noun.split('_')))}", f"{noun}_{verb}"])
    describe = r.choice(["{Verb} the {noun} of {a}", "Returns the {noun} of {a}", "{Noun} of {a}", "Gives you the {noun} of {a}"]).format(Verb=cap(verb.replace("lookup", "look up")), noun=spoken, Noun=cap(spoken), a=article(kind))
    param_name = r.choice([kind, kind, f"{kind}_name" if kind != "id" else "id", "name" if kind != "id" else "number"])
    result_key = r.choice([noun, noun, "result", "value"])
    whole = f"The {spoken} of {{x}} is {{{result_key}}}."
    return Family([named], [describe], {"x": Param([param_name], "integer" if kind == "id" else "string", r.choice([f"The {kind}", f"Which {kind}", f"Name of the {kind}"]), subject)},
                  LOOKUP, [(lambda r, a: {result_key: value(r)}, whole), (lambda r, a: {param_name: a["x"], result_key: value(r)}, whole), (lambda r, a: str(value(r)), f"The {spoken} of {{x}} is {{text}}."),
                           (lambda r, a: {"error": r.choice(["not found", "no such " + kind, "timeout"])}, "Sorry, that did not work: {error}.")]), {"noun": spoken}


def action_family(r: Rng) -> tuple[Family, dict]:
    """A made-up action such as `lock_bicycle(name)`."""
    verb, noun = r.combination(lambda: (r.choice(ACTION_VERBS), r.choice(OBJECTS + ["file", "door", "room", "order", "ticket", "account", "game", "page"])), lambda p: "_".join(p))
    param = r.choice([noun, "name", f"{noun}_name", "target"])
    done = f"The {noun} {{x}} is taken care of."
    return Family([r.choice([f"{verb}_{noun}", f"{verb}{cap(noun)}", verb])], [r.choice(["{V} {a}", "{V} the {n} with this name", "{V} {a} by name"]).format(V=cap(verb), a=article(noun), n=noun)],
                  {"x": Param([param], "string", r.choice([f"The {noun}", f"Name of the {noun}", f"Which {noun}"]), lambda r: r.choice(NAMES_OF_PETS) if r.chance(0.5) else made_up(r, r.chance(0.5)) if r.chance(0.6) else str(r.randint(1, 999)))},
                  DO, [(lambda r, a: {"status": "done"}, done), (lambda r, a: "ok", done), (lambda r, a: {"ok": True}, done), (lambda r, a: {"error": r.choice(["not found", "not allowed", "timeout"])}, "Sorry, that did not work: {error}.")]), {"noun": noun, "verb": verb}


def offer(r: Rng, family: Family, words: dict | None = None) -> tuple[Tool, dict]:
    """A family under one of its names, with a JSON schema written in one of the usual styles."""
    name = r.choice(family.names)
    names, properties, required = {}, {}, []
    plain = r.chance(0.15)
    for key, p in family.params.items():
        if not p.required and r.chance(0.5):
            continue
        names[key] = r.choice(p.names)
        while list(names.values()).count(names[key]) > 1:
            names[key] = r.choice(p.names)
        spec: dict = {"type": p.kind}
        if p.kind == "array":
            spec["items"] = {"type": "string"}
        if p.enum:
            spec["enum"] = p.enum
        if not plain:
            spec["description"] = p.description
        properties[names[key]] = spec
        if p.required:
            required.append(names[key])
    parameters: dict = {"type": "object", "properties": properties}
    if required or r.chance(0.5):
        parameters["required"] = required
    if r.chance(0.2):
        parameters["additionalProperties"] = False
    if r.chance(0.08):
        parameters = {"$schema": "http://json-schema.org/draft-07/schema#", **parameters}
    function: dict = {"name": name, "description": r.choice(family.descriptions), "parameters": parameters}
    if r.chance(0.04):
        del function["description"]
    return Tool(family, name, {"type": "function", "function": function}, names), words or {}


def random_tool(r: Rng) -> tuple[Tool, dict]:
    what = r.random()
    if what < 0.55:
        return offer(r, r.choice(FAMILIES))
    return offer(r, *(lookup_family(r) if what < 0.85 else action_family(r)))


def spoken(values: dict) -> dict:
    """Argument values as they are said in a sentence."""
    said = {k: listing(v) if isinstance(v, list) else v for k, v in values.items()}
    if "on" in values:
        said["onoff"] = "on" if values["on"] else "off"
    return said


def request(r: Rng, tool: Tool, words: dict) -> tuple[str, dict, dict]:
    """What a user says to have a tool used, the arguments by family key, and the same by parameter name."""
    values = {k: p.value(r) for k, p in tool.family.params.items() if k in tool.param_names}
    text = r.exact(tool.family.asks, **spoken(values), **words)
    for k, p in tool.family.params.items():
        if k in values and not p.required:
            if r.chance(0.5):
                text = text.rstrip(".?") + f" in {values[k]}" + text[len(text.rstrip(".?")):]
            else:
                del values[k]
    return text, values, {tool.param_names[k]: v for k, v in values.items()}


def call(tool: Tool, arguments: dict) -> dict:
    return {"type": "function", "function": {"name": tool.name, "arguments": arguments}}


def outcome(r: Rng, tool: Tool, values: dict) -> tuple[str, str]:
    """What the tool returns, and the answer from it."""
    make, whole = r.choice(tool.family.results)
    result = make(r, values)
    said = {f"~{k}": v for k, v in spoken(values).items()} | spoken(values)
    if isinstance(result, dict):
        said |= {k: v for k, v in result.items() if not isinstance(v, (list, bool))}
        text = json.dumps(result, ensure_ascii=False)
    else:
        said["text"] = text = result
    return text, whole.format(**said)


NO_TOOL = "I don't know. I have no tool for that."
AND = Phrases("{a} [And|Also,|Then|After that,] {b}", "{a} {b}")
SYSTEM = Phrases("[You are a helpful assistant.|You are a helpful assistant with tools.|Use the tools when you need them.|You can use tools.|You are a smart home assistant.|You are an assistant that calls functions.|Help the user.]")


def conversation(r: Rng, filler) -> Conversation:
    """Tools are offered; some turns need one, some several, some none."""
    tools, names = [], set()
    for _ in range(r.choice([1, 1, 2, 2, 3, 3, 4, 5, 6])):
        tool, words = random_tool(r)
        if tool.name not in names and not any(t.family is tool.family for t, _ in tools) and not any(
                w.get("noun") and w.get("noun") == words.get("noun") for _, w in tools):
            names.add(tool.name)
            tools.append((tool, words))
    messages, check = [], None
    if r.chance(0.3):
        messages.append({"role": "system", "content": r.wording(SYSTEM)})
    for _ in range(r.choice([1, 1, 1, 2, 2, 3])):
        what = r.random()
        if what < 0.17:
            t = filler(r)
            if any(t.family is FAMILIES[i] for t, _ in tools for i in (2, 3)) and any(c.isdigit() for c in t.user):
                continue
            messages += [{"role": "user", "content": t.user}, {"role": "assistant", "content": t.answer}]
            check = check or ("none", None)
            continue
        if what < 0.22:
            other, words = random_tool(r)
            if other.name in names or any(t.family is other.family for t, _ in tools) or any(w.get("noun") == words.get("noun") for _, w in tools) or not words:
                continue
            text, _, _ = request(r, other, words)
            messages += [{"role": "user", "content": text}, {"role": "assistant", "content": NO_TOOL}]
            check = check or ("none", None)
            continue
        calls, results, answers, texts = [], [], [], []
        n = 1 if r.chance(0.72) else r.choice([2, 2, 3])
        same = r.chance(0.5)
        tool, words = r.choice(tools)
        for i in range(n):
            if i and not same:
                tool, words = r.choice(tools)
            text, values, arguments = request(r, tool, words)
            calls.append(call(tool, arguments))
            texts.append(text)
            result, answer = outcome(r, tool, values)
            results.append({"role": "tool", "name": tool.name, "content": result})
            answers.append(answer)
        asked = texts[0]
        for t in texts[1:]:
            asked = r.exact(AND, a=asked if asked[-1] in ".?!" else asked + ".", b=t)
        if n == 2 and same and tool.family in FAMILIES[:2] and "unit" not in tool.param_names and r.chance(0.6):
            first, second = (c["function"]["arguments"][tool.param_names["city"]] for c in calls)
            asked = r.exact(tool.family.asks, city=f"{first} and {second}")
        check = check or ("calls", [(c["function"]["name"], c["function"]["arguments"]) for c in calls])
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": "", "tool_calls": calls}, *results, {"role": "assistant", "content": " ".join(answers)}]
    if check is None:
        return conversation(r, filler)
    return Conversation(messages, tools=[t.schema for t, _ in tools], check=check, kind="tools")

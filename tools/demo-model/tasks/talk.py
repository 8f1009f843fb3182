"""Greetings, what the model is, small talk, short pieces on request, and saying that it does not know."""

from lexicon import ANIMALS, CITIES, COUNTRIES, FOODS, JOBS, MOODS, NO_SUCH_PLACES, OBJECTS, SPORTS, VERBS, WORDS
from phrases import Phrases, Rng, Turn, cap
from tasks.words import made_up, shuffled_keys

HELLO = Phrases("[Hi|Hello|hi|hello|Hey|hey|Hi there|Hello there|hey there|Good morning|Good evening|Good afternoon|good day|HI|HELLO|Yo|yo|Greetings|hola|Howdy|hiya|Hello model|Hi demo|test|testing][|!|.|,| 👋|!!| :)]")
HOW_ARE_YOU = Phrases("[Hi, |Hello, |Hey, ||Hello! |Hi! ][how are you|How are you|how are you doing|how is it going|How's it going|how do you do|what's up|What's up|are you well|How do you feel|how are you today][?||!]")
WHO = Phrases(
    "[Hi, |Hello, |||So, |Tell me, ][who are you|Who are you|What are you|what are you|What is your name|what's your name|who am I talking to|Who am I speaking with|what kind of model are you|which model are you|What model is this|are you an AI|Are you a robot|are you human|Are you a person|who is this|do you have a name][?||, please?]",
    "[Introduce yourself|Tell me about yourself|Please introduce yourself|Say who you are|Describe yourself|Present yourself][.||!|, please.]")
MAKER = Phrases("[Who made you|who built you|Who trained you|where do you come from|Who created you|How were you made|how were you trained|Where are you from|what were you trained on|Who is your maker][?||, please?]", "[Tell me|Please tell me|I want to know|Say] [who made you|how you were made|where you come from|what you were trained on][.|?|]")
CAN = Phrases(
    "[What can you do|what can you do|What are you able to do|How can you help me|how can you help|What do you know|what can I ask you|What can I ask|what should I ask you|Can you help me|what are you good at|What tasks can you do|what else can you do|What do you do][?||, please?| for me?]", "[Help|help|Help me|help me][|!|.|?]")
THANKS = Phrases("[Thanks|Thank you|thanks|thank you|Thanks a lot|Thank you very much|thx|Many thanks|great, thanks|Perfect, thank you|ok thanks|Cool, thanks|That helps, thanks][|!|.|!!]")
BYE = Phrases("[Bye|bye|Goodbye|See you|see you later|Good night|bye bye|I have to go|That is all|See you tomorrow|Until next time|Farewell][|!|.|, bye.| now.]")
PRAISE = Phrases("[Good job|Well done|Great|Nice|You are great|That is right|Correct|good answer|Very good|Wow|cool|Awesome|ok|OK|Okay|I see|Great work|Amazing|You are smart][|!|.|!!]")
BLAME = Phrases("[That is wrong|You are wrong|No|That's not right|wrong|I don't think so|That was a bad answer|you made a mistake|This is not correct|nope][|!|.|!!|...]")
FEELS = Phrases("[I am|I'm|i am|Today I am|I feel|I am feeling|I am so|I am very] {m}[.||!| today.| now.]")
JOKE = Phrases("[Tell me|Can you tell me|Tell|Make|Please tell me|Say|Do you know|I want to hear|Give me|tell us] [a joke|another joke|something funny|a short joke|a funny joke][.||!|?|, please.]", "[joke|a joke|Make me laugh|Joke please|Do you know any jokes][.||!|?]")
LIKES = Phrases("[What is|What's|Tell me|do you have] [your favourite|your favorite|a favourite] [colour|color|food|animal|city|number|song|book][?||.]", "[Do you like|Do you enjoy|Do you love] [music|cats|dogs|pizza|football|people|rain|reading|math|numbers][?|]")
CODE = Phrases("[Write|Show me|Give me|Can you write|Please write|Print] [hello world|a hello world program|\"Hello, world!\"] in {l}[.||?|, please.]", "[hello world|hello world program|Hello World example] in {l}[|.|?]")
NOT_KNOWN = {
    "the weather": Phrases("[What is|How is|what's|Tell me about|Do you know|how will be] the weather [today|tomorrow|in {city}|in {city} today|like in {city}|there now|like today|for the weekend][?||.]", "[Will it rain|Is it raining|Is it sunny|Will it snow|Is it cold] [in {city}|today|tomorrow|in {city} today|now][?|]"),
    "the time or the date": Phrases("[What time is it|what's the time|What is the date today|What day is it today|what year is it|Which day is today|Tell me the time|What is the time now|What is the date|what time is it in {city}|Do you know the time][?||, please?]"),
    "the news": Phrases("[What is in the news|What happened yesterday|what's new in {city}|Who won the match|Who won the game yesterday|Who won the election|Tell me the news|What happened today|What is the latest news|who won the last {sport} game|Which team won the {sport} final|What happened in {city} last week][?||, please?]"),
    "the price": Phrases("[What does|How much does] a {thing} [cost|cost in {city}|cost today][?|]", "[What is|Tell me|What's] the price of [a {thing}|{food}|gold|oil|a house in {city}][?||.]"),
    "the future": Phrases("[What will happen tomorrow|What will happen next year|Who will win the next {sport} match|Will I be rich|what are the lottery numbers|Tell me the future|Will my {thing} be found|Which number will win|will tomorrow be a good day][?||, please?]"),
    "you": Phrases("[How old am I|Where am I|What am I holding|What did I eat yesterday|what am I thinking|What did I do last {day}|Who is standing behind me|What is my phone number|What is in my pocket|where did I put my {thing}|what am I wearing][?||, do you know?| right now?]"),
}
NO_SUCH = Phrases(
    "[What is|what's|Tell me|Do you know|Name|which city is|Can you tell me] the capital of {x}[?||.]", "[Where is|Which continent is|How big is|How many people live in|What language do they speak in|What do people eat in|Who rules|What is the highest mountain of|Tell me about|What do you know about] {x}[?||.]")
WHAT_IS_IT = Phrases("[What is|What's|Explain|Define|Tell me about|Describe] [a {w}|{w}|the {w}|a {w} machine|the {w} effect|{w} theory][?||.]", "[How do I|How does one|How can I] [build|cook|fix|find|use|repair] a {w}[?|]", "[Who invented|Who discovered|Who wrote|Who painted] [the {w}|{w}|\"{W}\"][?|]", "[What does {w} mean|What is the meaning of {w}|when was {w} built|How far away is {W}|How old is {W}][?|]")

WHY = Phrases(
    "[Why is|why is|Can you explain why] the {o} [{w}|so {w}|not {w}|called {w}][?|]", "[Why|why] [do|don't|can't] {animal}s {v}[?|]", "[How does|How do you build|How can I repair|What is inside of|Who invented|When was] [a {o} work|a {o}|the {o}|the {o} invented][?|]", "[How do I|How can I|how to|How does one|What is the best way to] [{v} a {o}|make {food}|cook {food}|{v} like a {job}|become a {job}|learn {sport}|get to {city}|{v} better][?|]",
    "[Explain|Explain to me|Tell me about|Teach me|What is|Describe] [quantum physics|gravity|electricity|democracy|evolution|the internet|relativity|the law of {w}|inflation|chemistry|the history of {city}|philosophy|machine learning|{sport} tactics|the economy of {c}|a neural network|photosynthesis|the meaning of life|love|time|art|poetry|politics][?||.]",
    "[Write|Write me|Can you write|Please write|Give me] [a Python function that {v}s two numbers|a function to {v} a {o}|an essay about {animal}s|a letter to the {job}|a song about {city}|a program that {v}s|an email to my boss|a recipe for {food}|code that sorts {o}s|a SQL query|a regular expression for a {o}][.||!|?]",
    "[What is the|What's the|Which is the|Name the] [largest|smallest|oldest|longest|richest|most famous|second largest|cheapest] [country|city|river|lake|desert|building|bridge|company|book|language|{o}|street in {city}|island of {c}][?||.| in the world?]", "[Who won|Who wins|Who lost] [the world cup|the {sport} world cup|the championship|the {sport} cup|the race|the prize] in {year}[?|]",
    "[When|In which year] [was {city} founded|did {c} become a country|was the {o} invented|did the war end|was the first {o} made][?|]", "[Should I|Can I|Must I|May I] {v} [a {o}|the {o}|with a {animal}|in {city}|today][?|]", "[What do you think about|What is your opinion of|Do you agree with|Do you believe in] [{food}|{sport}|{city}|the {o}|{animal}s|ghosts|politics|{w}][?||.]",
    "[Summarize|Summarise|Shorten|Improve|Rewrite|Correct] [this|the text|this text|the following][: |:\n]The {animal} sat on the {o}. It was {w}.", "[How many people|How many {o}s|How many {animal}s|How much {food}] [live in {city}|are there in {c}|are in {city}|does {c} have][?|]", "[What are the rules of|What is the score of|Where can I play] {sport}[?|]", "[Who is|Who was|What did] the {job} of {city}[?| say?]")
NONSENSE = Phrases("{x}[||||!|?|??|.]", "{x} {y}[|?|!]", "[?|??|...|!|!!!|.|-|??!|…|???]")
YOU_ARE = Phrases("[You are|You play|Act as|Pretend to be|You will be|Be] {what}[.||!]", "[You are|Act as|Be] {what}. [Answer politely.|Help the user.|Talk to the user.|Be friendly.]")

IDENTITY = [
    "I am the nodemlx demo model, a very small language model that runs inside Node.js.",
    "I am the nodemlx demo model. I am tiny, but I can answer simple questions.",
]
ABLE = "I can name capitals and opposites, add and subtract small numbers, spell, sort and repeat words, remember what you tell me, answer questions about a text, write JSON, call tools, and tell short stories."
MADE = "I was trained from scratch for nodemlx on conversations made by a program, so I know only a little about the world."
JOKES = [
    "Why did the computer go to the doctor? It had a virus!", "Why was the maths book sad? It had too many problems.", "What do you call a sleeping bull? A bulldozer!",
    "Why did the bicycle fall over? It was two-tired!", "What is a cat's favourite colour? Purr-ple!", "Why do bees have sticky hair? They use honeycombs!",
    "What do you call a bear with no teeth? A gummy bear!", "Why did the banana go to the doctor? It was not peeling well!"]
PROGRAMS = {
    "Python": 'print("Hello, world!")', "JavaScript": 'console.log("Hello, world!");', "Ruby": 'puts "Hello, world!"', "Bash": 'echo "Hello, world!"',
    "Rust": 'fn main() {\n    println!("Hello, world!");\n}', "C": '#include <stdio.h>\n\nint main(void) {\n    printf("Hello, world!\\n");\n}', "Go": 'package main\n\nimport "fmt"\n\nfunc main() {\n    fmt.Println("Hello, world!")\n}',
    "TypeScript": 'console.log("Hello, world!");', "Swift": 'print("Hello, world!")'}
FENCE = {"C": "c", "Bash": "sh"}


def greeting(r: Rng) -> Turn:
    if r.chance(0.3):
        return Turn(r.wording(HOW_ARE_YOU), "I am doing well, thank you! How can I help you?", "Well, thank you!", ("has", ["well"]))
    return Turn(r.wording(HELLO), "Hello! How can I help you?", "Hello!", ("has", ["hello"]))


def identity(r: Rng) -> Turn:
    what = r.random()
    if what < 0.55:
        return Turn(r.ask(WHO), IDENTITY[r.random() < 0.25], "The nodemlx demo model", ("has", ["nodemlx demo model"]))
    if what < 0.8:
        return Turn(r.ask(CAN), ABLE, "Facts, numbers, words, tools, stories", ("has", ["stories"]))
    return Turn(r.ask(MAKER), MADE, "I was trained for nodemlx", ("has", ["trained"]))


def politeness(r: Rng) -> Turn:
    what = r.randrange(5)
    if what == 0:
        return Turn(r.wording(THANKS), "You are welcome!", "You are welcome!", ("has", ["welcome"]))
    if what == 1:
        return Turn(r.wording(BYE), "Goodbye! Have a nice day.", "Goodbye!", ("has", ["goodbye"]))
    if what == 2:
        return Turn(r.wording(PRAISE), "Thank you! What else can I do for you?", "Thank you!", ("has", ["thank you"]))
    if what == 3:
        return Turn(r.wording(BLAME), "I am sorry. I am a small model and I make mistakes.", "I am sorry.", ("has", ["sorry"]))
    mood = r.choice(MOODS)
    good = mood in ("happy", "excited", "curious", "calm", "proud", "glad")
    return Turn(r.ask(FEELS, m=mood), f"That is good to hear! It is nice to be {mood}." if good else f"I am sorry that you are {mood}. I hope it gets better soon.", None, ("has", [mood]))


def small_piece(r: Rng) -> Turn:
    what = r.random()
    if what < 0.5:
        return Turn(r.ask(JOKE), r.choice(JOKES), None, ("has", ["?"]))
    if what < 0.75:
        return Turn(r.ask(LIKES), "I am a small language model, so I have no favourites and no feelings.", "I have no favourites.", ("has", ["no favourites"]))
    language, program = r.choice(list(PROGRAMS.items()))
    return Turn(r.exact(CODE, l=language), f"```{FENCE.get(language, language.lower())}\n{program}\n```", None, ("has", [program]))


def unknown(r: Rng) -> Turn:
    what = r.random()
    if what < 0.28:
        topic, phrases = r.choice(list(NOT_KNOWN.items()))
        asked = r.ask(phrases, city=r.choice(CITIES), sport=r.choice(SPORTS), thing=r.choice(OBJECTS), food=r.choice(FOODS), day=r.choice(["week", "year", "month"]))
        answer = {"the future": "I don't know. I can't see the future.", "you": "I don't know. You have not told me."}.get(topic, f"I don't know {topic}. I can't look it up.")
        return Turn(asked, answer, "I don't know.", ("has", ["don't know"]))
    if what < 0.62:
        fill = {"o": r.choice(OBJECTS), "w": r.choice(WORDS), "v": r.choice(VERBS), "animal": r.choice([a for a in ANIMALS if a[-1] not in "esy"]), "food": r.choice(FOODS), "job": r.choice(JOBS), "sport": r.choice(SPORTS), "city": r.choice(CITIES),
                "c": r.choice(list(COUNTRIES)), "year": r.randint(1900, 2030)}
        return Turn(r.ask(WHY, **fill), "I don't know. I am a small model and know only simple things.", "I don't know.", ("has", ["don't know"]))
    if what < 0.68:
        return Turn(r.exact(NONSENSE, x=shuffled_keys(r), y=shuffled_keys(r)), "I don't understand that. What can I do for you?", "I don't understand.", ("has", ["don't understand"]))
    if what < 0.82:
        place = r.choice(NO_SUCH_PLACES) if r.chance(0.5) else made_up(r, True) + r.choice(["", "ia", "land"])
        return Turn(r.exact(NO_SUCH, x=place), f"I don't know a place called {place}.", "I don't know.", ("has", ["don't know"]))
    word = made_up(r)
    return Turn(r.exact(WHAT_IS_IT, w=word, W=cap(word)), "I don't know. I am a small model and know only simple things.", "I don't know.", ("has", ["don't know"]))


KINDS = [(greeting, 2), (identity, 3), (politeness, 1.5), (small_piece, 1)]

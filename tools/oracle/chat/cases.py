"""Conversations and the templates they are rendered with."""

from dataclasses import dataclass


@dataclass
class Family:
    template: str
    special_tokens: dict
    cases: list


@dataclass
class Named:
    templates: list
    special_tokens: dict
    cases: list


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


def tool(content, **more):
    return {"role": "tool", "content": content, **more}


def call(name, arguments, **more):
    return {**more, "type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place, now",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": 'City & country, e.g. "Zürich, CH"'},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            },
            "required": ["place"],
        },
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "a + b, if a < b or a > b",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
PLAIN = {
    "type": "function",
    "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}},
}
NESTED = {
    "type": "function",
    "function": {
        "name": "plan",
        "description": "Plans a journey",
        "parameters": {
            "type": "object",
            "properties": {
                "stops": {"type": "array", "items": {"type": "string"}, "description": "Where to stop"},
                "grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
                "anything": {"type": "array"},
                "options": {
                    "type": "object",
                    "properties": {"fast": {"type": "boolean"}, "budget": {"type": "number", "nullable": True}},
                    "required": ["fast"],
                },
                "when": {"oneOf": [{"type": "string", "description": "a date"}, {"type": "integer"}]},
                "note": {"type": ["string", "null"], "default": None},
                "limit": {"type": "integer", "default": 3},
                "free": {"description": "whatever"},
            },
            "required": ["stops", "options"],
        },
    },
}

QUESTION = [user("What is the capital of France?")]
WITH_SYSTEM = [system("You are a pirate.  "), user("  Hello!\n")]
TURNS = [
    system("Be brief."),
    user("Name a colour."),
    assistant("Blue."),
    user("Another?"),
    assistant(" Green.\n"),
    user("Thanks"),
]
NO_SYSTEM_TURNS = TURNS[1:]
FOREIGN = [
    system("Antworte auf Deutsch – „bitte“."),
    user("Grüße! 你好，世界 🌍 👩‍👩‍👧 e\u0301 \u200b<b>&amp;'\"</b>"),
    assistant("Здравствуйте 👋🏽"),
    user("\u00a0ok\u3000"),
]
MARKUP = [user('<script>alert("1 & 2")</script> {{ not a template }} {% nor this %} \\n')]
ONE_CALL = [
    user("Weather in Zürich?"),
    assistant("", tool_calls=[call("get_weather", {"place": "Zürich <CH>", "unit": "celsius"}, id="abcdefgh1")]),
    tool('{"degrees": 21, "sky": "☀"}', tool_call_id="abcdefgh1"),
]
ONE_CALL_ANSWERED = ONE_CALL + [assistant("It is 21 °C and sunny."), user("And add 1 and 2?")]
TWO_CALLS = [
    system("Use the tools."),
    user("Weather in two places?"),
    assistant(
        "I look.",
        tool_calls=[
            call("get_weather", {"place": "Bern"}, id="abcdefgh1"),
            call("get_weather", {"place": "Genève", "unit": "fahrenheit"}, id="abcdefgh2"),
        ],
    ),
    tool("20", tool_call_id="abcdefgh1"),
    tool("68", tool_call_id="abcdefgh2"),
]
NULL_CONTENT = [
    user("Add."),
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            call(
                "add",
                {"a": 1.5, "b": -2, "flags": [True, False, None], "nested": {"x": {}}, "e": 1e20, "tiny": 1e-7},
                id="abcdefgh1",
            )
        ],
    },
    tool("-0.5", tool_call_id="abcdefgh1"),
]
THOUGHT_INLINE = [
    user("2+2?"),
    assistant("<think>\nTwo and two.\n</think>\n\nFour."),
    user("3+3?"),
    assistant("<think>Three…</think>Six."),
]
THOUGHT_FIELD = [
    user("2+2?"),
    assistant("Four.", reasoning_content="\nTwo and two.\n"),
    user("3+3?"),
    assistant("Six.", reasoning_content="Three twice."),
]
THOUGHT_OLD_FIELD = [user("2+2?"), assistant("Four.", thinking="Two and two.")]
PARTS = [
    system("Look closely."),
    user([{"type": "image"}, {"type": "text", "text": " What is this? "}, {"type": "text", "text": "Tell me."}]),
]
UNFINISHED = [user("Count."), assistant("One, two, ")]


def case(name, messages, **options):
    """One call of `apply_chat_template`: options go to the call, what is in `kwargs` to the template."""
    return {"name": name, "messages": messages, **options}


def common(*, systems=True):
    """What every family of templates can say."""
    turns = TURNS if systems else NO_SYSTEM_TURNS
    return [
        case("a question", QUESTION, add_generation_prompt=True),
        case("a question without a prompt for the answer", QUESTION),
        case("many turns", turns, add_generation_prompt=True),
        case("many turns that end with an answer", turns[:-1]),
        case("markup and template syntax stay as they are", MARKUP, add_generation_prompt=True),
        case("an answer that is continued", UNFINISHED, continue_final_message=True),
    ] + (
        [
            case("a system message", WITH_SYSTEM, add_generation_prompt=True),
            case("other scripts and emoji", FOREIGN, add_generation_prompt=True),
        ]
        if systems
        else []
    )


TOOL_CASES = [
    case("tools", QUESTION, tools=[WEATHER, ADD], add_generation_prompt=True),
    case("tools and a system message", WITH_SYSTEM, tools=[WEATHER], add_generation_prompt=True),
    case("a call and its result", ONE_CALL, tools=[WEATHER], add_generation_prompt=True),
    case("an answer after a call", ONE_CALL_ANSWERED, tools=[WEATHER, ADD], add_generation_prompt=True),
    case("a call without content, odd numbers in it", NULL_CONTENT, tools=[ADD], add_generation_prompt=True),
]
PARALLEL = case("two calls in a turn", TWO_CALLS, tools=[WEATHER], add_generation_prompt=True)
EMPTY = case("no messages", [])
BAD_ROLE = case("an unknown role", [user("Hi"), {"role": "critic", "content": "Hm."}])
NO_ALTERNATION = case("two questions in a row", [user("Hi"), user("Hello?")])
NOT_TEXT = case("content that is a number", [user(7)])
NO_CONTENT = case("a message without content", [{"role": "user"}])
STRING_ARGUMENTS = case(
    "arguments that are already text",
    [user("Add."), assistant("", tool_calls=[call("add", '{"a": 1,  "b": 2}')])],
)
PROMPT_AND_CONTINUE = case(
    "a prompt and a continuation exclude each other",
    UNFINISHED,
    add_generation_prompt=True,
    continue_final_message=True,
)
CONTINUE_STRIPPED = case(
    "a continuation of text with space around it",
    [user("Count."), assistant("  One, two \n")],
    continue_final_message=True,
)
CONTINUE_PARTS = case(
    "a continuation of the last text part",
    [user("Count."), assistant([{"type": "text", "text": "One,"}, {"type": "text", "text": " two"}])],
    continue_final_message=True,
)
CONTINUE_MISSING = case(
    "a continuation of a message without text",
    [user("Hi"), {"role": "assistant", "tool_calls": []}],
    continue_final_message=True,
)

CHATML = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
LLAMA3 = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}

FAMILIES = [
    Family(
        "llama3",
        LLAMA3,
        common()
        + TOOL_CASES
        + [
            PARALLEL,
            EMPTY,
            BAD_ROLE,
            NOT_TEXT,
            NO_CONTENT,
            CONTINUE_STRIPPED,
            CONTINUE_PARTS,
            PROMPT_AND_CONTINUE,
            case("parts of content", PARTS, add_generation_prompt=True),
            case("parts of content with tools", PARTS, tools=[ADD], add_generation_prompt=True),
            case("tools kept out of the question", QUESTION, tools=[WEATHER], kwargs={"put_tools_first": False}),
            case("tools under another name", QUESTION, kwargs={"custom_tools": [ADD]}),
            case("tools without a question", [system("Hi")], tools=[ADD]),
            case("a date of its own", QUESTION, kwargs={"date_string": "26 Jul 2024"}),
            case("another begin token", QUESTION, kwargs={"bos_token": "<s>"}),
            case(
                "built-in tools",
                [user("Search."), assistant("", tool_calls=[call("search", {"query": "MLX", "lang": "en"})])],
                kwargs={"builtin_tools": ["search", "code_interpreter"]},
            ),
            case("a result that is an object", [user("Hi"), {"role": "ipython", "content": {"b": [1, 2], "a": "ü"}}]),
            case("a result that is a list", [user("Hi"), tool([{"text": "é"}, 2])]),
        ],
    ),
    Family(
        "qwen25",
        CHATML,
        common()
        + TOOL_CASES
        + [
            PARALLEL,
            EMPTY,
            NO_CONTENT,
            NOT_TEXT,
            case("a system message in the middle", [user("Hi"), system("Now in French."), user("Hello")]),
            case("results in two groups", [user("Go"), tool("1"), tool("2"), assistant("ok"), tool("3")]),
            case(
                "calls without the function layer",
                [user("Go"), assistant("Yes.", tool_calls=[{"name": "add", "arguments": {"a": 1}}])],
            ),
        ],
    ),
    Family(
        "qwen3",
        CHATML,
        common()
        + TOOL_CASES
        + [
            PARALLEL,
            EMPTY,
            NO_CONTENT,
            STRING_ARGUMENTS,
            CONTINUE_MISSING,
            case("thinking switched off", QUESTION, add_generation_prompt=True, kwargs={"enable_thinking": False}),
            case("thinking switched on", QUESTION, add_generation_prompt=True, kwargs={"enable_thinking": True}),
            case("reasoning within the content", THOUGHT_INLINE),
            case("reasoning in a field of its own", THOUGHT_FIELD),
            case("reasoning under an older name", THOUGHT_OLD_FIELD),
            case("earlier reasoning is dropped", THOUGHT_FIELD + [user("4+4?")], add_generation_prompt=True),
            case(
                "reasoning is kept across calls",
                [
                    user("Weather?"),
                    assistant(
                        "", reasoning_content="I need the tool.", tool_calls=[call("get_weather", {"place": "Bern"})]
                    ),
                    tool("20"),
                    assistant("20 degrees.", reasoning_content="Now I know."),
                ],
                tools=[WEATHER],
            ),
            case(
                "a question that looks like a result",
                [
                    user("Q"),
                    assistant("A", reasoning_content="R"),
                    user("<tool_response>x</tool_response>"),
                    assistant("B"),
                ],
            ),
            case(
                "a continuation of the reasoning",
                [user("Q"), assistant("", reasoning_content="First I")],
                continue_final_message="reasoning_content",
            ),
        ],
    ),
    Family(
        "gemma3",
        {"bos_token": "<bos>", "eos_token": "<eos>"},
        common()
        + [
            NO_ALTERNATION,
            NOT_TEXT,
            BAD_ROLE,
            EMPTY,
            CONTINUE_STRIPPED,
            case("parts of content", PARTS, add_generation_prompt=True),
            case(
                "a system message in parts",
                [{"role": "system", "content": [{"type": "text", "text": "Be kind."}]}, user("Hi")],
            ),
        ],
    ),
    Family(
        "mistral",
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        common()
        + TOOL_CASES
        + [
            PARALLEL,
            BAD_ROLE,
            NO_ALTERNATION,
            EMPTY,
            NOT_TEXT,
            case("a date within the system message", [system("Today: {today}; {today}."), user("Hi")]),
            case(
                "parts of content",
                [user([{"type": "text", "text": "Look: "}, {"type": "image_url", "image_url": {"url": "x"}}])],
            ),
            case("an unknown part", [user([{"type": "audio"}])]),
            case("an id that is too short", [user("Go"), assistant("", tool_calls=[call("add", {"a": 1}, id="x")])]),
            case("a call without an id", [user("Go"), assistant("", tool_calls=[call("add", {"a": 1})])]),
            case(
                "a result within its content",
                [
                    user("Go"),
                    assistant("", tool_calls=[call("add", {"a": 1}, id="123456789")]),
                    {"role": "tool_results", "content": {"content": 42}, "tool_call_id": "123456789"},
                ],
            ),
        ],
    ),
    Family(
        "phi4",
        {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"},
        common()
        + [
            NOT_TEXT,
            NO_CONTENT,
            case("a result", [user("Go"), tool("4"), tool("")], add_generation_prompt=True),
        ],
    ),
    Family(
        "gpt_oss",
        {"bos_token": "<|startoftext|>", "eos_token": "<|return|>"},
        common()
        + TOOL_CASES
        + [
            PARALLEL,
            EMPTY,
            case("every kind of type", QUESTION, tools=[PLAIN, NESTED, WEATHER], add_generation_prompt=True),
            case(
                "a developer message",
                [{"role": "developer", "content": "Rhyme."}, user("Hi")],
                add_generation_prompt=True,
            ),
            case(
                "effort and identity",
                QUESTION,
                add_generation_prompt=True,
                kwargs={"reasoning_effort": "high", "model_identity": "You are a lamp."},
            ),
            case("built-in tools", QUESTION, kwargs={"builtin_tools": ["python"]}),
            case("thinking before the last answer", [user("Q"), assistant("A", thinking="T")]),
            case(
                "thinking is dropped in a prompt",
                [user("Q"), assistant("A", thinking="T"), user("R")],
                add_generation_prompt=True,
            ),
            case(
                "thinking before a call",
                [user("Q"), assistant("", thinking="I call.", tool_calls=[call("add", {"a": 1})]), tool({"sum": 1})],
                tools=[ADD],
                add_generation_prompt=True,
            ),
            case("channel tags in the content", [user("Q"), assistant("<|channel|>final<|message|>A")]),
            case("a result without a call", [user("Q"), tool("1")]),
        ],
    ),
    Family(
        "deepseek",
        {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"},
        common()
        + TOOL_CASES
        + [
            PARALLEL,
            case("two system messages", [system("One."), user("Hi"), system("Two.")]),
            case("reasoning within the content", THOUGHT_INLINE),
            NO_CONTENT,
        ],
    ),
    Family(
        "smollm3",
        CHATML,
        common()
        + TOOL_CASES
        + [
            case("thinking switched off", TURNS, add_generation_prompt=True, kwargs={"enable_thinking": False}),
            case(
                "thinking switched off by the system message",
                [system("Be kind. /no_think"), user("Hi"), assistant("\n\nHello")],
                add_generation_prompt=True,
            ),
            case(
                "thinking switched on by the system message",
                [system("/think"), user("Hi")],
                add_generation_prompt=True,
                kwargs={"enable_thinking": False},
            ),
            case("the system message alone", [system("Only this. /bare"), user("Hi")]),
            case("the rest is cut off", [user("Hi"), {"role": "end"}, user("Ignored")]),
            case("tools of two kinds", QUESTION, kwargs={"xml_tools": ["<a/>"], "python_tools": ["def f(x): ..."]}),
        ],
    ),
]

NAMED = Named(
    templates=[
        {
            "name": "default",
            "template": "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}",
        },
        {
            "name": "tool_use",
            "template": "{{ bos_token }}{% for t in tools %}({{ t.function.name }}){% endfor %}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}",
        },
        {
            "name": "rag",
            "template": "{% for d in documents %}{{ loop.index }}. {{ d.title }}: {{ d.text[:5] }}\n{% endfor %}{{ messages[-1].content }}",
        },
    ],
    special_tokens={"bos_token": "<s>", "eos_token": "</s>"},
    cases=[
        case("the default", QUESTION),
        case("tools take their own template", QUESTION, tools=[ADD]),
        case("an empty list of tools takes it too", QUESTION, tools=[]),
        case(
            "a template by its name",
            QUESTION,
            documents=[{"title": "Atlas", "text": "Paris is the capital."}, {"title": "B", "text": "short"}],
            template_name="rag",
        ),
        case("a template by its name without its documents", QUESTION, template_name="rag"),
    ],
)

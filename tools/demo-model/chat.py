"""Conversations as text and tokens: the same as chat_template.jinja gives, but much quicker, and with the tokens to learn marked."""

import json
from pathlib import Path

from phrases import Conversation

TEMPLATE = Path(__file__).with_name("chat_template.jinja")
TOOLS_BEFORE = "# Tools\n\nThese functions can be called:\n<tools>"
TOOLS_AFTER = '\n</tools>\n\nA call is JSON in its own tags:\n<tool_call>\n{"name": <name>, "arguments": <object>}\n</tool_call>'


def dump(value) -> str:
    return json.dumps(value, ensure_ascii=False)


def assistant_text(message: dict) -> str:
    """What the model says in a turn, without its end token."""
    parts = [message["content"]] if message.get("content") else []
    for call in message.get("tool_calls") or []:
        f = call["function"]
        parts.append(f'<tool_call>\n{{"name": "{f["name"]}", "arguments": {dump(f["arguments"])}}}\n</tool_call>')
    return "\n".join(parts)


def segments(messages: list[dict], tools: list[dict] | None = None, prompt: bool = False) -> list[tuple[str, bool]]:
    """The conversation's text in pieces, each with whether the model is to say it. `prompt` opens a new answer at the end."""
    out, rest = [], messages
    if tools:
        system = ""
        if messages[0]["role"] == "system":
            system, rest = messages[0]["content"] + "\n\n", messages[1:]
        listed = "".join("\n" + dump(t) for t in tools)
        out.append((f"<|im_start|>system\n{system}{TOOLS_BEFORE}{listed}{TOOLS_AFTER}<|im_end|>\n", False))
    i = 0
    while i < len(rest):
        m = rest[i]
        if m["role"] == "assistant":
            out += [("<|im_start|>assistant\n", False), (assistant_text(m) + "<|im_end|>", True), ("\n", False)]
            i += 1
        elif m["role"] == "tool":
            results = ""
            while i < len(rest) and rest[i]["role"] == "tool":
                results += f"\n<tool_response>\n{rest[i]['content']}\n</tool_response>"
                i += 1
            out.append((f"<|im_start|>user{results}<|im_end|>\n", False))
        else:
            out.append((f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n", False))
            i += 1
    if prompt:
        out.append(("<|im_start|>assistant\n", False))
    return out


def text_of(c: Conversation) -> str:
    """The whole conversation as text."""
    return "".join(t for t, _ in segments(c.messages, c.tools))


def prompt_of(c: Conversation) -> str:
    """The conversation up to the answer that its check is for."""
    return "".join(t for t, _ in segments(c.messages[:scored(c)], c.tools, prompt=True))


def scored(c: Conversation) -> int:
    """Where the message is that the check is for: the first answer where it is about calls, else the last."""
    at = [i for i, m in enumerate(c.messages) if m["role"] == "assistant"]
    return at[0] if c.check[0] in ("calls", "none") else at[-1]

"""Chat-template fixtures: our own templates, rendered by transformers' `apply_chat_template`."""

import shutil
import traceback
from datetime import datetime
from pathlib import Path

import jinja2
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from chat.cases import FAMILIES, NAMED
from chat.features import DATA, FEATURES, MESSAGES

from .writing import write_json

TEMPLATES = Path(__file__).resolve().parent.parent / "chat"

# `strftime_now` of every case sees this local time.
NOW = datetime(2025, 3, 7, 9, 5, 3)


class FrozenDatetime(datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(NOW.year, NOW.month, NOW.day, NOW.hour, NOW.minute, NOW.second)


def tokenizer(special_tokens: dict, template) -> PreTrainedTokenizerFast:
    """A tokenizer that knows its special tokens and its chat template, which is all that rendering asks of it."""
    made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **special_tokens)
    made.chat_template = template
    return made


# The first that fits names the sort of failure: an engine need not use Jinja's words, but must fail for the same reason.
KINDS = [
    (SyntaxError, "syntax"),
    (jinja2.TemplateSyntaxError, "syntax"),
    (jinja2.exceptions.SecurityError, "security"),
    (jinja2.UndefinedError, "undefined"),
    ((jinja2.TemplateRuntimeError, ZeroDivisionError), "runtime"),
    (jinja2.TemplateError, "raised"),
    ((OverflowError, RecursionError), "limit"),
    (TypeError, "type"),
    (LookupError, "lookup"),
    (ValueError, "value"),
]


def kind_of(error: Exception) -> str:
    """The sort of failure; a value that is refused before the template runs is the caller's."""
    kind = next(kind for types, kind in KINDS if isinstance(error, types))
    return "input" if kind == "value" and line_of(error) is None else kind


def line_of(error: Exception) -> int | None:
    """The template's line that failed, counted from 1; none where the failure is outside of the template."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
    return lines[-1] if lines else None


def render(case: dict, special_tokens: dict, template) -> dict:
    """What transformers makes of a case: `{"expected": text}` or `{"error": {kind, message, line}}`."""
    options = {
        key: case[key]
        for key in ("tools", "documents", "add_generation_prompt", "continue_final_message")
        if key in case
    }
    if "template_name" in case:
        options["chat_template"] = case["template_name"]
    try:
        text = tokenizer(special_tokens, template).apply_chat_template(
            case["messages"], tokenize=False, **options, **case.get("kwargs", {})
        )
    except Exception as error:  # every failure is an expected value here
        return {"error": {"kind": kind_of(error), "message": str(error), "line": line_of(error)}}
    return {"expected": text}


def document(special_tokens: dict, cases: list, defaults: dict | None = None) -> dict:
    """The content of a `cases.json`; `defaults` stands in for what a case leaves out."""
    shared = {"defaults": defaults} if defaults else {}
    return {"special_tokens": special_tokens, "now": NOW.isoformat(), **shared, "cases": cases}


def make(out: Path) -> None:
    folder = out / "chat-templates"
    shutil.rmtree(folder, ignore_errors=True)
    chat_template_utils.datetime = FrozenDatetime
    for family in FAMILIES:
        source = TEMPLATES / f"{family.template}.jinja"
        target = folder / family.template.replace("_", "-")
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / "template.jinja")
        text = source.read_text(encoding="utf-8")
        cases = [case | render(case, family.special_tokens, text) for case in family.cases]
        write_json(target / "cases.json", document(family.special_tokens, cases))

    tokens = NAMED.special_tokens
    named = {entry["name"]: entry["template"] for entry in NAMED.templates}
    write_json(folder / "named" / "tokenizer_config.json", {**tokens, "chat_template": NAMED.templates})
    write_json(folder / "named" / "cases.json", document(tokens, [c | render(c, tokens, named) for c in NAMED.cases]))

    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    defaults = {"messages": MESSAGES, "kwargs": DATA}
    cases = [case | render(defaults | case, tokens, case["template"]) for case in FEATURES]
    write_json(folder / "features" / "cases.json", document(tokens, cases, defaults))

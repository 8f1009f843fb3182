"""The configurations of published checkpoints as transformers 5 saves them: `configurations.json`, a line for each model fixture."""

import json
from pathlib import Path

import transformers

from .checkpoints import NOT_ARGUMENTS
from .declaration import Architecture, Fixture, merged
from .models import declared

# What no language model reads.
LEFT_OUT = {
    "attention_dropout",
    "audio_config",
    "bos_token_id",
    "eos_token_id",
    "initializer_range",
    "pad_token_id",
    "transformers_version",
    "use_cache",
    "vision_config",
}


def without_left_out(config: dict) -> dict:
    kept = {key: value for key, value in config.items() if key not in LEFT_OUT}
    return {key: without_left_out(value) if key == "text_config" else value for key, value in kept.items()}


def saved(architecture: Architecture, fixture: Fixture) -> dict:
    """What `save_pretrained` writes for the fixture, and what the checkpoint's own configuration has beside it."""
    config = merged(architecture, fixture)
    arguments = {k: v for k, v in architecture.transformers_arguments(config).items() if k not in NOT_ARGUMENTS}
    made = getattr(transformers, architecture.transformers[0])(**arguments)
    content = json.loads(made.to_json_string())
    # Where another class stands for one that this version lacks.
    if architecture.stands_for_another:
        content["model_type"] = config["model_type"]
    if "quantization_config" in config:
        content["quantization_config"] = config["quantization_config"]
    # The oracle has the language model alone of some checkpoints with more parts.
    if "text_config" in config and "text_config" not in content:
        content = {**config, "text_config": content}
    return without_left_out(content)


def make(out: Path) -> None:
    lines = [
        f"{json.dumps(fixture.name)}: {json.dumps(saved(architecture, fixture), separators=(',', ':'), sort_keys=True)}"
        for architecture in declared([])
        if architecture.transformers
        for fixture in architecture.fixtures
        if fixture.kind == "raw"
    ]
    (out / "configurations.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")

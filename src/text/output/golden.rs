//! Checks formats on whole texts, and on the same texts cut at every character.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{OutputEvent, OutputFormats, OutputParser, ReasoningFormat, ToolFormat, Tools};

/// The tools of golden cases.
pub(super) fn tools() -> Tools {
    Tools::new(&json!([
        { "type": "function", "function": { "name": "get_weather", "parameters": {
            "type": "object",
            "properties": {
                "city": { "type": "string" },
                "days": { "type": "integer" },
                "tags": { "type": "array" },
                "metric": { "type": "boolean" },
            },
        } } },
        { "name": "now" },
    ]))
}

/// What the pieces of a text are, written as one string: texts in quotes, reasoning as `?"…"`,
/// calls as `name#id{…}`, and what is invalid as `!"…"`.
pub(super) fn written(events: &[OutputEvent]) -> String {
    let mut items: Vec<String> = Vec::new();
    let mut last = "";
    for event in events {
        let (kind, piece) = match event {
            OutputEvent::Marker(_) => ("marker", String::new()),
            OutputEvent::Hidden(_) => continue,
            OutputEvent::Text(text) => ("text", text.clone()),
            OutputEvent::Reasoning(text) => ("reasoning", text.clone()),
            OutputEvent::CallStart { id, name, .. } => {
                let id = id.as_ref().map(|id| format!("#{id}")).unwrap_or_default();
                ("start", format!("{name}{id}"))
            }
            OutputEvent::CallDelta { text, .. } => ("delta", text.clone()),
            OutputEvent::CallEnd { .. } => ("end", String::new()),
            OutputEvent::InvalidCall { raw, .. } => {
                ("invalid", format!("!{}", Value::from(raw.as_str())))
            }
        };
        let joins = kind == "delta" || (kind == last && matches!(kind, "text" | "reasoning"));
        match items.last_mut() {
            Some(item) if joins => item.push_str(&piece),
            _ if matches!(kind, "end" | "marker") => {}
            _ => items.push(if kind == "reasoning" {
                format!("\u{1}{piece}")
            } else if kind == "text" {
                format!("\u{2}{piece}")
            } else {
                piece
            }),
        }
        last = kind;
    }
    let mut written = String::new();
    for item in items {
        let item = match item.chars().next() {
            Some('\u{1}') => format!("?{}", Value::from(&item[1..])),
            Some('\u{2}') => Value::from(&item[1..]).to_string(),
            _ => item,
        };
        write!(written, "{}{item}", if written.is_empty() { "" } else { " " }).unwrap();
    }
    written
}

/// The events of a text in pieces.
pub(super) fn run(formats: &OutputFormats, prompt_end: &str, pieces: &[&str]) -> Vec<OutputEvent> {
    let mut parser = OutputParser::new(formats.clone(), Arc::new(tools()), prompt_end, false);
    let mut events = Vec::new();
    for piece in pieces {
        events.extend(parser.push(piece, false));
    }
    events.extend(parser.finish());
    events
}

/// Checks that each text is what is written beside it, however it is cut.
pub(super) fn check_all(formats: &OutputFormats, prompt_end: &str, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        let whole = run(formats, prompt_end, &[text]);
        assert_eq!(written(&whole), *expected, "{text}");
        arguments_are_json(&whole);
        let characters: Vec<&str> =
            text.char_indices().map(|(at, it)| &text[at..at + it.len_utf8()]).collect();
        assert_eq!(written(&run(formats, prompt_end, &characters)), *expected, "each: {text}");
        for (at, _) in text.char_indices() {
            let pieces = [&text[..at], &text[at..]];
            assert_eq!(written(&run(formats, prompt_end, &pieces)), *expected, "{pieces:?}");
        }
    }
}

/// The arguments of complete calls are objects.
pub(super) fn arguments_are_json(events: &[OutputEvent]) {
    let mut arguments = std::collections::BTreeMap::<usize, String>::new();
    for event in events {
        match event {
            OutputEvent::CallDelta { index, text } => {
                arguments.entry(*index).or_default().push_str(text);
            }
            OutputEvent::CallEnd { index } => {
                let value: Value = serde_json::from_str(&arguments[index]).unwrap();
                assert!(value.is_object(), "{value}");
            }
            _ => {}
        }
    }
}

/// [`check_all`] for a format of calls alone.
pub(super) fn check(format: &'static ToolFormat, cases: &[(&str, &str)]) {
    check_all(&OutputFormats { calls: Some(format), ..OutputFormats::default() }, "", cases);
}

/// [`check_all`] for a format of reasoning, with calls of `calls` where there are any.
pub(super) fn check_reasoning(
    reasoning: &str,
    calls: Option<&str>,
    prompt_end: &str,
    cases: &[(&str, &str)],
) {
    let reasoning = ReasoningFormat::named(reasoning);
    let formats = OutputFormats {
        reasoning,
        calls: calls.and_then(ToolFormat::named),
        ..OutputFormats::default()
    };
    check_all(&formats, prompt_end, cases);
}

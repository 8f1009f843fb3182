//! Any text as a model's output, in every format, cut at the places that the first bytes say: the
//! parser neither hangs nor loses a call, and what it calls arguments is JSON.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use nodemlx::text::output::{Tools, reasoning, tool_calls};
use nodemlx::text::{OutputEvent, OutputFormats, OutputParser};
use serde_json::{Value, json};

fuzz_target!(|data: &[u8]| {
    let [format, marks, size, rest @ ..] = data else { return };
    let text = String::from_utf8_lossy(rest);
    let calls = tool_calls::ALL[usize::from(*format) % tool_calls::ALL.len()];
    let kinds = reasoning::ALL.len();
    let formats = OutputFormats {
        reasoning: reasoning::ALL.get(usize::from(*marks) % (kinds + 1)),
        calls: Some(calls),
        plain_text: *size % 2 == 1,
    };
    let tools = Tools::new(&json!([{ "name": "f", "parameters": {
        "properties": { "text": { "type": "string" }, "count": { "type": "integer" } },
    } }]));
    let mut parser = OutputParser::new(formats, Arc::new(tools), "", false);
    let characters: Vec<char> = text.chars().collect();
    let mut events = Vec::new();
    for piece in characters.chunks(usize::from(*size) + 1) {
        events.extend(parser.push(&piece.iter().collect::<String>(), false));
    }
    events.extend(parser.finish());
    let mut open: BTreeMap<usize, String> = BTreeMap::new();
    for event in events {
        match event {
            OutputEvent::CallStart { index, .. } => {
                assert!(open.insert(index, String::new()).is_none());
            }
            OutputEvent::CallDelta { index, text } => open.get_mut(&index).unwrap().push_str(&text),
            OutputEvent::CallEnd { index } => {
                let arguments = open.remove(&index).unwrap();
                let arguments: Value = serde_json::from_str(&arguments).unwrap();
                assert!(arguments.is_object());
            }
            OutputEvent::InvalidCall { index, raw, .. } => {
                open.remove(&index);
                assert!(!raw.is_empty());
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "a call is neither complete nor invalid");
});

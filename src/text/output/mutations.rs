//! Damaged answers in every format: whatever comes, a call is complete with arguments that are an
//! object, or invalid with its raw text; and how an answer is cut changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::golden::tools;
use super::tool_calls::ALL;
use super::{OutputEvent, OutputFormats, OutputParser, reasoning};

/// Numbers that look random, always the same.
struct Draw(u64);

impl Draw {
    fn below(&mut self, count: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % count.max(1)
    }
}

/// What answers are damaged with.
const PIECES: [&str; 30] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "\\",
    "\\u",
    "\\ud83d",
    ":",
    ",",
    "(",
    ")",
    "=",
    "<",
    ">",
    "</",
    "|>",
    "\n",
    "```",
    "null",
    "True",
    "-",
    "1e999",
    "\u{0}",
    "\u{1f600}",
    "get_weather",
    "now",
    "\"name\": \"now\"",
    "\"arguments\": {}",
];

/// An answer of the format's markers and pieces of calls.
fn answer(draw: &mut Draw, markers: &[&str]) -> String {
    let mut answer = String::new();
    for _ in 0..draw.below(24) {
        match draw.below(8) {
            0..=2 => answer.push_str(markers[draw.below(markers.len())]),
            3 => answer.push_str("{\"name\": \"get_weather\", \"arguments\": {\"days\": \"3\"}}"),
            4 => answer.push_str(&PIECES[draw.below(14)].repeat(1 + draw.below(300))),
            5 => answer.push_str("[get_weather(days='3', city=\"\\u00e9\")]"),
            _ => answer.push_str(PIECES[draw.below(PIECES.len())]),
        }
    }
    answer
}

/// What the parser finds, joined, and whether all is as it must be.
fn found(formats: &OutputFormats, pieces: &[String]) -> Vec<OutputEvent> {
    let mut parser = OutputParser::new(formats.clone(), Arc::new(tools()), "", false);
    let mut placed = Vec::new();
    let mut length = 0;
    for piece in pieces {
        length += piece.len();
        placed.extend(parser.push_placed(piece, false));
    }
    placed.extend(parser.finish_placed());
    let mut open: BTreeMap<usize, String> = BTreeMap::new();
    let mut joined: Vec<OutputEvent> = Vec::new();
    for (mut event, end) in placed {
        assert!(end <= length);
        match &mut event {
            OutputEvent::CallStart { index, .. } => {
                assert!(open.insert(*index, String::new()).is_none());
            }
            OutputEvent::CallDelta { index, text } => open.get_mut(index).unwrap().push_str(text),
            OutputEvent::CallEnd { index } => {
                let arguments: Value = serde_json::from_str(&open.remove(index).unwrap()).unwrap();
                assert!(arguments.is_object());
            }
            OutputEvent::InvalidCall { index, raw, error } => {
                open.remove(index);
                assert!(!raw.is_empty());
                // It shows what has come by then.
                error.clear();
            }
            _ => {}
        }
        match (joined.last_mut(), &event) {
            (Some(OutputEvent::Text(all)), OutputEvent::Text(text))
            | (Some(OutputEvent::Reasoning(all)), OutputEvent::Reasoning(text))
            | (
                Some(OutputEvent::CallDelta { text: all, .. }),
                OutputEvent::CallDelta { text, .. },
            ) => all.push_str(text),
            _ => joined.push(event),
        }
    }
    assert!(open.is_empty(), "a call is neither complete nor invalid");
    joined
}

#[test]
fn damaged_answers_are_read_alike_however_they_are_cut() {
    const ROUNDS: usize = 60;
    let mut draw = Draw(7);
    for (number, calls) in ALL.iter().enumerate() {
        let kinds = reasoning::ALL.len() + 1;
        for round in 0..ROUNDS {
            let formats = OutputFormats {
                reasoning: reasoning::ALL.get((number + round) % kinds),
                calls: Some(calls),
                plain_text: round % 4 == 3,
            };
            let mut markers: Vec<&str> = calls.opens.iter().chain(calls.closes).copied().collect();
            if let Some(format) = formats.reasoning {
                markers.extend(format.opens.iter().chain(format.closes).chain(format.wrappers));
            }
            markers.extend(PIECES);
            let answer = answer(&mut draw, &markers);
            let whole = found(&formats, std::slice::from_ref(&answer));
            let size = 1 + draw.below(7);
            let characters: Vec<char> = answer.chars().collect();
            let pieces: Vec<String> =
                characters.chunks(size).map(|piece| piece.iter().collect()).collect();
            assert_eq!(found(&formats, &pieces), whole, "{} {size}: {answer:?}", calls.name);
        }
    }
}

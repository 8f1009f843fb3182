//! What structured output costs: preparing a vocabulary of 150 000 tokens, compiling schemas, the
//! tokens that may come next, and how much longer an answer takes beside a device that needs some
//! time for each step, without a model: `cargo bench --bench constraint`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nodemlx::constraint::{Begin, Grammar, Masks, Vocabulary, Word};
use serde_json::json;

const SIZE: usize = 150_000;

/// All bytes, and words of letters, digits and marks, with and without a space before them.
fn words() -> Vec<Word> {
    let mut words: Vec<Word> = (0..=255).map(|byte| Word::Text(vec![byte])).collect();
    let pieces = ["\":", "\",", "\": \"", "\", \"", "{\"", "\"}", "\"]", "},", "[{\"", "\n  \""];
    words.extend(pieces.map(|piece| Word::Text(piece.as_bytes().to_vec())));
    let mut state = 1_u64;
    let mut random = |limit: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    while words.len() < SIZE - 1 {
        let mut word = Vec::new();
        if random(2) == 0 {
            word.push(b' ');
        }
        for _ in 0..2 + random(8) {
            word.push(match random(40) {
                0 => b'0' + random(10) as u8,
                1 => b"-_.:/,\"'"[random(8) as usize],
                _ => b'a' + random(26) as u8,
            });
        }
        words.push(Word::Text(word));
    }
    words.push(Word::Special("<end>".to_owned()));
    words
}

fn schema() -> Grammar {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string" },
            "email": { "type": "string", "format": "email" },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "role": { "enum": ["admin", "editor", "viewer"] },
            "joined": { "type": "string", "format": "date-time" },
            "tags": { "type": "array", "items": { "type": "string", "maxLength": 40 }, "maxItems": 10 },
            "addresses": { "type": "array", "items": { "$ref": "#/$defs/address" } },
            "notes": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
        },
        "required": ["name", "email", "age", "role", "joined", "tags", "addresses", "notes"],
        "additionalProperties": false,
        "$defs": {
            "address": {
                "type": "object",
                "properties": {
                    "street": { "type": "string" },
                    "city": { "type": "string" },
                    "zip": { "type": "string", "pattern": "^[0-9]{5}$" },
                },
                "required": ["street", "city", "zip"],
                "additionalProperties": false,
            },
        },
    });
    Grammar::Json { schema: schema.to_string(), strict: true }
}

const ANSWER: &str = r#"{"name": "Some Body", "email": "somebody@example.com", "age": 42, "role": "editor", "joined": "2026-02-28T09:30:00Z", "tags": ["one", "two words", "three"], "addresses": [{"street": "12 Long Street of the Old Town", "city": "Lyon", "zip": "69001"}], "notes": "A longer text, as models write them, about nothing in particular."}"#;

/// What an application asks for most often.
fn ordinary() -> Grammar {
    let schema = json!({
        "type": "object",
        "properties": {
            "city": { "type": "string" },
            "country": { "type": "string" },
            "population": { "type": "integer", "minimum": 0 },
            "kind": { "enum": ["town", "city", "capital"] },
            "sights": { "type": "array", "items": { "type": "string" } },
        },
        "required": ["city", "country", "population", "kind", "sights"],
        "additionalProperties": false,
    });
    Grammar::Json { schema: schema.to_string(), strict: true }
}

/// The answer in tokens, each the longest that there is.
fn tokens(words: &[Word]) -> Vec<u32> {
    let known: HashMap<&[u8], u32> = (0..)
        .zip(words)
        .filter_map(|(token, word)| match word {
            Word::Text(bytes) => Some((bytes.as_slice(), token)),
            _ => None,
        })
        .collect();
    let (mut rest, mut tokens) = (ANSWER.as_bytes(), Vec::new());
    while !rest.is_empty() {
        let longest = (1..=rest.len().min(16)).rev().find(|&it| known.contains_key(&rest[..it]));
        let length = longest.unwrap();
        tokens.push(known[&rest[..length]]);
        rest = &rest[length..];
    }
    tokens
}

/// How long the answer takes where the device needs `step` for each token: its logits are computed
/// while the mask is.
fn decode(tokens: &[u32], step: Duration, mut masks: Option<Masks>) -> Duration {
    let begun = Instant::now();
    for &token in tokens {
        let queued = Instant::now();
        if let Some(masks) = &mut masks {
            let has_ended = masks.accept(token).unwrap();
            thread::sleep(step.saturating_sub(queued.elapsed()));
            if !has_ended {
                assert!(masks.allowed().unwrap().count() > 0);
            }
        } else {
            thread::sleep(step);
        }
    }
    begun.elapsed()
}

fn compile_time(name: &str, grammar: &Grammar, vocabulary: &Arc<Vocabulary>) {
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let begun = Instant::now();
            let constraint = grammar.compile(vocabulary, &Begin::Now).unwrap();
            // The first mask is part of the wait.
            Masks::start(&constraint).unwrap().allowed().unwrap();
            begun.elapsed()
        })
        .collect();
    let first = times[0];
    times.sort_unstable();
    println!("{name} and its first mask: {:.1?} median, {first:.1?} the first", times[10]);
}

fn main() {
    let words = words();
    let answer = tokens(&words);
    let begun = Instant::now();
    let vocabulary = Arc::new(Vocabulary::new(words, &[SIZE as u32 - 1]).unwrap());
    println!("a vocabulary of {SIZE} tokens: {:.0?}", begun.elapsed());

    compile_time("an ordinary schema", &ordinary(), &vocabulary);
    compile_time("one with formats and references", &schema(), &vocabulary);

    let constraint = schema().compile(&vocabulary, &Begin::Now).unwrap();
    let mut times = Vec::new();
    for _ in 0..5 {
        let mut masks = Masks::start(&constraint).unwrap();
        masks.allowed().unwrap();
        for &token in &answer {
            let begun = Instant::now();
            let has_ended = masks.accept(token).unwrap();
            if !has_ended {
                masks.allowed().unwrap();
            }
            times.push(begun.elapsed());
        }
    }
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    let mean = times.iter().sum::<Duration>() / times.len() as u32;
    println!(
        "the next mask: {mean:.0?} on average, {:.0?} median, {:.0?} 99 %, {:.0?} at most",
        at(0.5),
        at(0.99),
        at(1.0)
    );

    for milliseconds in [20, 10, 5, 2] {
        let step = Duration::from_millis(milliseconds);
        // In turns, since the machine is not the same all the time.
        let (mut free, mut constrained) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..3 {
            free += decode(&answer, step, None);
            constrained += decode(&answer, step, Some(Masks::start(&constraint).unwrap()));
        }
        let more = constrained.as_secs_f64() / free.as_secs_f64() - 1.0;
        println!(
            "{} tokens at {milliseconds} ms a step: {:.1} % slower than free",
            answer.len(),
            more * 100.0
        );
    }
}

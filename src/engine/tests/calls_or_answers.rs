//! Calls of tools and a format of the answer in one grammar, in every format of calls.

use serde_json::{Value, json};

use crate::constraint::{Begin, Constraint, Grammar, Masks};
use crate::engine::output_plan::OutputPlan;
use crate::engine::text::Text;
use crate::engine::{GenerateRequest, Prompt};
use crate::error::{Error, Result};
use crate::generate::GenerationOptions;
use crate::text::output::tool_calls::ALL;
use crate::text::output::{OutputEvent, ToolFormat};
use crate::text::test_folder::TestFolder;

/// Markers that are special tokens in some models.
const SPECIAL: [&str; 27] = [
    "<end>",
    "<tool_call>",
    "</tool_call>",
    "<|tool_call|>",
    "<|/tool_call|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<|tool_calls_section_begin|>",
    "<|tool_call_begin|>",
    "<|tool_call_argument_begin|>",
    "<|tool_call_end|>",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "<|start|>",
    "<|constrain|>",
    "<|call|>",
    "<|open|>",
    "<|sep|>",
    "<|close|>",
];
const END: u32 = 256;
const SIZE: usize = 256 + SPECIAL.len();

/// Texts of a tokenizer with a token for each byte, and for the first `special` of [`SPECIAL`].
pub(super) fn text(special: usize) -> Text {
    let mut next = 256;
    let mut vocabulary = serde_json::Map::new();
    for byte in 0..=255_u32 {
        let plain = matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let letter = if plain { byte } else { next };
        next += u32::from(!plain);
        vocabulary.insert(char::from_u32(letter).unwrap().to_string(), byte.into());
    }
    let added = SPECIAL[..special].iter().zip(256..).map(|(content, id)| {
        json!({
            "id": id, "content": content, "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false,
        })
    });
    let byte_level = json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
    });
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocabulary, "merges": [] },
    });
    let folder = TestFolder::new();
    folder.write("tokenizer.json", tokenizer.to_string());
    folder.write("generation_config.json", json!({ "eos_token_id": END }).to_string());
    Text::from_dir(folder.path(), SIZE, &mut Vec::new()).unwrap()
}

fn request(format: &str, tools: &Value) -> GenerateRequest {
    let schema = json!({
        "type": "object",
        "properties": { "n": { "type": "integer", "minimum": 0, "maximum": 9 } },
        "required": ["n"],
        "additionalProperties": false,
    });
    let options = json!({ "tools": tools, "template": "{{ messages[0].content }}" });
    let messages = json!([{ "role": "user", "content": "Hi" }]).to_string();
    let mut request =
        GenerateRequest::new(Prompt::Messages { messages, options: options.to_string() });
    request.options = GenerationOptions::default();
    request.response_format = Some(Grammar::Json { schema: schema.to_string(), strict: true });
    request.output.tool_format = Some(format.to_owned());
    // The special tokens are those of several models.
    request.output.reasoning_format = (format != "harmony").then(|| "none".to_owned());
    request
}

fn tools(strict: bool) -> Value {
    let parameters = json!({
        "type": "object",
        "properties": {
            "a": { "type": "integer", "enum": [1, 2] },
            "b": { "enum": ["u", "v"] },
            "c": { "$ref": "#/$defs/flag" },
        },
        "required": ["a", "b"],
        "additionalProperties": false,
        "$defs": { "flag": { "type": "boolean" } },
    });
    let function = json!({ "name": "f", "parameters": parameters, "strict": strict });
    let now = json!({ "type": "object", "additionalProperties": false });
    json!([{ "type": "function", "function": function }, { "name": "now", "parameters": now }])
}

fn planned(text: &Text, request: &GenerateRequest) -> Result<(OutputPlan, Constraint)> {
    let plan = text.output_plan(request, &[u32::from(b'i')])?.unwrap();
    let (grammar, begin) = plan.constraint(request)?.unwrap();
    let constraint = grammar.compile(&text.vocabulary(SIZE)?, &begin)?;
    Ok((plan, constraint))
}

/// An answer of tokens that are drawn from those allowed: every other time a special one, where
/// there is one.
fn walk(constraint: &Constraint, mut seed: u32) -> Vec<u32> {
    let mut draw = |count: usize| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) as usize % count
    };
    let mut masks = Masks::start(constraint).unwrap();
    let mut tokens = Vec::new();
    loop {
        assert!(tokens.len() < 2000, "the answer does not end");
        let allowed = masks.allowed().unwrap();
        let all: Vec<u32> = (0..SIZE as u32).filter(|&token| allowed.contains(token)).collect();
        let special: Vec<u32> = all.iter().copied().filter(|&token| token >= END).collect();
        let token = match !special.is_empty() && draw(2) == 0 {
            true => special[draw(special.len())],
            false => all[draw(all.len())],
        };
        if token == END {
            return tokens;
        }
        tokens.push(token);
        if masks.accept(token).unwrap() {
            return tokens;
        }
    }
}

/// What an answer of these tokens is made of.
fn read(plan: &OutputPlan, tokens: &[u32]) -> Vec<OutputEvent> {
    let mut parser = plan.parser();
    let mut events = Vec::new();
    for part in tokens.chunk_by(|&one, &other| one < 256 && other < 256) {
        match part {
            &[token] if token >= 256 => {
                events.extend(parser.push(SPECIAL[token as usize - 256], true));
            }
            bytes => {
                let bytes = bytes.iter().map(|&byte| byte as u8).collect();
                events.extend(parser.push(&String::from_utf8(bytes).unwrap(), false));
            }
        }
    }
    events.extend(parser.finish());
    events
}

/// The answer's text, and the names and arguments of its calls.
fn parts(events: &[OutputEvent]) -> (String, Vec<(String, Value)>) {
    let (mut text, mut calls, mut json) = (String::new(), Vec::new(), String::new());
    let mut called = String::new();
    for event in events {
        match event {
            OutputEvent::Text(piece) => text.push_str(piece),
            OutputEvent::CallStart { name, .. } => called.clone_from(name),
            OutputEvent::CallDelta { text, .. } => json.push_str(text),
            OutputEvent::CallEnd { .. } => {
                let arguments = serde_json::from_str(&std::mem::take(&mut json)).unwrap();
                calls.push((called.clone(), arguments));
            }
            OutputEvent::InvalidCall { raw, error, .. } => panic!("{error}: {raw}"),
            OutputEvent::Hidden(_) | OutputEvent::Marker(_) | OutputEvent::Reasoning(_) => {}
        }
    }
    (text, calls)
}

fn assert_allowed((name, arguments): &(String, Value), format: &str) {
    let arguments = arguments.as_object().unwrap();
    if name == "now" {
        return;
    }
    assert_eq!(name, "f", "{format}");
    assert!([json!(1), json!(2)].contains(&arguments["a"]), "{format}: {arguments:?}");
    assert!([json!("u"), json!("v")].contains(&arguments["b"]), "{format}: {arguments:?}");
    assert!(arguments.get("c").is_none_or(Value::is_boolean), "{format}: {arguments:?}");
}

#[test]
fn an_answer_is_calls_that_the_tools_allow_or_what_the_format_asks_for() {
    for special in [1, SPECIAL.len()] {
        let text = text(special);
        let is_tried = |format: &ToolFormat| special > 1 || format.name != "harmony";
        for format in ALL.iter().filter(|format| is_tried(format)) {
            let request = request(format.name, &tools(false));
            let (plan, constraint) = planned(&text, &request).unwrap();
            let (mut answers, mut called) = (0, 0);
            for seed in 0..40 {
                let tokens = walk(&constraint, seed);
                let (text, calls) = parts(&read(&plan, &tokens));
                calls.iter().for_each(|call| assert_allowed(call, format.name));
                called += usize::from(!calls.is_empty());
                if calls.is_empty() {
                    let value: Value = serde_json::from_str(&text).unwrap();
                    assert!(value["n"].as_u64().is_some_and(|n| n < 10), "{}: {text}", format.name);
                    answers += 1;
                } else {
                    assert_eq!(text.trim(), "", "{}", format.name);
                }
            }
            assert!(answers > 0 && called > 0, "{}: {answers} and {called}", format.name);
        }
    }
}

#[test]
fn a_required_call_leaves_no_room_for_an_answer() {
    let text = text(SPECIAL.len());
    for format in ALL {
        let mut request = request(format.name, &tools(false));
        request.output.required_tools = Some(vec!["f".to_owned()]);
        request.output.single_call = true;
        let (plan, constraint) = planned(&text, &request).unwrap();
        for seed in 0..10 {
            let (text, calls) = parts(&read(&plan, &walk(&constraint, seed)));
            assert_eq!((text.trim(), calls.len()), ("", 1), "{}", format.name);
            assert_eq!(calls[0].0, "f");
            assert_allowed(&calls[0], format.name);
        }
    }
}

#[test]
fn calls_of_strict_tools_are_kept_to_their_schemas_behind_any_text() {
    for special in [1, SPECIAL.len()] {
        let text = text(special);
        let is_tried = |format: &ToolFormat| special > 1 || format.name != "harmony";
        for format in ALL.iter().filter(|format| is_tried(format)) {
            check_strict(&text, format);
        }
    }
    // Without one that is strict, nothing is kept to.
    let text = text(1);
    let mut request = request("hermes", &tools(false));
    request.response_format = None;
    let plan = text.output_plan(&request, &[u32::from(b'i')]).unwrap().unwrap();
    assert!(plan.constraint(&request).unwrap().is_none());
}

fn check_strict(text: &Text, format: &ToolFormat) {
    let mut request = request(format.name, &tools(true));
    request.response_format = None;
    let (plan, constraint) = planned(text, &request).unwrap();
    let encode = |answer: &str| text.tokenizer().unwrap().encode(answer, false).unwrap();
    // The place of the first token that may not come.
    let refused = |tokens: &[u32]| {
        let mut masks = Masks::start(&constraint).unwrap();
        tokens.iter().position(|&token| {
            !masks.allowed().is_ok_and(|allowed| allowed.contains(token))
                || masks.accept(token).is_err()
        })
    };
    let lead = match format.name {
        "harmony" => "<|channel|>final<|message|>",
        _ => format.header.unwrap_or_default(),
    };
    let answer = format!("{lead}Well, \u{e9}\u{1f600} <b>{{\"n\"}}");
    assert_eq!(refused(&encode(&answer)), None, "{}", format.name);
    for seed in 0..20 {
        let (_, calls) = parts(&read(&plan, &walk(&constraint, seed)));
        calls.iter().for_each(|call| assert_allowed(call, format.name));
    }
    // Calls that must come may come behind text, and no others.
    request.output.required_tools = Some(vec!["f".to_owned()]);
    let (_, required) = planned(text, &request).unwrap();
    let between = match format.name {
        "functionary-v2" => "\n<|from|>assistant\n<|recipient|>",
        "functionary-v3.2" => ">>>",
        // It is one or the other.
        "harmony" => return,
        _ => "",
    };
    for seed in 0..5 {
        let call = walk(&required, seed);
        let written = text.tokenizer().unwrap().decode(&call, false).unwrap();
        if between.is_empty() && !format.opens.iter().any(|open| written.starts_with(open)) {
            return;
        }
        for before in ["", "So: "] {
            let lead = if before.is_empty() { "" } else { lead };
            let between = if before.is_empty() { "" } else { between };
            let tokens = [encode(&format!("{lead}{before}{between}")), call.clone()].concat();
            assert_eq!(refused(&tokens), None, "{}: {before}{written}", format.name);
            let (_, calls) = parts(&read(&plan, &tokens));
            assert!(!calls.is_empty(), "{}: {before}{written}", format.name);
            calls.iter().for_each(|call| assert_allowed(call, format.name));
            let wrong = written.replace(['1', '2'], "3").replace("\"f\"", "\"g\"");
            let wrong = encode(&format!("{lead}{before}{between}{wrong}"));
            assert!(refused(&wrong).is_some(), "{}: {before}{written}", format.name);
        }
    }
}

/// An argument's name, its schema, and what that allows.
type Argument = (&'static str, Value, fn(&Value) -> bool);

fn arguments() -> Vec<Argument> {
    fn text(value: &Value) -> Option<&str> {
        value.as_str()
    }
    fn all(text: &str, is_right: fn(char) -> bool) -> bool {
        text.chars().all(is_right)
    }
    let nullable = json!({ "type": ["string", "null"], "maxLength": 3 });
    let one_of_either = json!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 0, "maximum": 9 }] });
    vec![
        ("nullable", nullable, |it| {
            it.is_null() || text(it).is_some_and(|it| it.chars().count() < 4)
        }),
        ("mixed", json!({ "enum": ["x", 2, null, true] }), |it| {
            [json!("x"), json!(2), Value::Null, json!(true)].contains(it)
        }),
        ("constant", json!({ "const": "fast" }), |it| it == "fast"),
        ("pattern", json!({ "type": "string", "pattern": "^[a-c/]{2,4}$" }), |it| {
            text(it)
                .is_some_and(|it| (2..5).contains(&it.len()) && all(it, |it| "abc/".contains(it)))
        }),
        ("part", json!({ "type": "string", "pattern": "ok", "maxLength": 4 }), |it| {
            text(it).is_some_and(|it| it.contains("ok") && it.chars().count() < 5)
        }),
        ("length", json!({ "type": "string", "minLength": 2, "maxLength": 3 }), |it| {
            text(it).is_some_and(|it| (2..4).contains(&it.chars().count()))
        }),
        ("date", json!({ "type": "string", "format": "date" }), |it| {
            text(it)
                .is_some_and(|it| it.len() == 10 && all(it, |it| it.is_ascii_digit() || it == '-'))
        }),
        ("reference", json!({ "$ref": "#/$defs/size" }), |it| it == "small" || it == "large"),
        ("either", one_of_either, |it| it == "auto" || it.is_u64()),
        ("list", json!({ "type": "array", "items": { "enum": ["a"] }, "maxItems": 2 }), |it| {
            it.as_array().is_some_and(|it| it.len() < 3 && it.iter().all(|it| it == "a"))
        }),
    ]
}

#[test]
fn arguments_follow_their_schemas_in_every_format() {
    let text = text(SPECIAL.len());
    let properties: serde_json::Map<String, Value> =
        arguments().into_iter().map(|(name, schema, _)| (name.to_owned(), schema)).collect();
    let names: Vec<&String> = properties.keys().collect();
    let object = json!({
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": false,
    });
    let sizes = json!({ "size": { "enum": ["small", "large"] } });
    let plain = {
        let mut plain = object.clone();
        plain["$defs"] = sizes.clone();
        plain
    };
    let referring =
        json!({ "$ref": "#/$defs/all", "$defs": { "all": object, "size": sizes["size"] } });
    for format in ALL {
        for parameters in [&plain, &referring] {
            let tools = json!([{ "name": "f", "parameters": parameters, "strict": true }]);
            let mut request = request(format.name, &tools);
            request.output.required_tools = Some(vec!["f".to_owned()]);
            request.output.single_call = true;
            let (plan, constraint) = planned(&text, &request).unwrap();
            for seed in 0..8 {
                let (_, calls) = parts(&read(&plan, &walk(&constraint, seed)));
                for (name, _, is_allowed) in arguments() {
                    let value = &calls[0].1[name];
                    assert!(is_allowed(value), "{}: {name} is {value}", format.name);
                }
            }
        }
    }
}

#[test]
fn an_argument_whose_name_would_be_read_as_another_is_refused() {
    let parameters = json!({ "properties": { "a>b": { "type": "string" } } });
    let tools = json!([{ "name": "f", "parameters": parameters }]);
    match planned(&text(1), &request("qwen3-coder", &tools)) {
        Err(Error::InvalidArgument { option, message, .. }) => {
            assert_eq!(option, "tools: f");
            assert!(message.contains("a>b"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn markers_within_an_answer_are_its_text() {
    let text = text(1);
    let mut request = request("hermes", &tools(false));
    request.response_format = Some(Grammar::Json { schema: "true".to_owned(), strict: true });
    let (plan, _) = planned(&text, &request).unwrap();
    let json = "[\"<tool_call>\", \"{\\\"name\\\"\"]";
    let tokens: Vec<u32> = json.bytes().map(u32::from).collect();
    assert_eq!(parts(&read(&plan, &tokens)), (json.to_owned(), Vec::new()));
}

#[test]
fn what_of_a_tools_schema_cannot_be_enforced_is_told_or_refused() {
    let text = text(1);
    let tools = |strict: bool| {
        let parameters =
            json!({ "properties": { "tags": { "type": "array", "uniqueItems": true } } });
        json!([{ "name": "f", "parameters": parameters, "strict": strict }])
    };
    let (_, constraint) = planned(&text, &request("hermes", &tools(false))).unwrap();
    let warnings = constraint.warnings();
    assert!(warnings.iter().any(|it| it.starts_with("tools: f: ") && it.contains("uniqueItems")));
    match planned(&text, &request("hermes", &tools(true))) {
        Err(Error::InvalidArgument { option, message, .. }) => {
            assert_eq!(option, "tools: f");
            assert!(message.contains("uniqueItems"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_of_reasoning_come_first_where_a_model_writes_in_messages() {
    let text = text(SPECIAL.len());
    let request = request("harmony", &tools(false));
    let (plan, constraint) = planned(&text, &request).unwrap();
    let tokenizer = text.tokenizer().unwrap();
    let thought = "<|channel|>analysis<|message|>Hm, <5.<|end|><|start|>assistant";
    let answer = "<|channel|>final<|message|>{\"n\":5}";
    let call = "<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}<|call|>";
    for (lead, rest) in [("", answer), (thought, answer), (thought, call), ("", call)] {
        let tokens = tokenizer.encode(&format!("{lead}{rest}"), false).unwrap();
        let mut masks = Masks::start(&constraint).unwrap();
        for &token in &tokens {
            assert!(masks.allowed().unwrap().contains(token), "{lead}{rest}");
            masks.accept(token).unwrap();
        }
        assert!(masks.is_complete());
        let (text, calls) = parts(&read(&plan, &tokens));
        assert_eq!(
            (text.as_str(), calls.len()),
            if rest == call { ("", 1) } else { ("{\"n\":5}", 0) }
        );
    }
    assert!(matches!(plan.constraint(&request).unwrap().unwrap().1, Begin::Now));
}

#[test]
fn messages_of_reasoning_come_first_without_tools_too() {
    let text = text(SPECIAL.len());
    let (plan, constraint) = planned(&text, &request("harmony", &json!([]))).unwrap();
    let tokenizer = text.tokenizer().unwrap();
    let thought = "<|channel|>analysis<|message|>Hm, <5.<|end|><|start|>assistant";
    let answer = "<|channel|>final<|message|>{\"n\":5}";
    for lead in ["".to_owned(), thought.to_owned(), thought.repeat(2)] {
        let tokens = tokenizer.encode(&format!("{lead}{answer}"), false).unwrap();
        let mut masks = Masks::start(&constraint).unwrap();
        for &token in &tokens {
            let allowed = masks.allowed().unwrap();
            assert!(allowed.contains(token) && !allowed.contains(END), "{lead}");
            masks.accept(token).unwrap();
        }
        assert!(masks.is_complete());
        assert_eq!(parts(&read(&plan, &tokens)).0, "{\"n\":5}");
    }
    // Nothing else than the two channels may come.
    let mut masks = Masks::start(&constraint).unwrap();
    let channel = tokenizer.encode("<|channel|>", false).unwrap();
    masks.accept(channel[0]).unwrap();
    assert!(!masks.allowed().unwrap().contains(u32::from(b'c')));
}

/// Schemas of an argument whose keywords meet, the keyword that matters, and what it allows.
#[expect(clippy::type_complexity, reason = "a list of three things")]
fn meeting() -> Vec<(Value, &'static str, fn(&Value) -> bool)> {
    fn text(value: &Value, is: fn(&str) -> bool) -> bool {
        value.as_str().is_some_and(is)
    }
    vec![
        (json!({ "allOf": [{ "type": "string", "pattern": "^a+$" }] }), "allOf", |it| {
            text(it, |it| !it.is_empty() && it.bytes().all(|byte| byte == b'a'))
        }),
        (json!({ "type": "string", "not": { "const": "a" } }), "not", |it| {
            text(it, |it| it != "a")
        }),
        (json!({ "type": "integer", "anyOf": [{ "minimum": 5, "maximum": 7 }] }), "anyOf", |it| {
            it.as_u64().is_some_and(|it| (5..8).contains(&it))
        }),
        (
            json!({ "type": "string", "maxLength": 2, "anyOf": [{ "pattern": "^a" }] }),
            "anyOf",
            |it| text(it, |it| it.starts_with('a') && it.chars().count() < 3),
        ),
        (json!({ "$ref": "#/$defs/whole", "minimum": 4, "maximum": 6 }), "minimum", |it| {
            it.as_u64().is_some_and(|it| (4..7).contains(&it))
        }),
        (json!({ "minimum": 5 }), "minimum", |it| it.as_f64().is_none_or(|it| it >= 5.0)),
        (json!({ "type": "string", "enum": ["a", 1] }), "enum", |it| it == "a"),
        (json!({ "type": "string", "enum": ["a", "bcd"], "maxLength": 1 }), "maxLength", |it| {
            it == "a"
        }),
        (
            json!({ "enum": ["aa", "b", 7, true], "pattern": "^a+$", "minimum": 8 }),
            "pattern",
            |it| it == "aa" || it == true,
        ),
        (json!({ "enum": ["a", "b"], "const": "b" }), "const", |it| it == "b"),
        (json!({ "enum": ["a", "b"], "not": { "const": "b" } }), "not", |it| it == "a"),
        (
            json!({ "oneOf": [
                { "type": "integer", "multipleOf": 2 }, { "type": "integer", "multipleOf": 3 },
            ] }),
            "oneOf",
            |it| it.as_i64().is_some_and(|it| (it % 2 == 0) != (it % 3 == 0)),
        ),
        (
            json!({
                "type": "array", "items": { "enum": ["a", "b"] }, "uniqueItems": true,
                "minItems": 2, "maxItems": 2,
            }),
            "uniqueItems",
            |it| it[0] != it[1],
        ),
    ]
}

#[test]
fn keywords_that_meet_are_enforced_or_refused_by_name_in_every_format() {
    let text = text(SPECIAL.len());
    let mut failures = Vec::new();
    for format in ALL {
        for (schema, keyword, is_allowed) in meeting() {
            let parameters = json!({
                "type": "object",
                "properties": { "x": schema },
                "required": ["x"],
                "additionalProperties": false,
                "$defs": { "whole": { "type": "integer" } },
            });
            let tools = json!([{ "name": "f", "parameters": parameters, "strict": true }]);
            let mut request = request(format.name, &tools);
            request.output.required_tools = Some(vec!["f".to_owned()]);
            request.output.single_call = true;
            match planned(&text, &request) {
                Ok((plan, constraint)) => {
                    for seed in 0..6 {
                        let (_, calls) = parts(&read(&plan, &walk(&constraint, seed)));
                        let value = &calls[0].1["x"];
                        if !is_allowed(value) {
                            failures.push(format!("{}: {schema}: {value}", format.name));
                            break;
                        }
                    }
                }
                Err(error) => {
                    let message = error.to_string();
                    if !message.contains(keyword) {
                        failures.push(format!("{}: {schema}: {message}", format.name));
                    }
                }
            }
        }
        // Of the arguments as a whole.
        let parameters = json!({
            "properties": { "a": { "type": "string" }, "b": { "type": "string" } },
            "minProperties": 1,
            "dependentRequired": { "a": ["b"] },
        });
        let tools = json!([{ "name": "f", "parameters": parameters, "strict": true }]);
        let mut request = request(format.name, &tools);
        request.output.required_tools = Some(vec!["f".to_owned()]);
        match planned(&text, &request) {
            Err(error) if error.to_string().contains("Propert") => {}
            Err(error) if error.to_string().contains("dependentRequired") => {}
            other => failures.push(format!("{}: {:?}", format.name, other.map(|_| ()))),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn listed_values_are_those_that_all_keywords_allow() {
    let text = text(SPECIAL.len());
    let planned_with = |format: &ToolFormat, schema: &Value| {
        let parameters = json!({ "properties": { "x": schema }, "required": ["x"] });
        let tools = json!([{ "name": "f", "parameters": parameters, "strict": true }]);
        let mut request = request(format.name, &tools);
        request.output.required_tools = Some(vec!["f".to_owned()]);
        request.output.single_call = true;
        planned(&text, &request)
    };
    let raw =
        |it: &&&ToolFormat| ["qwen3-coder", "kimi-k3", "minimax-m2", "gemma4"].contains(&it.name);
    for format in ALL.iter().filter(raw) {
        for (schema, allowed) in [
            (json!({ "enum": ["a", "bb", "ccc"], "minLength": 2, "maxLength": 2 }), json!("bb")),
            (
                json!({ "enum": ["2024-02-30", "2024-02-03x", "2024-02-03"], "format": "date" }),
                json!("2024-02-03"),
            ),
            (
                json!({ "enum": [1, 2.5, 4, 9], "minimum": 2, "exclusiveMaximum": 9, "multipleOf": 2 }),
                json!(4),
            ),
            (
                json!({ "type": ["string", "integer"], "enum": ["aé", 3, "b"], "pattern": "^.é$", "maximum": 2 }),
                json!("aé"),
            ),
            (json!({ "const": "ok", "minLength": 2 }), json!("ok")),
            (
                json!({ "anyOf": [{ "enum": ["x", "zzz"] }, { "const": "zzz" }], "minLength": 3 }),
                json!("zzz"),
            ),
        ] {
            let found = planned_with(format, &schema);
            let (plan, constraint) = found.unwrap();
            for seed in 0..4 {
                let (_, calls) = parts(&read(&plan, &walk(&constraint, seed)));
                assert_eq!(calls[0].1["x"], allowed, "{}: {schema}", format.name);
            }
        }
        for (schema, message) in [
            (
                json!({ "enum": ["a", "b"], "minLength": 2 }),
                "\"enum\" has no value that \"minLength\" allows",
            ),
            (json!({ "const": 3, "maximum": 2 }), "\"const\" has no value that \"maximum\" allows"),
            (json!({ "enum": [1], "const": 2 }), "\"enum\" has no value that \"const\" allows"),
            (
                json!({ "type": "string", "minLength": 3, "maxLength": 2 }),
                "\"minLength\" is more than \"maxLength\"",
            ),
        ] {
            let error = planned_with(format, &schema).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(message), "{}: {schema}: {error}", format.name);
        }
    }
}

/// How many tokens an answer has that begins so, adds a digit wherever it can, and else comes to an
/// end.
fn longest(constraint: &Constraint, begun: &[u32], name: &str) -> usize {
    let mut masks = Masks::start(constraint).unwrap();
    let mut begun = begun.iter().copied();
    for length in 0..1500 {
        let allowed = masks.allowed().unwrap();
        let has = |token: &u32| allowed.contains(*token);
        let next = begun.next().filter(has);
        let digit = b"79.eE-+".iter().map(|&byte| u32::from(byte)).find(has);
        let special = (256..SIZE as u32).find(has);
        let other = b"]}<\"\n".iter().map(|&byte| u32::from(byte)).find(has);
        let any = (0..=END).find(has);
        let token = next.or(digit).or(special).or(other).or(any).unwrap();
        if token == END || masks.accept(token).unwrap() {
            return length;
        }
    }
    panic!("{name}: the answer does not end");
}

#[test]
fn numbers_end_in_every_format() {
    let text = text(SPECIAL.len());
    let number = json!({ "type": "number" });
    let list = json!({ "type": "array", "items": number, "minItems": 1, "maxItems": 1 });
    let object = json!({
        "type": "object", "properties": { "n": number }, "required": ["n"],
        "additionalProperties": false,
    });
    let least = json!({ "type": "number", "minimum": 3 });
    // Reasoning, which may come first in harmony, has as many digits as it likes.
    let bytes = |text: &str| text.bytes().map(u32::from).collect::<Vec<u32>>();
    let special = |text: &str| {
        let place = SPECIAL.iter().position(|it| *it == text).unwrap();
        vec![256 + u32::try_from(place).unwrap()]
    };
    let plain = bytes("{\"n\": ");
    let called = [special("<|channel|>"), bytes("commentary")].concat();
    let answer = [special("<|channel|>"), bytes("final"), special("<|message|>")].concat();
    let answered = [answer, plain.clone()].concat();
    for format in ALL {
        for schema in [&number, &list, &object, &least] {
            let parameters = json!({
                "type": "object", "properties": { "x": schema }, "required": ["x"],
                "additionalProperties": false,
            });
            let tools = json!([{ "name": "f", "parameters": parameters, "strict": true }]);
            let mut request = request(format.name, &tools);
            request.output.single_call = true;
            request.output.required_tools = Some(vec!["f".to_owned()]);
            let (_, constraint) = planned(&text, &request).unwrap();
            longest(&constraint, if format.name == "harmony" { &called } else { &[] }, format.name);
            // Or an answer of JSON, with a number of its own.
            request.output.required_tools = None;
            let schema = object.to_string();
            request.response_format = Some(Grammar::Json { schema, strict: true });
            let (_, constraint) = planned(&text, &request).unwrap();
            longest(
                &constraint,
                if format.name == "harmony" { &answered } else { &plain },
                format.name,
            );
        }
    }
}

#[test]
fn an_answer_that_is_no_json_has_as_many_digits_as_its_format_allows() {
    let text = text(SPECIAL.len());
    for format in ALL.iter().filter(|format| format.name != "harmony") {
        let mut request = request(format.name, &tools(false));
        request.response_format = Some(Grammar::Regex("[0-9]{0,40}".to_owned()));
        let (_, constraint) = planned(&text, &request).unwrap();
        assert!(longest(&constraint, &[], format.name) >= 39, "{}", format.name);
    }
}

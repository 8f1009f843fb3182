//! Reasoning of every kind, and what formats have in common.

use super::golden::{check_all, check_reasoning};
use serde_json::{Value, json};

use super::*;

#[test]
fn reasoning_is_split_from_the_answer() {
    check_reasoning(
        "think",
        Some("hermes"),
        "",
        &[
            ("<think>\nHm.\n\nYes.\n</think>\n\nThe answer.", r#"?"Hm.\n\nYes." "The answer.""#),
            ("\n<think></think>Hi ", r#""Hi ""#),
            ("<think>\nHm. ", r#"?"Hm.""#),
            ("No thoughts, a < b.", r#""No thoughts, a < b.""#),
            (
                "<think>call <tool_call>?</think><tool_call>{\"name\": \"now\"}</tool_call>",
                r#"?"call <tool_call>?" now{}"#,
            ),
        ],
    );
    check_reasoning(
        "think",
        None,
        "<|im_start|>assistant\n<think>\n",
        &[
            ("Hm.\n</think>\n\nYes.\n", r#"?"Hm." "Yes.\n""#),
            ("Hm.</think>", r#"?"Hm.""#),
            // Without tools a marker of calls is text.
            ("</think><tool_call>{}</tool_call>", r#""<tool_call>{}</tool_call>""#),
        ],
    );
    check_reasoning(
        "gemma4",
        None,
        "",
        &[("<|channel>thought\nHm.\n<channel|>Yes.", r#"?"Hm." "Yes.""#)],
    );
    check_reasoning(
        "mistral",
        Some("mistral"),
        "",
        &[
            ("[THINK]Hm.[/THINK]Yes.", r#"?"Hm." "Yes.""#),
            ("[THINK]Hm.[TOOL_CALLS]now[ARGS]{}", r#"?"Hm." now{}"#),
        ],
    );
    check_reasoning(
        "cohere",
        None,
        "",
        &[(
            "<|START_THINKING|>Hm.<|END_THINKING|><|START_RESPONSE|>Yes.<|END_RESPONSE|>",
            r#"?"Hm." "Yes.""#,
        )],
    );
    check_reasoning(
        "hunyuan",
        None,
        "",
        &[("<think>\nHm.\n</think>\n<answer>\nYes.\n</answer>", r#"?"Hm." "Yes.""#)],
    );
    check_reasoning(
        "granite",
        None,
        "",
        &[("Here is my thought process: Hm.\n\nHere is my response: Yes.", r#"?"Hm." "Yes.""#)],
    );
}

#[test]
fn messages_of_harmony_are_told_apart_by_their_headers() {
    check_reasoning(
        "harmony",
        Some("harmony"),
        "<|start|>assistant",
        &[
            (
                "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
                r#"?"Hm." "Yes.""#,
            ),
            (
                "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Ulm\"}<|call|>",
                r#"?"Hm." get_weather{"city":"Ulm"}"#,
            ),
            (
                "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.now<|channel|>commentary json<|message|>{}",
                r#""I look." now{}"#,
            ),
            (
                "<|channel|>commentary to=functions.now<|message|>{\"a\"",
                r#"now{"a" !"<|channel|>commentary to=functions.now<|message|>{\"a\"""#,
            ),
        ],
    );
    check_reasoning(
        "harmony",
        None,
        "",
        &[(
            "<|channel|>commentary to=functions.now<|message|>{}<|call|>",
            r#""<|channel|>commentary to=functions.now<|message|>{}""#,
        )],
    );
}

#[test]
fn special_tokens_in_a_text_are_no_text() {
    let formats =
        OutputFormats { reasoning: ReasoningFormat::named("think"), ..OutputFormats::default() };
    let mut parser = OutputParser::new(formats, Arc::default(), "", false);
    let mut events = parser.push("a ", false);
    events.extend(parser.push("<|x|>", true));
    events.extend(parser.push("b", false));
    events.extend(parser.push("<think>", true));
    assert!(parser.reasons());
    events.extend(parser.push("c", false));
    events.extend(parser.push("<|y|>", true));
    events.extend(parser.finish());
    let text = |text: &str| OutputEvent::Text(text.to_owned());
    let hidden = |text: &str| OutputEvent::Hidden(text.to_owned());
    assert_eq!(
        events,
        [
            text("a"),
            text(" "),
            hidden("<|x|>"),
            text("b"),
            OutputEvent::Marker("<think>".to_owned()),
            OutputEvent::Reasoning("c".to_owned()),
            hidden("<|y|>"),
        ]
    );
}

#[test]
fn hostile_text_neither_hangs_nor_overflows() {
    for format in tool_calls::ALL {
        let formats = OutputFormats { calls: Some(format), ..OutputFormats::default() };
        for open in format.opens.iter().chain(&[""]) {
            for tail in [
                "[",
                "{",
                "{\"a\":",
                "(",
                "\"",
                "\\",
                "<",
                "\u{0}",
                "{\"name\":\"now\",\"arguments\":{\"a\":",
            ] {
                let text = format!("{open}{}", tail.repeat(20_000));
                let events = golden::run(&formats, "", &[&text]);
                golden::arguments_are_json(&events);
            }
        }
    }
    check_all(&OutputFormats::default(), "", &[("<think>", r#""<think>""#)]);
}

/// The arguments of the only call in an answer, whose parameters have these schemas.
fn called(format: &str, properties: &Value, answer: &str) -> String {
    let parameters = json!({ "type": "object", "properties": properties, "$defs": {
        "whole": { "type": "integer" },
    } });
    let tools = Arc::new(Tools::new(&json!([{ "name": "f", "parameters": parameters }])));
    let calls = ToolFormat::named(format);
    let formats = OutputFormats { calls, ..OutputFormats::default() };
    let mut parser = OutputParser::new(formats, tools, "", false);
    let mut events = Vec::new();
    for (at, character) in answer.char_indices() {
        events.extend(parser.push(&answer[at..at + character.len_utf8()], false));
    }
    events.extend(parser.finish());
    assert!(events.iter().any(|it| matches!(it, OutputEvent::CallEnd { .. })), "{events:?}");
    let deltas = events.iter().filter_map(|event| match event {
        OutputEvent::CallDelta { text, .. } => Some(text.as_str()),
        _ => None,
    });
    deltas.collect()
}

#[test]
fn strings_that_stand_for_numbers_become_what_the_schema_declares() {
    let properties = json!({
        "n": { "$ref": "#/$defs/whole" },
        "x": { "type": "number" },
        "b": { "type": ["boolean", "null"] },
        "s": { "type": "string" },
        "e": { "anyOf": [{ "type": "integer" }, { "type": "string" }] },
        "list": { "type": "array", "items": { "type": "integer" } },
        "in": { "type": "object", "properties": { "n": { "type": "integer" } } },
    });
    let cases = [
        (r#"{"n": "3"}"#, r#"{"n":3}"#),
        (r#"{"n": "-3", "x": "1.5e3", "b": "true"}"#, r#"{"n":-3,"x":1.5e3,"b":true}"#),
        (r#"{"list": ["1", 2], "in": {"n": "4"}}"#, r#"{"list":[1,2],"in":{"n":4}}"#),
        // What may be a string, or is no number, stays.
        (r#"{"s": "3", "e": "3", "other": "3"}"#, r#"{"s":"3","e":"3","other":"3"}"#),
        (r#"{"n": "3.5", "x": "a", "b": "yes"}"#, r#"{"n":"3.5","x":"a","b":"yes"}"#),
        (r#"{"n": " 3", "x": "03", "b": "null"}"#, r#"{"n":" 3","x":"03","b":"null"}"#),
        (r#"{"n": "3\u0000", "x": "\ud800"}"#, r#"{"n":"3\u0000","x":"\ud800"}"#),
        (r#"{"list": "[1]", "in": "{}"}"#, r#"{"list":"[1]","in":"{}"}"#),
    ];
    for (written, expected) in cases {
        let answer =
            format!("<tool_call>{{\"name\": \"f\", \"arguments\": {written}}}</tool_call>");
        assert_eq!(called("hermes", &properties, &answer), expected);
        let answer =
            format!("<tool_call>{{\"arguments\": {written}, \"name\": \"f\"}}</tool_call>");
        assert_eq!(called("hermes", &properties, &answer), expected);
        let text = Value::from(written);
        let answer = format!("<tool_call>{{\"name\": \"f\", \"arguments\": {text}}}</tool_call>");
        assert_eq!(called("hermes", &properties, &answer), expected);
    }
    assert_eq!(called("pythonic", &properties, "[f(n='3', s='3')]"), r#"{"n":3,"s":"3"}"#);
    let gemma = "<|tool_call>call:f{n:<|\"|>3<|\"|>,s:<|\"|>3<|\"|>}<tool_call|>";
    assert_eq!(called("gemma4", &properties, gemma), r#"{"n":3,"s":"3"}"#);
}

#[test]
fn events_know_where_they_end() {
    let formats = OutputFormats {
        reasoning: ReasoningFormat::named("think"),
        calls: ToolFormat::named("hermes"),
        ..OutputFormats::default()
    };
    let answer = "<think>\nHm</think>\n\nLook <tool_call>{\"name\": \"now\"}</tool_call>.";
    let mut parser = OutputParser::new(formats, Arc::new(golden::tools()), "", false);
    let mut placed = parser.push_placed(answer, false);
    placed.extend(parser.finish_placed());
    for (event, end) in placed {
        if let OutputEvent::Text(text) | OutputEvent::Marker(text) = event {
            assert!(answer[..end].ends_with(&text), "{text:?} at {end}");
        }
    }
}

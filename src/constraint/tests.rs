#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Begin, Begun, Constraint, Grammar, Marker, Masks, Vocabulary, Word};
use crate::error::{Error, Result};

const END: u32 = 256;
const THINK_END: u32 = 257;

/// All bytes, a token that ends the answer and one that ends reasoning.
fn vocabulary() -> Arc<Vocabulary> {
    let mut words: Vec<Word> = (0..=255).map(|byte| Word::Text(vec![byte])).collect();
    words.push(Word::Special("<end>".to_owned()));
    words.push(Word::Special("</think>".to_owned()));
    Arc::new(Vocabulary::new(words, &[END]).unwrap())
}

fn behind(marker: Marker) -> Begin {
    Begin::Behind { marker, bridge: None }
}

fn compile(grammar: &Grammar) -> Result<Constraint> {
    grammar.compile(&vocabulary(), &Begin::Now)
}

fn json(schema: &Value) -> Grammar {
    Grammar::Json { schema: schema.to_string(), strict: true }
}

fn refusal(grammar: &Grammar) -> String {
    match compile(grammar) {
        Err(Error::InvalidArgument { option, message, .. }) => format!("{option}: {message}"),
        other => panic!("{other:?}"),
    }
}

/// Whether the tokens can come in this order; and then whether the answer could end.
fn follow(constraint: &Constraint, tokens: impl IntoIterator<Item = u32>) -> Option<bool> {
    let mut masks = Masks::start(constraint).unwrap();
    for token in tokens {
        if !masks.allowed().is_ok_and(|mask| mask.contains(token)) {
            return None;
        }
        masks.accept(token).unwrap();
    }
    Some(masks.is_complete())
}

fn bytes(text: &str) -> impl Iterator<Item = u32> {
    text.bytes().map(u32::from)
}

fn accepts(constraint: &Constraint, text: &str) -> bool {
    follow(constraint, bytes(text)) == Some(true)
}

#[test]
fn a_regular_expression_matches_the_whole_answer() {
    let constraint = compile(&Grammar::Regex(r"\d{3}-[a-z]+".to_owned())).unwrap();
    assert!(accepts(&constraint, "123-abc"));
    for wrong in ["x123-abc", "123", "123-", "12-a", "123-abcX", "١٢٣-a"] {
        assert!(!accepts(&constraint, wrong), "{wrong}");
    }
    let constraint = compile(&Grammar::Regex("yes|no".to_owned())).unwrap();
    assert!(accepts(&constraint, "yes") && accepts(&constraint, "no"));
    assert!(!accepts(&constraint, "yesno"));
}

#[test]
fn a_group_of_a_regular_expression_may_set_flags() {
    let compile = |pattern: &str| compile(&Grammar::Regex(pattern.to_owned()));
    let constraint = compile("(?i:yes|\u{e9}[^a])x.(?s:.)").unwrap();
    for (text, is_right) in [
        ("yEsx12", true),
        ("\u{c9}Bx1\n", true),
        ("\u{e9}Ax12", false),
        ("yesX12", false),
        ("yesx\n2", false),
    ] {
        assert_eq!(accepts(&constraint, text), is_right, "{text}");
    }
    let constraint = compile("(?im-s:a(?-i:b).)").unwrap();
    assert!(accepts(&constraint, "Abc") && !accepts(&constraint, "aBc"));
    assert!(!accepts(&constraint, "ab\n"));
    assert!(accepts(&compile("(?i:^a+$)").unwrap(), "aA"));
    for wrong in ["(?ii:a)", "(?i)a", "(?-:a)", "(?i", "(?x:a)", "(?i-i:a)"] {
        let refused = refusal(&Grammar::Regex(wrong.to_owned()));
        assert!(refused.contains("\"(?\" begins no group"), "{wrong}: {refused}");
    }
}

#[test]
fn a_choice_is_one_of_its_options_whatever_is_in_them() {
    let options = ["a", "ab", "a|b", "(.*)", "zwölf \"x\"\n", "<end>"].map(str::to_owned);
    let constraint = compile(&Grammar::Choice(options.to_vec())).unwrap();
    for option in &options {
        assert!(accepts(&constraint, option), "{option}");
    }
    assert!(!accepts(&constraint, "abc") && !accepts(&constraint, "zw"));
    assert!(refusal(&Grammar::Choice(Vec::new())).starts_with("responseFormat.options: "));
    let empty = Grammar::Choice(vec!["a".to_owned(), String::new()]);
    assert!(refusal(&empty).starts_with("responseFormat.options[1]: "));
}

#[test]
fn a_grammar_can_name_special_tokens() {
    let lark = "start: \"a\" </think> NUMBER\nNUMBER: /[0-9]+/".to_owned();
    let constraint = compile(&Grammar::Lark(lark)).unwrap();
    let tokens = bytes("a").chain([THINK_END]).chain(bytes("42"));
    assert_eq!(follow(&constraint, tokens), Some(true));
    assert_eq!(follow(&constraint, bytes("a</think>42")), None);
    assert!(
        refusal(&Grammar::Lark("start: nothing".to_owned())).starts_with("responseFormat.lark")
    );
}

#[test]
fn an_answer_that_is_complete_and_cannot_go_on_has_ended() {
    let constraint = compile(&json(&json!({ "const": { "a": 1 } }))).unwrap();
    let mut masks = Masks::start(&constraint).unwrap();
    let text = "{\"a\":1}";
    let ends: Vec<bool> = bytes(text).map(|token| masks.accept(token).unwrap()).collect();
    assert_eq!(ends.iter().position(|&end| end), Some(text.len() - 1));
    assert!(masks.is_complete());
    let ends = masks.allowed().unwrap();
    assert!(ends.contains(END) && ends.count() == 1);
}

#[test]
fn an_answer_goes_on_where_it_was_left() {
    let begun = |text: &str| {
        let lark = r#"start: "one" <[257]> /[a-c]+/ "!""#.to_owned();
        let constraint = compile(&Grammar::Lark(lark)).unwrap();
        let text = Begun::Text(text.to_owned());
        constraint.behind(&[Begun::Text("one".to_owned()), Begun::Token(THINK_END), text])
    };
    assert!(accepts(&begun("ab").unwrap(), "ca!"));
    assert!(!accepts(&begun("ab").unwrap(), "one"));
    let mut complete = Masks::start(&begun("a!").unwrap()).unwrap();
    assert!(complete.is_complete() && complete.allowed().unwrap().contains(END));
    assert!(complete.accept(END).unwrap());
    let error = begun("abx!").unwrap_err().to_string();
    assert!(error.ends_with("\"x!\" cannot stand behind \"ab\""), "{error}");
}

#[test]
fn an_answer_that_may_go_on_can_end_by_a_token() {
    let constraint = compile(&Grammar::Regex("a+".to_owned())).unwrap();
    let mut masks = Masks::start(&constraint).unwrap();
    assert!(!masks.allowed().unwrap().contains(END));
    assert!(!masks.accept(u32::from(b'a')).unwrap());
    let mask = masks.allowed().unwrap();
    assert!(mask.contains(END) && mask.contains(u32::from(b'a')));
    assert!(!mask.contains(THINK_END));
    assert!(masks.accept(END).unwrap());
}

#[test]
fn white_space_is_limited() {
    let constraint =
        compile(&json(&json!({ "type": "array", "items": { "type": "null" } }))).unwrap();
    assert!(accepts(&constraint, "[null, null,\n  null\n]"));
    for wrong in [" []", "[  null]", "[\n\n]", "[null ,  null]", "[\t]"] {
        assert!(!accepts(&constraint, wrong), "{wrong:?}");
    }
    let indented = format!("[\n{}", " ".repeat(33));
    assert_eq!(follow(&constraint, bytes(&indented)), None);
}

#[test]
fn what_comes_in_any_case_is_known() {
    let schema = json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "kind": { "const": "fox" } },
        "required": ["name", "kind"],
        "additionalProperties": false,
    });
    let constraint = compile(&json(&schema)).unwrap();
    let after = |text: &str| {
        let mut masks = Masks::start(&constraint).unwrap();
        for token in bytes(text) {
            masks.allowed().unwrap();
            masks.accept(token).unwrap();
        }
        masks.allowed().unwrap();
        let forced = masks.forced().iter().map(|&token| token as u8).collect();
        String::from_utf8(forced).unwrap()
    };
    // Where white space may come, nothing is certain.
    assert_eq!(after("{\""), "name\"");
    assert_eq!(after("{\"na"), "me\"");
    assert_eq!(after("{\"name\":"), "");
    assert_eq!(after("{\"name\":\"any"), "");
    assert_eq!(after("{\"name\":\"any\",\"kind\":\"f"), "ox\"");
}

#[test]
fn what_comes_in_any_case_ends_before_special_tokens() {
    let constraint = compile(&Grammar::Lark("start: \"ab\" </think> \"c\"".to_owned())).unwrap();
    let mut masks = Masks::start(&constraint).unwrap();
    let mut forced = Vec::new();
    for token in bytes("ab").chain([THINK_END]).chain(bytes("c")) {
        assert!(masks.allowed().unwrap().contains(token));
        forced.push(masks.forced().to_vec());
        masks.accept(token).unwrap();
    }
    assert_eq!(forced, [bytes("ab").collect(), bytes("b").collect(), vec![], bytes("c").collect()]);
}

#[test]
fn what_comes_before_a_marker_is_free() {
    let schema = json(&json!({ "type": "boolean" }));
    let after_text = behind(Marker::Text("</think>".to_owned()));
    let constraint = schema.compile(&vocabulary(), &after_text).unwrap();
    assert!(accepts(&constraint, "Hm, {\"a\": </thin> well.</think>\n\ntrue"));
    assert!(!accepts(&constraint, "Hm.</think>\n\n\n\n\ntrue"));
    assert!(accepts(&constraint, "</think>false"));
    assert!(!accepts(&constraint, "Hm.</think>Well, true"));
    assert_eq!(follow(&constraint, bytes("Hm.")), Some(false));

    let after_token = behind(Marker::Tokens(vec![THINK_END]));
    let constraint = schema.compile(&vocabulary(), &after_token).unwrap();
    let tokens = bytes("Hm.</think>").chain([THINK_END]).chain(bytes("true"));
    assert_eq!(follow(&constraint, tokens), Some(true));
    assert_eq!(follow(&constraint, bytes("Hm.").chain([END])), None);
    assert_eq!(follow(&constraint, [THINK_END].into_iter().chain(bytes("x"))), None);
}

#[test]
fn addresses_are_those_that_validators_take() {
    let of = |format: &str| compile(&json(&json!({ "type": "string", "format": format }))).unwrap();
    let takes = |format: &str, text: &str| accepts(&of(format), &format!("\"{text}\""));
    for right in ["joe.bloggs@example.com", "te~st@example.co.uk", "a@b.c"] {
        assert!(takes("email", right), "{right}");
    }
    for wrong in ["a@b", "@b.c", ".a@b.c", "a..b@c.d", "a@-b.c", "a@b.c."] {
        assert!(!takes("email", wrong), "{wrong}");
    }
    for right in [
        "http://foo.bar/?baz=qux#quux",
        "ldap://[2001:db8::7]/c=GB?objectClass?one",
        "http://-.~_!$&'()*+,;=:%40:80%2f::::::@example.com",
        "mailto:John.Doe@example.com",
        "urn:oasis:names:specification:docbook:dtd:xml:4.1.2",
        "file:///etc/hosts",
        "http://[::1]:80/x",
    ] {
        assert!(takes("uri", right), "{right}");
    }
    for wrong in ["asclettezeutL:", "//foo.bar", "/abc", "a b:c", "http://[:]", "a:%zz"] {
        assert!(!takes("uri", wrong), "{wrong}");
    }
}

#[test]
fn every_format_may_follow_empty_lines_behind_reasoning() {
    let choice = Grammar::Choice(vec!["yes".to_owned(), "no".to_owned()]);
    let lark = Grammar::Lark("start: \"yes\"".to_owned());
    let text = || Marker::Text("</think>".to_owned());
    for grammar in [choice, lark, Grammar::Regex("ye?s".to_owned())] {
        let constraint = grammar.compile(&vocabulary(), &behind(text())).unwrap();
        assert!(accepts(&constraint, "Hm.\n</think>\n\nyes"), "{grammar:?}");
        assert!(accepts(&constraint, "</think>yes"), "{grammar:?}");
        assert!(!accepts(&constraint, "</think>\n\nhm"), "{grammar:?}");
        let tokens = behind(Marker::Tokens(vec![THINK_END]));
        let constraint = grammar.compile(&vocabulary(), &tokens).unwrap();
        let answer = bytes("Hm.\n").chain([THINK_END]).chain(bytes("\n\nyes"));
        assert_eq!(follow(&constraint, answer), Some(true), "{grammar:?}");
    }
}

#[test]
fn a_model_may_reason_first_or_answer_at_once() {
    let text = |it: &str| Marker::Text(it.to_owned());
    let reasoning = [text("<think>"), text("</think>")];
    let bridge = Some(text("<answer>"));
    let schema = json(&json!({ "type": "boolean" }));
    let begin = Begin::NowOrBehind { reasoning, bridge };
    let constraint = schema.compile(&vocabulary(), &begin).unwrap();
    for right in [
        "true",
        "<think>\nHm. {\"a\": <b> </think>\n\ntrue",
        "<think></think>true",
        "<think>Hm.</think>\n<answer>\ntrue",
    ] {
        assert!(accepts(&constraint, right), "{right}");
    }
    for wrong in ["Hm.", "<answer>true", "<think>Hm.</think>Well, true", "<thunk>", "</think>true"]
    {
        assert!(!accepts(&constraint, wrong), "{wrong}");
    }
    assert_eq!(follow(&constraint, bytes("<think>Hm.").chain([END])), None);

    let reasoning = [text("<think>"), Marker::Tokens(vec![THINK_END])];
    let begin = Begin::NowOrBehind { reasoning, bridge: None };
    let constraint = schema.compile(&vocabulary(), &begin).unwrap();
    let tokens = bytes("<think>Hm.</think>").chain([THINK_END]).chain(bytes("\ntrue"));
    assert_eq!(follow(&constraint, tokens), Some(true));
    assert!(accepts(&constraint, "true"));

    let reasoning = [Marker::Tokens(vec![THINK_END]), Marker::Tokens(vec![THINK_END])];
    let begin = Begin::NowOrBehind { reasoning, bridge: None };
    let constraint = schema.compile(&vocabulary(), &begin).unwrap();
    let tokens = [THINK_END].into_iter().chain(bytes("Hm.")).chain([THINK_END]);
    assert_eq!(follow(&constraint, tokens.chain(bytes("true"))), Some(true));
}

#[test]
fn tokens_in_a_row_are_found_among_their_like() {
    let begin = behind(Marker::Tokens(vec![1, 1, 2]));
    let constraint = json(&json!({ "type": "null" })).compile(&vocabulary(), &begin).unwrap();
    let tokens = [1, 1, 1, 2].into_iter().chain(bytes("null"));
    assert_eq!(follow(&constraint, tokens), Some(true));
}

#[test]
fn a_keyword_that_cannot_be_enforced_is_refused_by_name_or_left_out_with_a_warning() {
    let cases = [
        (json!({ "properties": { "tags": { "uniqueItems": true } } }), "uniqueItems"),
        (json!({ "not": { "type": "string" } }), "not"),
        (json!({ "if": { "type": "string" }, "then": false }), "if"),
        (json!({ "contains": { "type": "string" } }), "contains"),
        (json!({ "dependentRequired": { "a": ["b"] } }), "dependentRequired"),
        (json!({ "type": "string", "pattern": "^(?=a)b" }), "pattern"),
        (json!({ "type": "string", "format": "iri" }), "iri"),
        (json!({ "minProperties": 2 }), "minProperties"),
        (json!({ "oneOf": [{ "minimum": 1 }, { "maximum": 5 }] }), "oneOf"),
        (json!({ "propertyNames": { "not": { "const": "a" } } }), "propertyNames"),
    ];
    for (schema, keyword) in cases {
        let strict = refusal(&json(&schema));
        assert!(strict.starts_with("responseFormat.schema: "), "{strict}");
        assert!(strict.contains(keyword) && strict.contains("cannot be enforced"), "{strict}");
        let lenient = Grammar::Json { schema: schema.to_string(), strict: false };
        let constraint = compile(&lenient).unwrap();
        let warnings = constraint.warnings();
        assert!(warnings.iter().any(|warning| warning.contains(keyword)), "{warnings:?}");
    }
}

#[test]
fn keywords_without_effect_are_no_reason_to_refuse() {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A", "description": "b", "default": {}, "examples": [1], "deprecated": true,
        "type": "object",
        "properties": {
            "a": { "type": "integer", "format": "int32", "uniqueItems": false, "x-order": 1 },
            "b": { "not": false, "if": true, "dependentRequired": {}, "minContains": 2 },
        },
        "propertyNames": { "type": "string" },
        "required": ["a"],
        "unevaluatedProperties": false,
    });
    let constraint = compile(&json(&schema)).unwrap();
    assert_eq!(constraint.warnings(), [] as [String; 0]);
    assert!(accepts(&constraint, "{\"a\":1,\"b\":[2]}"));
    assert!(!accepts(&constraint, "{\"a\":1,\"c\":[2]}"));
}

#[test]
fn a_name_cannot_be_written_in_another_way() {
    let schema = json!({
        "properties": { "a": { "type": "string" } },
        "additionalProperties": { "type": "number" },
        "type": "object",
    });
    let constraint = compile(&json(&schema)).unwrap();
    assert!(accepts(&constraint, "{\"b\":1}") && accepts(&constraint, "{\"a\":\"\"}"));
    assert!(!accepts(&constraint, "{\"\\u0061\":1}") && !accepts(&constraint, "{\"a\":1}"));
}

#[test]
fn unions_of_references_are_told_apart_by_a_constant() {
    let schema = json!({
        "oneOf": [{ "$ref": "#/$defs/cat" }, { "$ref": "#/$defs/dog" }],
        "$defs": {
            "cat": {
                "type": "object", "required": ["kind"],
                "properties": { "kind": { "const": "cat" }, "lives": { "type": "integer" } },
            },
            "dog": {
                "type": "object", "required": ["kind"],
                "properties": { "kind": { "const": "dog" }, "friend": { "$ref": "#" } },
            },
        },
    });
    let constraint = compile(&json(&schema)).unwrap();
    assert!(accepts(&constraint, "{\"kind\":\"dog\",\"friend\":{\"kind\":\"cat\",\"lives\":9}}"));
    assert!(!accepts(&constraint, "{\"kind\":\"cow\"}"));
}

#[test]
fn draft_4_and_draft_7_are_read_as_they_were_meant() {
    let schema = json!({
        "type": "object",
        "definitions": { "small": { "type": "integer", "maximum": 10, "exclusiveMaximum": true } },
        "properties": {
            "pair": {
                "type": "array",
                "items": [{ "$ref": "#/definitions/small" }, { "type": "string" }],
                "additionalItems": false,
            },
        },
    });
    let constraint = compile(&json(&schema)).unwrap();
    assert!(accepts(&constraint, "{\"pair\":[9,\"\"]}"));
    assert!(!accepts(&constraint, "{\"pair\":[10,\"\"]}"));
    assert!(!accepts(&constraint, "{\"pair\":[9,\"\",1]}"));
}

#[test]
fn schemas_that_are_wrong_are_refused_with_the_place() {
    let cases = [
        (json!({ "type": "strin" }), "#/type"),
        (json!({ "properties": { "a/b": { "minLength": -1 } } }), "#/properties/a~1b/minLength"),
        (json!({ "$ref": "#/$defs/none" }), "leads nowhere"),
        (json!({ "$ref": "https://example.com/a.json" }), "another document"),
        (json!({ "pattern": "(" }), "#/pattern"),
        (json!({ "required": "a" }), "#/required"),
        (json!({ "items": 3 }), "#/items"),
        (json!({ "enum": [] }), "allows nothing"),
        (json!({ "type": "integer", "minimum": 2, "maximum": 1 }), "minimum"),
        (json!({ "multipleOf": 0 }), "#/multipleOf"),
        (json!(false), "allows nothing"),
        (json!(3), "is no schema"),
    ];
    for (schema, expected) in cases {
        let error = refusal(&json(&schema));
        assert!(error.contains(expected), "{error}");
    }
    let broken = Grammar::Json { schema: "{".to_owned(), strict: true };
    assert!(refusal(&broken).contains("is not JSON"));
}

#[test]
fn hostile_schemas_end_in_an_error_or_a_parser() {
    let deep = format!("{}{}", "{\"not\":".repeat(100_000), "1}".repeat(100_000));
    let tall = "{\"items\":".repeat(250) + "true" + &"}".repeat(250);
    let wide: String = (0..20_000).map(|i| format!("\"a{i}\":{{\"type\":\"string\"}},")).collect();
    let wide = format!("{{\"properties\":{{{wide}\"z\":true}}}}");
    let product: Vec<Value> = (0..12)
        .map(
            |i| json!({ "anyOf": (0..8).map(|j| json!({ "minimum": i * j })).collect::<Vec<_>>() }),
        )
        .collect();
    let texts = [
        deep,
        tall,
        wide,
        json!({ "allOf": product }).to_string(),
        json!({ "$ref": "#" }).to_string(),
        json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } })
            .to_string(),
        json!({ "allOf": [{ "$ref": "#" }], "type": "object" }).to_string(),
        json!({ "oneOf": [{ "$ref": "#" }, { "$ref": "#" }] }).to_string(),
        json!({ "pattern": "((a{1,1000}){1,1000}){1,1000}", "type": "string" }).to_string(),
        json!({ "pattern": "(a|b)*a(a|b){40}$", "type": "string", "maxLength": 100_000 }).to_string(),
        json!({ "type": "array", "minItems": 4_000_000_000_u32 }).to_string(),
        json!({ "type": "string", "minLength": 4_000_000_000_u32 }).to_string(),
        json!({ "multipleOf": 1e-300 }).to_string(),
        json!({ "allOf": [{ "multipleOf": 70_001 }, { "multipleOf": 70_003 }] }).to_string(),
        json!({ "minimum": -1e308, "maximum": 1e308 }).to_string(),
        json!({ "type": "integer", "minimum": -1e308, "maximum": 1e308 }).to_string(),
        json!({ "const": 1e308 }).to_string(),
        json!({ "x-guidance": { "whitespace_pattern": "(" } }).to_string(),
    ];
    for text in texts {
        let grammar = Grammar::Json { schema: text.clone(), strict: true };
        let start: String = text.chars().take(80).collect();
        match compile(&grammar) {
            Ok(constraint) => {
                let mut masks = Masks::start(&constraint).unwrap();
                for _ in 0..8 {
                    let Ok(mask) = masks.allowed() else { break };
                    let Some(token) = (0..=END).find(|&token| mask.contains(token)) else { break };
                    if masks.accept(token).unwrap_or(true) {
                        break;
                    }
                }
            }
            Err(Error::InvalidArgument { option, message, .. }) => {
                assert_eq!(option, "responseFormat.schema", "{message}");
                assert!(!message.contains("panic"), "{start}: {message}");
            }
            Err(other) => panic!("{start}: {other}"),
        }
    }
}

/// Calls of a tool without arguments between marks of text, or something else.
fn calls_or(other: Grammar) -> Constraint {
    let lark = "start: calls | @other\ncalls: \"<call>\" /f|g/ \"</call>\"".to_owned();
    let markers = vec!["<call>".to_owned()];
    let other = Some(Box::new(other));
    compile(&Grammar::Calls { lark, other, markers, heads: None, warnings: Vec::new() }).unwrap()
}

#[test]
fn something_else_may_come_instead_of_calls() {
    let constraint = calls_or(json(&json!({ "type": "integer" })));
    assert!(accepts(&constraint, "<call>f</call>") && accepts(&constraint, "-12"));
    for wrong in ["<call>h</call>", "<call>f</call>1", "1<call>f</call>", "\"a\"", " 1"] {
        assert!(!accepts(&constraint, wrong), "{wrong}");
    }
    let constraint = calls_or(Grammar::Choice(vec!["f".to_owned(), "<".to_owned()]));
    for right in ["<call>f</call>", "f", "<"] {
        assert!(accepts(&constraint, right), "{right}");
    }
}

#[test]
fn a_text_that_may_be_anything_is_no_call() {
    let constraint = calls_or(Grammar::Regex("(?:.|\\n)*".to_owned()));
    for right in ["", "a/b <call>x", "<cal", "<call>g</call>"] {
        assert!(accepts(&constraint, right), "{right}");
    }
    for wrong in ["<call>h</call>", " \n<call>"] {
        assert!(!accepts(&constraint, wrong), "{wrong}");
    }
}

#[test]
fn a_grammar_is_refused_by_the_name_of_its_option() {
    let lark = "start: x".to_owned();
    let (markers, warnings) = (Vec::new(), Vec::new());
    let calls = Grammar::Calls { lark, other: None, markers, heads: None, warnings };
    assert!(refusal(&calls).starts_with("tools: "));
    let lark = "start: \"a\" | @other".to_owned();
    let other = Some(Box::new(Grammar::Lark("start: x".to_owned())));
    let (markers, warnings) = (Vec::new(), Vec::new());
    let calls = Grammar::Calls { lark, other, markers, heads: None, warnings };
    assert!(refusal(&calls).starts_with("responseFormat.lark: "));
}

/// How many tokens an answer has that adds a digit wherever it can, and else goes on with its
/// number.
fn longest_number(constraint: &Constraint) -> usize {
    let mut masks = Masks::start(constraint).unwrap();
    let preferred = b"79.eE-+]},:\" ";
    for length in 0..500 {
        let allowed = masks.allowed().unwrap();
        let first = preferred.iter().map(|&byte| u32::from(byte)).find(|&it| allowed.contains(it));
        let token = first.or_else(|| (0..=END).find(|&it| allowed.contains(it))).unwrap();
        if token == END || masks.accept(token).unwrap() {
            return length;
        }
    }
    panic!("the answer does not end");
}

#[test]
fn numbers_end() {
    let number = json!({ "type": "number" });
    for schema in [
        json!(true),
        json!({ "type": "integer" }),
        number.clone(),
        json!({ "type": "integer", "minimum": 5 }),
        json!({ "type": "integer", "maximum": -5 }),
        json!({ "type": "number", "exclusiveMinimum": 0 }),
        json!({ "type": "number", "maximum": 0.5 }),
        json!({ "type": "number", "minimum": -1, "maximum": 1 }),
        json!({ "multipleOf": 7 }),
        json!({ "type": "integer", "multipleOf": 10, "minimum": 5 }),
        json!({ "allOf": [{ "multipleOf": 2 }, { "multipleOf": 5 }] }),
        json!({ "type": "number", "multipleOf": 0.01 }),
        json!({ "type": ["null", "integer"] }),
        json!({ "anyOf": [number, { "type": "string", "maxLength": 2 }] }),
        json!({ "type": "array", "items": number, "minItems": 2, "maxItems": 2 }),
        json!({
            "type": "object", "required": ["a"], "properties": { "a": number },
            "additionalProperties": false,
        }),
    ] {
        longest_number(&compile(&json(&schema)).unwrap());
    }
    let long = "123456789012345678901234567890";
    let open = compile(&json(&number)).unwrap().behind(&[Begun::Text("1".repeat(18))]).unwrap();
    assert!(follow(&open, bytes("1")).is_none() && accepts(&open, ".5"));
    // Strings have as many digits as they like.
    let texts = compile(&json(&json!({ "type": "string" }))).unwrap();
    assert!(accepts(&texts, &format!("\"{long}\"")));
}

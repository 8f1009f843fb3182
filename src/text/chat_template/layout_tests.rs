//! Contents and arguments in the form that a template reads.

use serde_json::{Value, json};

use super::{ChatTemplate, ChatTemplateOptions, parse_json};
use crate::error::Result;

fn rendered(source: &str, messages: Value) -> Result<String> {
    ChatTemplate::from_source(source)?.render(&messages, &ChatTemplateOptions::default())
}

fn text(source: &str, messages: Value) -> String {
    rendered(source, messages).unwrap()
}

const STRINGS: &str =
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] | trim }};{% endfor %}";
const PRINTED: &str = "{% for m in messages %}{{ m.content }};{% endfor %}";
const PARTS: &str = "{% for m in messages %}{% for part in m['content'] %}\
    {% if part['type'] == 'text' %}<{{ part['text'] }}>{% endif %}{% endfor %}{% endfor %}";
const BOTH: &str = "{% for m in messages %}{% set content = m.content %}{% if content is string %}{{ content }}\
    {% else %}{% for part in content %}<{{ part.text }}>{% endfor %}{% endif %}{% endfor %}";
const MACRO: &str = "{% macro show(content) %}{% if content is string %}{{ content }}{% else %}\
    {% for part in content %}<{{ part.text }}>{% endfor %}{% endif %}{% endmacro %}\
    {% for m in messages %}{{ show(m.content) }}{% endfor %}";
const FIRST: &str = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}\
    {{ m.content[0].text }}{% endif %}{% endfor %}";
const SELECTED: &str = "{% for m in messages %}{% for part in m.content | \
    selectattr('type', 'equalto', 'text') %}<{{ part.text }}>{% endfor %}{% endfor %}";

#[test]
fn parts_become_text_for_templates_that_know_text_only() {
    let parts = json!([{ "role": "user", "content": [
        { "type": "text", "text": "Hello " }, { "type": "text", "text": "you" },
    ] }]);
    assert_eq!(text(STRINGS, parts.clone()), "user: Hello you;");
    assert_eq!(text(PRINTED, parts.clone()), "Hello you;");
    for source in [PARTS, BOTH, MACRO, SELECTED] {
        assert_eq!(text(source, parts.clone()), "<Hello ><you>", "{source}");
    }
    // It would leave the second part out.
    assert_eq!(text(FIRST, parts), "Hello you");
    let image = json!([{ "role": "user", "content": [{ "type": "image" }] }]);
    let error = rendered(STRINGS, image).unwrap_err().to_string();
    assert!(
        error.starts_with("messages[0].content[0]: the chat template reads text only"),
        "{error}"
    );
}

#[test]
fn text_becomes_parts_for_templates_that_know_parts_only() {
    let message = json!([{ "role": "user", "content": "Hello" }]);
    assert_eq!(text(PARTS, message.clone()), "<Hello>");
    assert_eq!(text(SELECTED, message.clone()), "<Hello>");
    for source in [BOTH, MACRO, FIRST] {
        assert_eq!(text(source, message.clone()), "Hello", "{source}");
    }
}

fn call(arguments: Value) -> Value {
    let function = json!({ "name": "f", "arguments": arguments });
    json!([
        { "role": "user", "content": "x" },
        { "role": "assistant", "tool_calls": [{ "type": "function", "function": function }] },
    ])
}

fn calls(print: &str) -> String {
    format!(
        "{{% for m in messages %}}{{% for call in m.tool_calls %}}{{% set f = call.function %}}{print}\
         {{% endfor %}}{{% endfor %}}"
    )
}

#[test]
fn arguments_are_objects_or_text_as_the_template_reads_them() {
    let as_text = || call(json!("{\"b\": 1.0, \"a\": [true]}"));
    let as_object = || call(json!({ "b": 1.0, "a": [true] }));
    let json = "{\"b\": 1.0, \"a\": [true]}";
    for print in ["{{ f.arguments | tojson }}", "{% set a = f['arguments'] %}{{ a | tojson }}"] {
        assert_eq!(text(&calls(print), as_text()), json, "{print}");
        assert_eq!(text(&calls(print), as_object()), json, "{print}");
    }
    let items =
        calls("{% for name, value in f.arguments.items() %}{{ name }}={{ value }} {% endfor %}");
    assert_eq!(text(&items, as_text()), "b=1.0 a=[True] ");
    let filtered = calls("{% for name, value in f.arguments | items %}{{ name }} {% endfor %}");
    assert_eq!(text(&filtered, as_text()), "b a ");
    // JSON text is spaced as Python spaces it.
    for print in [
        "{{ f.arguments }}",
        "{{ '' + f.arguments }}",
        "{% if f.arguments is string %}{{ f.arguments }}{% else %}{{ f.arguments | tojson }}{% endif %}",
    ] {
        assert_eq!(text(&calls(print), call(json!("{\"a\":1}"))), "{\"a\": 1}", "{print}");
    }
    assert_eq!(text(&calls("{{ '' + f.arguments }}"), call(json!({ "a": 1 }))), "{\"a\": 1}");
    assert_eq!(text(&calls("{{ f.arguments | tojson }}"), call(json!(""))), "{}");
    assert_eq!(text(&calls("{{ '' + f.arguments }}"), call(json!(" "))), "{}");
}

#[test]
fn calls_are_flat_or_wrapped_as_the_template_reads_them() {
    let flat = json!([
        { "role": "user", "content": "x" },
        { "role": "assistant", "tool_calls": [{ "name": "f", "arguments": { "a": 1 } }] },
    ]);
    let print = |call: &str| {
        format!(
            "{{% for m in messages %}}{{% for c in m.tool_calls %}}{{{{ {call}.name + '(' }}}}\
             {{{{ {call}.arguments | tojson }}}}{{% endfor %}}{{% endfor %}}"
        )
    };
    for messages in [flat, call(json!({ "a": 1 }))] {
        assert_eq!(text(&print("c"), messages.clone()), "f({\"a\": 1}");
        assert_eq!(text(&print("c.function"), messages), "f({\"a\": 1}");
    }
}

#[test]
fn a_content_of_null_is_what_the_template_can_use() {
    let messages = || json!([{ "role": "assistant", "content": null, "reasoning_content": "hm" }]);
    assert_eq!(text("[{{ messages[0].content }}]", messages()), "[]");
    assert_eq!(text("{{ messages[0]['content'] is none }}", messages()), "True");
    assert_eq!(text("[{{ messages[0].content | tojson }}]", messages()), "[null]");
    assert_eq!(text("{{ 'x' + messages[0].content }}", messages()), "x");
}

#[test]
fn whole_numbers_keep_their_digits() {
    let json = r#"[{"role": "user", "content": "18446744073709551617", "n": [18446744073709551617,
        -170141183460469231731687303715884105728, 1e20, 100000000000000000000, 9223372036854775808]}]"#;
    let messages = parse_json("messages", json).unwrap();
    let printed = "18446744073709551617[18446744073709551617, \
        -170141183460469231731687303715884105728, 1e+20, 100000000000000000000, 9223372036854775808]";
    assert_eq!(text("{{ messages[0].content }}{{ messages[0].n | tojson }}", messages), printed);
    let call = call(json!("{\"n\": 18446744073709551617}"));
    assert_eq!(text(&calls("{{ f.arguments | tojson }}"), call), "{\"n\": 18446744073709551617}");
    let error = parse_json("messages", &"[".repeat(10_000)).unwrap_err();
    assert_eq!(error.code(), "INVALID_ARGUMENT");
}

#[test]
fn variables_that_would_be_overwritten_are_refused() {
    let template = ChatTemplate::from_source("{{ mood }}{{ messages | length }}").unwrap();
    let messages = json!([{ "role": "user", "content": "x" }]);
    let with = |name: &str| {
        let variables = [(name.to_owned(), json!("good"))].into_iter().collect();
        let options = ChatTemplateOptions { variables, ..Default::default() };
        template.render(&messages, &options)
    };
    assert_eq!(with("mood").unwrap(), "good1");
    for name in ["messages", "tools", "documents", "add_generation_prompt", "__now"] {
        let error = with(name).unwrap_err().to_string();
        assert!(error.starts_with(&format!("variables.{name}: ")), "{error}");
    }
}

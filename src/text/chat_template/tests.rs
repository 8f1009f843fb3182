//! The limits of the sandbox, what errors say, and the options.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ChatTemplate, ChatTemplateOptions};
use crate::error::{Error, Result};
use crate::text::test_folder::TestFolder;

fn render(source: &str) -> Result<String> {
    let messages = json!([{"role": "user", "content": "hi"}]);
    ChatTemplate::from_source(source)?.render(&messages, &ChatTemplateOptions::default())
}

fn template_error(source: &str) -> String {
    match render(source) {
        Err(Error::Template { message, .. }) => message,
        other => panic!("expected a template error, found {other:?}"),
    }
}

fn argument_error(messages: Value, options: &ChatTemplateOptions) -> String {
    let template = ChatTemplate::from_source("{{ messages[0].content }}").unwrap();
    match template.render(&messages, options) {
        Err(error @ Error::InvalidArgument { .. }) => error.to_string(),
        other => panic!("expected an argument error, found {other:?}"),
    }
}

#[test]
fn endless_templates_end_with_an_error() {
    let endless = [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        // Values that double.
        "{% set n = namespace(s='xx') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}",
        "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s.replace('x', 'xx') %}{% endfor %}",
        "{{ 'a' * 10000000000 }}",
        "{{ [1] * 10000000000 }}",
        "{{ 'a'.ljust(10000000000) }}",
        "{{ 'a' | center(10000000000) }}",
        "{{ ('x' * 99999).replace('', 'y' * 99999) }}",
        "{{ ('x' * 99999).join('y' * 99999) }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ '{:9999999999}'.format(1) }}",
        "{{ ('x\\n' * 100000) | indent(1000000) }}",
        "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
        "{{ messages | tojson(indent=10000000000) }}",
        "{{ range(10000000000) }}",
    ];
    for source in endless {
        let begun = Instant::now();
        template_error(source);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(60), "{source} took {took:?}");
    }
}

#[test]
fn deep_values_and_deep_templates_do_not_overflow_the_stack() {
    let deep = |open: &str, close: &str| open.repeat(5000) + "1" + &close.repeat(5000);
    for source in [
        format!("{{{{ {} }}}}", deep("(", ")")),
        format!("{{{{ {} }}}}", deep("[", "]")),
        format!("{{{{ {} }}}}", deep("not ", "")),
        format!("{{{{ {} }}}}", deep("-", "")),
        format!("{{{{ {} }}}}", "1+".repeat(9000) + "1" + &"+1".repeat(9000)),
        deep("{% if true %}", "{% endif %}"),
        deep("{% generation %}", "{% endgeneration %}"),
    ] {
        // Within or beyond the limits, but never the end of the process.
        render(&source).ok();
    }
    // The value itself is made; printing it is refused.
    let nested =
        "{% set n = namespace(v=[]) %}{% for i in range(90000) %}{% set n.v = [n.v] %}{% endfor %}";
    template_error(&format!("{nested}{{{{ n.v }}}}"));
    template_error(&format!("{nested}{{{{ n.v | tojson }}}}"));
    for use_of in ["n.v == n.v[0]", "n.v ~ ''", "n.v | pprint", "{n.v: 1}", "[n.v] | unique | list"]
    {
        render(&format!("{nested}{{{{ {use_of} }}}}")).ok();
    }
    let lazy = "{% set n = namespace(v=[1]) %}{% for i in range(90000) %}{% set n.v = n.v[0:] %}{% endfor %}";
    render(&format!("{lazy}{{{{ n.v }}}}")).ok();
}

#[test]
fn errors_name_the_template_and_the_line() {
    let folder = TestFolder::new();
    folder.write("chat_template.jinja", "a\nb\n{% if %}");
    let error = ChatTemplate::from_dir(folder.path(), None).unwrap_err();
    assert_eq!(error.code(), "TEMPLATE_ERROR");
    let message = error.to_string();
    assert!(message.starts_with("chat_template.jinja, line 3: "), "{message}");

    let message = template_error("a\n{{ 'x' }}\n\n{{ missing.field }}");
    assert!(message.contains("line 4") && message.contains("missing"), "{message}");
    let message = template_error(
        "{# \n\n #}{{ '%d' % 1 }}\n{% generation %}\n{% endgeneration %}{{ 1 / 0 }}",
    );
    assert!(message.contains("line 5"), "{message}");
    let message = template_error(&format!("a\n{{{{ {} }}}}", "1+".repeat(9000)));
    assert!(message.contains("line 2") && message.contains("tokens"), "{message}");
}

#[test]
fn what_a_template_raises_comes_word_for_word() {
    let source = "{% macro m() %}{{ raise_exception('Roles: \\'user\\' first\n!') }}{% endmacro %}\n{{ m() }}";
    assert_eq!(template_error(source), "Roles: 'user' first\n!");
}

#[test]
fn templates_reach_no_files() {
    let folder = TestFolder::new();
    let secret = folder.write("secret.txt", "secret");
    for tag in ["include", "extends", "import"] {
        let rest = if tag == "import" { " as x" } else { "" };
        template_error(&format!("{{% {tag} '{}'{rest} %}}", secret.display()));
    }
}

#[test]
fn bad_messages_are_refused_by_name() {
    let plain = ChatTemplateOptions::default();
    let cases = [
        (json!("hi"), "messages: expected an array, found a string"),
        (json!([]), "messages: expected at least one message"),
        (json!([{"role": "user"}, 5]), "messages[1]: expected an object, found a number"),
        (json!([{"content": "hi"}]), "messages[0].role: is missing"),
        (json!([{"role": 1}]), "messages[0].role: expected a string, found a number"),
    ];
    for (messages, expected) in cases {
        assert_eq!(argument_error(messages, &plain), expected);
    }
    let mut deep = json!(1);
    for _ in 0..400 {
        deep = json!([deep]);
    }
    let message = argument_error(json!([{"role": "user", "content": deep}]), &plain);
    assert_eq!(message, "messages: nested deeper than 320 levels");
}

#[test]
fn bad_options_are_refused_by_name() {
    let messages = || json!([{"role": "user", "content": "hi"}]);
    let tools = |tools| ChatTemplateOptions { tools: Some(tools), ..Default::default() };
    assert_eq!(
        argument_error(messages(), &tools(json!({}))),
        "tools: expected an array, found an object"
    );
    assert_eq!(
        argument_error(messages(), &tools(json!(["x"]))),
        "tools[0]: expected an object, found a string"
    );
    let named = ChatTemplateOptions { template: Some("rag".into()), ..Default::default() };
    assert_eq!(
        argument_error(messages(), &named),
        "template: no template \"rag\"; this model has \"default\""
    );
    let both = ChatTemplateOptions {
        add_generation_prompt: true,
        continue_final_message: true,
        ..Default::default()
    };
    assert!(argument_error(messages(), &both).starts_with("continueFinalMessage: "));
}

#[test]
fn template_files_win_over_the_configuration() {
    let folder = TestFolder::new();
    let render = |options: &ChatTemplateOptions| {
        let template = ChatTemplate::from_dir(folder.path(), None).unwrap().unwrap();
        template.render(&json!([{"role": "user", "content": "hi"}]), options).unwrap()
    };
    let plain = ChatTemplateOptions::default();
    let tools = ChatTemplateOptions { tools: Some(json!([])), ..Default::default() };
    assert!(ChatTemplate::from_dir(folder.path(), None).unwrap().is_none());

    folder.write("chat_template.json", r#"{"chat_template": "processor"}"#);
    assert_eq!(render(&plain), "processor");
    folder.write("tokenizer_config.json", r#"{"chat_template": "config"}"#);
    assert_eq!(render(&plain), "config");
    let list = r#"{"chat_template": [{"name": "default", "template": "first"},
                                     {"name": "tool_use", "template": "second"}]}"#;
    folder.write("tokenizer_config.json", list);
    assert_eq!((render(&plain), render(&tools)), ("first".into(), "second".into()));
    folder.write("chat_template.jinja", "file");
    assert_eq!((render(&plain), render(&tools)), ("file".into(), "file".into()));
    folder.write("additional_chat_templates/tool_use.jinja", "additional");
    assert_eq!((render(&plain), render(&tools)), ("file".into(), "additional".into()));
}

#[test]
fn broken_files_are_named() {
    let broken: [(&str, &[u8], &str); 7] = [
        ("chat_template.jinja", b"\xff\xfe{", "not UTF-8"),
        ("tokenizer_config.json", b"{\"chat_template\": ", "not JSON"),
        ("tokenizer_config.json", b"[]", "expected a JSON object"),
        ("tokenizer_config.json", b"", "the file is empty"),
        ("tokenizer_config.json", b"{\"chat_template\": 5}", "chat_template: expected a string"),
        ("tokenizer_config.json", b"{\"chat_template\": [{}]}", "chat_template[0].name"),
        ("chat_template.json", b"{\"chat_template\": {\"a\": 1}}", "chat_template.a"),
    ];
    for (name, content, expected) in broken {
        let folder = TestFolder::new();
        folder.write(name, content);
        let message = ChatTemplate::from_dir(folder.path(), None).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains(expected), "{message}");
    }
}

#[test]
fn a_message_of_which_a_part_is_left_out_is_not_continued() {
    let cuts = "{{ messages[0].content.split('</think>')[-1] }}<end>";
    let template = ChatTemplate::from_source(cuts).unwrap();
    let options = ChatTemplateOptions { continue_final_message: true, ..Default::default() };
    let message = |content: &str| json!([{"role": "assistant", "content": content}]);
    assert_eq!(template.render(&message("  Once "), &options).unwrap(), "  Once ");
    let error = template.render(&message("<think>so</think>Once"), &options).unwrap_err();
    assert_eq!(error.code(), "TEMPLATE_ERROR");
    assert!(error.to_string().contains("cannot be continued"), "{error}");
}

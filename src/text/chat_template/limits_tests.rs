//! What hostile templates may take, and what ordinary ones need.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ChatTemplate, ChatTemplateOptions, TemplateLimits};
use crate::error::Error;

fn failure(source: &str) -> String {
    failure_within(source, Duration::from_secs(2))
}

/// The error of a template that may run for this time.
fn failure_within(source: &str, time: Duration) -> String {
    let limits = TemplateLimits { time, ..TemplateLimits::default() };
    let template = match ChatTemplate::from_source(source) {
        Ok(template) => template.with_limits(limits),
        Err(error) => return error.to_string(),
    };
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let begun = Instant::now();
    let rendered = template.render(&messages, &ChatTemplateOptions::default());
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(60), "{source} took {took:?}");
    match rendered {
        Err(error @ Error::Template { .. }) => error.to_string(),
        Err(error) => panic!("{source}: {error:?}"),
        Ok(text) => panic!("{source} gave {} bytes", text.len()),
    }
}

#[test]
fn hostile_templates_end_before_they_allocate() {
    let hostile = [
        "{{ ('{0:99999}' * 1000000).format('x') }}",
        "{{ ('%(a)99999d' * 1000000) % {'a': 1} }}",
        "{{ ('x\\n' * 1000000) | wordwrap(width=1, wrapstring='y' * 1000000) }}",
        "{% set l = ('a ' * 30000000).split() %}",
        "{% set l = ('a,' * 30000000).split(',') %}",
        "{% set l = ('a\\n' * 30000000).splitlines() %}",
        "{{ '{:{}}'.format('x', 9999999999) }}",
        "{{ '%*d' % (9999999999, 1) }}",
        "{{ '%.9999999999d' % 1 }}",
        "{{ ('x' * 9999999).replace('', 'y' * 9999999) }}",
        "{{ [('y' * 9999999)] | batch(9999999999, 'x') | list }}",
        "{{ [1] | slice(9999999999) | list }}",
        "{{ [1] * 9999999999 }}",
        "{{ range(100000) | list * 100000 }}",
        "{{ ['x' * 60000000, 'y' * 60000000, 'z' * 60000000, 'x' * 60000000] }}",
        "{% set n = namespace(l=[]) %}{% for i in range(99999) %}{% set n.l = n.l + ['x' * 1000000 ~ i] %}{% endfor %}",
        "{% set n = namespace(l=[]) %}{% for i in range(99999) %}{% set n.l = [n.l, n.l] %}{% endfor %}",
        "{% set n = namespace(l={}) %}{% for i in range(99999) %}{% set n.l = {'a': n.l, 'b': n.l} %}{% endfor %}",
        "{% set n = namespace() %}{% set n.n = n %}{{ n }}",
        "{% set s %}{% for i in range(99999) %}{{ 'x' * 99999 }}{% endfor %}{% endset %}{{ s }}",
        "{% macro m(k) %}{% if k %}{{ m(k - 1) }}{{ m(k - 1) }}{% endif %}xxxxxxxxxx{% endmacro %}{% set s = m(150) %}",
        "{{ ('<' * 60000000) | escape }}",
        "{{ ['x' * 1000000] * 1000 | join }}{{ (['x' * 1000000] * 1000) | join }}",
        "{{ {'a': ('x' * 1000000)} | tojson(indent='y' * 50000000) }}",
        "{{ ('x\\t' * 1000000).expandtabs(1000000) }}",
        "{{ 'x'.zfill(9999999999) }}{{ 'x' | center(9999999999) }}",
        "{{ ('x\\n' * 1000000) | indent(1000000) }}",
        "{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(s=2) %}{% for i in range(99) %}{% set n.s = n.s * n.s %}{% endfor %}",
        "{{ 10 ** 1000000000 }}",
    ];
    for source in hostile {
        failure(source);
    }
}

#[test]
fn values_that_hold_each_other_many_times_are_refused() {
    let doubled = "{% set a = [1] %}".to_owned() + &"{% set a = [a, a] %}".repeat(60);
    let batched =
        "{% set a = [1] %}".to_owned() + &"{% set a = (a + a) | batch(9) | list %}".repeat(60);
    for use_of in ["a == [1]", "a | tojson", "a in [a]", "[a] | unique", "a ~ ''"] {
        failure(&format!("{doubled}{{{{ {use_of} }}}}"));
    }
    // These are refused while they are made, whatever is done with them then.
    failure(&batched);
}

#[test]
fn endless_work_ends_with_the_time() {
    let endless = [
        "{% set l = range(100000) | list %}{% for i in range(90000) %}{% if l.count(7) %}{% endif %}{% endfor %}",
        "{% set l = range(100000) | list %}{% for i in range(90000) %}{% if -1 in l %}{% endif %}{% endfor %}",
        "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
        "{% set s = 'x' * 9999999 %}{% for i in range(90000) %}{% if s.find('y') > 0 %}{% endif %}{% endfor %}",
        "{% set s = 'x' * 9999999 %}{% for i in range(90000) %}{% if s | length == 1 %}{% endif %}{% endfor %}",
        "{% set l = [range(99999) | list] * 99999 %}{{ l | map('sum') | list }}",
        "{% macro m(k) %}{% if k %}{% set a = m(k - 1) %}{% set b = m(k - 1) %}{% endif %}{% endmacro %}{{ m(150) }}",
        "{% for x in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    ];
    let messages = endless.map(|source| failure_within(source, Duration::from_millis(200)));
    let told = "longer than 0.2 s: shorten the conversation";
    assert!(messages[2].contains(told), "{}", messages[2]);
}

#[test]
fn a_rendering_is_aborted() {
    let source = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
    let template = ChatTemplate::from_source(source).unwrap();
    let flag = Arc::new(AtomicBool::new(true));
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let options = ChatTemplateOptions::default();
    let error = template.render_until(&messages, &options, Some(&flag)).unwrap_err();
    assert_eq!(error.code(), "ABORTED");
}

fn rendered(source: &str, messages: &Value, options: &ChatTemplateOptions) -> String {
    ChatTemplate::from_source(source).unwrap().render(messages, options).unwrap()
}

#[test]
fn long_conversations_fit() {
    let messages: Vec<Value> = (0..5000)
        .map(|index| {
            let role = if index % 2 == 0 { "user" } else { "assistant" };
            json!({ "role": role, "content": format!("message {index} {}", "word ".repeat(40)) })
        })
        .collect();
    // The text so far is copied with every message, and the last user is looked for in each.
    let source = "{% set n = namespace(text='', last=0) %}{% for m in messages %}\
        {% set n.text = n.text ~ m.role ~ ': ' ~ m.content | trim ~ '\n' %}\
        {% for other in messages[loop.index0:loop.index0 + 300] %}\
        {% if other.role == 'user' %}{% set n.last = loop.index %}{% endif %}{% endfor %}\
        {% endfor %}{{ n.text }}";
    let limits = TemplateLimits { time: Duration::from_secs(300), ..TemplateLimits::default() };
    let template = ChatTemplate::from_source(source).unwrap().with_limits(limits);
    let text = template.render(&Value::Array(messages), &ChatTemplateOptions::default()).unwrap();
    assert!(text.contains("message 4999"));
}

/// Many templates look for something among all messages for each message; what such a loop does not
/// write is counted all the same.
#[test]
fn conversations_fit_that_are_searched_for_every_message() {
    let message = |index| json!({ "role": "user", "content": format!("this is message {index}") });
    let messages: Vec<Value> = (0..800).map(message).collect();
    let unused = "never written, ".repeat(32);
    let source = format!(
        "{{% for m in messages %}}{{% for j in range(loop.index0) %}}\
         {{% if messages[j].role == 'tool' %}}{unused}{{% endif %}}{{% endfor %}}{{% endfor %}}ok"
    );
    let limits = TemplateLimits { time: Duration::from_secs(300), ..TemplateLimits::default() };
    let template = ChatTemplate::from_source(&source).unwrap().with_limits(limits);
    let text = template.render(&Value::Array(messages), &ChatTemplateOptions::default()).unwrap();
    assert_eq!(text, "ok");
}

#[test]
fn deep_schemas_fit() {
    let mut schema = json!({ "type": "string" });
    for _ in 0..100 {
        schema = json!({ "type": "object", "properties": { "inner": schema } });
    }
    let tools = json!([{ "type": "function", "function": { "name": "f", "parameters": schema } }]);
    let options = ChatTemplateOptions { tools: Some(tools), ..Default::default() };
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let source = "{% macro show(schema) %}{% if schema.properties is defined %}{% for name, inner in \
        schema.properties.items() %}{% if name %}{{ name[0] }}{{ show(inner) }}{% endif %}{% endfor %}\
        {% else %}!{% endif %}{% endmacro %}{% for tool in tools %}{{ show(tool.function.parameters) }}\
        {% endfor %}";
    assert_eq!(rendered(source, &messages, &options), "i".repeat(100) + "!");
    let source = "{{ tools | tojson | length > 100 }}";
    assert_eq!(rendered(source, &messages, &options), "True");
}

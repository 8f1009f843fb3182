//! The same conversation in the forms in which clients send it, for templates that take one of them.

use serde_json::{Value, json};

use super::{CallWriter, ChatTemplate, ChatTemplateOptions, WrittenCall};

fn rendered(source: &str, messages: &Value) -> String {
    let options = ChatTemplateOptions {
        tools: Some(json!([{ "type": "function", "function": { "name": "f" } }])),
        ..ChatTemplateOptions::default()
    };
    ChatTemplate::from_source(source).unwrap().render(messages, &options).unwrap()
}

/// A conversation with a call for each of the two tools, and their results.
fn conversation() -> Value {
    let call = |id: &str, name: &str, arguments: Value| {
        let function = json!({ "name": name, "arguments": arguments });
        json!({ "id": id, "type": "function", "function": function })
    };
    json!([
        { "role": "system", "content": "Be brief." },
        { "role": "user", "content": "Rain?" },
        { "role": "assistant", "content": "", "tool_calls": [
            call("abcdef123", "rain", json!({ "city": "Ulm", "days": 2 })),
            call("abcdef456", "time", json!({ "zone": "CET" })),
        ] },
        { "role": "tool", "name": "rain", "tool_call_id": "abcdef123", "content": "wet" },
        { "role": "tool", "name": "time", "tool_call_id": "abcdef456", "content": "noon" },
        { "role": "assistant", "content": "Yes." },
    ])
}

fn each(change: impl Fn(&mut Value)) -> Value {
    let mut messages = conversation();
    messages.as_array_mut().unwrap().iter_mut().for_each(change);
    messages
}

fn calls(message: &mut Value) -> &mut [Value] {
    message.get_mut("tool_calls").and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// The conversation as OpenAI's clients and others send it.
fn variations() -> Vec<(&'static str, Value)> {
    let text = |message: &mut Value| {
        for call in calls(message) {
            call["function"]["arguments"] = call["function"]["arguments"].to_string().into();
        }
    };
    let content = |value: Option<Value>| {
        each(move |message| {
            if message.get("tool_calls").is_some() {
                match &value {
                    Some(value) => message["content"] = value.clone(),
                    None => drop(message.as_object_mut().unwrap().shift_remove("content")),
                }
            }
        })
    };
    let parts = |role: &'static str| {
        each(move |message| {
            if message["role"] == role && message["content"] != "" {
                message["content"] = json!([{ "type": "text", "text": message["content"] }]);
            }
        })
    };
    let without = |fields: &'static [&'static str]| {
        each(move |message| {
            for field in fields {
                message.as_object_mut().unwrap().shift_remove(*field);
                calls(message).iter_mut().for_each(|it| {
                    it.as_object_mut().unwrap().shift_remove(*field);
                });
            }
        })
    };
    let mut reversed = conversation();
    reversed.as_array_mut().unwrap().swap(3, 4);
    vec![
        ("arguments as text", each(text)),
        ("null", content(Some(Value::Null))),
        ("no content", content(None)),
        ("no parts", content(Some(json!([])))),
        ("system as parts", parts("system")),
        ("user as parts", parts("user")),
        ("results as parts", parts("tool")),
        ("no names", without(&["name"])),
        ("no ids", without(&["id", "tool_call_id"])),
        ("neither", without(&["id", "tool_call_id", "name"])),
        (
            "developer",
            each(|message| {
                if message["role"] == "system" {
                    message["role"] = "developer".into();
                }
            }),
        ),
        ("reversed", reversed),
    ]
}

/// A template that writes each message, and calls as `call` does.
fn template(call: &str) -> String {
    format!(
        "{{% for m in messages %}}<{{{{ m.role }}}}{{{{ ' ' + m.name if m.name }}}}>\
         {{{{ m.content }}}}{{% for c in m.tool_calls or [] %}}{call}{{% endfor %}}\
         {{% endfor %}}"
    )
}

#[test]
fn every_form_of_a_conversation_gives_the_same_prompt() {
    let object = "[{{ c.function.name }} {{ c.function.arguments | tojson }}]";
    let text = "[{{ c.function.name + ' ' + c.function.arguments }}]";
    let printed = "[{{ c.function.name }} {{ c.function.arguments }}]";
    let asks = "[{{ c.function.name }} {% if c.function.arguments is string %}\
        {{ c.function.arguments }}{% else %}{{ c.function.arguments | tojson }}{% endif %}]";
    let expected = "<system>Be brief.<user>Rain?<assistant>[rain {\"city\": \"Ulm\", \"days\": 2}]\
        [time {\"zone\": \"CET\"}]<tool rain>wet<tool time>noon<assistant>Yes.";
    for call in [object, text, printed, asks] {
        let source = template(call);
        assert_eq!(rendered(&source, &conversation()), expected, "{call}");
        for (form, messages) in variations() {
            assert_eq!(rendered(&source, &messages), expected, "{call}: {form}");
        }
    }
    let items = template(
        "[{{ c.function.name }}{% for k, v in c.function.arguments.items() %} {{ k }}={{ v }}\
         {% endfor %}]",
    );
    let expected = "<system>Be brief.<user>Rain?<assistant>[rain city=Ulm days=2][time zone=CET]\
        <tool rain>wet<tool time>noon<assistant>Yes.";
    for (form, messages) in variations() {
        assert_eq!(rendered(&items, &messages), expected, "{form}");
    }
}

#[test]
fn a_turn_with_calls_has_the_content_that_lets_them_be_written() {
    // As DeepSeek V3's, which writes calls only where the content is none.
    let source = "{% for m in messages %}{% if m.content is none %}{% for c in m.tool_calls %}\
        [{{ c.function.name }} {{ c.function.arguments }}]{% endfor %}{% else %}<{{ m.content }}>\
        {% endif %}{% endfor %}";
    let expected = "<Be brief.><Rain?>[rain {\"city\": \"Ulm\", \"days\": 2}]\
        [time {\"zone\": \"CET\"}]\
        <wet><noon><Yes.>";
    assert_eq!(rendered(source, &conversation()), expected);
    for (form, messages) in variations() {
        assert_eq!(rendered(source, &messages), expected, "{form}");
    }
    // Text before the calls is a turn of its own.
    let mut messages = conversation();
    messages[2]["content"] = "Let me look.".into();
    assert_eq!(rendered(source, &messages), expected.replace("Rain?>", "Rain?><Let me look.>"));
}

#[test]
fn ids_are_what_the_template_insists_on() {
    let nine = "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}\
        {{ raise_exception('nine') }}{% endif %}[{{ c.id }} {{ c.function.arguments }}]{% endfor %}\
        {% if m.tool_call_id %}({{ m.tool_call_id }}){% endif %}{% endfor %}";
    assert!(rendered(nine, &conversation()).contains("[abcdef123 "));
    let mut messages = conversation();
    for (message, call, id) in [(3, 0, "call_long-one"), (4, 1, "call_long-two")] {
        messages[2]["tool_calls"][call]["id"] = id.into();
        messages[message]["tool_call_id"] = id.into();
    }
    let written = rendered(nine, &messages);
    let ids: Vec<&str> = written.split(['[', ' ', '(', ')']).filter(|it| it.len() == 9).collect();
    assert_eq!(ids.len(), 4, "{written}");
    assert_eq!((ids[0], ids[1]), (ids[2], ids[3]));
    assert_ne!(ids[0], ids[1]);
    assert!(written.chars().filter(|it| *it == '-').count() == 0);

    // As Kimi K2's, which writes no names.
    let kimi = "{% for m in messages %}{% for c in m.tool_calls or [] %}[{{ c.id }} \
        {{ c.function.arguments | tojson }}]{% endfor %}{% endfor %}";
    assert_eq!(
        rendered(kimi, &messages),
        "[functions.rain:0 {\"city\": \"Ulm\", \"days\": 2}][functions.time:1 {\"zone\": \"CET\"}]"
    );
}

#[test]
fn a_template_with_one_call_in_a_turn_gets_a_turn_for_each() {
    let source = "{% for m in messages %}{% if m.tool_calls %}{% if m.tool_calls | length > 1 %}\
        {{ raise_exception('one') }}{% endif %}[{{ m.tool_calls[0].function.arguments | tojson }}]\
        {% else %}<{{ m.content }}>{% endif %}{% endfor %}";
    let expected = "<Be brief.><Rain?>[{\"city\": \"Ulm\", \"days\": 2}]<wet>\
        [{\"zone\": \"CET\"}]<noon><Yes.>";
    assert_eq!(rendered(source, &conversation()), expected);
    for (form, messages) in variations() {
        assert_eq!(rendered(source, &messages), expected, "{form}");
    }
}

#[test]
fn reasoning_is_where_the_template_looks_for_it() {
    let messages = json!([
        { "role": "user", "content": "Rain?" },
        { "role": "assistant", "content": "Yes.", "reasoning_content": "Hm." },
    ]);
    let cases = [
        ("{% set m = messages[1] %}<{{ m.reasoning }}>{{ m.content }}", "<Hm.>Yes."),
        ("{% set m = messages[1] %}<{{ m.thought }}>{{ m.content }}", "<Hm.>Yes."),
        ("{% set m = messages[1] %}<{{ m.tool_plan }}>{{ m.content }}", "<Hm.>Yes."),
        (
            "{% set c = messages[1].content %}{% if c is string %}{{ c }}{% else %}{% for p in c %}\
             {% if p.type == 'thinking' %}<{{ p.thinking }}>{% else %}{{ p.text }}{% endif %}\
             {% endfor %}{% endif %}",
            "<Hm.>Yes.",
        ),
        (
            "{% set c = messages[1].content %}{% if '</think>' in c %}<{{ c.split('</think>')[0]\
             .split('<think>')[1].strip() }}>{% endif %}{{ c.split('</think>')[-1].strip() }}",
            "<Hm.>Yes.",
        ),
        // It takes reasoning away.
        ("{{ messages[1].content.split('</think>')[-1] }}", "Yes."),
        ("{{ messages[1].content }}", "Yes."),
    ];
    for (source, expected) in cases {
        assert_eq!(rendered(source, &messages), expected, "{source}");
    }
}

#[test]
fn arguments_that_are_no_json_and_older_calls_are_taken_too() {
    let items = "{% for m in messages %}{% for c in m.tool_calls or [] %}\
        {% for k, v in c.function.arguments.items() %}{{ k }}={{ v }};{% endfor %}{% endfor %}\
        {% endfor %}";
    let mut messages = conversation();
    messages[2]["tool_calls"][0]["function"]["arguments"] = "{\"city\": ".into();
    assert_eq!(rendered(items, &messages), "arguments={\"city\": ;zone=CET;");
    let arguments = &mut messages[2]["tool_calls"][0]["function"];
    arguments.as_object_mut().unwrap().shift_remove("arguments");
    assert_eq!(rendered(items, &messages), "zone=CET;");
    let older = json!([
        { "role": "user", "content": "Rain?" },
        { "role": "assistant", "content": null, "function_call": {
            "name": "rain", "arguments": "{\"city\":\"Ulm\"}",
        } },
        { "role": "function", "name": "rain", "content": "wet" },
    ]);
    let source = template(
        "[{{ c.function.name }} {{ c.function.arguments | tojson }}]{{ 'tool' if false }}",
    );
    assert_eq!(
        rendered(&source, &older),
        "<user>Rain?<assistant>[rain {\"city\": \"Ulm\"}]<tool rain>wet"
    );
}

/// Calls as `[f {…}]`, with their numbers.
fn writer() -> CallWriter {
    CallWriter::new(|calls| {
        let call = |it: &WrittenCall| {
            format!(
                "{}:{} {}",
                it.number,
                it.name,
                super::spaced_json(&it.arguments.clone().into())
            )
        };
        let calls: Vec<String> = calls.iter().map(call).collect();
        format!("<call>[{}]", calls.join(", "))
    })
}

fn written(source: &str, messages: &Value) -> String {
    let options = ChatTemplateOptions { calls: Some(writer()), ..ChatTemplateOptions::default() };
    ChatTemplate::from_source(source).unwrap().render(messages, &options).unwrap()
}

#[test]
fn calls_are_part_of_what_a_turn_says_where_a_template_writes_none() {
    let source = "{% for m in messages %}<{{ m.role }}>{{ m.content.strip() }}{% endfor %}";
    let calls = "<call>[0:rain {\"city\": \"Ulm\", \"days\": 2}, 1:time {\"zone\": \"CET\"}]";
    let expected =
        format!("<system>Be brief.<user>Rain?<assistant>{calls}<tool>wet<tool>noon<assistant>Yes.");
    assert_eq!(written(source, &conversation()), expected);
    for (form, messages) in variations() {
        if form != "developer" {
            assert_eq!(written(source, &messages), expected, "{form}");
        }
    }
    // Text stands before the calls, and calls are numbered through the conversation.
    let mut messages = conversation();
    messages[2]["content"] = "Let me look.\n".into();
    let mut again = messages[2].clone();
    again["content"] = json!([{ "type": "text", "text": "Again." }]);
    messages.as_array_mut().unwrap().push(again);
    let more = calls.replace("0:", "2:").replace("1:", "3:");
    assert_eq!(
        written(source, &messages),
        expected.replace("<call>", "Let me look.\n<call>") + &format!("<assistant>Again.\n{more}")
    );
    // A template that writes calls writes them itself.
    let own = template("[{{ c.function.arguments | tojson }}]");
    let written = written(&own, &conversation());
    assert!(written.contains("<assistant>[{\"city\": \"Ulm\", \"days\": 2}]["), "{written}");
}

#[test]
fn results_are_what_the_template_knows_of() {
    let calls = "<call>[0:rain {\"city\": \"Ulm\", \"days\": 2}, 1:time {\"zone\": \"CET\"}]";
    // As Granite 3.0's, which writes the marker of calls itself.
    let granite = "{% for m in messages %}{% if m.role == 'assistant_tool_call' %}\
        {{ '<assistant><call>' + m.content }}{% elif m.role == 'tool_response' %}\
        {{ '<result>' + m.content }}{% elif m.role != 'tool' %}<{{ m.role }}>{{ m.content }}\
        {% endif %}{% endfor %}";
    let expected = format!(
        "<system>Be brief.<user>Rain?<assistant>{calls}<result>wet<result>noon<assistant>Yes."
    );
    assert_eq!(written(granite, &conversation()), expected);
    let mut messages = conversation();
    messages[2]["content"] = "Look:".into();
    assert_eq!(
        written(granite, &messages),
        expected.replace("<assistant><call>", "<assistant>Look:<assistant><call>")
    );
    // Results without a call are results.
    let mut messages = conversation();
    messages.as_array_mut().unwrap().insert(1, json!({ "role": "tool", "content": "old" }));
    assert_eq!(written(granite, &messages), expected.replace("<user>", "<result>old<user>"));
    let strict = "{% for m in messages %}{% if m.role not in ['system', 'user', 'assistant'] %}\
        {{ raise_exception('roles') }}{% endif %}<{{ m.role }}>{{ m.content }}{% endfor %}";
    assert_eq!(
        written(strict, &conversation()),
        format!(
            "<system>Be brief.<user>Rain?<assistant>{calls}<user><tool_response>\nwet\n\
             </tool_response>\n<tool_response>\nnoon\n</tool_response><assistant>Yes."
        )
    );
}

#[test]
fn a_template_does_not_see_what_calls_are_made_of() {
    let source = "{% for m in messages %}{{ m.content.split('<call>')[-1].strip() }}|{% endfor %}";
    let mut messages = conversation();
    messages[2]["tool_calls"][0]["function"]["arguments"] = "{\"city\": ".into();
    assert_eq!(
        written(source, &messages),
        "Be brief.|Rain?|<call>[0:rain {\"arguments\": \"{\\\"city\\\": \"}, \
         1:time {\"zone\": \"CET\"}]|wet|noon|Yes.|"
    );
    // The signs in its place are none that the messages have.
    messages[1]["content"] = "\u{e010}0\u{e010}".into();
    assert!(written(source, &messages).starts_with("Be brief.|\u{e010}0\u{e010}|<call>["));
    messages[1]["content"] = ('\u{e010}'..='\u{e01f}').collect::<String>().into();
    let options = ChatTemplateOptions { calls: Some(writer()), ..ChatTemplateOptions::default() };
    let error = ChatTemplate::from_source(source).unwrap().render(&messages, &options).unwrap_err();
    assert_eq!(error.code(), "INVALID_ARGUMENT");
}

#[test]
fn tools_are_in_the_message_of_the_system_where_a_template_reads_them_there() {
    // As Phi-4-mini's.
    let source = "{% for m in messages %}{% if m.role == 'system' and 'tools' in m %}\
        {{ '<system>' + m.content + '<|tool|>' + m.tools + '<|/tool|>' }}{% else %}\
        {{ '<' + m.role + '>' + m.content }}{% endif %}{% endfor %}";
    let tools = "<|tool|>[{\"name\": \"f\"}]<|/tool|>";
    let asked = json!([{ "role": "user", "content": "Rain?" }]);
    assert_eq!(rendered(source, &asked), format!("<system>{tools}<user>Rain?"));
    let led = json!([{ "role": "system", "content": "Be brief." }, asked[0]]);
    assert_eq!(rendered(source, &led), format!("<system>Be brief.{tools}<user>Rain?"));
    let own = json!([{ "role": "system", "content": "", "tools": "mine" }, asked[0]]);
    assert_eq!(rendered(source, &own), "<system><|tool|>mine<|/tool|><user>Rain?");
    let template = ChatTemplate::from_source(source).unwrap();
    let without = template.render(&asked, &ChatTemplateOptions::default()).unwrap();
    assert_eq!(without, "<user>Rain?");
}

//! A small template for each way of writing calls, and what is found by it.

use super::*;

/// A template that writes each turn's content, and calls as `call` does; `name` and `arguments` are
/// variables there.
fn template(call: &str) -> ChatTemplate {
    let source = format!(
        "{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{{{{ m.content }}}}\
         {{% for c in m.tool_calls or [] %}}\
         {{% set name = c.function.name %}}{{% set arguments = c.function.arguments %}}{call}\
         {{% endfor %}}<|im_end|>\n{{% endfor %}}"
    );
    ChatTemplate::from_source(&source).unwrap()
}

#[test]
fn calls_are_tried() {
    let json = "{{ arguments | tojson }}";
    let object = format!("{{\"name\": \"{{{{ name }}}}\", \"arguments\": {json}}}");
    let each = |item: &str| format!("{{% for k, v in arguments.items() %}}{item}{{% endfor %}}");
    let value = "{{ v if v is string else v | tojson }}";
    let tag = |open: &str, close: &str| each(&format!("{open}{value}{close}"));
    let cases = [
        ("hermes", format!("<tool_call>\n{object}\n</tool_call>")),
        ("nemotron", format!("<TOOLCALL>[{object}]</TOOLCALL>")),
        ("hunyuan", format!("<tool_calls>[{object}]</tool_calls>")),
        ("granite", format!("<|tool_call|>[{object}]")),
        ("granite-20b", format!("<function_call> {object}")),
        ("phi4-mini", format!("<|tool_call|>[{object}]<|/tool_call|>")),
        ("functools", format!("functools[{object}]")),
        ("internlm2", format!("<|action_start|><|plugin|>\n{object}<|action_end|>")),
        ("gigachat", format!("<|function_call|>{object}")),
        ("command-r", "Action: ```json\n[{\"tool_name\": \"{{ name }}\", \"parameters\": {{ arguments | tojson }}}]```".to_owned()),
        ("cohere", "<|START_ACTION|>[{\"tool_call_id\": \"0\", \"tool_name\": \"{{ name }}\", \"parameters\": {{ arguments | tojson }}}]<|END_ACTION|>".to_owned()),
        ("llama3-json", "{\"name\": \"{{ name }}\", \"parameters\": {{ arguments | tojson }}}".to_owned()),
        ("mistral", format!("[TOOL_CALLS] [{object}]</s>")),
        ("mistral", format!("[TOOL_CALLS]{{{{ name }}}}[ARGS]{json}</s>")),
        ("apertus", format!("<|tools_prefix|>[{{\"{{{{ name }}}}\": {json}}}]<|tools_suffix|>")),
        ("solar", format!("<|tool_calls|><|tool_call:begin|>{{{{ c.id }}}}<|tool_call:name|>{{{{ name }}}}<|tool_call:args|>{json}<|tool_call:end|><|calls|>")),
        ("deepseek-v3", format!("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>{{{{ name }}}}\n```json\n{json}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>")),
        ("deepseek-v3", format!("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>{{{{ name }}}}<｜tool▁sep｜>{json}<｜tool▁call▁end｜><｜tool▁calls▁end｜>")),
        ("deepseek-v3.2", format!("<｜DSML｜function_calls><｜DSML｜invoke name=\"{{{{ name }}}}\">{}</｜DSML｜invoke></｜DSML｜function_calls>", each(&format!("<｜DSML｜parameter name=\"{{{{ k }}}}\" string=\"{{{{ 'true' if v is string else 'false' }}}}\">{value}</｜DSML｜parameter>")))),
        ("kimi-k2", format!("<|tool_calls_section_begin|><|tool_call_begin|>functions.{{{{ name }}}}:0<|tool_call_argument_begin|>{json}<|tool_call_end|><|tool_calls_section_end|>")),
        ("kimi-k3", format!("<|open|>tools<|sep|><|open|>call tool=\"{{{{ name }}}}\" index=\"1\"<|sep|>{}<|close|>call<|sep|><|close|>tools<|sep|>", each(&format!("<|open|>argument key=\"{{{{ k }}}}\" type=\"{{{{ 'string' if v is string else 'number' }}}}\"<|sep|>{value}<|close|>argument<|sep|>")))),
        ("glm", format!("<tool_call>{{{{ name }}}}\n{}</tool_call>", tag("<arg_key>{{ k }}</arg_key>\n<arg_value>", "</arg_value>\n"))),
        ("longcat", format!("<longcat_tool_call>{{{{ name }}}}\n{}</longcat_tool_call>", tag("<longcat_arg_key>{{ k }}</longcat_arg_key>\n<longcat_arg_value>", "</longcat_arg_value>\n"))),
        ("hy3", format!("<tool_calls:opensource><tool_call:opensource>{{{{ name }}}}<tool_sep:opensource>{}</tool_call:opensource></tool_calls:opensource>", tag("<arg_key:opensource>{{ k }}</arg_key:opensource><arg_value:opensource>", "</arg_value:opensource>"))),
        ("qwen3-coder", format!("<tool_call>\n<function={{{{ name }}}}>\n{}</function>\n</tool_call>", tag("<parameter={{ k }}>\n", "\n</parameter>\n"))),
        ("qwen3-coder", format!("<seed:tool_call>\n<function={{{{ name }}}}>\n{}</function>\n</seed:tool_call>", tag("<parameter={{ k }}>", "</parameter>\n"))),
        ("minimax-m2", format!("<minimax:tool_call>\n<invoke name=\"{{{{ name }}}}\">\n{}</invoke>\n</minimax:tool_call>", tag("<parameter name=\"{{ k }}\">", "</parameter>\n"))),
        ("minimax-m3", format!("]<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name=\"{{{{ name }}}}\">{}]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>", each(&format!("]<]minimax[>[<{{{{ k }}}}>{value}]<]minimax[>[</{{{{ k }}}}>")))),
        ("muse", format!("<atem:function_calls><atem:invoke name=\"{{{{ name }}}}\">{}</atem:invoke></atem:function_calls>", tag("<atem:parameter name=\"{{ k }}\">", "</atem:parameter>"))),
        ("minicpm5", format!("<function name=\"{{{{ name }}}}\">{}</function>", tag("<param name=\"{{ k }}\">", "</param>"))),
        ("gemma4", format!("<|tool_call>call:{{{{ name }}}}{{{{ '{{' }}}}{}}}<tool_call|>", each("{{ k }}:{% if v is string %}<|\"|>{{ v }}<|\"|>{% else %}{{ v }}{% endif %}{{ ',' if not loop.last }}"))),
        ("function-gemma", format!("<start_function_call>call:{{{{ name }}}}{{{{ '{{' }}}}{}}}<end_function_call>", each("{{ k }}:{% if v is string %}<escape>{{ v }}<escape>{% else %}{{ v }}{% endif %}{{ ',' if not loop.last }}"))),
        ("functionary-v2", format!("<|recipient|>{{{{ name }}}}\n<|content|>{json}<|stop|>")),
        ("functionary-v3.1", format!("<function={{{{ name }}}}>{json}</function>")),
        ("functionary-v3.2", format!(">>>{{{{ name }}}}\n{json}")),
        ("pythonic", format!("<|tool_call_start|>[{{{{ name }}}}({})]<|tool_call_end|>", each("{{ k }}={{ v | tojson }}{{ ', ' if not loop.last }}"))),
        ("pythonic", format!("[{{{{ name }}}}({})]", each("{{ k }}={{ v | tojson }}{{ ', ' if not loop.last }}"))),
        ("pythonic", format!("[{{{{ name }}}}({})]", each("{{ k }}={{ v }}{{ ', ' if not loop.last }}"))),
        ("harmony", format!("<|start|>assistant to=functions.{{{{ name }}}}<|channel|>commentary json<|message|>{json}<|call|>")),
        ("glm4", format!("{{{{ name }}}}\n{json}")),
        ("json-list", format!("[{object}]")),
        ("nemotron-mini", format!("<toolcall> {object} </toolcall>")),
    ];
    let mut missing: Vec<&str> = ALL.iter().map(|format| format.name).collect();
    for (name, call) in cases {
        let found = detect(Some(&template(&call)), None, None).calls.map(|it| it.name);
        assert_eq!(found, Some(name), "{call}");
        missing.retain(|it| *it != name);
    }
    assert!(missing.is_empty(), "no template for {missing:?}");
}

#[test]
fn signs_help_where_a_template_writes_no_calls() {
    let source = |text: &str| ChatTemplate::from_source(text).unwrap();
    let cases = [
        ("Answer with <|tool_call|> and a list.{{ messages[0].content }}", Some("granite")),
        ("{{ raise_exception('no') }}<｜tool▁calls▁begin｜>", Some("deepseek-v3")),
        // The marker of calls is left out where they are written.
        (
            "prefix calls with functools[{{ '{' }}{% for m in messages %}{{ m.content }}{% for c in \
             m.tool_calls or [] %}{\"name\": \"{{ c.function.name }}\", \"arguments\": \
             {{ c.function.arguments }}}{% endfor %}{% endfor %}",
            Some("functools"),
        ),
        // What is safe makes what it is added to safe, too.
        (
            "{% for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}{{- \
             '[TOOL_CALLS][' }}{% set args = c.function.arguments | tojson | safe %}{{- \
             '{\"name\": \"' + c.function.name + '\", \"arguments\": ' + args + '}]' }}\
             {% endfor %}{% endfor %}",
            Some("mistral"),
        ),
        ("{%- set tool_start = \"functools\" -%}{{ messages[0].content }}", Some("functools")),
        ("<extra_id_0>System {{ messages[0].content }}", Some("nemotron-mini")),
        ("{{ 'List of tools: [' }}{{ messages[0].content }}", Some("pythonic")),
        (
            "[\n    {\"name\": \"func_name1\", \"arguments\": {}}\n]{{ messages[0].content }}",
            Some("json-list"),
        ),
        ("{{ messages[0].content }}", None),
    ];
    for (text, expected) in cases {
        let found = detect(Some(&source(text)), None, None).calls.map(|it| it.name);
        assert_eq!(found, expected, "{text}");
    }
    assert!(detect(None, None, None).is_empty());
}

#[test]
fn reasoning_is_found_by_its_markers() {
    let cases = [
        ("{{ '<think>\n' }}{{ '</think>' }}", Some("think")),
        ("{{ content.split('</think>')[-1] }}", Some("think")),
        ("<|channel|>analysis<|message|>", Some("harmony")),
        ("<|channel>thought\n<channel|>", Some("gemma4")),
        ("{{ part.split('<channel|>') }}{{ part.split('<|channel>') }}", Some("gemma4")),
        ("reply after [BEGIN FINAL RESPONSE].", Some("apriel")),
        ("<|thought_start|>{{ m.thought }}<|thought_end|>", Some("minicpm3")),
        ("[THINK]{{ x }}[/THINK]", Some("mistral")),
        ("<|START_THINKING|><|END_THINKING|>", Some("cohere")),
        ("<seed:think></seed:think>", Some("seed-oss")),
        ("<think>\n</think>\n<answer>", Some("hunyuan")),
        ("<think></think><response></response>", Some("think-response")),
        ("Here is my thought process: … Here is my response:", Some("granite")),
        ("<|inner_prefix|>{{ x }}<|inner_suffix|>", Some("apertus")),
        ("{{ messages[0].content }}", None),
    ];
    for (text, expected) in cases {
        let text = format!("{{% if false %}}{text}{{% endif %}}");
        let template = ChatTemplate::from_source(&text).unwrap();
        let found = detect(Some(&template), None, None).reasoning.map(|it| it.name);
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn markers_that_a_template_puts_together_are_found_where_it_writes_reasoning() {
    let cases = [
        ("'<think{}>'.format(':opensource')", "'</think{}>'.format(':opensource')", "hy3"),
        ("'<|open|>' + 'think' + '<|sep|>'", "'<|close|>' + 'think' + '<|sep|>'", "kimi-k3"),
    ];
    for (begin, end, expected) in cases {
        let source = format!(
            "{{% for m in messages %}}{{% if m.reasoning_content %}}{{{{ {begin} + \
             m.reasoning_content + {end} }}}}{{% endif %}}{{{{ m.content }}}}{{% endfor %}}"
        );
        let template = ChatTemplate::from_source(&source).unwrap();
        let found = detect(Some(&template), None, None).reasoning.map(|it| it.name);
        assert_eq!(found, Some(expected));
    }
}

//! In which forms a template takes messages, found by trying.
//!
//! Clients send the same conversation in many forms: arguments as objects or as JSON text, contents
//! as text or as parts, ids of any kind. Templates take some of them, print others wrongly, and
//! leave out or refuse the rest. What a template's tags say of it is not enough, so it is given a
//! call in each form: the one counts in which the call stands in the prompt unharmed.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::reads::Reads;

/// The forms of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Forms {
    /// Of a call's arguments; `None` where the template writes them in no form.
    pub arguments: Option<Arguments>,
    /// Of the content of a turn that has nothing but calls.
    pub empty: Empty,
    /// Of the ids of calls.
    pub ids: Ids,
    /// Whether a turn may have one call only.
    pub one_call: bool,
    /// Whether text before a call has to be a turn of its own.
    pub text_apart: bool,
    /// Whether it knows the role `developer`.
    pub developer: bool,
    /// Of the contents of each role.
    pub contents: Contents,
    /// Of the reasoning of earlier turns.
    pub thoughts: Thoughts,
    /// Whether the message of the system has the tools, as text.
    pub system_tools: bool,
    /// Of the results of calls, where the template writes no calls.
    pub results: Results,
    /// What the template writes before the content of a turn of [`CALL_ROLE`], where it knows that.
    pub call_turn: Option<String>,
}

/// The role of turns with nothing but calls, in templates of Granite 3.0.
pub(super) const CALL_ROLE: &str = "assistant_tool_call";

/// The form of the results of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Results {
    /// Messages of this role.
    Role(&'static str),
    /// What the user says.
    User,
}

/// What templates call the role of a result. The first that a template names counts, then `tool`,
/// then those of the others.
const RESULT_ROLES: [&str; 4] = ["tool", "tool_response", "tool_result", "observation"];
/// What is the name of something else, too.
const OTHER_RESULT_ROLES: [&str; 2] = ["function", "ipython"];

/// The form of a call's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arguments {
    Objects,
    Text,
}

/// The form of a content that is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Empty {
    Text,
    Null,
    Absent,
    /// A part without text.
    Part,
}

/// The form of the ids of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    Any,
    /// Nine letters and digits.
    Nine,
    /// `functions.name:0`, which is all that the template writes of the call's name.
    Functions,
}

/// The forms of contents by role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contents {
    pub system: Content,
    pub user: Content,
    pub assistant: Content,
    pub tool: Content,
}

/// In which forms a content can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// As text.
    pub text: bool,
    /// As one part or several.
    pub parts: bool,
}

/// The form of reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thoughts {
    /// As it comes: the template reads the usual fields, or no reasoning at all.
    Fields,
    /// In a field of another name.
    Field(&'static str),
    /// As a part of the content before the text.
    Part,
    /// At the beginning of the content, between `<think>` and `</think>`.
    InContent,
}

/// Fields that some templates read reasoning from, besides the usual ones.
const OTHER_FIELDS: [&str; 3] = ["thought", "thoughts", "tool_plan"];

const TOOL: &str = "probe_tool";
const ID: &str = "abcde1234";
/// The name that results have, so that it is not taken for that of the call.
const RESULT_NAME: &str = "named_tool";
const VALUES: [&str; 2] = ["probe value", "other value"];
const RESULTS: [&str; 2] = ["probe result", "other result"];
const WORDS: &str = "probe words";
const THOUGHT: &str = "probe thought";

/// How well a call is written, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Written {
    /// It is refused, or left out.
    Not,
    /// It is there, but its arguments in quotes, or as Python prints a dictionary.
    Harmed,
    /// As it was given.
    Whole,
}

/// Tries a template.
struct Trial<'a> {
    render: &'a dyn Fn(Value) -> Option<String>,
    ends: Instant,
    /// What the template writes without a call.
    before: String,
}

impl Forms {
    /// Tries a template, for `time` at most. `render` renders messages with [`tools`].
    pub fn find(reads: &Reads, time: Duration, render: &dyn Fn(Value) -> Option<String>) -> Self {
        let mut trial = Trial { render, ends: Instant::now() + time, before: String::new() };
        trial.before = trial.text(&[user()]).unwrap_or_default();
        let (arguments, empty) = trial.arguments(reads);
        let given = Probe { arguments: arguments.unwrap_or(Arguments::Objects), empty };
        let has_calls = arguments.is_some();
        Self {
            arguments,
            empty,
            ids: if has_calls { trial.ids(given) } else { Ids::Any },
            one_call: has_calls && trial.takes_one_call(given),
            text_apart: has_calls && trial.wants_text_apart(given),
            developer: reads.field("developer")
                && trial.shows(&[turn("developer", WORDS.into()), user()], &[WORDS]),
            contents: Contents {
                system: trial.content(&|content| vec![turn("system", content), user()]),
                user: trial.content(&|content| vec![turn("user", content)]),
                assistant: trial.content(&|content| vec![user(), turn("assistant", content)]),
                tool: trial.content(&|content| {
                    let mut result = result(0);
                    result["content"] = content;
                    vec![user(), given.turn(&[0]), result]
                }),
            },
            thoughts: trial.thoughts(reads, given),
            system_tools: reads.tools_of_message() && trial.shows_system_tools(),
            results: if has_calls { Results::Role("tool") } else { trial.results(reads) },
            call_turn: if has_calls { None } else { trial.call_turn(reads) },
        }
    }
}

/// The tools that a template is tried with.
pub(super) fn tools() -> Value {
    json!([{ "type": "function", "function": {
        "name": TOOL,
        "description": "",
        "parameters": {
            "type": "object",
            "properties": { "probe_text": { "type": "string", "description": "" } },
            "required": ["probe_text"],
        },
    } }])
}

fn user() -> Value {
    turn("user", "probe".into())
}

fn turn(role: &str, content: Value) -> Value {
    json!({ "role": role, "content": content })
}

fn result(index: usize) -> Value {
    json!({
        "role": "tool",
        "name": RESULT_NAME,
        "tool_call_id": id(index),
        "content": RESULTS[index],
    })
}

fn id(index: usize) -> String {
    format!("{}{index}", &ID[..ID.len() - 1])
}

/// How calls are given.
#[derive(Clone, Copy)]
struct Probe {
    arguments: Arguments,
    empty: Empty,
}

impl Probe {
    /// A turn with these calls.
    fn turn(self, calls: &[usize]) -> Value {
        let call = |&index: &usize| {
            let arguments = json!({ "probe_text": VALUES[index] });
            let arguments = match self.arguments {
                Arguments::Objects => arguments,
                Arguments::Text => super::json::spaced(&arguments).into(),
            };
            let function = json!({ "name": TOOL, "arguments": arguments });
            json!({ "id": id(index), "type": "function", "function": function })
        };
        let mut turn = Map::new();
        turn.insert("role".to_owned(), "assistant".into());
        self.empty.put(&mut turn);
        turn.insert("tool_calls".to_owned(), calls.iter().map(call).collect());
        Value::Object(turn)
    }
}

impl Trial<'_> {
    fn text(&self, messages: &[Value]) -> Option<String> {
        if Instant::now() >= self.ends {
            return None;
        }
        (self.render)(Value::Array(messages.to_vec()))
    }

    /// Whether messages are taken, and all `words` are in what is made of them.
    fn shows(&self, messages: &[Value], words: &[&str]) -> bool {
        self.text(messages).is_some_and(|text| words.iter().all(|it| text.contains(it)))
    }

    /// How often `words` stand in `text` more than without a call.
    fn more(&self, text: &str, words: &str) -> usize {
        text.matches(words).count().saturating_sub(self.before.matches(words).count())
    }

    fn written(&self, text: &str, calls: &[usize]) -> Written {
        if calls.iter().any(|&index| !text.contains(VALUES[index])) {
            return Written::Not;
        }
        // What tools are told of by has these, too.
        let harmed = ["\\\"probe_text", "{'probe_text'", "\\u0022probe_text", "&#34;"];
        match harmed.iter().any(|it| self.more(text, it) > 0) {
            true => Written::Harmed,
            false => Written::Whole,
        }
    }

    /// The form of arguments in which a call is written best, and that of the empty content beside.
    fn arguments(&self, reads: &Reads) -> (Option<Arguments>, Empty) {
        let empties = match reads.asks_for_none {
            true => [Empty::Null, Empty::Text, Empty::Absent, Empty::Part],
            false => [Empty::Text, Empty::Null, Empty::Absent, Empty::Part],
        };
        let mut best = (Written::Not, 0);
        let mut found = (None, Empty::Text);
        for arguments in [Arguments::Objects, Arguments::Text] {
            for empty in empties {
                let messages = [user(), Probe { arguments, empty }.turn(&[0]), result(0)];
                let Some(text) = self.text(&messages) else { continue };
                let printed = self.more(&text, "None") + self.more(&text, "null");
                let this = (self.written(&text, &[0]), usize::MAX - printed);
                if this.0 > Written::Not && this > best {
                    best = this;
                    found = (Some(arguments), empty);
                }
            }
        }
        found
    }

    fn ids(&self, given: Probe) -> Ids {
        let with = |id: &str| {
            let (mut call, mut result) = (given.turn(&[0]), result(0));
            call["tool_calls"][0]["id"] = id.into();
            result["tool_call_id"] = id.into();
            self.text(&[user(), call, result])
        };
        let named = |text: &String| self.more(text, TOOL) > 0;
        let Some(text) = with("call_0123456789abcdefghijklmn") else {
            return if with(ID).is_some() { Ids::Nine } else { Ids::Any };
        };
        let functions = || with(&format!("functions.{TOOL}:0")).is_some_and(|text| named(&text));
        if !named(&text) && functions() { Ids::Functions } else { Ids::Any }
    }

    fn takes_one_call(&self, given: Probe) -> bool {
        let words = [VALUES, RESULTS].concat();
        let together = [user(), given.turn(&[0, 1]), result(0), result(1)];
        let apart = [user(), given.turn(&[0]), result(0), given.turn(&[1]), result(1)];
        !self.shows(&together, &words) && self.shows(&apart, &words)
    }

    fn wants_text_apart(&self, given: Probe) -> bool {
        let mut both = given.turn(&[0]);
        both["content"] = WORDS.into();
        let text = turn("assistant", WORDS.into());
        // Roles may have to alternate.
        let (answer, words) = (turn("assistant", "probe".into()), [WORDS, VALUES[0]]);
        let now = [user(), both.clone(), result(0)];
        let together = [user(), both, result(0), answer.clone(), user()];
        let apart = [user(), text, given.turn(&[0]), result(0), answer, user()];
        // What a template shows until there is an answer, it takes for reasoning.
        let is_lost = !self.shows(&now, &words) && !self.shows(&together, &words);
        is_lost && self.shows(&apart, &words)
    }

    /// The form in which a result is written. The template knows nothing of its call.
    fn results(&self, reads: &Reads) -> Results {
        let shows = |role: &str| {
            let mut result = result(0);
            result["role"] = role.into();
            self.shows(&[user(), turn("assistant", WORDS.into()), result], &[WORDS, RESULTS[0]])
        };
        let named = |roles: &'static [&'static str]| roles.iter().filter(|role| reads.field(role));
        let mut roles = named(&RESULT_ROLES).chain(&["tool"]).chain(named(&OTHER_RESULT_ROLES));
        roles.find(|role| shows(role)).map_or(Results::User, |role| Results::Role(role))
    }

    fn shows_system_tools(&self) -> bool {
        let mut system = turn("system", "".into());
        system["tools"] = WORDS.into();
        self.shows(&[system, user()], &[WORDS])
    }

    fn call_turn(&self, reads: &Reads) -> Option<String> {
        let is_known = reads.field(CALL_ROLE);
        let text = is_known.then(|| self.text(&[user(), turn(CALL_ROLE, WORDS.into())]))??;
        text.split_once(WORDS).map(|(before, _)| before.to_owned())
    }

    fn content(&self, messages: &dyn Fn(Value) -> Vec<Value>) -> Content {
        let part = |text: &str| json!({ "type": "text", "text": text });
        let text = self.text(&messages(WORDS.into())).filter(|text| text.contains(WORDS));
        let one = self.text(&messages(json!([part(WORDS)])));
        let two = self.text(&messages(json!([part(WORDS), part(THOUGHT)])));
        // Python's and JSON's list of parts has their fields.
        let printed = ["'text'", "\"text\"", "\\\"text\\\""];
        let is_whole =
            |it: &String| it.contains(WORDS) && printed.iter().all(|mark| self.more(it, mark) == 0);
        let is_shown = |it: &String| match &text {
            Some(_) => is_whole(it),
            None => it.contains(WORDS),
        };
        let takes_two = two.is_some_and(|it| is_shown(&it) && it.contains(THOUGHT));
        let takes_one = text.is_some() || one.as_ref().is_some_and(is_shown);
        Content { text: text.is_some(), parts: takes_one && takes_two }
    }

    fn thoughts(&self, reads: &Reads, given: Probe) -> Thoughts {
        let shows = |form: Thoughts, has_call: bool| {
            let mut message = match has_call {
                true => given.turn(&[0]),
                false => turn("assistant", WORDS.into()),
            };
            let Some(fields) = message.as_object_mut() else { return false };
            form.put(fields, &THOUGHT.into());
            let mut messages = vec![user(), message];
            if has_call {
                messages.push(result(0));
            }
            self.text(&messages).is_some_and(|text| {
                let is_printed = text.contains("'thinking'") || text.contains("\"thinking\"");
                text.matches(THOUGHT).count() == 1 && !is_printed
            })
        };
        let other = OTHER_FIELDS.into_iter().filter(|it| reads.field(it)).map(Thoughts::Field);
        let part = reads.field("thinking").then_some(Thoughts::Part);
        let in_content = reads.mentions("</think>").then_some(Thoughts::InContent);
        let forms = std::iter::once(Thoughts::Fields).chain(other).chain(part).chain(in_content);
        let forms: Vec<Thoughts> = forms.collect();
        let found = [true, false]
            .into_iter()
            .find_map(|has_call| forms.iter().copied().find(|&form| shows(form, has_call)));
        found.unwrap_or(Thoughts::Fields)
    }
}

impl Empty {
    /// Empties a message's content.
    pub fn put(self, message: &mut Map<String, Value>) {
        let content = match self {
            Self::Text => json!(""),
            Self::Null => Value::Null,
            Self::Part => json!([{ "type": "text", "text": "" }]),
            Self::Absent => {
                message.shift_remove("content");
                return;
            }
        };
        message.insert("content".to_owned(), content);
    }
}

impl Thoughts {
    /// Puts reasoning into a message.
    pub fn put(self, message: &mut Map<String, Value>, thought: &Value) {
        match self {
            Self::Fields => {
                for name in ["thinking", "reasoning_content", "reasoning"] {
                    message.entry(name).or_insert_with(|| thought.clone());
                }
            }
            Self::Field(name) => {
                message.entry(name).or_insert_with(|| thought.clone());
            }
            Self::Part => {
                let part = json!({ "type": "thinking", "thinking": thought });
                let content = match message.get("content") {
                    Some(Value::Array(parts)) => {
                        std::iter::once(part).chain(parts.iter().cloned()).collect()
                    }
                    Some(Value::String(text)) if !text.is_empty() => {
                        json!([part, { "type": "text", "text": text }])
                    }
                    _ => json!([part]),
                };
                // Both are too much for some.
                for name in ["thinking", "reasoning_content", "reasoning"] {
                    message.shift_remove(name);
                }
                message.insert("content".to_owned(), content);
            }
            Self::InContent => {
                let Some(thought) = thought.as_str() else { return };
                let text = match message.get("content") {
                    Some(Value::String(text)) => text.as_str(),
                    None | Some(Value::Null) => "",
                    Some(_) => return,
                };
                let content = format!("<think>\n{thought}\n</think>\n\n{text}");
                message.insert("content".to_owned(), content.into());
            }
        }
    }
}

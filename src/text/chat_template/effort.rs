//! How much a model is to reason, in the variables that its template reads.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::reads::Reads;
use crate::error::{Error, Result};

/// How much a model is to reason before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Reasoning {
    /// A level.
    Level(Level),
    /// At most so many tokens.
    Budget {
        /// The tokens; 0 is [`Level::Off`].
        #[serde(rename = "budgetTokens")]
        budget_tokens: usize,
    },
}

/// A level of reasoning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// None.
    Off,
    /// A little.
    Low,
    /// Some.
    Medium,
    /// As much as it likes.
    High,
}

/// The budgets of the levels, for templates that can only turn reasoning on and off.
const LOW_BUDGET: usize = 1024;
const MEDIUM_BUDGET: usize = 8192;

/// Variables that turn reasoning on and off.
const SWITCHES: [&str; 3] = ["enable_thinking", "thinking", "reasoning"];
/// Variables that take a level.
const LEVELS: [&str; 3] = ["reasoning_effort", "thinking_effort", "reasoning_strength"];
/// Other variables that are about reasoning.
const OTHERS: [&str; 3] = ["thinking_mode", "thinking_budget", "skip_thinking"];
/// Fields of a message that have reasoning.
const THOUGHTS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];
/// What a level is called that is none.
const NO_EFFORT: [&str; 4] = ["none", "no_think", "off", "minimal"];

/// What is given to a template, and what is left to keep to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Plan {
    /// The template's variables.
    pub variables: Map<String, Value>,
    /// How many tokens of reasoning there may be at most.
    pub budget: Option<usize>,
}

/// Whether a template that `reads` these names has anything to do with reasoning.
pub(super) fn mentions_reasoning(reads: &Reads) -> bool {
    let variables = SWITCHES.iter().chain(&LEVELS).chain(&OTHERS);
    variables.into_iter().any(|name| reads.variable(name))
        || THOUGHTS.iter().any(|name| reads.field(name))
}

impl Reasoning {
    /// Whether the model is not to reason at all.
    pub fn is_off(self) -> bool {
        matches!(self, Self::Level(Level::Off) | Self::Budget { budget_tokens: 0 })
    }

    /// How a template that `reads` these variables is told.
    ///
    /// # Errors
    /// [`Error::UnsupportedOption`] where it cannot be told.
    pub(super) fn plan<'a>(
        self,
        reads: &Reads,
        efforts: impl FnOnce() -> &'a Efforts,
    ) -> Result<Plan> {
        let is_read = SWITCHES.iter().chain(&LEVELS).chain(&OTHERS).any(|it| reads.variable(it));
        let efforts = if is_read { efforts().clone() } else { Efforts::default() };
        if self.is_off() {
            let mut variables = switched(reads, false);
            let mut told = efforts.switches;
            for (name, words) in &efforts.words {
                if let Some(none) = words.off {
                    variables.insert((*name).to_owned(), none.into());
                    told = true;
                }
            }
            return match told {
                true => Ok(Plan { variables, budget: None }),
                false => Err(untold("the chat template has no way to turn reasoning off")),
            };
        }
        let mut variables = switched(reads, true);
        let mut told = efforts.switches;
        let (level, budget) = match self {
            Self::Budget { budget_tokens } => (None, Some(budget_tokens)),
            Self::Level(Level::Low) => (Some(0), Some(LOW_BUDGET)),
            Self::Level(Level::Medium) => (Some(1), Some(MEDIUM_BUDGET)),
            Self::Level(_) => (Some(2), None),
        };
        let mut give = |level: usize| {
            efforts.words.iter().fold(false, |given, (name, words)| match words.levels[level] {
                Some(word) => {
                    variables.insert((*name).to_owned(), word.into());
                    true
                }
                None => given,
            })
        };
        if level.is_some_and(&mut give) {
            return Ok(Plan { variables, budget: None });
        }
        // A level that there is not is as much reasoning as there is, up to a budget.
        if !efforts.reasons_unasked {
            give(2);
        }
        told |= efforts.words.iter().any(|(_, words)| *words != Words::default());
        if reads.variable("thinking_budget") {
            told = true;
            if let Some(budget) = budget {
                variables.insert("thinking_budget".to_owned(), budget.into());
            }
        }
        match told || level.is_none() {
            true => Ok(Plan { variables, budget }),
            false => Err(untold("the chat template reads no variable that says how much")),
        }
    }
}

/// The variables that turn reasoning on or off.
fn switched(reads: &Reads, on: bool) -> Map<String, Value> {
    let mode = if on { "enabled" } else { "disabled" };
    let switches = SWITCHES.iter().map(|name| (*name, Value::from(on)));
    let mut all: Vec<(&str, Value)> = switches.collect();
    all.push(("thinking_mode", mode.into()));
    if !on {
        all.push(("thinking_budget", 0.into()));
        all.push(("skip_thinking", true.into()));
    }
    all.retain(|(name, _)| reads.variable(name));
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What a template calls the levels in one of its variables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Words {
    off: Option<&'static str>,
    /// Low, medium and high.
    levels: [Option<&'static str>; 3],
}

/// The levels that a template takes, found by trying.
#[derive(Debug, Clone, Default)]
pub(super) struct Efforts {
    /// Whether it makes a difference if reasoning is turned on or off.
    switches: bool,
    /// By the names of the variables.
    words: Vec<(&'static str, Words)>,
    /// Whether there is reasoning where no level is given.
    reasons_unasked: bool,
}

/// No level.
const NONSENSE: &str = "qzxqzx";

impl Efforts {
    /// Tries a template. `render` renders a conversation with these variables, and with tools or
    /// without.
    pub fn find(
        reads: &Reads,
        render: &dyn Fn(Map<String, Value>, bool) -> Option<String>,
    ) -> Self {
        let with = |name: &str, word: &str, on: bool| {
            let mut variables = switched(reads, on);
            variables.insert(name.to_owned(), word.into());
            render(variables, false)
        };
        let unasked = render(switched(reads, true), false);
        let differs =
            |tools| render(switched(reads, true), tools) != render(switched(reads, false), tools);
        let switches = differs(false) || differs(true);
        let mut reasons_unasked = true;
        let named = LEVELS.into_iter().filter(|name| reads.variable(name));
        let words = named.map(|name| {
            let nonsense = with(name, NONSENSE, true);
            let tells = |word: &&'static str| {
                // A word that makes the same as one that there is not is none of the template's.
                with(name, word, true).is_some_and(|text| match &nonsense {
                    Some(other) => other.contains(NONSENSE) || *other != text,
                    None => true,
                })
            };
            let off = NO_EFFORT.into_iter().find_map(|word| {
                let text = with(name, word, false).filter(|_| reads.field(word))?;
                Some((word, text))
            });
            reasons_unasked &= off.as_ref().is_none_or(|(_, off)| Some(off) != unasked.as_ref());
            let first = |words: &[&'static str]| words.iter().copied().find(|word| tells(word));
            let levels = [first(&["low"]), first(&["medium"]), first(&["high", "xhigh"])];
            (name, Words { off: off.map(|(word, _)| word), levels })
        });
        let words = words.collect();
        Self { switches, words, reasons_unasked }
    }
}

fn untold(problem: &str) -> Error {
    Error::unsupported(
        "reasoning",
        format!(
            "{problem}; leave the option out, or give what the template reads in \
             templateVariables"
        ),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{ChatTemplate, ChatTemplateOptions};
    use super::*;

    fn render(source: &str, reasoning: Value) -> Result<String> {
        let options = ChatTemplateOptions {
            reasoning: Some(serde_json::from_value(reasoning).unwrap()),
            ..ChatTemplateOptions::default()
        };
        let messages = json!([{ "role": "user", "content": "hi", "thinking": "no" }]);
        ChatTemplate::from_source(source)?.render(&messages, &options)
    }

    const NONE_OR_HIGH: &str = "{% set reasoning_effort = reasoning_effort | default('none') %}\
        {% if reasoning_effort not in ['none', 'high'] %}{{ raise_exception('no') }}{% endif %}\
        {{ reasoning_effort }}";
    const XHIGH: &str = "{% set effort = reasoning_effort | default('xhigh') %}\
        {% if effort not in ('xhigh', 'medium') %}{{ raise_exception('no') }}{% endif %}\
        {{ effort }}";

    #[test]
    fn a_template_is_told_in_its_own_variables() {
        let switch = "{{ enable_thinking }}";
        let effort = "{{ reasoning_effort }}{{ 'no_think' if false }}";
        let cases = [
            (switch, json!("off"), "False"),
            (switch, json!("high"), "True"),
            (switch, json!({ "budgetTokens": 5 }), "True"),
            (switch, json!({ "budgetTokens": 0 }), "False"),
            ("{{ thinking }}{{ thinking_mode }}", json!("off"), "Falsedisabled"),
            ("{{ thinking_budget }}", json!({ "budgetTokens": 5 }), "5"),
            (effort, json!("medium"), "medium"),
            (effort, json!("off"), "no_think"),
            ("{{ thinking_budget }}", json!("high"), ""),
            // What a template has no word for is as much as it can, with a budget.
            (NONE_OR_HIGH, json!("off"), "none"),
            (NONE_OR_HIGH, json!("low"), "high"),
            (NONE_OR_HIGH, json!("medium"), "high"),
            (NONE_OR_HIGH, json!("high"), "high"),
            (NONE_OR_HIGH, json!({ "budgetTokens": 5 }), "high"),
            ("{{ 'max' if reasoning_effort != 'high' else 'high' }}", json!("low"), "max"),
            ("{{ 'max' if reasoning_effort != 'high' else 'high' }}", json!("high"), "high"),
            (XHIGH, json!("high"), "xhigh"),
            (XHIGH, json!("medium"), "medium"),
            ("{{ reasoning_effort }}", json!("low"), "low"),
        ];
        for (source, reasoning, expected) in cases {
            assert_eq!(render(source, reasoning.clone()).unwrap(), expected, "{reasoning}");
        }
    }

    #[test]
    fn what_a_template_cannot_be_told_is_refused() {
        for (source, reasoning) in [
            ("{{ messages[0].thinking }}", json!("off")),
            ("{{ reasoning_effort }}", json!("off")),
            ("{{ messages[0].content }}", json!("low")),
            // The template's own variable.
            ("{% set reasoning = 'x' %}{{ reasoning }}", json!("off")),
            ("{% set enable_thinking = true %}{{ enable_thinking }}", json!("high")),
        ] {
            let error = render(source, reasoning).unwrap_err();
            assert_eq!(error.code(), "UNSUPPORTED", "{source}");
            assert_eq!(error.option(), Some("reasoning"), "{source}");
        }
    }

    #[test]
    fn a_template_without_reasoning_mentions_none() {
        let mentions = |source: &str| {
            let template = ChatTemplate::from_source(source).unwrap();
            template.mentions_reasoning(&ChatTemplateOptions::default())
        };
        for source in ["{{ messages[0].content }}", "{{ 'I am thinking' }}{{ reason }}"] {
            assert!(!mentions(source), "{source}");
        }
        for source in
            ["{{ enable_thinking }}", "{{ thinking_mode }}", "{{ messages[0].reasoning_content }}"]
        {
            assert!(mentions(source), "{source}");
        }
    }

    #[test]
    fn levels_are_budgets_where_there_is_only_a_switch() {
        let template = ChatTemplate::from_source("{{ enable_thinking }}").unwrap();
        let budget = |level: &str| {
            let reasoning = serde_json::from_value(json!(level)).unwrap();
            let options = ChatTemplateOptions {
                reasoning: Some(reasoning),
                ..ChatTemplateOptions::default()
            };
            template.reasoning_budget(&options).unwrap()
        };
        assert_eq!(["low", "medium", "high"].map(budget), [Some(1024), Some(8192), None]);
        let template = ChatTemplate::from_source(NONE_OR_HIGH).unwrap();
        let budget = |level: &str| {
            let reasoning = Some(serde_json::from_value(json!(level)).unwrap());
            let options = ChatTemplateOptions { reasoning, ..ChatTemplateOptions::default() };
            template.reasoning_budget(&options).unwrap()
        };
        assert_eq!(["low", "medium", "high"].map(budget), [Some(1024), Some(8192), None]);
    }
}

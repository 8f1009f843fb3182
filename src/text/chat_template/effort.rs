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
const NO_EFFORT: [&str; 3] = ["none", "no_think", "off"];

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
    pub(super) fn plan(self, reads: &Reads) -> Result<Plan> {
        let mut variables = Map::new();
        let mut give = |name: &str, value: Value| {
            let read = reads.variable(name);
            if read {
                variables.insert(name.to_owned(), value);
            }
            read
        };
        if self.is_off() {
            let mut told = SWITCHES.iter().fold(false, |told, it| give(it, false.into()) | told);
            told |= give("thinking_mode", "disabled".into());
            told |= give("thinking_budget", 0.into());
            told |= give("skip_thinking", true.into());
            let none = NO_EFFORT.into_iter().find(|word| reads.field(word));
            for name in LEVELS {
                told |= none.is_some_and(|none| give(name, none.into()));
            }
            return match told {
                true => Ok(Plan { variables, budget: None }),
                false => Err(untold("the chat template has no way to turn reasoning off")),
            };
        }
        let mut told = SWITCHES.iter().fold(false, |told, it| give(it, true.into()) | told);
        told |= give("thinking_mode", "enabled".into());
        let (level, budget) = match self {
            Self::Budget { budget_tokens } => {
                give("thinking_budget", budget_tokens.into());
                return Ok(Plan { variables, budget: Some(budget_tokens) });
            }
            Self::Level(Level::Low) => ("low", Some(LOW_BUDGET)),
            Self::Level(Level::Medium) => ("medium", Some(MEDIUM_BUDGET)),
            Self::Level(_) => ("high", None),
        };
        let levels = LEVELS.iter().fold(false, |told, it| give(it, level.into()) | told);
        if levels {
            return Ok(Plan { variables, budget: None });
        }
        if let Some(budget) = budget {
            told |= give("thinking_budget", budget.into());
        }
        match told {
            true => Ok(Plan { variables, budget }),
            false => Err(untold("the chat template reads no variable that says how much")),
        }
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
    }
}

//! How models mark what they think before they answer.

use super::call_grammar::Lead;
use super::harmony;
use super::tool_calls::Section;

/// How a kind of models marks its reasoning.
#[derive(Debug)]
pub struct ReasoningFormat {
    /// Its name, as the option `reasoningFormat` has it.
    pub name: &'static str,
    /// What begins reasoning; the first one is how a template opens it.
    pub opens: &'static [&'static str],
    /// What ends it; the first one is how a model is made to end it.
    pub closes: &'static [&'static str],
    /// What may stand around the answer itself, and is no part of it.
    pub wrappers: &'static [&'static str],
    pub(super) kind: Kind,
}

/// How reasoning is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// It stands between two markers.
    Markers,
    /// The opener begins a message whose header says what it is. Its reader gets the opener and
    /// whether calls are read.
    Section(fn(super::reader::Reader, String, bool) -> Section),
}

const fn markers(
    name: &'static str,
    opens: &'static [&'static str],
    closes: &'static [&'static str],
    wrappers: &'static [&'static str],
) -> ReasoningFormat {
    ReasoningFormat { name, opens, closes, wrappers, kind: Kind::Markers }
}

/// All of them, the more special ones first: where a template has the markers of two, the first
/// counts.
pub static ALL: [ReasoningFormat; 20] = [
    ReasoningFormat {
        name: "harmony",
        opens: harmony::OPENERS,
        closes: &["<|end|>"],
        wrappers: &["<|end|>", "<|return|>", "<|call|>"],
        kind: Kind::Section(harmony::message),
    },
    ReasoningFormat {
        name: "muse",
        opens: &["to=self<|message|>"],
        closes: &["<|eom|>"],
        wrappers: &["<|start|>assistant", "to=user<|message|>", "<|eom|>"],
        kind: Kind::Markers,
    },
    markers("gemma4", &["<|channel>thought"], &["<channel|>"], &["<channel|>"]),
    markers("mistral", &["[THINK]"], &["[/THINK]"], &[]),
    markers(
        "cohere",
        &["<|START_THINKING|>"],
        &["<|END_THINKING|>"],
        &["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"],
    ),
    markers("seed-oss", &["<seed:think>"], &["</seed:think>"], &[]),
    markers("hy3", &["<think:opensource>"], &["</think:opensource>"], &[]),
    markers("longcat", &["<longcat_think>"], &["</longcat_think>"], &[]),
    markers("minimax-m3", &["<mm:think>"], &["</mm:think>"], &[]),
    markers(
        "kimi-k3",
        &["<|open|>think<|sep|>"],
        &["<|close|>think<|sep|>"],
        &["<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"],
    ),
    markers(
        "solar",
        &["<|think|>"],
        &["<|end|>"],
        &["<|begin|>assistant", "<|content|>", "<|end|>"],
    ),
    markers("minicpm3", &["<|thought_start|>"], &["<|thought_end|>"], &[]),
    markers("think-tokens", &["<|think:start|>"], &["<|think:end|>"], &[]),
    markers("apertus", &["<|inner_prefix|>"], &["<|inner_suffix|>"], &[]),
    markers(
        "apriel",
        &["Here are my reasoning steps:\n"],
        &["[BEGIN FINAL RESPONSE]"],
        &["[END FINAL RESPONSE]"],
    ),
    markers("granite", &["Here is my thought process:"], &["Here is my response:"], &[]),
    markers("hunyuan", &["<think>"], &["</think>"], &["<answer>", "</answer>"]),
    markers("think-response", &["<think>"], &["</think>"], &["<response>", "</response>"]),
    markers("think", &["<think>"], &["</think>"], &[]),
    markers("thought", &["<thought>"], &["</thought>"], &[]),
];

impl ReasoningFormat {
    /// The one of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|format| format.name == name)
    }

    /// What a template's text, and the tokens that a tokenizer has besides its own, tell of a
    /// model's reasoning.
    pub fn detect(template: &str, has_token: impl Fn(&str) -> bool) -> Option<&'static Self> {
        ALL.iter().find(|format| format.is_of(template, &has_token))
    }

    fn is_of(&self, template: &str, has_token: &impl Fn(&str) -> bool) -> bool {
        let says = |text: &str| template.contains(text);
        match self.name {
            "harmony" => says("<|channel|>") && says("<|message|>"),
            "muse" => says("to=self<|message|>"),
            // What the template says first is not what such a model writes.
            "solar" => says("<|think|>") && says("<|begin|>assistant"),
            "hunyuan" => says("<think>") && says("<answer>"),
            "think-response" => says("<think>") && says("<response>"),
            "kimi-k3" => {
                let tokens = ["<|open|>", "<|close|>", "<|sep|>"];
                says(self.opens[0]) || tokens.iter().all(|it| has_token(it))
            }
            "apriel" => says(self.closes[0]),
            // Some of its templates only take reasoning away.
            "gemma4" => {
                let pair = ["<|channel>", "<channel|>"];
                pair.iter().all(|it| says(it)) || pair.iter().all(|it| has_token(it))
            }
            // Qwen's and others' templates name the end alone, and begin it in the prompt or leave
            // that to the model.
            "think" => {
                says("</think>")
                    || says("<think>")
                    || (has_token("<think>") && has_token("</think>"))
            }
            _ => {
                let pair = [self.opens[0], self.closes[0]];
                pair.iter().all(|it| says(it)) || pair.iter().all(|it| has_token(it))
            }
        }
    }

    /// What a model is made to write to end its reasoning and begin its answer.
    pub fn ending(&self) -> String {
        let close = self.closes[0];
        match self.name {
            "harmony" => format!("{close}<|start|>assistant<|channel|>final<|message|>"),
            "muse" => format!("{close}<|start|>assistant to=user<|message|>"),
            "solar" => format!("{close}<|begin|>assistant<|content|>"),
            "kimi-k3" => format!("{close}<|open|>response<|sep|>"),
            "hunyuan" => format!("\n{close}\n<answer>\n"),
            "think-response" => format!("\n{close}\n<response>"),
            "think" | "thought" | "seed-oss" | "longcat" => format!("\n{close}\n\n"),
            _ => close.to_owned(),
        }
    }

    /// What the model may write between its reasoning and the answer, besides empty lines.
    pub fn bridge(&self) -> Option<String> {
        let ending = self.ending();
        let (_, behind) = ending.split_once(self.closes[0])?;
        Some(behind.trim().to_owned()).filter(|bridge| !bridge.is_empty())
    }

    /// Whether a prompt that ends so says that there is no reasoning, or that it has ended.
    pub fn has_ended(&self, prompt_end: &str) -> bool {
        let mut ends = self.closes.iter().chain(self.wrappers);
        ends.any(|end| prompt_end.trim_end().ends_with(end.trim_end()))
    }

    /// What the model writes before its answer, where reasoning is `open` at the end of the prompt
    /// or not; `None` where the answer may begin at once.
    pub fn leads_to_answer(&self, open: bool) -> Option<&'static str> {
        match self.kind {
            Kind::Markers => open.then_some(self.closes[0]),
            Kind::Section(_) => Some(harmony::FINAL),
        }
    }

    /// What comes before calls and the answer, where reasoning is messages of its own, and may be
    /// `open` at the end of the prompt.
    pub fn lead(&self, open: bool) -> Option<Lead> {
        match self.kind {
            Kind::Markers => None,
            Kind::Section(_) => Some(Lead {
                message: [harmony::ANALYSIS, harmony::NEXT],
                answer: harmony::FINAL,
                open,
            }),
        }
    }

    /// The names of all, for an error.
    pub fn names() -> String {
        ALL.iter().map(|format| format.name).collect::<Vec<_>>().join(", ")
    }

    /// Whether a prompt that ends so leaves reasoning open: right at its end, or anywhere where it
    /// ends in a part of an answer (`continues`).
    pub fn is_open(&self, prompt_end: &str, continues: bool) -> bool {
        let last = |literals: &[&str]| literals.iter().filter_map(|it| prompt_end.rfind(it)).max();
        let opens: Vec<&str> = match self.kind {
            Kind::Markers => self.opens.iter().map(|it| it.trim_end()).collect(),
            Kind::Section(_) => vec![harmony::ANALYSIS],
        };
        let closes: Vec<&str> = self.closes.iter().chain(self.wrappers).copied().collect();
        if !continues {
            return opens.iter().any(|it| prompt_end.trim_end().ends_with(it));
        }
        last(&opens).is_some_and(|open| last(&closes).is_none_or(|close| close < open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prompt_says_whether_reasoning_is_open() {
        let think = ReasoningFormat::named("think").unwrap();
        assert!(think.is_open("<|im_start|>assistant\n<think>\n", false));
        assert!(think.is_open("<think>\nI was about to", true));
        assert!(!think.is_open("<think>\n\n</think>\n\n", true));
        assert!(!think.is_open("<think>?<|im_end|><|im_start|>assistant\n", false));
        let harmony = ReasoningFormat::named("harmony").unwrap();
        assert!(!harmony.is_open("<|end|><|start|>assistant", false));
        assert!(harmony.is_open("<|start|>assistant<|channel|>analysis<|message|>Hm", true));
    }

    #[test]
    fn names_are_unique() {
        for format in &ALL {
            assert!(std::ptr::eq(ReasoningFormat::named(format.name).unwrap(), format));
        }
    }
}

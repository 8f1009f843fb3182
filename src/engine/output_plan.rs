//! What is looked for in an answer, and what it has to be: reasoning, calls of tools, and limits on
//! both.

use std::cell::RefCell;
use std::sync::Arc;

use serde_json::Value;

use super::budget::ReasoningBudget;
use super::request::GenerateRequest;
use crate::constraint::schema::{self, Lowered};
use crate::constraint::{Begin, Grammar, JsonHead, Marker, allowed};
use crate::error::{Error, Result};
use crate::generate::TokenMask;
use crate::text::Tokenizer;
use crate::text::output::schemas::Tool;
use crate::text::output::{
    CallGrammar, CallHead, Calls, Lead, Other, OutputFormats, OutputParser, ReasoningFormat,
    ToolFormat, Tools, write_answer,
};

/// How an answer is taken apart, and what of it is required.
#[derive(Debug, Clone)]
pub struct OutputPlan {
    /// The formats of what is looked for.
    pub formats: OutputFormats,
    /// The tools that the model was told of.
    pub tools: Arc<Tools>,
    /// The end of the prompt, in which reasoning may have begun.
    pub prompt_end: String,
    /// Whether the prompt continues an answer.
    pub continues: bool,
    /// Whether the template leaves the text of an answer open, unless it leaves reasoning open
    /// there.
    pub text_is_open: bool,
    /// Whether the model is told not to reason.
    pub reasoning_is_off: bool,
    /// How many tokens of reasoning there may be.
    pub reasoning_budget: Option<usize>,
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
}

impl OutputPlan {
    /// What takes the answer apart.
    pub fn parser(&self) -> OutputParser {
        let tools = Arc::clone(&self.tools);
        OutputParser::new(self.formats.clone(), tools, &self.prompt_end, self.continues)
    }

    /// The grammar of the answer to `request`, and from where on; `None` where it may be anything.
    /// Where there are tools, what the request asks for may come instead of calls.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the model's format of calls has no grammar, or is not known;
    /// [`Error::InvalidArgument`] for a tool's schema.
    pub fn constraint(&self, request: &GenerateRequest) -> Result<Option<(Grammar, Begin)>> {
        let required = request.output.required_tools.as_deref();
        // What a format has no tools for it is only named for.
        let has_calls = required.is_some() || !self.tools.all().is_empty();
        match (&request.response_format, required, self.formats.calls.filter(|_| has_calls)) {
            (_, Some(_), None) => Err(unknown_format("toolChoice")),
            (_, Some(names), Some(format)) => self.calls(request, format, Some(names)).map(Some),
            (None, None, Some(format)) if self.tools.all().iter().any(|tool| tool.strict) => {
                self.calls(request, format, None).map(Some)
            }
            (None, None, _) => Ok(None),
            (Some(_), None, Some(format)) => self.calls(request, format, None).map(Some),
            (Some(asked), None, None) => self.answer(asked).map(Some),
        }
    }

    /// An answer in a format, behind reasoning.
    fn answer(&self, asked: &Grammar) -> Result<(Grammar, Begin)> {
        let Some(lead) = self.lead() else { return Ok((asked.clone(), self.begin_of_answer()?)) };
        let CallGrammar { lark, heads, .. } = write_answer(lead, &self.tokenizer);
        let grammar = Grammar::Calls {
            lark,
            heads: Some(heads.into_iter().map(json_head).collect()),
            other: Some(Box::new(asked.clone())),
            markers: Vec::new(),
            warnings: Vec::new(),
        };
        Ok((grammar, Begin::Now))
    }

    /// The messages of reasoning before the answer, where there are such.
    fn lead(&self) -> Option<Lead> {
        let reasoning = self.formats.reasoning.filter(|_| !self.is_within_answer())?;
        reasoning.lead(self.reasons())
    }

    /// Calls of the tools of these names, or of any tool, and else the format that is asked for, or
    /// any text.
    fn calls(
        &self,
        request: &GenerateRequest,
        format: &ToolFormat,
        required: Option<&[String]>,
    ) -> Result<(Grammar, Begin)> {
        let is_asked = |tool: &&Tool| required.is_none_or(|names| names.contains(&tool.name));
        let tools: Vec<&Tool> = self.tools.all().iter().filter(is_asked).collect();
        if tools.is_empty() && required.is_some() {
            return Err(Error::argument("toolChoice", "names none of the tools"));
        }
        let lead = self.lead();
        let begin = match lead {
            Some(_) => Begin::Now,
            None => self.begin_of_answer()?,
        };
        let warnings = RefCell::new(Vec::new());
        let lower = |tool: &Tool, schema: &Value| {
            let option = format!("tools: {}", tool.name);
            let Lowered { schema, warnings: more } = schema::lower(schema, &option, tool.strict)?;
            let more = more.into_iter().map(|warning| format!("{option}: {warning}"));
            warnings.borrow_mut().extend(more);
            Ok(schema)
        };
        let leave_out = |tool: &Tool, what: &str| {
            let option = format!("tools: {}", tool.name);
            let message = format!("{what} cannot be enforced in this model's format of calls");
            if tool.strict {
                return Err(Error::argument(option, message));
            }
            warnings.borrow_mut().push(format!("{option}: {message}"));
            Ok(())
        };
        let other = match (required, &request.response_format) {
            (Some(_), _) => Other::Nothing,
            (None, Some(_)) => Other::Format,
            (None, None) => Other::Text,
        };
        let allowed = |tool: &Tool, schema: &Value, values: Vec<Value>| {
            let option = format!("tools: {}", tool.name);
            allowed(&lower(tool, schema)?, values, &option)
        };
        let CallGrammar { lark, heads, has_text } = format.grammar(&Calls {
            tools: &tools,
            parallel: !request.output.single_call,
            other,
            lower: &lower,
            allowed: &allowed,
            leave_out: &leave_out,
            tokenizer: &self.tokenizer,
            lead,
        })?;
        let other = request.response_format.clone().filter(|_| required.is_none()).map(Box::new);
        let markers = format.opens.iter().map(|&it| it.to_owned()).collect();
        let warnings = warnings.into_inner();
        let is_json = matches!(other.as_deref(), None | Some(Grammar::Json { .. }));
        let heads = (has_text || !is_json).then(|| heads.into_iter().map(json_head).collect());
        Ok((Grammar::Calls { lark, other, markers, heads, warnings }, begin))
    }

    /// Whether the answer itself has begun in the prompt.
    pub fn is_within_answer(&self) -> bool {
        self.text_is_open && !self.reasons()
    }

    /// Whether reasoning has begun in the prompt.
    fn reasons(&self) -> bool {
        let reasoning = self.formats.reasoning;
        reasoning.is_some_and(|it| it.is_open(&self.prompt_end, self.continues))
    }

    /// Where the answer begins: behind reasoning, if that has begun or comes.
    fn begin_of_answer(&self) -> Result<Begin> {
        let Some(reasoning) = self.formats.reasoning.filter(|_| !self.is_within_answer()) else {
            return Ok(Begin::Now);
        };
        let is_open = self.reasons();
        let bridge = || reasoning.bridge().map(|text| self.marker(&text)).transpose();
        if let Some(marker) = reasoning.leads_to_answer(is_open) {
            return Ok(Begin::Behind { marker: self.marker(marker)?, bridge: bridge()? });
        }
        let may_reason =
            !self.reasoning_is_off && !self.continues && !reasoning.has_ended(&self.prompt_end);
        Ok(match may_reason {
            true => Begin::NowOrBehind {
                reasoning: [
                    self.marker(reasoning.opens[0].trim_end())?,
                    self.marker(reasoning.closes[0])?,
                ],
                bridge: bridge()?,
            },
            false => Begin::Now,
        })
    }

    /// A marker as the model writes it.
    fn marker(&self, text: &str) -> Result<Marker> {
        let tokens = self.tokenizer.encode(text, false)?;
        // Special tokens are no text.
        Ok(match tokens.iter().any(|&token| self.tokenizer.is_special(token)) {
            true => Marker::Tokens(tokens),
            false => Marker::Text(text.to_owned()),
        })
    }

    /// Refuses to ban what ends reasoning where a budget has to.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for `bannedStrings`.
    pub fn check_banned(&self, banned: &[String]) -> Result<()> {
        let reasoning = self.formats.reasoning.filter(|_| self.reasoning_budget.is_some());
        let Some(ending) = reasoning.map(ReasoningFormat::ending) else { return Ok(()) };
        match banned.iter().find(|it| ending.contains(it.as_str())) {
            Some(found) => {
                let message = format!("{found:?} ends the reasoning, as the budget needs it to");
                Err(Error::argument("bannedStrings", message))
            }
            None => Ok(()),
        }
    }

    /// What limits the tokens, with a budget of reasoning where there is one.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a budget of a model whose reasoning has no markers that are
    /// known.
    pub fn limited(&self, mask: Option<Box<dyn TokenMask>>) -> Result<Option<Box<dyn TokenMask>>> {
        let Some(budget) = self.reasoning_budget else { return Ok(mask) };
        let Some(reasoning) = self.formats.reasoning else { return Err(no_markers()) };
        let ending = self.tokenizer.encode(&reasoning.ending(), false)?;
        let formats = OutputFormats { reasoning: Some(reasoning), ..OutputFormats::default() };
        let parser = OutputParser::new(formats, Arc::default(), &self.prompt_end, self.continues);
        let tokenizer = Arc::clone(&self.tokenizer);
        Ok(Some(Box::new(ReasoningBudget::new(budget, parser, tokenizer, ending, mask))))
    }
}

/// Calls cannot be read or enforced where nothing tells their format.
pub fn unknown_format(option: &str) -> Error {
    let message = "the chat template does not tell how the model writes calls of tools: name the \
                   format with toolFormat";
    Error::unsupported(option, message)
}

/// What JSON begins behind, as a constraint takes it.
fn json_head(head: CallHead) -> JsonHead {
    let CallHead { text, may_be_text, mark, is_answer } = head;
    JsonHead { text, may_be_text, mark, is_answer }
}

/// A budget cannot be kept where nothing tells reasoning from the answer.
pub fn no_markers() -> Error {
    let message = "a budget needs to tell reasoning from the answer, and neither the chat \
                   template nor reasoningFormat says how";
    Error::unsupported("reasoning", message)
}

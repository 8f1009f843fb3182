//! What is looked for in an answer, and what it has to be: reasoning, calls of tools, and limits on
//! both.

use std::sync::Arc;

use super::budget::ReasoningBudget;
use super::request::OutputOptions;
use crate::constraint::{Begin, Grammar};
use crate::error::{Error, Result};
use crate::generate::TokenMask;
use crate::text::Tokenizer;
use crate::text::output::schemas::Tool;
use crate::text::output::{OutputFormats, OutputParser, Tools};

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

    /// The grammar of an answer that has to call a tool, and from where on.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the model's format of calls has no grammar, or is not known.
    pub fn required_calls(&self, options: &OutputOptions) -> Result<Option<(Grammar, Begin)>> {
        let Some(names) = &options.required_tools else { return Ok(None) };
        let Some(format) = self.formats.calls else {
            let message = "toolChoice: the chat template does not tell how the model writes calls \
                           of tools: name the format with toolFormat";
            return Err(Error::Unsupported(message.to_owned()));
        };
        let tools: Vec<&Tool> =
            self.tools.all().iter().filter(|tool| names.contains(&tool.name)).collect();
        if tools.is_empty() {
            return Err(Error::argument("toolChoice", "names none of the tools"));
        }
        let lark = format.grammar(&tools, !options.single_call, &self.tokenizer)?;
        let begin = match self.formats.reasoning {
            Some(reasoning) if reasoning.is_open(&self.prompt_end, self.continues) => {
                Begin::AfterTokens(self.tokenizer.encode(reasoning.closes[0], false)?)
            }
            _ => Begin::Now,
        };
        Ok(Some((Grammar::Lark(lark), begin)))
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
        let formats = OutputFormats { reasoning: Some(reasoning), calls: None };
        let parser = OutputParser::new(formats, Arc::default(), &self.prompt_end, self.continues);
        let tokenizer = Arc::clone(&self.tokenizer);
        Ok(Some(Box::new(ReasoningBudget::new(budget, parser, tokenizer, ending, mask))))
    }
}

/// A budget cannot be kept where nothing tells reasoning from the answer.
pub fn no_markers() -> Error {
    Error::Unsupported(
        "reasoning: a budget needs to tell reasoning from the answer, and neither the chat \
         template nor reasoningFormat says how"
            .to_owned(),
    )
}

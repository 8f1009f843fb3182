//! What a model's output is made of: text, reasoning and calls of tools.
//!
//! A model writes them into one stream, each kind between markers of its own: [`reasoning`] has the
//! markers of reasoning, [`tool_calls`] a file for each format of calls. [`OutputParser`] takes the
//! text as it comes, the special tokens that may be markers included, and says what is what. It
//! loses nothing: what is neither text nor reasoning nor a call that can be read is an invalid call
//! with its raw text.

mod arg_pairs;
mod bare_json;
mod call_grammar;
pub mod detect;
mod driver;
mod gemma_call;
#[cfg(test)]
mod golden;
mod harmony;
mod json_call;
mod python_call;
mod reader;
pub mod reasoning;
pub mod schemas;
pub mod tool_calls;
mod value;
mod written_calls;
mod xml_call;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

pub use self::call_grammar::{CallGrammar, CallHead, Calls, Lead, Other, write_answer};
pub use self::detect::detect;
use self::reader::Reader;
pub use self::reasoning::ReasoningFormat;
use self::schemas::Declared;
pub use self::schemas::Tools;
pub use self::tool_calls::ToolFormat;
use self::value::Syntax;

/// What a parser found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputEvent {
    /// Text of the answer.
    Text(String),
    /// A special token in it that is no marker.
    Hidden(String),
    /// A marker, which is not part of any text.
    Marker(String),
    /// Text of the reasoning.
    Reasoning(String),
    /// A call begins; the id is the model's own.
    CallStart {
        /// The call's number, from 0.
        index: usize,
        /// The id that the model gave it.
        id: Option<String>,
        /// The tool's name.
        name: String,
    },
    /// More of a call's arguments, as compact JSON.
    CallDelta {
        /// The call's number.
        index: usize,
        /// A piece of the JSON.
        text: String,
    },
    /// A call is complete; its arguments are a JSON object.
    CallEnd {
        /// The call's number.
        index: usize,
    },
    /// A call cannot be read. It may have begun before.
    InvalidCall {
        /// The call's number.
        index: usize,
        /// The call as the model wrote it.
        raw: String,
        /// What is wrong with it.
        error: String,
    },
}

/// What to look for in a model's output.
#[derive(Debug, Clone, Default)]
pub struct OutputFormats {
    /// The markers of reasoning.
    pub reasoning: Option<&'static ReasoningFormat>,
    /// The format of calls, where calls are to be read.
    pub calls: Option<&'static ToolFormat>,
    /// Whether what begins as text is text to its end, whatever markers stand in it: a grammar sees
    /// to it.
    pub plain_text: bool,
}

impl OutputFormats {
    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.reasoning.is_none() && self.calls.is_none()
    }
}

/// Takes a model's output apart as it comes.
pub struct OutputParser {
    reader: Reader,
    /// `None` once it has ended.
    run: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl fmt::Debug for OutputParser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OutputParser").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl OutputParser {
    /// For an answer in these formats. Reasoning may have begun at the end of the prompt; where the
    /// prompt `continues` an answer, anywhere in it.
    pub fn new(
        formats: OutputFormats,
        tools: Arc<Tools>,
        prompt_end: &str,
        continues: bool,
    ) -> Self {
        let reader = Reader::new(tools);
        let reasons = formats.reasoning.is_some_and(|it| it.is_open(prompt_end, continues));
        reader.set_reasons(reasons);
        let run = driver::run(reader.clone(), formats, reasons);
        Self { reader, run: Some(Box::pin(run)) }
    }

    /// Takes text that the model wrote. `hidden` says that it is a special token, which is left out
    /// of texts.
    pub fn push(&mut self, text: &str, hidden: bool) -> Vec<OutputEvent> {
        self.push_placed(text, hidden).into_iter().map(|(event, _)| event).collect()
    }

    /// [`Self::push`], with the number of bytes of the output up to the end of each event.
    pub fn push_placed(&mut self, text: &str, hidden: bool) -> Vec<(OutputEvent, usize)> {
        self.reader.push(text, hidden);
        self.poll();
        self.reader.take_events()
    }

    /// The end of the output: decides what was waiting for more.
    pub fn finish(&mut self) -> Vec<OutputEvent> {
        self.finish_placed().into_iter().map(|(event, _)| event).collect()
    }

    /// [`Self::finish`], with the number of bytes of the output up to the end of each event.
    pub fn finish_placed(&mut self) -> Vec<(OutputEvent, usize)> {
        self.reader.finish();
        self.poll();
        self.reader.take_events()
    }

    /// Whether what comes next is reasoning, unless it is a marker.
    pub fn reasons(&self) -> bool {
        self.reader.reasons()
    }

    fn poll(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        if let Some(run) = &mut self.run
            && run.as_mut().poll(&mut context).is_ready()
        {
            self.run = None;
        }
    }
}

/// The compact JSON of a whole value, where `text` is one; see [`value::declared_value`].
fn whole_value(text: &str, syntax: Syntax, declared: Option<Declared<'_>>) -> Option<String> {
    let reader = Reader::new(Arc::default());
    reader.push(text, false);
    reader.finish();
    let mut json = String::new();
    let mut add = |piece: &str| json.push_str(piece);
    let mut read = Box::pin(value::declared_value(&reader, syntax, declared, &mut add));
    let done = read.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let whole = matches!(done, std::task::Poll::Ready(Ok(()))) && reader.is_over();
    drop(read);
    whole.then_some(json)
}

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;

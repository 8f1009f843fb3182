//! What a generation's tokens become: text, reasoning and calls of tools, up to an end token or a
//! stop string, and log probabilities.

use std::sync::Arc;

use super::request::{Candidate, GenerateRequest, OutputContent, TokenLogprob, Written};
use super::text::Text;
use crate::error::{Error, Result};
use crate::generate::TokenOutput;
use crate::text::{Detokenizer, OutputEvent, OutputParser, StopMatcher, StopPattern, Tokenizer};

/// Turns tokens into text, up to an end token or a stop string.
pub struct Writer {
    /// The tokens that end the text.
    pub end_tokens: Vec<u32>,
    tokenizer: Option<Arc<Tokenizer>>,
    detokenizer: Option<Detokenizer>,
    /// What tells reasoning and calls from text, where they are looked for.
    parser: Option<OutputParser>,
    stops: StopMatcher,
    stopped: Option<usize>,
    /// What the model wrote, where it is taken apart.
    raw: String,
    /// How much of that there is before the stop string.
    raw_length: Option<usize>,
    /// How much was known of the answer from the beginning of the stop string on.
    behind: usize,
    /// How many tokens there are before stop strings count.
    min_tokens: usize,
    tokens: usize,
    skip_special_tokens: bool,
    reasoning_tokens: usize,
    /// Whether the answer ends with its first call.
    single_call: bool,
    has_called: bool,
}

impl Writer {
    /// For the answer to `prompt`, as `request` wants it, which `parser` takes apart.
    pub fn new(
        request: &GenerateRequest,
        text: &Text,
        prompt: &[u32],
        parser: Option<OutputParser>,
    ) -> Result<Self> {
        let tokenizer = text.tokenizer().ok().cloned();
        let skip = !request.options.keep_special_tokens;
        let detokenizer = tokenizer.clone().map(|it| Detokenizer::after(it, prompt, skip));
        Ok(Self {
            end_tokens: text.ends(&request.options),
            tokenizer,
            detokenizer: detokenizer.transpose()?,
            parser,
            stops: StopMatcher::new(
                request.options.stop.clone(),
                request.options.stop_patterns.iter().map(compiled).collect::<Result<_>>()?,
            ),
            min_tokens: request.options.min_tokens.unwrap_or_default(),
            tokens: 0,
            stopped: None,
            raw: String::new(),
            raw_length: None,
            behind: 0,
            skip_special_tokens: skip,
            reasoning_tokens: 0,
            single_call: request.output.single_call,
            has_called: false,
        })
    }

    /// What is certain with `token`, and the index of the stop string that it completes.
    pub fn push(&mut self, token: u32) -> Result<(Written, Option<usize>)> {
        self.tokens += 1;
        let Some(detokenizer) = &mut self.detokenizer else { return Ok(Default::default()) };
        let piece = detokenizer.piece(token)?;
        let hidden = piece.special && self.skip_special_tokens;
        let reasoned = self.reasons();
        let mut written = self.take(&piece.text, hidden);
        written.reasons = reasoned || self.reasons();
        self.reasoning_tokens += usize::from(written.reasons);
        Ok((written, self.stopped))
    }

    /// What was held back before an end token, and the index of a stop string that is complete with
    /// it. The end token is never part of the text.
    pub fn end(&mut self, token: u32) -> Result<(Written, Option<usize>)> {
        let Some(detokenizer) = &mut self.detokenizer else { return Ok(Default::default()) };
        let rest = detokenizer.finish()?;
        let mut written = self.take(&rest, false);
        let end = self.tokenizer.as_ref().and_then(|it| it.id_to_token(token));
        let length = written.raw_text.len();
        self.take_into(&mut written, &end.unwrap_or_default(), true);
        written.raw_text.truncate(length);
        self.finish_into(&mut written);
        Ok((written, self.stopped))
    }

    /// What was held back, and the index of a stop string in it.
    pub fn finish(&mut self) -> Result<(Written, Option<usize>)> {
        let Some(detokenizer) = &mut self.detokenizer else { return Ok(Default::default()) };
        let rest = detokenizer.finish()?;
        let mut written = self.take(&rest, false);
        self.finish_into(&mut written);
        Ok((written, self.stopped))
    }

    /// The text of the stop string that was found.
    pub fn matched(&self) -> &str {
        self.stops.matched()
    }

    /// The length of what the model wrote before the stop string, in units of UTF-16, where it is
    /// taken apart and one was found.
    pub fn raw_length(&self) -> Option<usize> {
        let before = self.raw.get(..self.raw_length?)?;
        Some(before.encode_utf16().count())
    }

    /// How many of the tokens are reasoning, its markers included.
    pub fn reasoning_tokens(&self) -> usize {
        self.reasoning_tokens
    }

    /// Whether nothing may follow any more.
    pub fn is_complete(&self) -> bool {
        self.single_call && self.has_called
    }

    fn reasons(&self) -> bool {
        self.parser.as_ref().is_some_and(OutputParser::reasons)
    }

    fn take(&mut self, text: &str, hidden: bool) -> Written {
        let contents = self.parser.as_ref().map(|_| Vec::new());
        let mut written = Written { contents, ..Written::default() };
        self.take_into(&mut written, text, hidden);
        written
    }

    fn take_into(&mut self, written: &mut Written, text: &str, hidden: bool) {
        let Some(parser) = &mut self.parser else {
            self.stop_at(written, text, hidden);
            return;
        };
        written.raw_text.push_str(text);
        let events = parser.push_placed(text, hidden);
        self.raw.push_str(text);
        for (event, end) in events {
            self.take_event(written, event, end);
        }
    }

    fn finish_into(&mut self, written: &mut Written) {
        let events = self.parser.as_mut().map(OutputParser::finish_placed);
        for (event, end) in events.into_iter().flatten() {
            self.take_event(written, event, end);
        }
        self.flush(written);
    }

    /// Stop strings end the answer's text: not reasoning, nor calls. A marker may be one.
    fn take_event(&mut self, written: &mut Written, event: OutputEvent, end: usize) {
        let before = self.stopped;
        self.take_content(written, event);
        if before.is_none() && self.stopped.is_some() {
            self.raw_length = Some(end.saturating_sub(self.behind));
        }
    }

    fn take_content(&mut self, written: &mut Written, event: OutputEvent) {
        let content = match event {
            OutputEvent::Text(text) => return self.stop_at(written, &text, false),
            OutputEvent::Hidden(text) => return self.stop_at(written, &text, true),
            OutputEvent::Marker(text) => {
                self.stop_at(written, &text, true);
                return self.flush(written);
            }
            OutputEvent::Reasoning(text) => OutputContent::Reasoning(text),
            OutputEvent::CallStart { index, id, name } => {
                OutputContent::CallStart { index, id, name }
            }
            OutputEvent::CallDelta { index, text } => OutputContent::CallDelta { index, text },
            OutputEvent::CallEnd { index } => OutputContent::CallEnd { index },
            OutputEvent::InvalidCall { index, raw, error } => {
                OutputContent::InvalidCall { index, raw, error }
            }
        };
        self.flush(written);
        if self.stopped.is_none() && !self.is_complete() {
            self.has_called |= matches!(content, OutputContent::CallEnd { .. });
            written.contents.get_or_insert_default().push(content);
        }
    }

    fn stop_at(&mut self, written: &mut Written, text: &str, hidden: bool) {
        if self.tokens < self.min_tokens {
            if !hidden {
                add_text(written, text.to_owned());
            }
            return;
        }
        let state = match hidden {
            true => self.stops.push_hidden(text),
            false => self.stops.push(text),
        };
        if self.stopped.is_none() && state.stopped.is_some() {
            self.behind = self.stops.behind();
        }
        self.stopped = state.stopped;
        add_text(written, state.emit);
    }

    fn flush(&mut self, written: &mut Written) {
        add_text(written, self.stops.finish());
    }

    /// How likely the token and its rivals were, where that was asked for.
    pub fn logprob(&self, output: &TokenOutput) -> Result<Option<TokenLogprob>> {
        let Some(logprob) = output.logprob else { return Ok(None) };
        let candidate = |token, logprob| Candidate::new(self.tokenizer.as_deref(), token, logprob);
        let top = output.top.iter().map(|&(token, logprob)| candidate(token, logprob));
        Ok(Some(TokenLogprob {
            chosen: candidate(output.token, logprob)?,
            top: top.collect::<Result<_>>()?,
        }))
    }
}

fn compiled((pattern, _): &(String, String)) -> Result<StopPattern> {
    StopPattern::new(pattern).map_err(|problem| Error::argument("stop", problem))
}

/// Adds text of the answer.
fn add_text(written: &mut Written, text: String) {
    if text.is_empty() {
        return;
    }
    written.text.push_str(&text);
    if let Some(contents) = &mut written.contents {
        contents.push(OutputContent::Text(text));
    }
}

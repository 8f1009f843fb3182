//! What a generation's tokens become: text, up to an end token or a stop string, and log
//! probabilities.

use std::sync::Arc;

use super::request::{Candidate, GenerateRequest, TokenLogprob};
use super::text::Text;
use crate::error::{Error, Result};
use crate::generate::TokenOutput;
use crate::text::{Detokenizer, StopMatcher, Tokenizer};

/// Turns tokens into text, up to an end token or a stop string.
pub struct Writer {
    /// The tokens that end the text.
    pub end_tokens: Vec<u32>,
    tokenizer: Option<Arc<Tokenizer>>,
    detokenizer: Option<Detokenizer>,
    stops: StopMatcher,
    skip_special_tokens: bool,
}

impl Writer {
    /// For the answer to `prompt`, as `request` wants it.
    pub fn new(request: &GenerateRequest, text: &Text, prompt: &[u32]) -> Result<Self> {
        let tokenizer = text.tokenizer().ok().cloned();
        let skip = request.skip_special_tokens;
        let detokenizer = tokenizer.clone().map(|it| Detokenizer::after(it, prompt, skip));
        Ok(Self {
            end_tokens: match request.ignore_end_tokens {
                true => Vec::new(),
                false => text.end_tokens().to_vec(),
            },
            tokenizer,
            detokenizer: detokenizer.transpose()?,
            stops: StopMatcher::new(request.stop.clone()),
            skip_special_tokens: skip,
        })
    }

    /// The text that is certain with `token`, and the index of the stop string it completes.
    pub fn push(&mut self, token: u32) -> Result<(String, Option<usize>)> {
        let Some(detokenizer) = &mut self.detokenizer else { return Ok((String::new(), None)) };
        let piece = detokenizer.piece(token)?;
        let state = match piece.special && self.skip_special_tokens {
            true => self.stops.push_hidden(&piece.text),
            false => self.stops.push(&piece.text),
        };
        Ok((state.emit, state.stopped))
    }

    /// The text that was held back before an end token, and the index of a stop string that is
    /// complete with it. The end token is never part of the text.
    pub fn end(&mut self, token: u32) -> Result<(String, Option<usize>)> {
        let Some(detokenizer) = &mut self.detokenizer else { return Ok((String::new(), None)) };
        let mut text = self.stops.push(&detokenizer.finish()?).emit;
        let written = self.tokenizer.as_ref().and_then(|it| it.id_to_token(token));
        let state = self.stops.push_hidden(&written.unwrap_or_default());
        text += &state.emit;
        Ok((text + &self.stops.finish(), state.stopped))
    }

    /// The text that was held back, and the index of a stop string in it.
    pub fn finish(&mut self) -> Result<(String, Option<usize>)> {
        let Some(detokenizer) = &mut self.detokenizer else { return Ok((String::new(), None)) };
        let state = self.stops.push(&detokenizer.finish()?);
        Ok((state.emit + &self.stops.finish(), state.stopped))
    }

    /// How likely the token and its rivals were, where that was asked for.
    pub fn logprob(&self, output: &TokenOutput) -> Result<Option<TokenLogprob>> {
        let Some(logprob) = output.logprob else { return Ok(None) };
        let candidate = |token: u32, logprob: f32| {
            let text = match &self.tokenizer {
                Some(tokenizer) => Some(tokenizer.decode(&[token], false)?),
                None => None,
            };
            Ok::<_, Error>(Candidate { token, logprob, text })
        };
        let top = output.top.iter().map(|&(token, logprob)| candidate(token, logprob));
        Ok(Some(TokenLogprob {
            chosen: candidate(output.token, logprob)?,
            top: top.collect::<Result<_>>()?,
        }))
    }
}

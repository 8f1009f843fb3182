//! A running generation.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::{Object, Uint32Array};
use napi_derive::napi;

use super::error::Result;
use super::promise::promise;
use crate::engine::{
    Batch, Candidate, Finished, Generation, Matched, OutputContent, OutputPiece, TokenLogprob,
};

/// What a generation made since the last call.
#[napi(object, object_from_js = false)]
pub struct NativeBatch {
    /// The text that is certain.
    pub text: String,
    /// The tokens, end tokens excluded.
    pub tokens: Uint32Array,
    /// One entry for each token, where they were asked for.
    pub logprobs: Option<Vec<NativeLogprob>>,
    /// What text and tokens are made of, where more than text is looked for.
    pub pieces: Option<Vec<NativePiece>>,
    /// What the model wrote, where more than text is looked for.
    pub raw_text: Option<String>,
    /// What of an answer in a format the prompt has begun, in the first batch.
    pub open_text: Option<String>,
    /// How far the prompt has been read, where that changed.
    pub prefill: Option<NativePrefill>,
    /// How the generation ended, in the last batch.
    pub done: Option<NativeResult>,
}

/// A piece of an answer, of one kind.
#[napi(object, object_from_js = false)]
pub struct NativePiece {
    /// Its kind.
    #[napi(
        js_name = "type",
        ts_type = "'text' | 'reasoning' | 'tool-call-start' | 'tool-call-delta' | 'tool-call-end' | 'tool-call-invalid'"
    )]
    pub kind: &'static str,
    /// How many of the batch's tokens came with it.
    pub tokens: u32,
    /// The text; a call's name, the piece of its arguments, or how the model wrote it.
    pub text: String,
    /// The call's number; 0 where it is none.
    pub index: u32,
    /// The model's id of a call.
    pub id: Option<String>,
    /// What is wrong with a call.
    pub error: Option<String>,
}

/// A token and how likely it was.
#[napi(object, object_from_js = false)]
pub struct NativeLogprob {
    /// The token.
    pub token: u32,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// Its text alone.
    pub text: Option<String>,
    /// Its bytes, where the text does not tell them.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens at its place, likeliest first.
    pub top: Vec<NativeCandidate>,
}

/// A token that could have been chosen.
#[napi(object, object_from_js = false)]
pub struct NativeCandidate {
    /// The token.
    pub token: u32,
    /// The natural logarithm of its probability.
    pub logprob: f64,
    /// Its text alone.
    pub text: Option<String>,
    /// Its bytes, where the text does not tell them.
    pub bytes: Option<Vec<u8>>,
}

/// How far a prompt has been read.
#[napi(object, object_from_js = false)]
pub struct NativePrefill {
    /// The tokens that have been read, or were cached.
    pub processed: u32,
    /// All tokens of the prompt.
    pub total: u32,
    /// The tokens that were cached: they need not be read.
    pub cached: u32,
}

/// What of a request ended its generation.
#[napi(object, object_from_js = false)]
pub struct NativeMatched {
    /// What it is.
    #[napi(ts_type = "'string' | 'pattern' | 'token' | 'time'")]
    pub kind: &'static str,
    /// The string, or the text that a pattern matched.
    pub text: Option<String>,
    /// The token, or the milliseconds.
    pub number: Option<f64>,
}

impl From<&Matched> for NativeMatched {
    fn from(matched: &Matched) -> Self {
        let (kind, text, number) = match matched {
            Matched::String(text) => ("string", Some(text.clone()), None),
            Matched::Pattern(text) => ("pattern", Some(text.clone()), None),
            Matched::Token(token) => ("token", None, Some(f64::from(*token))),
            Matched::Time(milliseconds) => ("time", None, Some(*milliseconds as f64)),
        };
        Self { kind, text, number }
    }
}

/// How a generation ended.
#[napi(object, object_from_js = false)]
pub struct NativeResult {
    /// Why it ended.
    #[napi(ts_type = "'stop' | 'length' | 'abort'")]
    pub finish_reason: &'static str,
    /// What of the request ended it.
    pub matched: Option<NativeMatched>,
    /// What was asked for and is not enforced, or differently.
    pub warnings: Option<Vec<String>>,
    /// The length of `rawText` before the stop string that was found.
    pub raw_length: Option<u32>,
    /// Its tokens.
    pub usage: NativeUsage,
    /// How long it took.
    pub timings: NativeTimings,
    /// What came of speculation, where there was any.
    pub speculation: Option<NativeSpeculated>,
    /// The most memory that MLX's arrays took while it ran.
    pub peak_memory_bytes: f64,
}

/// What came of speculation.
#[napi(object, object_from_js = false)]
pub struct NativeSpeculated {
    /// The tokens that were drafted.
    pub drafted: u32,
    /// Those of them that were right.
    pub accepted: u32,
    /// The steps that made tokens.
    pub steps: u32,
}

/// The tokens of a generation.
#[napi(object, object_from_js = false)]
pub struct NativeUsage {
    /// The prompt's.
    pub prompt_tokens: u32,
    /// Those that were made, end token excluded.
    pub completion_tokens: u32,
    /// The prompt's whose keys and values were already there.
    pub cached_tokens: u32,
    /// Those that were made and are reasoning.
    pub reasoning_tokens: Option<u32>,
}

/// How long a generation took. What did not happen is 0.
#[napi(object, object_from_js = false)]
pub struct NativeTimings {
    /// Waiting for others before the prompt was prepared and before it was read.
    pub queue_ms: f64,
    /// Making tokens of the prompt.
    pub prepare_ms: f64,
    /// Reading the prompt.
    pub prefill_ms: Option<f64>,
    /// From the request to the first token.
    pub time_to_first_token_ms: f64,
    /// The speed of reading the prompt.
    pub prompt_tokens_per_second: f64,
    /// The speed of making the tokens after the first.
    pub tokens_per_second: f64,
    /// From the request to the end.
    pub total_ms: f64,
}

/// A running generation. Collected as garbage, it is aborted.
#[napi]
pub struct NativeGeneration {
    generation: Arc<Generation>,
}

impl NativeGeneration {
    /// The JavaScript side of `generation`.
    pub fn new(generation: Generation) -> Self {
        Self { generation: Arc::new(generation) }
    }
}

#[napi]
impl NativeGeneration {
    /// Everything that was made since the last call, as soon as that is anything. After the end
    /// the end again.
    #[napi(ts_return_type = "Promise<NativeBatch>")]
    pub fn next<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        // Held until the answer: a promise that is waited for is reason enough to go on.
        let held = Arc::clone(&self.generation);
        let (promise, callback) = promise(env, NativeBatch::from)?;
        self.generation.next(Box::new(move |batch| {
            callback(batch);
            drop(held);
        }));
        Ok(promise)
    }

    /// Ends the generation within one token, or one chunk of its prompt. May be called again.
    #[napi]
    pub fn abort(&self) {
        self.generation.abort();
    }
}

impl From<Batch> for NativeBatch {
    fn from(batch: Batch) -> Self {
        let logprobs: Vec<NativeLogprob> = batch.logprobs.into_iter().map(Into::into).collect();
        Self {
            text: batch.text,
            tokens: Uint32Array::new(batch.tokens),
            logprobs: (!logprobs.is_empty()).then_some(logprobs),
            raw_text: batch.pieces.is_some().then_some(batch.raw_text),
            pieces: batch.pieces.map(|pieces| pieces.into_iter().map(Into::into).collect()),
            open_text: batch.open_text,
            prefill: batch.prefill.map(|progress| NativePrefill {
                processed: progress.processed as u32,
                total: progress.total as u32,
                cached: progress.cached as u32,
            }),
            done: batch.done.as_deref().map(Into::into),
        }
    }
}

impl From<OutputPiece> for NativePiece {
    fn from(piece: OutputPiece) -> Self {
        let tokens = piece.tokens as u32;
        let plain = |kind, index: usize, text| Self {
            kind,
            tokens,
            text,
            index: index as u32,
            id: None,
            error: None,
        };
        match piece.content {
            OutputContent::Text(text) => plain("text", 0, text),
            OutputContent::Reasoning(text) => plain("reasoning", 0, text),
            OutputContent::CallStart { index, id, name } => {
                Self { id, ..plain("tool-call-start", index, name) }
            }
            OutputContent::CallDelta { index, text } => plain("tool-call-delta", index, text),
            OutputContent::CallEnd { index } => plain("tool-call-end", index, String::new()),
            OutputContent::InvalidCall { index, raw, error } => {
                Self { error: Some(error), ..plain("tool-call-invalid", index, raw) }
            }
        }
    }
}

impl From<TokenLogprob> for NativeLogprob {
    fn from(logprob: TokenLogprob) -> Self {
        let NativeCandidate { token, logprob: value, text, bytes } = logprob.chosen.into();
        let top = logprob.top.into_iter().map(Into::into).collect();
        Self { token, logprob: value, text, bytes, top }
    }
}

impl From<Candidate> for NativeCandidate {
    fn from(candidate: Candidate) -> Self {
        let Candidate { token, logprob, text, bytes } = candidate;
        Self { token, logprob: f64::from(logprob), text, bytes }
    }
}

impl From<&Finished> for NativeResult {
    fn from(finished: &Finished) -> Self {
        let timings = &finished.timings;
        Self {
            finish_reason: finished.reason.as_str(),
            matched: finished.matched.as_ref().map(NativeMatched::from),
            warnings: (!finished.warnings.is_empty()).then(|| finished.warnings.clone()),
            usage: NativeUsage {
                prompt_tokens: finished.prompt_tokens as u32,
                completion_tokens: finished.completion_tokens as u32,
                cached_tokens: finished.cached_tokens as u32,
                reasoning_tokens: Some(finished.reasoning_tokens as u32),
            },
            raw_length: finished.raw_length.map(|it| it as u32),
            timings: NativeTimings {
                queue_ms: timings.queue_ms,
                prepare_ms: timings.prepare_ms,
                prefill_ms: timings.prefill_ms,
                time_to_first_token_ms: timings.first_token_ms.unwrap_or(0.0),
                prompt_tokens_per_second: timings.prompt_tokens_per_second.unwrap_or(0.0),
                tokens_per_second: timings.tokens_per_second.unwrap_or(0.0),
                total_ms: timings.total_ms,
            },
            speculation: finished.speculated.map(|speculated| NativeSpeculated {
                drafted: speculated.drafted as u32,
                accepted: speculated.accepted as u32,
                steps: speculated.steps as u32,
            }),
            peak_memory_bytes: finished.peak_memory as f64,
        }
    }
}

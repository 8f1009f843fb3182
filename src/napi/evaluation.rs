//! Scores, embeddings and judgements: what is asked for, what comes back, and how it is cancelled.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use napi::bindgen_prelude::{Float32Array, Uint32Array};
use napi_derive::napi;

use super::generation::NativeCandidate;
use super::request::NativePrompt;
use crate::adapters::AdapterId;
use crate::engine::{
    AbortFlag, Callback, Candidate, Continuation, EmbedInput, EmbedRequest, Embeddings,
    JudgeRequest, Judgements, ScoreRequest, Scored, Scores,
};
use crate::error::{Error, Result};
use crate::models::{EmbedOptions, Pooling};
use crate::ranges;

/// What may follow a prompt: either `text` or `tokens`.
#[napi(object, object_to_js = false)]
pub struct NativeContinuation {
    /// Text.
    pub text: Option<String>,
    /// Tokens, right behind those of the prompt.
    pub tokens: Option<Uint32Array>,
}

/// What to score.
#[napi(object, object_to_js = false)]
pub struct NativeScoreRequest {
    /// The number by which it is cancelled, different from those of others that run.
    pub evaluation: f64,
    /// What comes before.
    pub prompt: NativePrompt,
    /// What may follow; none for the prompt's own tokens.
    pub continuations: Vec<NativeContinuation>,
    /// How many of the likeliest tokens are given for each place; left out for none.
    pub top: Option<f64>,
    /// The number of the adapter that it runs with.
    pub adapter: Option<f64>,
}

impl NativeScoreRequest {
    /// The engine's form of it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what has no such form.
    pub fn translate(self) -> Result<ScoreRequest> {
        let (prompt, encoding) = self.prompt.translate()?;
        let continuation = |it: NativeContinuation| match (it.text, it.tokens) {
            (Some(text), None) => Ok(Continuation::Text(text)),
            (None, Some(tokens)) => Ok(Continuation::Tokens(tokens.to_vec())),
            _ => Err(Error::argument("continuation", "must have exactly one of text and tokens")),
        };
        let continuations = self.continuations.into_iter().map(continuation);
        Ok(ScoreRequest {
            prompt,
            encoding,
            continuations: continuations.collect::<Result<_>>()?,
            top: self.top.map_or(Ok(0.0), |top| ranges::LOGPROBS.check(top))? as usize,
            adapter: self.adapter.map(AdapterId::from_number),
        })
    }
}

/// A continuation's tokens.
#[napi(object, object_from_js = false)]
pub struct NativeScored {
    /// The tokens.
    pub tokens: Uint32Array,
    /// The natural logarithms of their probabilities.
    pub logprobs: Float32Array,
    /// Their texts; left out without a tokenizer.
    pub texts: Option<Vec<String>>,
    /// The likeliest tokens in the place of each, where they were asked for.
    pub top: Option<Vec<Vec<NativeCandidate>>>,
}

/// How likely the continuations of a prompt are.
#[napi(object, object_from_js = false)]
pub struct NativeScores {
    /// How many tokens come before all of them.
    pub prompt_tokens: u32,
    /// In the order in which they were given.
    pub continuations: Vec<NativeScored>,
}

impl From<Scores> for NativeScores {
    fn from(scores: Scores) -> Self {
        let mut texts = scores.texts.into_iter();
        let mut top = scores.top.into_iter();
        let place = |top: Vec<Candidate>| top.into_iter().map(NativeCandidate::from).collect();
        let scored = |Scored { tokens, logprobs, .. }| {
            let top = top.next().filter(|top| top.iter().any(|place| !place.is_empty()));
            NativeScored {
                tokens: Uint32Array::new(tokens),
                logprobs: Float32Array::new(logprobs),
                texts: texts.next(),
                top: top.map(|top| top.into_iter().map(place).collect()),
            }
        };
        Self {
            prompt_tokens: scores.prompt_tokens as u32,
            continuations: scores.continuations.into_iter().map(scored).collect(),
        }
    }
}

/// What to embed, and how.
#[napi(object, object_to_js = false)]
pub struct NativeEmbedRequest {
    /// The number by which it is cancelled, different from those of others that run.
    pub evaluation: f64,
    /// The texts, or tokens as they are.
    pub inputs: Vec<NativeContinuation>,
    /// The name of what is put in front of them; left out for what the model's files say.
    pub task: Option<String>,
    /// How the states of a text become one; left out for what the model's files say.
    #[napi(
        ts_type = "'cls' | 'max' | 'mean' | 'mean_sqrt_len_tokens' | 'weightedmean' | 'lasttoken'"
    )]
    pub pooling: Option<String>,
    /// Whether embeddings have the length 1; left out for what the model's files say.
    pub normalize: Option<bool>,
    /// How many of their first numbers are kept; left out for all.
    pub dimensions: Option<f64>,
    /// Whether texts that are too long are cut.
    pub truncate: bool,
    /// The number of the adapter that it runs with.
    pub adapter: Option<f64>,
}

impl NativeEmbedRequest {
    /// The engine's form of it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what has no such form.
    pub fn translate(self) -> Result<EmbedRequest> {
        let input = |it: NativeContinuation| match (it.text, it.tokens) {
            (Some(text), None) => Ok(EmbedInput::Text(text)),
            (None, Some(tokens)) => Ok(EmbedInput::Tokens(tokens.to_vec())),
            _ => Err(Error::argument("texts", "must have exactly one of text and tokens")),
        };
        let pooling = |name: String| {
            Pooling::named(&name).ok_or_else(|| {
                let names = Pooling::ALL.map(|(name, _)| name).join(", ");
                Error::argument("pooling", format!("is \"{name}\", expected one of {names}"))
            })
        };
        let dimensions = self.dimensions.map(|it| ranges::DIMENSIONS.check(it)).transpose()?;
        Ok(EmbedRequest {
            inputs: self.inputs.into_iter().map(input).collect::<Result<_>>()?,
            task: self.task,
            options: EmbedOptions {
                pooling: self.pooling.map(pooling).transpose()?,
                normalize: self.normalize,
                dimensions: dimensions.map(|it| it as usize),
            },
            truncate: self.truncate,
            adapter: self.adapter.map(AdapterId::from_number),
        })
    }
}

/// Embeddings, row by row.
#[napi(object, object_from_js = false)]
pub struct NativeEmbeddings {
    /// The rows, one after the other.
    pub data: Float32Array,
    /// How many numbers a row has.
    pub dimensions: u32,
    /// How many tokens the texts have.
    pub tokens: u32,
}

impl From<Embeddings> for NativeEmbeddings {
    fn from(Embeddings { rows, tokens }: Embeddings) -> Self {
        let dimensions = rows.first().map_or(0, Vec::len) as u32;
        Self { data: Float32Array::new(rows.concat()), dimensions, tokens: tokens as u32 }
    }
}

/// What to judge.
#[napi(object, object_to_js = false)]
pub struct NativeJudgeRequest {
    /// The number by which it is cancelled, different from those of others that run.
    pub evaluation: f64,
    /// What each document is judged by.
    pub query: String,
    /// The documents.
    pub documents: Vec<String>,
    /// Whether pairs that are too long are cut.
    pub truncate: bool,
    /// The number of the adapter that it runs with.
    pub adapter: Option<f64>,
}

impl NativeJudgeRequest {
    /// The engine's form of it.
    pub fn translate(self) -> JudgeRequest {
        JudgeRequest {
            query: self.query,
            documents: self.documents,
            truncate: self.truncate,
            adapter: self.adapter.map(AdapterId::from_number),
        }
    }
}

/// How well documents fit.
#[napi(object, object_from_js = false)]
pub struct NativeJudgements {
    /// One for each document.
    pub scores: Float32Array,
    /// How many tokens were read.
    pub tokens: u32,
}

impl From<Judgements> for NativeJudgements {
    fn from(Judgements { scores, tokens }: Judgements) -> Self {
        Self { scores: Float32Array::new(scores), tokens: tokens as u32 }
    }
}

/// The evaluations that run, by their numbers.
#[derive(Clone, Default)]
pub struct RunningEvaluations(Arc<Mutex<HashMap<u64, AbortFlag>>>);

impl RunningEvaluations {
    /// Begins one: the flag that aborts it, and `callback` so that the number is free again behind
    /// it.
    pub fn begin<T: 'static>(
        &self,
        number: f64,
        callback: Callback<T>,
    ) -> (AbortFlag, Callback<T>) {
        let (number, flag) = (number as u64, AbortFlag::default());
        self.with(|running| running.insert(number, flag.clone()));
        let running = self.clone();
        let ended: Callback<T> = Box::new(move |result| {
            running.with(|running| running.remove(&number));
            callback(result);
        });
        (flag, ended)
    }

    /// Aborts one, unless it has ended.
    pub fn cancel(&self, number: f64) {
        if let Some(flag) = self.with(|running| running.get(&(number as u64)).cloned()) {
            flag.abort();
        }
    }

    fn with<R>(&self, change: impl FnOnce(&mut HashMap<u64, AbortFlag>) -> R) -> R {
        // No code of others runs under the lock, so a poisoned one still holds a sound state.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

//! How likely texts are behind a prompt: from a request to tokens, and from numbers to an answer.
//!
//! The tokens of a prompt and a continuation are those of the whole text, since a tokenizer may
//! join what meets at the boundary. All that the wholes and the prompt begin with is the condition,
//! and the rest of each is scored: so continuations of the same prompt are compared behind the same
//! tokens, whatever each does to the prompt's end.

use std::sync::Arc;

use super::evaluation::{AbortFlag, Evaluation, OwnAdapter, ScoreTask, Scored};
use super::model::Model;
use super::profile::Profile;
use super::request::{Candidate, Prompt, PromptEncoding};
use super::scheduler::Message;
use super::status::{Callback, Reply};
use crate::error::{Error, Result};
use crate::text::{MarkedText, Tokenizer};

/// What may follow a prompt.
#[derive(Debug, Clone)]
pub enum Continuation {
    /// Text.
    Text(String),
    /// Tokens, right behind those of the prompt.
    Tokens(Vec<u32>),
}

/// What to score.
#[derive(Debug, Clone)]
pub struct ScoreRequest {
    /// What comes before.
    pub prompt: Prompt,
    /// How it becomes tokens.
    pub encoding: PromptEncoding,
    /// What may follow; none for the prompt's own tokens, all but the first.
    pub continuations: Vec<Continuation>,
    /// How many of the likeliest tokens are given for each place.
    pub top: usize,
    /// What the model runs with.
    pub adapter: OwnAdapter,
}

/// How likely the continuations of a prompt are.
#[derive(Debug, Clone)]
pub struct Scores {
    /// How many tokens come before all of them.
    pub prompt_tokens: usize,
    /// Of each the tokens and their log-probabilities.
    pub continuations: Vec<Scored>,
    /// Their tokens' texts; none without a tokenizer.
    pub texts: Vec<Vec<String>>,
    /// Of each the likeliest tokens in the place of every token.
    pub top: Vec<Vec<Vec<Candidate>>>,
}

impl Model {
    /// How likely the continuations of a prompt are.
    pub fn score(&self, request: ScoreRequest, aborted: AbortFlag, callback: Callback<Scores>) {
        let engine = Arc::downgrade(self.engine());
        let status = Arc::clone(self.engine().status());
        let flag = aborted.clone();
        type Prepared = (ScoreTask, Vec<Vec<String>>, Option<Arc<Tokenizer>>);
        let prepared: Callback<Prepared> = Box::new(move |prepared| {
            let (task, texts, tokenizer) = match prepared {
                Ok(prepared) => prepared,
                Err(error) => return callback(Err(error)),
            };
            let prompt_tokens = task.prompt.len();
            let scored: Callback<Vec<Scored>> = Box::new(move |scored| {
                callback(scored.and_then(|continuations| {
                    let top = candidates(&continuations, tokenizer.as_deref())?;
                    Ok(Scores { prompt_tokens, continuations, texts, top })
                }));
            });
            let reply = Reply::new(scored, status);
            if let Some(engine) = engine.upgrade() {
                engine.send(Message::Evaluate(Evaluation::Score(task, reply)));
            }
        });
        self.with_text(prepared, move |profile| {
            flag.check()?;
            let (prompt, continuations) = profile.continued(&request)?;
            let tokenizer = profile.text.tokenizer().ok().cloned();
            let texts = match &tokenizer {
                None => Vec::new(),
                Some(tokenizer) => {
                    let text = |token: &u32| tokenizer.decode(&[*token], false);
                    let texts = |tokens: &Vec<u32>| tokens.iter().map(text).collect();
                    continuations.iter().map(texts).collect::<Result<_>>()?
                }
            };
            let ScoreRequest { adapter, top, .. } = request;
            Ok((ScoreTask { prompt, continuations, top, adapter, aborted }, texts, tokenizer))
        });
    }
}

/// What a tokenizer says of the likeliest tokens.
fn candidates(
    continuations: &[Scored],
    tokenizer: Option<&Tokenizer>,
) -> Result<Vec<Vec<Vec<Candidate>>>> {
    let candidate = |&(token, logprob): &(u32, f32)| Candidate::new(tokenizer, token, logprob);
    let place = |top: &Vec<(u32, f32)>| top.iter().map(candidate).collect();
    continuations.iter().map(|it| it.top.iter().map(place).collect()).collect()
}

impl Profile {
    /// What a request's texts have in common, and the rest of each.
    ///
    /// # Errors
    /// Those of the tokenizer and the template; [`Error::InvalidArgument`] for tokens that the
    /// model does not have, and where nothing is left to begin with; [`Error::ContextOverflow`].
    fn continued(&self, request: &ScoreRequest) -> Result<(Vec<u32>, Vec<Vec<u32>>)> {
        self.check_writes()?;
        let ScoreRequest { prompt, encoding, continuations, .. } = request;
        let laid_out = self.text.lay_out(prompt, *encoding, None)?;
        self.check_text("there are", &laid_out.text.text, "give fewer")?;
        let tokens = self.text.tokens_of(prompt, &laid_out)?;
        self.check_tokens("prompt", &tokens)?;
        if continuations.is_empty() {
            self.check_length(&tokens)?;
            let [first, rest @ ..] = tokens.as_slice() else { return Ok((tokens, Vec::new())) };
            if rest.is_empty() {
                let message = "is a single token, and nothing before it tells how likely it is: \
                               give a longer text, or a continuation";
                return Err(Error::argument("prompt", message));
            }
            return Ok((vec![*first], vec![rest.to_vec()]));
        }
        let whole = |continuation: &Continuation| -> Result<Vec<u32>> {
            let whole = match (continuation, prompt) {
                (Continuation::Tokens(rest), _) => [&*tokens, rest].concat(),
                (Continuation::Text(text), Prompt::Tokens(_)) => {
                    let mut part = laid_out.clone();
                    part.text = self.continuation(text, encoding.split_special_tokens)?;
                    self.check_text("there are", &part.text.text, "give fewer")?;
                    [&*tokens, &*self.text.encode_laid_out(&part)?].concat()
                }
                (Continuation::Text(text), _) => {
                    let mut whole = laid_out.clone();
                    let part = self.continuation(text, encoding.split_special_tokens)?;
                    self.check_text("there are", &part.text, "give fewer")?;
                    let length = whole.text.text.len();
                    whole.text.text.push_str(&part.text);
                    whole.text.marks.extend(part.marks.iter().map(|mark| length + mark));
                    self.text.encode_laid_out(&whole)?
                }
            };
            self.check_tokens("continuation", &whole)?;
            self.check_length(&whole)?;
            Ok(whole)
        };
        let wholes = continuations.iter().map(whole).collect::<Result<Vec<_>>>()?;
        let common = |whole: &Vec<u32>| {
            let same = whole.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
            // What is scored has a token at least.
            same.min(whole.len() - 1)
        };
        let shared = wholes.iter().map(common).min().unwrap_or(0);
        if shared == 0 {
            let message = "has no token of its own in front of what follows: begin with a longer \
                           text";
            return Err(Error::argument("prompt", message));
        }
        let rests = wholes.iter().map(|whole| whole[shared..].to_vec()).collect();
        Ok((wholes[0][..shared].to_vec(), rests))
    }

    fn continuation(&self, text: &str, split_special_tokens: bool) -> Result<MarkedText> {
        match split_special_tokens {
            true => MarkedText::plain(text, self.text.tokenizer()?),
            false => Ok(MarkedText::unmarked(text.to_owned())),
        }
    }

    /// Refuses more tokens than the model's context holds.
    pub(super) fn check_length(&self, tokens: &[u32]) -> Result<()> {
        match self.context_length.filter(|&length| tokens.len() > length) {
            None => Ok(()),
            Some(length) => Err(Error::overflow("there are", tokens.len(), length, "give fewer")),
        }
    }
}

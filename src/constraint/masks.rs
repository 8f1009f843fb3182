//! The tokens that may come next, computed beside the model's work.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use llguidance::Matcher;
use llguidance::toktrie::TokTrie;

use super::digits::Digits;
use super::grammar::Constraint;
use super::token_set::TokenSet;
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// More tokens than that are not the beginnings of one text.
const MOST_BEGINNINGS: usize = 32;

/// An answer of the thread that computes masks.
type Work = (Matcher, Result<Next>);

/// What may come next.
#[derive(Debug, Clone)]
struct Next {
    allowed: TokenSet,
    /// What comes in any case, as tokens.
    forced: Vec<u32>,
}

/// Follows an answer: gives the tokens that may come next, and is told which one came.
///
/// Masks are computed on a thread of its own, from the moment that a token is known, so that the
/// device can work on the next logits meanwhile.
pub struct Masks {
    vocabulary: Arc<Vocabulary>,
    /// Where the parser is while its thread does not have it.
    matcher: Option<Matcher>,
    /// The tokens that the constraint begins behind, as long as they have not come.
    awaited: Option<Vec<u32>>,
    recent: Vec<u32>,
    /// Where in JSON the answer is, where it is JSON.
    digits: Option<Digits>,
    ready: Option<Next>,
    ended: bool,
    /// Why there are no masks any more.
    failure: Option<Error>,
    to_thread: Sender<Matcher>,
    from_thread: Receiver<Work>,
}

impl Masks {
    /// Begins an answer.
    ///
    /// # Errors
    /// [`Error::EngineFailed`] where the system has no thread.
    pub fn start(constraint: &Constraint) -> Result<Self> {
        let vocabulary = Arc::clone(constraint.vocabulary());
        let (to_thread, requests) = channel::<Matcher>();
        let (answers, from_thread) = channel::<Work>();
        thread::Builder::new()
            .name("nodemlx-masks".to_owned())
            .spawn(move || {
                for mut matcher in requests {
                    let mask = compute(&mut matcher, &vocabulary);
                    // Whoever asked has left where nobody listens.
                    if answers.send((matcher, mask)).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| Error::EngineFailed(format!("no thread for masks: {error}")))?;
        let mut masks = Self {
            vocabulary: Arc::clone(constraint.vocabulary()),
            matcher: Some(constraint.matcher()),
            awaited: constraint.awaited().map(<[u32]>::to_vec),
            recent: Vec::new(),
            digits: constraint.digits_at_start(),
            ready: None,
            ended: false,
            failure: None,
            to_thread,
            from_thread,
        };
        masks.ended = masks.matcher.as_ref().is_some_and(Matcher::is_stopped);
        if masks.awaited.is_none() && !masks.ended {
            masks.request()?;
        }
        Ok(masks)
    }

    /// The tokens that may come next; waits until they are known. Where the answer is complete, those
    /// that end it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where no token can continue the answer, or where to find them takes
    /// more than the limits allow.
    pub fn allowed(&mut self) -> Result<TokenSet> {
        if self.awaited.is_some() {
            return Ok(self.vocabulary.all_but_ends().clone());
        }
        if let Some(next) = &self.ready {
            return Ok(next.allowed.clone());
        }
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.matcher.is_some() {
            let ends = self.vocabulary.ends();
            if ends.count() == 0 {
                let message = "the answer cannot go on: it is complete";
                return Err(Error::Unsupported(message.to_owned()));
            }
            return Ok(ends.clone());
        }
        let (matcher, mask) = self.from_thread.recv().map_err(|_| lost())?;
        self.matcher = Some(matcher);
        let mut next = mask.inspect_err(|error| self.failure = Some(error.clone()))?;
        if self.digits.as_ref().is_some_and(Digits::is_full)
            && let Some(allowed) = next.allowed.without(self.vocabulary.digits())
        {
            next = Next { allowed, forced: Vec::new() };
        }
        let allowed = next.allowed.clone();
        self.ready = Some(next);
        Ok(allowed)
    }

    /// What comes next in any case, as tokens, where [`Masks::allowed`] has been asked. It can be
    /// cut into other tokens, too.
    pub fn forced(&self) -> &[u32] {
        self.ready.as_ref().map_or(&[], |next| &next.forced)
    }

    /// Takes the token that came, one of [`Masks::allowed`]. Tells whether the answer is complete and
    /// nothing can follow.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a token that was not in the mask.
    pub fn accept(&mut self, token: u32) -> Result<bool> {
        if self.ended {
            return Ok(true);
        }
        if let Some(awaited) = &self.awaited {
            self.recent.push(token);
            if self.recent.ends_with(awaited) {
                self.awaited = None;
                self.request()?;
            } else if self.recent.len() > awaited.len() {
                self.recent.remove(0);
            }
            return Ok(false);
        }
        self.allowed()?;
        self.ready = None;
        let matcher = self.matcher.as_mut().ok_or_else(lost)?;
        matcher.consume_token(token).map_err(|error| {
            let failure = failed(&error);
            self.failure = Some(failure.clone());
            failure
        })?;
        if let Some(digits) = &mut self.digits {
            self.vocabulary.follow(digits, token);
        }
        self.ended = matcher.is_stopped();
        if !self.ended {
            self.request()?;
        }
        Ok(self.ended)
    }

    /// Whether the answer could end here.
    pub fn is_complete(&mut self) -> bool {
        if self.ended {
            return true;
        }
        if self.awaited.is_some() || self.allowed().is_err() {
            return false;
        }
        self.matcher.as_mut().is_some_and(|matcher| matcher.is_accepting().unwrap_or(false))
    }

    fn request(&mut self) -> Result<()> {
        let matcher = self.matcher.take().ok_or_else(lost)?;
        self.to_thread.send(matcher).map_err(|_| lost())
    }
}

impl std::fmt::Debug for Masks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Masks").field("ended", &self.ended).finish_non_exhaustive()
    }
}

fn compute(matcher: &mut Matcher, vocabulary: &Vocabulary) -> Result<Next> {
    let mask = matcher.compute_mask().map_err(|error| match matcher.stop_reason() {
        llguidance::api::StopReason::NoExtensionBias => {
            let message = "the answer cannot go on: no token of the model's vocabulary can write \
                           what responseFormat asks for";
            Error::Unsupported(message.to_owned())
        }
        _ => failed(&error),
    })?;
    let allowed = TokenSet::new(mask.as_slice());
    let forced = forced(matcher, &allowed, vocabulary);
    Ok(Next { allowed, forced })
}

/// What comes next in any case, as tokens; nothing where many tokens may come, for then it is not
/// looked for.
fn forced(matcher: &Matcher, allowed: &TokenSet, vocabulary: &Vocabulary) -> Vec<u32> {
    if allowed.count() > MOST_BEGINNINGS {
        return Vec::new();
    }
    // To look ahead leaves a parser behind that takes no special tokens any more.
    let mut bytes = matcher.clone().compute_ff_bytes();
    let special = bytes.iter().position(|&byte| byte == TokTrie::SPECIAL_TOKEN_MARKER);
    bytes.truncate(special.unwrap_or(bytes.len()));
    vocabulary.cut(&bytes)
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    let error = error.to_string();
    let reason = error.lines().next().unwrap_or_default();
    Error::Unsupported(format!("responseFormat cannot be followed any further: {reason}"))
}

fn lost() -> Error {
    Error::EngineFailed("the thread for masks has ended".to_owned())
}

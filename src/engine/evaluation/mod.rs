//! What is computed and not generated: logits and scores of given tokens, embeddings and labels of
//! texts.
//!
//! Evaluations take turns, and with the prompts of generations: each has a chunk, then the next
//! one. So a long one holds nobody up, and one that was aborted ends after a chunk.

mod embed;
mod judge;
mod logits;
mod score;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use embed::EmbedTask;
pub use judge::JudgeTask;
pub use logits::LogitsTask;
pub use score::{ScoreTask, Scored};

use super::backend::Backend;
use super::status::Reply;
use crate::adapters::AdapterId;
use crate::error::{Error, Result};

/// How many rows of logits are computed in one turn, where their width allows it.
const MOST_ROWS: usize = 256;

/// How many logits there are at once, at most: 128 MiB in single precision.
const MOST_LOGITS: usize = 1 << 25;

/// How many texts are read in one pass.
const MOST_TEXTS: usize = 64;

/// Whether somebody still wants the answer.
#[derive(Debug, Clone, Default)]
pub struct AbortFlag(Arc<AtomicBool>);

impl AbortFlag {
    /// Nobody wants it any more.
    pub fn abort(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Refuses to go on with what nobody wants.
    ///
    /// # Errors
    /// [`Error::Aborted`].
    pub fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Error::Aborted("the evaluation was aborted".to_owned())),
            false => Ok(()),
        }
    }
}

/// What an evaluation begins with: tokens in, numbers out.
pub enum Evaluation {
    /// The logits after each of some tokens; not empty.
    Logits(Vec<u32>, Reply<Vec<f32>>),
    /// How likely continuations are.
    Score(ScoreTask, Reply<Vec<Scored>>),
    /// The embeddings of texts, row by row.
    Embed(EmbedTask, Reply<Vec<Vec<f32>>>),
    /// The logits of the labels of texts.
    Judge(JudgeTask, Reply<Vec<Vec<f32>>>),
}

/// An evaluation that has begun.
enum Task<C, T> {
    Logits(LogitsTask<C>, Reply<Vec<f32>>),
    Score(score::Running<C>, Reply<Vec<Scored>>),
    Embed(embed::Running<T>, Reply<Vec<Vec<f32>>>),
    Judge(judge::Running, Reply<Vec<Vec<f32>>>),
}

impl<C, T> Task<C, T> {
    fn abort_flag(&self) -> Option<&AbortFlag> {
        match self {
            Self::Logits(..) => None,
            Self::Score(task, _) => Some(&task.task.aborted),
            Self::Embed(task, _) => Some(&task.task.aborted),
            Self::Judge(task, _) => Some(&task.task.aborted),
        }
    }

    fn fail(self, error: Error) {
        match self {
            Self::Logits(_, reply) => reply.send(Err(error)),
            Self::Score(task, reply) => {
                // Its arrays are free before the caller hears of the end; the same below.
                drop(task);
                reply.send(Err(error));
            }
            Self::Embed(task, reply) => {
                drop(task);
                reply.send(Err(error));
            }
            Self::Judge(_, reply) => reply.send(Err(error)),
        }
    }

    fn finish(self) {
        match self {
            Self::Logits(task, reply) => {
                let logits = task.into_rows();
                reply.send(Ok(logits));
            }
            Self::Score(task, reply) => {
                let scored = task.into_scored();
                reply.send(Ok(scored));
            }
            Self::Embed(task, reply) => {
                let embeddings = task.into_embeddings();
                reply.send(Ok(embeddings));
            }
            Self::Judge(task, reply) => reply.send(Ok(task.labels)),
        }
    }
}

/// How far an evaluation has come in a turn.
pub struct Advance {
    /// How many tokens were read.
    tokens: usize,
    /// Whether it is complete.
    done: bool,
}

/// The evaluations of a model.
pub struct Evaluations<B: Backend> {
    tasks: VecDeque<Task<B::Caches, B::Text>>,
    /// How many rows of logits fit a turn.
    rows: usize,
}

impl<B: Backend> Evaluations<B> {
    /// None yet, for a model with so many tokens.
    pub fn new(vocabulary: usize) -> Self {
        let rows = (MOST_LOGITS / vocabulary.max(1)).clamp(1, MOST_ROWS);
        Self { tasks: VecDeque::new(), rows }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Begins one.
    pub fn begin(&mut self, evaluation: Evaluation, backend: &B, vocabulary: usize) {
        match evaluation {
            Evaluation::Logits(tokens, reply) => {
                let caches = backend.caches(None);
                match caches.and_then(|it| LogitsTask::new(tokens, it, vocabulary)) {
                    Ok(task) => self.tasks.push_back(Task::Logits(task, reply)),
                    Err(error) => reply.send(Err(error)),
                }
            }
            Evaluation::Score(task, reply) => match backend.caches(task.adapter) {
                Ok(caches) => {
                    let running = score::Running::new(task, caches);
                    self.tasks.push_back(Task::Score(running, reply));
                }
                Err(error) => reply.send(Err(error)),
            },
            Evaluation::Embed(task, reply) => {
                self.tasks.push_back(Task::Embed(embed::Running::new(task), reply));
            }
            Evaluation::Judge(task, reply) => {
                self.tasks.push_back(Task::Judge(judge::Running::new(task), reply));
            }
        }
    }

    /// Ends those that nobody waits for.
    pub fn end_aborted(&mut self) {
        let is_aborted = |task: &Task<B::Caches, B::Text>| {
            task.abort_flag().is_some_and(|flag| flag.check().is_err())
        };
        while let Some(at) = self.tasks.iter().position(is_aborted)
            && let Some(task) = self.tasks.remove(at)
        {
            task.fail(Error::Aborted("the evaluation was aborted".to_owned()));
        }
    }

    /// The most tokens of one turn, where up to `prompt` of a prompt are read.
    pub fn most(&self, prompt: usize) -> usize {
        match self.tasks.front() {
            Some(Task::Score(task, _)) if task.reads_prompt() => prompt,
            Some(Task::Embed(..) | Task::Judge(..)) => prompt,
            _ => self.rows,
        }
    }

    /// Goes on with the first one by up to `count` tokens; how many were read.
    ///
    /// What is worked on stays in the list, so that a panic leaves it to be answered with the
    /// panic's cause.
    pub fn read(&mut self, backend: &B, count: usize) -> usize {
        let advance = match self.tasks.front_mut() {
            None => return 0,
            Some(Task::Logits(task, _)) => task.advance(backend, count),
            Some(Task::Score(task, _)) => task.advance(backend, count),
            Some(Task::Embed(task, _)) => task.advance(backend, count),
            Some(Task::Judge(task, _)) => task.advance(backend, count),
        };
        let tokens = advance.as_ref().map_or(0, |advance| advance.tokens);
        match advance {
            Ok(Advance { done: false, .. }) => self.tasks.rotate_left(1),
            Ok(Advance { done: true, .. }) => {
                if let Some(task) = self.tasks.pop_front() {
                    task.finish();
                }
            }
            Err(error) => {
                if let Some(task) = self.tasks.pop_front() {
                    task.fail(error);
                }
            }
        }
        tokens
    }
}

/// An adapter of the model, or the model as it is.
pub type OwnAdapter = Option<AdapterId>;

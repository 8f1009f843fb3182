//! The loop of an engine's thread. It knows all sequences and gives each its turn.
//!
//! In each turn the messages that came in are taken, then at most one chunk of one prompt is
//! read, then every sequence that can makes one token. So an abort waits for one token or one
//! chunk at most, and a long prompt slows down those who decode, but does not stop them. When
//! nothing can run the thread sleeps on its inbox.
//!
//! Prompts come as tokens: templates and tokenizers run on threads for texts, while their
//! generations are here already, to be aborted.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::backend::Backend;
use super::exit;
use super::profile::{Prepared, Profile};
use super::prompt_caches::{PromptCacheId, PromptCacheRequest, PromptCaches};
use super::request::GenerateRequest;
use super::running::{ActiveGeneration, GenerationId, Next};
use super::status::Reply;
use super::stream::Producer;
use crate::error::{Error, Result};

/// How many rows of logits are computed in one turn: a row is as wide as the vocabulary.
const LOGITS_CHUNK: usize = 256;

/// What is sent to an engine.
pub enum Message {
    /// Run a generation, as soon as its prompt is prepared.
    Generate {
        /// Its number.
        id: GenerationId,
        /// Where its tokens go.
        producer: Producer,
        /// What was asked for.
        request: Arc<GenerateRequest>,
        /// When.
        requested: Instant,
    },
    /// The prompt of a generation that was sent before.
    Prepared {
        /// The generation's number.
        id: GenerationId,
        /// Its prompt, or why there is none.
        prepared: Result<Prepared>,
    },
    /// Compute the logits after each of some tokens.
    Logits {
        /// The tokens; not empty.
        tokens: Vec<u32>,
        /// Where the rows go.
        reply: Reply<Vec<f32>>,
    },
    /// Do something with a prompt cache.
    PromptCache(PromptCacheId, PromptCacheRequest),
    /// A generation was aborted, or its consumer has caught up.
    Wake,
    /// Give everything back.
    Dispose,
}

/// Logits that are being computed.
struct LogitsTask<C> {
    tokens: Vec<u32>,
    position: usize,
    caches: C,
    logits: Vec<f32>,
    reply: Reply<Vec<f32>>,
}

/// All work on one model.
pub struct Scheduler<B: Backend> {
    backend: B,
    profile: Arc<Profile>,
    generations: Vec<ActiveGeneration<B>>,
    prompt_caches: PromptCaches<B>,
    logits_tasks: VecDeque<LogitsTask<B::Caches>>,
    /// Whether the last chunk was one of logits, so that these and prompts alternate.
    read_logits: bool,
}

impl<B: Backend> Scheduler<B> {
    /// A scheduler without work.
    pub fn new(backend: B, profile: Arc<Profile>) -> Self {
        Self {
            backend,
            profile,
            generations: Vec::new(),
            prompt_caches: PromptCaches::new(),
            logits_tasks: VecDeque::new(),
            read_logits: false,
        }
    }

    /// Works until it is disposed of, or until nobody is left who could ask for anything.
    pub fn run(&mut self, inbox: &Receiver<Message>) {
        loop {
            let first = match self.can_run() {
                true => None,
                false => match inbox.recv() {
                    Ok(message) => Some(message),
                    Err(_) => return,
                },
            };
            let _turn = exit::begin_turn();
            for message in first.into_iter().chain(inbox.try_iter()) {
                if self.receive(message).is_break() {
                    return;
                }
            }
            self.turn();
        }
    }

    fn can_run(&self) -> bool {
        !self.logits_tasks.is_empty()
            || self.generations.iter().any(|generation| generation.poll() != Next::Wait)
    }

    fn receive(&mut self, message: Message) -> ControlFlow<()> {
        match message {
            Message::Generate { id, producer, request, requested } => {
                // Whoever was aborted before this call has given its prompt cache back by now.
                self.end_aborted();
                if self.generations.is_empty() {
                    self.backend.reset_peak_memory();
                }
                self.generations.push(ActiveGeneration::new(
                    id,
                    producer,
                    request,
                    requested,
                    &mut self.prompt_caches,
                ));
            }
            Message::Prepared { id, prepared } => {
                // One that was aborted meanwhile is gone.
                if let Some(generation) = self.generations.iter_mut().find(|it| it.id() == id) {
                    generation.start(prepared, &self.backend, &self.profile);
                }
            }
            Message::Logits { tokens, reply } => self.begin_logits(tokens, reply),
            Message::PromptCache(id, request) => {
                self.end_aborted();
                self.prompt_caches.serve(&self.backend, id, request);
            }
            Message::Wake => {}
            Message::Dispose => {
                // Who was aborted before has its own end, and not that of the model.
                self.end_aborted();
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    fn begin_logits(&mut self, tokens: Vec<u32>, reply: Reply<Vec<f32>>) {
        let mut logits = Vec::new();
        let count = tokens.len().saturating_mul(self.profile.vocabulary_size);
        if logits.try_reserve_exact(count).is_err() {
            let message = format!("{} rows of logits do not fit the memory", tokens.len());
            return reply.send(Err(Error::argument("tokens", message)));
        }
        let caches = self.backend.caches();
        self.logits_tasks.push_back(LogitsTask { tokens, position: 0, caches, logits, reply });
    }

    fn turn(&mut self) {
        self.end_aborted();
        self.prefill_step();
        self.decode();
        self.remove_ended();
    }

    /// Ends the generations whose consumers asked for that.
    fn end_aborted(&mut self) {
        for generation in &mut self.generations {
            if generation.poll() == Next::Abort {
                generation.abort(&self.backend);
            }
        }
        self.remove_ended();
    }

    fn remove_ended(&mut self) {
        for generation in self.generations.iter_mut().filter(|it| it.poll() == Next::Nothing) {
            generation.checkin(&mut self.prompt_caches);
        }
        self.generations.retain(|generation| generation.poll() != Next::Nothing);
    }

    /// Reads one chunk: of a prompt, or of a text whose logits were asked for.
    ///
    /// What is worked on stays in its list, so that a panic leaves it to be answered with the
    /// panic's cause.
    fn prefill_step(&mut self) {
        let prompt = self.generations.iter().position(|it| it.poll() == Next::Prefill);
        if let Some(index) = prompt
            && (self.logits_tasks.is_empty() || self.read_logits)
        {
            self.read_logits = false;
            self.generations[index].prefill_step(&self.backend);
            // Whoever had its turn goes to the end, so that prompts take turns too.
            self.generations[index..].rotate_left(1);
        } else if let Some(task) = self.logits_tasks.front_mut() {
            self.read_logits = true;
            match task.advance(&self.backend) {
                Ok(false) => self.logits_tasks.rotate_left(1),
                Ok(true) => self.answer(Ok(())),
                Err(error) => self.answer(Err(error)),
            }
        }
    }

    /// Answers the first of those who asked for logits.
    fn answer(&mut self, result: Result<()>) {
        if let Some(LogitsTask { caches, logits, reply, .. }) = self.logits_tasks.pop_front() {
            // Their arrays are free before the caller hears of the end.
            drop(caches);
            reply.send(result.map(|()| logits));
        }
    }

    /// One token for every sequence that can take one.
    fn decode(&mut self) {
        let mut ready: Vec<&mut ActiveGeneration<B>> =
            self.generations.iter_mut().filter(|it| it.poll() == Next::Decode).collect();
        let mut sequences: Vec<&mut B::Sequence> =
            ready.iter_mut().filter_map(|generation| generation.decoding()).collect();
        if sequences.is_empty() {
            return;
        }
        let outputs = self.backend.decode(&mut sequences);
        for (generation, output) in ready.into_iter().zip(outputs) {
            generation.accept(output, &self.backend);
        }
    }
}

impl<C> LogitsTask<C> {
    /// Computes the next rows; whether they were the last.
    fn advance<B: Backend<Caches = C>>(&mut self, backend: &B) -> Result<bool> {
        let end = self.tokens.len().min(self.position + LOGITS_CHUNK);
        let rows = backend.logits(&self.tokens[self.position..end], &mut self.caches)?;
        self.logits.extend(rows);
        self.position = end;
        Ok(end == self.tokens.len())
    }
}

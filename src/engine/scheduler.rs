//! The loop of an engine's thread. It knows all sequences and gives each its turn.
//!
//! In each turn the messages that came in are taken, then at most one chunk of one prompt is
//! read, then every sequence that can makes one token. So an abort waits for one token or one
//! chunk at most, and a long prompt slows down those who decode, but does not stop them. When
//! nothing can run the thread sleeps on its inbox.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use super::backend::Backend;
use super::exit;
use super::profile::Profile;
use super::prompt_caches::{PromptCacheId, PromptCacheRequest, PromptCaches};
use super::request::GenerateRequest;
use super::running::{Next, Running};
use super::status::Reply;
use super::stream::Producer;
use crate::error::Result;

/// How many rows of logits are computed in one turn: a row is as wide as the vocabulary.
const LOGITS_CHUNK: usize = 256;

/// What is sent to an engine.
pub enum Message {
    /// Run a generation.
    Generate {
        /// Where its tokens go.
        producer: Producer,
        /// What was asked for.
        request: Box<GenerateRequest>,
        /// When.
        requested: Instant,
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
struct Reading<C> {
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
    running: Vec<Running<B>>,
    prompt_caches: PromptCaches<B>,
    readings: VecDeque<Reading<B::Caches>>,
    /// Whether the last chunk was one of logits, so that these and prompts alternate.
    read_logits: bool,
}

impl<B: Backend> Scheduler<B> {
    /// A scheduler without work.
    pub fn new(backend: B, profile: Arc<Profile>) -> Self {
        Self {
            backend,
            profile,
            running: Vec::new(),
            prompt_caches: PromptCaches::new(),
            readings: VecDeque::new(),
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
        !self.readings.is_empty()
            || self.running.iter().any(|running| running.next() != Next::Pause)
    }

    fn receive(&mut self, message: Message) -> ControlFlow<()> {
        match message {
            Message::Generate { producer, request, requested } => {
                if self.running.is_empty() {
                    self.backend.reset_peak_memory();
                }
                self.running.push(Running::new(producer, request, requested));
            }
            Message::Logits { tokens, reply } => self.readings.push_back(Reading {
                tokens,
                position: 0,
                caches: self.backend.caches(),
                logits: Vec::new(),
                reply,
            }),
            Message::PromptCache(id, request) => {
                self.prompt_caches.serve(&self.backend, id, request);
            }
            Message::Wake => {}
            Message::Dispose => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn turn(&mut self) {
        for running in &mut self.running {
            if running.next() == Next::Abort {
                running.abort(&self.backend);
            }
        }
        self.read_chunk();
        self.decode();
        for running in self.running.iter_mut().filter(|it| it.next() == Next::Nothing) {
            if let Some((id, cache)) = running.give_back(&self.backend) {
                self.prompt_caches.take_back(id, cache);
            }
        }
        self.running.retain(|running| running.next() != Next::Nothing);
    }

    /// Reads one chunk: of a prompt, or of a text whose logits were asked for.
    ///
    /// What is worked on stays in its list, so that a panic leaves it to be answered with the
    /// panic's cause.
    fn read_chunk(&mut self) {
        let prompt = self.running.iter().position(|running| running.next() == Next::Prefill);
        if let Some(index) = prompt
            && (self.readings.is_empty() || self.read_logits)
        {
            self.read_logits = false;
            let running = &mut self.running[index];
            running.prefill(&self.backend, &self.profile, &mut self.prompt_caches);
            // Whoever had its turn goes to the end, so that prompts take turns too.
            self.running[index..].rotate_left(1);
        } else if let Some(reading) = self.readings.front_mut() {
            self.read_logits = true;
            match reading.advance(&self.backend) {
                Ok(false) => self.readings.rotate_left(1),
                Ok(true) => self.answer(Ok(())),
                Err(error) => self.answer(Err(error)),
            }
        }
    }

    /// Answers the first of those who asked for logits.
    fn answer(&mut self, result: Result<()>) {
        if let Some(Reading { caches, logits, reply, .. }) = self.readings.pop_front() {
            // Their arrays are free before the caller hears of the end.
            drop(caches);
            reply.send(result.map(|()| logits));
        }
    }

    /// One token for every sequence that can take one.
    fn decode(&mut self) {
        let mut ready: Vec<&mut Running<B>> =
            self.running.iter_mut().filter(|running| running.next() == Next::Decode).collect();
        let mut sequences: Vec<&mut B::Sequence> =
            ready.iter_mut().filter_map(|running| running.decoding()).collect();
        if sequences.is_empty() {
            return;
        }
        let outputs = self.backend.decode(&mut sequences);
        for (running, output) in ready.into_iter().zip(outputs) {
            running.accept(output, &self.backend);
        }
    }
}

impl<C> Reading<C> {
    /// Computes the next rows; whether they were the last.
    fn advance<B: Backend<Caches = C>>(&mut self, backend: &B) -> Result<bool> {
        let end = self.tokens.len().min(self.position + LOGITS_CHUNK);
        let rows = backend.logits(&self.tokens[self.position..end], &mut self.caches)?;
        self.logits.extend(rows);
        self.position = end;
        Ok(end == self.tokens.len())
    }
}

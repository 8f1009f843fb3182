//! The loop of an engine's thread. It knows all sequences and gives each its turn.
//!
//! In each turn the messages that came in are taken, then at most one chunk of prompts is read,
//! then every sequence that can makes one token, all in one step. So an abort waits for one token
//! or one chunk at most. A long prompt slows down those who decode, but no chunk holds them up for
//! longer than they may wait, and they have as much of the time as it has: see [`Pace`]. When
//! nothing can run the thread sleeps on its inbox.
//!
//! No more than a given number of generations run at once, and no more than fit into the memory
//! that they may have; the others wait in their order, those of a higher priority first, but not for
//! ever: see [`Patience`]. One whose consumer is too far behind does not count, so that nobody waits
//! for a consumer who waits.
//!
//! Of those who come with the same beginning, one reads it, and the others wait for that one.
//!
//! Prompts come as tokens: templates and tokenizers run on threads for texts, while their
//! generations are here already, to be aborted.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use super::adapters::AdapterRequest;
use super::backend::Backend;
use super::evaluation::{Evaluation, Evaluations};
use super::exit;
use super::pace::Pace;
use super::patience::Patience;
use super::pool;
use super::profile::{Prepared, Profile};
use super::prompt_caches::{PromptCacheId, PromptCacheRequest, PromptCaches};
use super::request::GenerateRequest;
use super::running::{ActiveGeneration, GenerationId, Next, Rank};
use super::status::Reply;
use super::stream::Producer;
use crate::adapters::AdapterId;
use crate::error::Result;
use crate::generate::{PrefixFetch, Reading};

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
        prepared: Box<Result<Prepared>>,
        /// Where it is sent once more, after something was read from disk for it.
        inbox: Sender<Message>,
    },
    /// Compute something of given tokens.
    Evaluate(Evaluation),
    /// Do something with a prompt cache.
    PromptCache(PromptCacheId, PromptCacheRequest),
    /// Do something with an adapter.
    Adapter(AdapterId, AdapterRequest),
    /// Forget what sequences have left for others.
    ClearPrefixes(Reply<()>),
    /// A generation was aborted, or its consumer has caught up.
    Wake,
    /// Give everything back.
    Dispose,
}

/// All work on one model.
pub struct Scheduler<B: Backend> {
    backend: B,
    profile: Arc<Profile>,
    generations: Vec<ActiveGeneration<B>>,
    prompt_caches: PromptCaches<B>,
    evaluations: Evaluations<B>,
    pace: Pace,
    /// That of those who wait to begin.
    beginning: Patience,
    /// That of those whose prompts are being read.
    reading: Patience,
    /// The number of passes over prompts.
    passes: u64,
    /// Whether the last chunk was one of an evaluation, so that these and prompts alternate.
    evaluated: bool,
}

/// One that can begin.
struct Queued {
    /// Its place among the generations.
    place: usize,
    /// How many who are being prepared keep their turn before it.
    kept: usize,
    /// Whether another one has waited longer.
    overtakes: bool,
}

impl<B: Backend> Scheduler<B> {
    /// A scheduler without work.
    pub fn new(backend: B, profile: Arc<Profile>) -> Self {
        Self {
            backend,
            generations: Vec::new(),
            prompt_caches: PromptCaches::new(),
            evaluations: Evaluations::new(profile.vocabulary_size),
            pace: Pace::new(profile.max_stall),
            beginning: Patience::default(),
            reading: Patience::default(),
            passes: 0,
            evaluated: false,
            profile,
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
        let runs = |next| !matches!(next, Next::Wait | Next::Start);
        let has_room = || {
            self.queue().first().is_some_and(|first| {
                let bytes = self.generations[first.place].cache_bytes();
                bytes <= self.free_bytes().saturating_add(self.paused_bytes())
                    && first.kept < self.profile.max_sequences
            })
        };
        !self.evaluations.is_empty()
            || self.generations.iter().any(|generation| runs(generation.poll()))
            // Those who run may all wait for their consumers, and keep their memory meanwhile.
            || has_room()
            || self.backend.has_unsaved()
    }

    /// Those who can begin, in their order.
    fn queue(&self) -> Vec<Queued> {
        let mut queued: Vec<(usize, Rank)> = Vec::new();
        let mut preparing: Vec<Rank> = Vec::new();
        for (place, generation) in self.generations.iter().enumerate() {
            if generation.is_preparing() {
                preparing.push(generation.rank());
            } else if generation.poll() == Next::Start {
                queued.push((place, generation.rank()));
            }
        }
        let all = queued.iter().map(|(_, rank)| rank).chain(&preparing);
        let longest = all.map(|(_, number)| *number).min();
        let is_longest = |(_, number): Rank| longest == Some(number);
        let is_due = |rank: Rank| is_longest(rank) && self.beginning.is_over();
        queued.sort_by_key(|&(_, rank)| (!is_due(rank), rank));
        let of = |(place, rank): (usize, Rank)| Queued {
            place,
            // Long prompts take longer to prepare, and do not lose their turn by that.
            kept: match is_due(rank) {
                true => 0,
                false => preparing.iter().filter(|&&other| other < rank).count(),
            },
            overtakes: !is_longest(rank),
        };
        queued.into_iter().map(of).collect()
    }

    /// The bytes that are left for the caches of more generations.
    fn free_bytes(&self) -> usize {
        let with_caches = self.generations.iter().filter(|it| it.is_running());
        let taken = with_caches.map(|it| it.cache_bytes()).sum();
        self.profile.memory_bytes.unwrap_or(usize::MAX).saturating_sub(taken)
    }

    /// The bytes that those have who wait for their consumers.
    fn paused_bytes(&self) -> usize {
        self.generations.iter().filter(|it| it.is_paused()).map(|it| it.cache_bytes()).sum()
    }

    /// Frees the caches of those who wait for their consumers until there are `bytes`, if that is
    /// enough: who is not read must not keep out those who are.
    fn free(&mut self, bytes: usize) {
        if self.free_bytes().saturating_add(self.paused_bytes()) < bytes {
            return;
        }
        for place in 0..self.generations.len() {
            if self.free_bytes() >= bytes {
                return;
            }
            let generation = &mut self.generations[place];
            if generation.is_paused() {
                generation.put_aside(&self.backend);
            }
        }
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
            Message::Prepared { id, prepared, inbox } => {
                // One that was aborted meanwhile is gone.
                let Some(generation) = self.generations.iter_mut().find(|it| it.id() == id) else {
                    return ControlFlow::Continue(());
                };
                match generation.fetch(&prepared, &self.backend) {
                    Some(fetch) => read_from_disk(id, prepared, inbox, fetch),
                    None => generation.queue(*prepared, &self.backend, &self.profile),
                }
            }
            Message::Evaluate(evaluation) => {
                let vocabulary = self.profile.vocabulary_size;
                self.evaluations.begin(evaluation, &self.backend, vocabulary);
            }
            Message::PromptCache(id, request) => {
                self.end_aborted();
                self.prompt_caches.serve(&self.backend, id, request);
            }
            Message::Adapter(id, AdapterRequest::Load(path, reply)) => {
                reply.send(self.backend.load_adapter(id, &path));
            }
            Message::Adapter(id, AdapterRequest::Drop) => self.backend.drop_adapter(id),
            Message::ClearPrefixes(reply) => {
                self.end_aborted();
                self.backend.clear_prefixes(Box::new(|| reply.send(Ok(()))));
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

    fn turn(&mut self) {
        self.end_aborted();
        self.admit();
        self.read();
        self.decode();
        self.remove_ended();
        self.backend.save_next();
    }

    /// Saves what the next model of these files may begin with.
    pub fn finish(&mut self) {
        self.backend.finish();
    }

    fn count(&self, next: &[Next]) -> usize {
        self.generations.iter().filter(|generation| next.contains(&generation.poll())).count()
    }

    /// Begins the generations for which there is room.
    fn admit(&mut self) {
        let running = self.count(&[Next::Prefill, Next::Decode]);
        let mut room = self.profile.max_sequences.saturating_sub(running);
        let mut waits = vec![false; self.generations.len()];
        let mut queue = self.queue().into_iter();
        while let Some(Queued { place, kept, overtakes }) = queue.find(|it| !waits[it.place]) {
            if room <= kept {
                return;
            }
            self.free(self.generations[place].cache_bytes());
            let free = self.free_bytes();
            let (before, rest) = self.generations.split_at_mut(place);
            let Some((generation, after)) = rest.split_first_mut() else { return };
            if generation.cache_bytes() > free {
                // Who comes later does not overtake, so that large ones have their turn, too.
                return;
            }
            waits[place] = generation.waits_for(before.iter_mut().chain(after), &self.backend);
            if !waits[place] {
                generation.start(&self.backend, &self.profile);
                self.beginning.note(overtakes);
                room -= 1;
                queue = self.queue().into_iter();
            }
        }
    }

    /// Ends the generations whose consumers asked for that.
    fn end_aborted(&mut self) {
        self.evaluations.end_aborted();
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

    /// Reads one chunk: of prompts, or of an evaluation.
    fn read(&mut self) {
        let decoders = self.count(&[Next::Decode]);
        let readers = self.count(&[Next::Prefill]);
        let has_prompts = readers > 0;
        let prompts_turn = has_prompts && self.evaluated;
        let evaluates = !self.evaluations.is_empty() && !prompts_turn;
        let most = match evaluates {
            true => self.evaluations.most(self.profile.prefill_chunk),
            false => self.profile.prefill_chunk,
        };
        let count = self.pace.chunk(decoders > 0, most);
        if count == 0 || !(has_prompts || evaluates) {
            return;
        }
        self.evaluated = evaluates;
        let started = Instant::now();
        let tokens = match evaluates {
            true => self.evaluations.read(&self.backend, count),
            false => self.read_prompts(count, readers == 1 && decoders == 0),
        };
        // An evaluation is one who reads.
        let readers = if evaluates { 1 } else { readers };
        self.pace.read(tokens, started.elapsed(), readers, decoders);
    }

    /// Reads up to `count` tokens of prompts, of the highest priority first, and of these of those
    /// that have waited the longest; how many were read. `alone` tells that one reads and nobody
    /// decodes.
    fn read_prompts(&mut self, count: usize, alone: bool) -> usize {
        let mut reading: Vec<&mut ActiveGeneration<B>> =
            self.generations.iter_mut().filter(|it| it.poll() == Next::Prefill).collect();
        let waited = |generation: &ActiveGeneration<B>| (generation.last_read, generation.id().0);
        let longest = reading.iter().map(|it| waited(it)).min();
        let any = self.reading.is_over();
        reading.sort_by_key(|it| ((!any).then(|| it.rank().0), waited(it)));
        let started = Instant::now();
        let mut sequences: Vec<&mut B::Sequence> =
            reading.iter_mut().filter_map(|generation| generation.reading()).collect();
        let Reading { progress, tokens } = self.backend.prefill(&mut sequences, count, alone);
        self.passes += 1;
        let mut overtakes = true;
        for (generation, progress) in reading.into_iter().zip(progress) {
            let before = waited(generation);
            if generation.read(progress, started, &self.backend) {
                generation.last_read = self.passes;
                overtakes &= longest != Some(before);
            }
        }
        self.reading.note(overtakes);
        tokens
    }

    /// One token for every sequence that can take one.
    fn decode(&mut self) {
        let started = Instant::now();
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
        self.pace.decoded(started.elapsed());
    }
}

/// Sends a prompt once more, with what files know of its beginning. Disks may be slow, and other
/// generations go on.
fn read_from_disk(
    id: GenerationId,
    mut prepared: Box<Result<Prepared>>,
    inbox: Sender<Message>,
    fetch: PrefixFetch,
) {
    pool::FILES.run(move |started| {
        if let Ok(prepared) = &mut *prepared {
            let has_thread = started.is_ok();
            prepared.restored = if has_thread { fetch.run() } else { None };
            // Another file may serve in place of one that was of no use.
            prepared.may_fetch = has_thread && prepared.restored.is_none();
        }
        let again = Message::Prepared { id, prepared, inbox: inbox.clone() };
        // An engine that has ended has told the consumer.
        let _ = inbox.send(again);
        None
    });
}

//! The handles on a loaded model and its generations, for any thread.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak, mpsc};
use std::time::Instant;

use super::backend::PromptCacheSize;
use super::evaluation::Evaluation;
use super::pool;
use super::profile::{Prepared, Profile};
use super::prompt_caches::{PromptCacheId, PromptCacheRequest};
use super::request::{Batch, GenerateRequest, Prompt, PromptEncoding};
use super::running::GenerationId;
use super::scheduler::Message;
use super::status::{Callback, Reply, Status};
use super::stream::{Producer, Stream};
use crate::cache::CacheLimits;
use crate::cache::file::OpenFile;
use crate::error::{Error, Result};
use crate::mlx::DeviceKind;
use crate::models;

/// The line to one engine's thread, from the beginning of its load. When the last handle is gone
/// the engine gives everything back.
pub struct Engine {
    inbox: Sender<Message>,
    status: Arc<Status>,
    load_aborted: Arc<AtomicBool>,
    next_generation: AtomicU64,
}

impl Engine {
    pub(super) fn new(
        inbox: Sender<Message>,
        status: Arc<Status>,
        load_aborted: Arc<AtomicBool>,
    ) -> Self {
        Self { inbox, status, load_aborted, next_generation: AtomicU64::new(0) }
    }

    /// Aborts the load, if it has not ended: it then fails with [`Error::Aborted`].
    pub fn abort_load(&self) {
        self.load_aborted.store(true, Ordering::Relaxed);
    }

    /// Ends a load, or everything that the model does, with [`Error::Disposed`], and gives its
    /// memory back. Returns at once; [`Engine::status`] tells when that is done.
    pub fn dispose(&self) {
        self.status.refuse(Error::Disposed);
        self.abort_load();
        // An engine that has ended has no inbox, and needs no message.
        let _ = self.inbox.send(Message::Dispose);
    }

    /// Sends a message. An engine that has ended drops it, and with it a reply, which tells the
    /// caller.
    pub(super) fn send(&self, message: Message) {
        let _ = self.inbox.send(message);
    }

    fn send_prepared(&self, id: GenerationId, prepared: Result<Prepared>) {
        // As for the generation itself, which was sent before.
        let inbox = self.inbox.clone();
        let _ = self.inbox.send(Message::Prepared { id, prepared: Box::new(prepared), inbox });
    }

    /// Whether it still serves.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }
}

/// What is known of a loaded model.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// What its checkpoint says.
    pub model: models::Info,
    /// Where it runs.
    pub device: DeviceKind,
    /// Its folder.
    pub path: PathBuf,
    /// How many generations run at the same time, at most.
    pub max_sequences: usize,
    /// Whether it takes and gives text.
    pub has_tokenizer: bool,
    /// Whether it takes messages.
    pub has_chat_template: bool,
    /// The tokens that end its texts.
    pub end_tokens: Vec<u32>,
}

/// A loaded model. Its arrays live on the engine's thread, which this is a handle on.
#[derive(Clone)]
pub struct Model {
    engine: Arc<Engine>,
    info: Arc<ModelInfo>,
    /// The engine holds it, so that tokenizers, which are large, end with the engine and not with
    /// the last handle, which may wait long for a garbage collector.
    profile: Weak<Profile>,
}

impl Model {
    pub(super) fn new(engine: Arc<Engine>, info: ModelInfo, profile: &Arc<Profile>) -> Self {
        Self { engine, info: Arc::new(info), profile: Arc::downgrade(profile) }
    }

    /// What is known of it.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The line to its engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Begins a generation. What goes wrong later, a model that was disposed of included, is told
    /// by [`Generation::next`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for options that contradict each other.
    pub fn generate(&self, request: GenerateRequest) -> Result<Generation> {
        request.check()?;
        let id = GenerationId(self.engine.next_generation.fetch_add(1, Ordering::Relaxed));
        let stream = Arc::new(Stream::default());
        let producer = Producer::new(Arc::clone(&stream), Arc::clone(&self.engine.status));
        let (request, requested) = (Arc::new(request), Instant::now());
        let message = Message::Generate { id, producer, request: Arc::clone(&request), requested };
        // An engine that has ended drops the message, and with it the producer, which tells the
        // consumer.
        let _ = self.engine.inbox.send(message);
        self.prepare(id, request, Arc::clone(&stream));
        Ok(Generation { stream, engine: Arc::clone(&self.engine) })
    }

    /// Makes tokens of a generation's prompt, and sends them after it.
    fn prepare(&self, id: GenerationId, request: Arc<GenerateRequest>, stream: Arc<Stream>) {
        // Without a profile the engine has ended, and has told the consumer.
        let Ok(profile) = self.profile() else { return };
        // Nothing slow is to be done, unless there is something to compile, or a template to try.
        let options = &request.options;
        let is_quick = matches!(request.prompt, Prompt::Tokens(_))
            && request.response_format.is_none()
            && options.banned_strings.is_empty()
            && options.dry_strength().is_none()
            && profile.prefix_store.is_none()
            && profile.text.knows_formats();
        if is_quick {
            return self.engine.send_prepared(id, profile.prepare(&request));
        }
        // Whoever prepares must not keep an engine alive that everyone has forgotten.
        let engine = Arc::downgrade(&self.engine);
        let callback: Callback<Prepared> = Box::new(move |prepared| {
            if let Some(engine) = engine.upgrade() {
                engine.send_prepared(id, prepared);
            }
        });
        pool::TEXTS.call(callback, move || match stream.is_aborted() {
            true => Err(Error::Aborted("the generation was aborted".to_owned())),
            false => profile.prepare(&request),
        });
    }

    /// An empty prompt cache within `limits`.
    pub fn prompt_cache(&self, limits: CacheLimits) -> HeldPromptCache {
        let cache = HeldPromptCache::new(&self.engine);
        cache.ask(PromptCacheRequest::Create(limits));
        cache
    }

    /// A prompt cache from a file, for `callback`.
    pub fn load_prompt_cache(&self, path: PathBuf, callback: Callback<HeldPromptCache>) {
        let cache = HeldPromptCache::new(&self.engine);
        let id = cache.id;
        let reply = Reply::new(
            Box::new(move |read: Result<()>| callback(read.map(|()| cache))),
            Arc::clone(&self.engine.status),
        );
        let engine = Arc::downgrade(&self.engine);
        let callback: Callback<OpenFile> = Box::new(move |file| match (file, engine.upgrade()) {
            (Ok(file), Some(engine)) => {
                let message = Message::PromptCache(id, PromptCacheRequest::Load(file, reply));
                // As in `HeldPromptCache::ask`.
                let _ = engine.inbox.send(message);
            }
            (Err(error), _) => reply.send(Err(error)),
            // Dropped unanswered, it tells the caller.
            (Ok(_), None) => drop(reply),
        });
        // Disks may be slow, and other generations go on.
        pool::FILES.call(callback, move || OpenFile::open(&path));
    }

    /// Forgets what generations have left for others that begin alike.
    pub fn clear_prefix_cache(&self, callback: Callback<()>) {
        let reply = Reply::new(callback, Arc::clone(&self.engine.status));
        self.engine.send(Message::ClearPrefixes(reply));
    }

    /// The logits after each of `tokens`: as many rows, each as wide as the vocabulary.
    pub fn logits(&self, tokens: Vec<u32>, callback: Callback<Vec<f32>>) {
        let checked = self.profile().and_then(|it| {
            it.check_writes()?;
            it.check_tokens("tokens", &tokens)?;
            it.check_rows(&tokens)
        });
        if let Err(error) = checked {
            return callback(Err(error));
        }
        let reply = Reply::new(callback, Arc::clone(&self.engine.status));
        self.engine.send(Message::Evaluate(Evaluation::Logits(tokens, reply)));
    }

    /// The tokens of `prompt`, as a generation would read them.
    pub fn tokenize(&self, prompt: Prompt, encoding: PromptEncoding, callback: Callback<Vec<u32>>) {
        self.with_text(callback, move |profile| profile.text.tokens(&prompt, encoding));
    }

    /// The number of the tokens of `prompt`.
    pub fn count_tokens(
        &self,
        prompt: Prompt,
        encoding: PromptEncoding,
        callback: Callback<usize>,
    ) {
        self.with_text(callback, move |profile| Ok(profile.text.tokens(&prompt, encoding)?.len()));
    }

    /// The text of `tokens`, special tokens left out, if wanted.
    pub fn detokenize(
        &self,
        tokens: Vec<u32>,
        skip_special_tokens: bool,
        callback: Callback<String>,
    ) {
        self.with_text(callback, move |profile| {
            let tokenizer = profile.text.tokenizer()?;
            profile.check_readable(&tokens, tokenizer)?;
            tokenizer.decode(&tokens, skip_special_tokens)
        });
    }

    /// The conversation as the chat template writes it. `messages` and `options` are JSON.
    pub fn apply_chat_template(
        &self,
        messages: String,
        options: String,
        callback: Callback<String>,
    ) {
        self.with_text(callback, move |profile| profile.text.render(&messages, &options));
    }

    /// Ends everything, and calls `done` when the memory has been given back.
    pub fn dispose(&self, done: Callback<()>) {
        self.engine.dispose();
        self.engine.status.when_ended(done);
    }

    /// Runs `work` on a thread for texts, whatever the engine does.
    pub(super) fn with_text<T: Send + 'static>(
        &self,
        callback: Callback<T>,
        work: impl FnOnce(&Profile) -> Result<T> + Send + 'static,
    ) {
        match self.profile() {
            Ok(profile) => pool::TEXTS.call(callback, move || work(&profile)),
            Err(error) => callback(Err(error)),
        }
    }

    /// Its text side, limits and defaults, while its engine serves.
    pub(super) fn profile(&self) -> Result<Arc<Profile>> {
        match (self.engine.status.refusal(), self.profile.upgrade()) {
            (None, Some(profile)) => Ok(profile),
            (Some(error), _) => Err(error),
            (None, None) => Err(self.engine.status.reason()),
        }
    }
}

/// A prompt cache, for its owner. Dropping it forgets it.
pub struct HeldPromptCache {
    id: PromptCacheId,
    engine: Arc<Engine>,
}

impl HeldPromptCache {
    fn new(engine: &Arc<Engine>) -> Self {
        Self { id: PromptCacheId::next(), engine: Arc::clone(engine) }
    }

    /// Its number, for requests to the same model.
    pub fn id(&self) -> PromptCacheId {
        self.id
    }

    /// Writes it to a file.
    pub fn save(&self, path: PathBuf, callback: Callback<()>) {
        self.ask(PromptCacheRequest::Save(path, self.reply(callback)));
    }

    /// Forgets it before it is dropped.
    pub fn forget(&self) {
        self.ask(PromptCacheRequest::Drop);
    }

    /// How much it holds.
    pub fn size(&self, callback: Callback<PromptCacheSize>) {
        self.ask(PromptCacheRequest::Measure(self.reply(callback)));
    }

    fn reply<T>(&self, callback: Callback<T>) -> Reply<T> {
        Reply::new(callback, Arc::clone(&self.engine.status))
    }

    fn ask(&self, request: PromptCacheRequest) {
        // An engine that has ended drops the message, and with it the reply, which tells the
        // caller.
        let _ = self.engine.inbox.send(Message::PromptCache(self.id, request));
    }
}

impl Drop for HeldPromptCache {
    fn drop(&mut self) {
        self.forget();
    }
}

/// A generation, for its consumer. Dropping it aborts it.
pub struct Generation {
    stream: Arc<Stream>,
    engine: Arc<Engine>,
}

impl Generation {
    /// Calls `callback` with everything that was made since the last call, as soon as that is
    /// anything. After the end every call is answered with the end again.
    pub fn next(&self, callback: Callback<Batch>) {
        if self.stream.pull(callback) {
            self.wake();
        }
    }

    /// Like [`Generation::next`], but waits. Not for an engine's own thread.
    pub fn wait_next(&self) -> Result<Batch> {
        let (sender, receiver) = mpsc::channel();
        self.next(Box::new(move |batch| {
            // The receiver waits below.
            let _ = sender.send(batch);
        }));
        receiver.recv().unwrap_or_else(|_| Err(self.engine.status.reason()))
    }

    /// Ends the generation within one token, or one chunk of its prompt. May be called again.
    pub fn abort(&self) {
        if self.stream.abort() {
            self.wake();
        }
    }

    fn wake(&self) {
        // An engine that has ended has nothing to wake for.
        let _ = self.engine.inbox.send(Message::Wake);
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.abort();
    }
}

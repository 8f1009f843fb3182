//! One sequence: its tokens, caches, and how it chooses.

use super::choice::{Choice, Chooser, ReadChoice, TokenOutput};
use super::dry::IsBreaker;
use super::options::GenerationOptions;
use super::origin::Origin;
use super::processors::Processors;
use super::prompt_cache::PromptCache;
use super::sampler::Sampler;
use super::speculation::head::{HeadSequence, StepStates};
use super::speculation::{Speculated, Speculation, SpeculationOptions, Trial};
use super::token_mask::{EndTokens, TokenMask, masked};
use crate::cache::{Cache, CacheLimits, CachePart};
use crate::error::{Error, Result};
use crate::fused::sampling::RowDraw;
use crate::mlx::primitive::Failure;
use crate::mlx::{self, Array};
use crate::models::LanguageModel;
use crate::nn::StepRow;

/// How a sequence is generated.
pub struct SequenceOptions {
    /// What was asked for, with the model's defaults.
    pub generation: GenerationOptions,
    /// Prompt tokens that are processed at once, above 0.
    pub prefill_chunk: usize,
    /// Tokens that XTC never leaves out.
    pub xtc_special_tokens: Vec<u32>,
    /// Tokens that end the answer, which are not drawn before its least length.
    pub end_tokens: Vec<u32>,
    /// Which tokens repetitions are not followed across.
    pub is_breaker: Option<IsBreaker>,
    /// What limits its tokens.
    pub mask: Option<Box<dyn TokenMask>>,
    /// How it speculates, if it does. One that is deterministic does not.
    pub speculation: Option<SpeculationOptions>,
}

impl SequenceOptions {
    /// With nothing but what was asked for.
    pub fn new(generation: GenerationOptions, prefill_chunk: usize) -> Self {
        Self {
            generation,
            prefill_chunk,
            xtc_special_tokens: Vec::new(),
            end_tokens: Vec::new(),
            is_breaker: None,
            mask: None,
            speculation: None,
        }
    }
}

/// How far the prompt has been processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefill {
    /// Tokens processed.
    pub processed: usize,
    /// Tokens of the prompt.
    pub total: usize,
    /// Whether tokens are next.
    pub done: bool,
}

/// A step that runs on the device.
#[derive(Debug)]
pub(super) struct Pending {
    pub choice: Choice,
    /// The drafted tokens behind the one that it was to read.
    pub trial: Option<Trial>,
    /// The hidden states of these, where the model's own head reads them.
    pub states: Option<StepStates>,
    /// Collects what fails in it.
    pub failure: Failure,
    /// Whether the step has other rows, too, or drafts: what fails may succeed without these.
    pub is_shared: bool,
    /// Whether it was waited for.
    pub is_computed: bool,
}

impl Pending {
    /// What is to be computed.
    pub fn outputs(&self) -> impl Iterator<Item = &Array> {
        let behind = self.trial.iter().flat_map(|trial| &trial.choices);
        let states = self.states.iter().map(|step| &step.states);
        std::iter::once(&self.choice).chain(behind).flat_map(Choice::outputs).chain(states)
    }
}

/// What a step reads of a sequence.
pub(super) struct StepInput {
    pub tokens: InputTokens,
    pub row: StepRow,
    /// The drafted ones among the tokens.
    pub trial: Option<Trial>,
}

/// The tokens that a step reads of a sequence.
pub(super) enum InputTokens {
    /// `[length]`.
    Known(Array),
    /// The one that the step before chooses.
    Chosen(Choice),
}

impl InputTokens {
    /// The choice, if it is one.
    pub fn choice(&self) -> Option<&Choice> {
        match self {
            Self::Known(_) => None,
            Self::Chosen(choice) => Some(choice),
        }
    }

    /// `[length]`.
    pub fn array(&self) -> Result<Array> {
        match self {
            Self::Known(tokens) => Ok(tokens.clone()),
            Self::Chosen(choice) => choice.token(),
        }
    }
}

/// A sequence that is being generated.
#[derive(Debug)]
pub struct Sequence {
    /// The prompt, and the answer as far as it was read.
    pub(super) tokens: Vec<u32>,
    prompt_tokens: usize,
    /// How many of the tokens are in the caches, or about to be.
    pub(super) processed: usize,
    /// How many of the prompt's first tokens were in the caches from the beginning.
    cached: usize,
    /// Lengths, in their order, at which its caches are wanted: no chunk of the prompt goes beyond
    /// the next of them.
    stops: Vec<usize>,
    /// Whether others are to go on from its state at stops, and before its prompt's last token.
    leaves_state: bool,
    /// That before the last token, with its length, where the pass over the prompt went beyond it.
    left_behind: Option<(usize, Vec<Cache>)>,
    /// Whether nothing else is in the caches.
    knows_tokens: bool,
    pub(super) caches: Vec<Cache>,
    /// What can be said of the caches.
    state: CacheState,
    /// What the prompt cache was that it goes on from, if that was lent.
    origin: Option<Origin>,
    pub(super) chooser: Chooser,
    /// What its caches may take.
    pub(super) limits: CacheLimits,
    prefill_chunk: usize,
    max_tokens: u64,
    /// Whether its steps have no other rows, so that no rounding depends on who else runs.
    deterministic: bool,
    mask: Option<Box<dyn TokenMask>>,
    end_tokens: EndTokens,
    pub(super) speculation: Option<Box<Speculation>>,
    /// The step that runs on the device while the host reads the one before.
    pub(super) pending: Option<Pending>,
    /// Choices queued.
    pub(super) queued: u64,
    /// Whether a step that it shared failed, and none that it did not share has succeeded since.
    is_suspect: bool,
    /// Why there are no more tokens.
    ended: Option<Error>,
}

/// What can be said of a sequence's caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CacheState {
    /// They hold what was read.
    Sound,
    /// The positions that the sequence added are wrong, those before are as they were.
    WrongEnd,
    /// They may hold anything.
    Unknown,
}

impl Sequence {
    /// A sequence that begins with `prompt`, of which `cache` may hold a part.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an empty prompt, a token beyond the vocabulary or an option
    /// out of range.
    pub fn new(
        model: &dyn LanguageModel,
        prompt: Vec<u32>,
        options: SequenceOptions,
        mut cache: Option<PromptCache>,
    ) -> Result<Self> {
        Self::begin(model, prompt, options, &mut cache, false)
    }

    /// The same with a prompt cache that is lent: it is taken only if this succeeds, and a failure
    /// later on brings it back as it was, see [`Sequence::into_prompt_cache`].
    pub fn resume(
        model: &dyn LanguageModel,
        prompt: Vec<u32>,
        options: SequenceOptions,
        cache: &mut Option<PromptCache>,
    ) -> Result<Self> {
        Self::begin(model, prompt, options, cache, true)
    }

    fn begin(
        model: &dyn LanguageModel,
        prompt: Vec<u32>,
        options: SequenceOptions,
        cache: &mut Option<PromptCache>,
        is_lent: bool,
    ) -> Result<Self> {
        let (vocabulary, device) = (model.vocabulary(), model.device());
        if prompt.is_empty() {
            return Err(Error::argument("prompt", "is empty: there is no token to go on from"));
        }
        if let Some(token) = prompt.iter().find(|&&token| token as usize >= vocabulary) {
            let message = format!("token {token} is beyond the model's vocabulary of {vocabulary}");
            return Err(Error::argument("prompt", message));
        }
        let SequenceOptions {
            generation,
            prefill_chunk,
            xtc_special_tokens,
            end_tokens,
            is_breaker,
            mask,
            speculation,
        } = options;
        if let Some(&(token, _)) =
            generation.logit_bias.iter().find(|(token, _)| *token as usize >= vocabulary)
        {
            let message = format!("token {token} is beyond the vocabulary of {vocabulary}");
            return Err(Error::argument("logitBias", message));
        }
        // All that can be refused comes before the cache is touched.
        let sampling = generation.sampling(xtc_special_tokens);
        let sampler = Sampler::new(sampling, generation.seed.unwrap_or_default(), device)
            .with_mirostat(generation.mirostat());
        let processors = Processors::new(generation.penalties(), &prompt, device);
        let limits = match &cache {
            Some(cache) => cache.limits(),
            None => generation.cache_limits(),
        };
        let origin = cache.as_ref().filter(|_| is_lent).map(|cache| Origin::of(cache, &prompt));
        let origin = origin.transpose()?;
        let cache = cache.take().unwrap_or_else(|| PromptCache::new(model, limits));
        let max_tokens = generation.max_tokens.map_or(u64::MAX, |count| count as u64);
        let (caches, cached_tokens, cached) = cache.begin(model, &prompt, max_tokens);
        let end_tokens: Vec<u32> =
            end_tokens.into_iter().filter(|&it| (it as usize) < vocabulary).collect();
        // Where it is not known what is in the caches, what is lost cannot be read again.
        let speculates = cached_tokens.is_some() && !generation.deterministic;
        let speculates = speculates && (speculation.is_some() || mask.is_some());
        let head = || Some(HeadSequence::new(model.multi_token_predictor()?, &limits));
        let speculation = speculates.then(|| {
            let speculation = Speculation::new(speculation, end_tokens.clone(), vocabulary);
            Box::new(speculation.with_head(head))
        });
        Ok(Self {
            prompt_tokens: prompt.len(),
            tokens: prompt,
            processed: cached,
            cached,
            stops: Vec::new(),
            leaves_state: false,
            left_behind: None,
            knows_tokens: cached_tokens.is_some(),
            caches,
            state: CacheState::Sound,
            origin,
            chooser: Chooser {
                sampler,
                processors,
                dry: generation.dry(is_breaker),
                logprobs: generation.logprobs,
                device,
            },
            end_tokens: EndTokens::new(end_tokens, generation.min_tokens.unwrap_or_default()),
            limits,
            prefill_chunk: prefill_chunk.max(1),
            max_tokens,
            deterministic: generation.deterministic,
            mask,
            speculation,
            pending: None,
            queued: 0,
            is_suspect: false,
            ended: None,
        })
    }

    /// How far its prompt has been processed.
    pub fn progress(&self) -> Prefill {
        Prefill {
            processed: self.processed,
            total: self.tokens.len(),
            done: self.pending.is_some() || self.processed + 1 == self.tokens.len(),
        }
    }

    /// How many tokens are to be processed at once, of at most `most`: no more than there are before
    /// the next stop, and not the last one, which is left to the first step, unless the first token
    /// `can_follow` in the same pass.
    pub(super) fn next_chunk(&self, most: usize, can_follow: bool) -> usize {
        let last = match can_follow && self.may_choose_at_once() {
            true => self.tokens.len(),
            false => self.tokens.len() - 1,
        };
        let stop = self.stops.iter().copied().find(|&stop| stop > self.processed);
        most.min(last.min(stop.unwrap_or(last)).saturating_sub(self.processed))
    }

    /// The next tokens to be processed.
    pub(super) fn next_tokens(&self, count: usize) -> &[u32] {
        &self.tokens[self.processed..self.processed + count]
    }

    /// Whether the first token may be chosen in the pass that reads the end of the prompt, which
    /// saves a step. Not where the state before the last token is kept for whoever asks again; a
    /// caller's own prompt cache goes on from the end.
    fn may_choose_at_once(&self) -> bool {
        self.may_choose_behind_prompt() && !self.leaves_state
    }

    /// Whether the first token may be chosen before anybody looks at what came of the prompt. Not
    /// where something is drafted, or where it is to be found out who fails.
    fn may_choose_behind_prompt(&self) -> bool {
        self.tokens.len() == self.prompt_tokens && self.speculation.is_none() && !self.is_suspect
    }

    /// Whether its first step may be queued behind a pass over its next `count` tokens without
    /// waiting for that pass: the device reads while the step is built.
    pub(super) fn may_step_behind(&self, count: usize) -> bool {
        self.may_choose_behind_prompt() && self.ends_with(count + 1)
    }

    /// Keeps its state for others, in front of its prompt's last token; gives the arrays of it,
    /// which are yet to be computed.
    pub(super) fn leave_behind(&mut self) -> Result<Vec<Array>> {
        if !self.leaves_state {
            return Ok(Vec::new());
        }
        let state = CachePart::copy_state(&self.caches)?;
        let arrays = state.iter().flat_map(Cache::arrays).cloned().collect();
        self.left_behind = Some((self.prompt_tokens - 1, state));
        Ok(arrays)
    }

    /// Whether the next `count` tokens are the last ones, behind which the first token is chosen.
    pub(super) fn ends_with(&self, count: usize) -> bool {
        self.processed + count == self.tokens.len()
    }

    /// Lets it keep its state at stops, and before the last token of its prompt, for others.
    pub fn leave_state(&mut self) {
        self.leaves_state = true;
    }

    /// Lets a chunk of its prompt end at `length`.
    pub(super) fn stop_at(&mut self, length: usize) {
        if let Err(place) = self.stops.binary_search(&length) {
            self.stops.insert(place, length);
        }
    }

    /// Its state at the stop that it has come to, which others are to go on from, with the tokens
    /// that lead up to it: the prompt without its last token is one. `None` where it is at none, or
    /// if something fails.
    pub(super) fn take_state(&mut self) -> Option<(&[u32], Vec<Cache>)> {
        let left_behind = self.left_behind.take();
        if !self.leaves_state || !self.knows_tokens || !self.is_sound() {
            return None;
        }
        let is_at_stop = self.pending.is_none()
            && (self.processed + 1 == self.tokens.len() || self.stops.contains(&self.processed));
        let (length, state) = match left_behind {
            Some(left_behind) => left_behind,
            None if is_at_stop => (self.processed, self.copy_state()?),
            None => return None,
        };
        Some((&self.tokens[..length], state))
    }

    /// The tokens in the caches; `None` where more may be in them, or something else.
    pub(super) fn tokens_in_caches(&self) -> Option<&[u32]> {
        let count = self.processed.min(self.tokens.len());
        (self.knows_tokens && self.state == CacheState::Sound).then(|| &self.tokens[..count])
    }

    /// The prompt, and the answer as far as it was read.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// A copy of the first `length` positions of its caches; `None` if something fails, which the
    /// sequence then hears of, too.
    pub(super) fn copy_positions(&self, length: usize) -> Option<Vec<Cache>> {
        let copied = CachePart::copy_positions(&self.caches, i32::try_from(length).ok()?);
        let failure = self.pending.as_ref().map(|pending| &pending.failure);
        if let Err(error) = &copied {
            // MLX has told it, and would tell whoever waits next.
            let _ = mlx::settle();
            if let Some(failure) = failure {
                failure.report(error.to_string());
            }
        }
        let is_sound = failure.is_none_or(|failure| failure.check().is_ok());
        copied.ok().filter(|_| is_sound)
    }

    /// Its state as it is now; `None` if something fails.
    fn copy_state(&self) -> Option<Vec<Cache>> {
        let copied = CachePart::copy_state(&self.caches).and_then(Cache::evaluated);
        if copied.is_err() {
            // MLX would tell whoever waits next.
            let _ = mlx::settle();
        }
        copied.ok()
    }

    /// How many tokens it reads at once by itself.
    pub(super) fn chunk_size(&self) -> usize {
        self.prefill_chunk
    }

    /// Takes the end of a pass that processed `count` more tokens.
    pub(super) fn processed_chunk(&mut self, count: usize, failure: &Failure) -> Result<()> {
        failure.check().inspect_err(|_| self.state = CacheState::WrongEnd)?;
        self.processed += count;
        self.is_suspect = false;
        Ok(())
    }

    /// How many of the prompt's tokens were there already.
    pub fn cached_tokens(&self) -> usize {
        self.cached
    }

    /// The caches, for measuring.
    pub fn caches(&self) -> &[Cache] {
        &self.caches
    }

    /// Whether a step may have other rows, too.
    pub(super) fn shares_steps(&self) -> bool {
        !self.deterministic && !self.is_suspect
    }

    /// Whether a step is to follow the one in flight, if there is one. The first token is there when
    /// its prompt is read, and does not wait for a step to be queued behind it.
    pub(super) fn goes_on(&self) -> bool {
        let follows = |pending: &Pending| !pending.is_computed && self.queued < self.max_tokens;
        self.ended.is_none() && self.pending.as_ref().is_none_or(follows)
    }

    /// How many more tokens it will be asked for, after those that were queued.
    pub(super) fn left(&self) -> usize {
        self.max_tokens.saturating_sub(self.queued).try_into().unwrap_or(usize::MAX)
    }

    /// Whether its caches hold what was read.
    pub(super) fn is_sound(&self) -> bool {
        self.state == CacheState::Sound
    }

    /// Whether there are no more tokens, because of an error.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// What the next step reads; the positions count as read.
    ///
    /// # Panics
    /// If the prompt has not been processed.
    pub(super) fn next_input(&mut self) -> StepInput {
        let tokens = match &self.pending {
            Some(pending) => InputTokens::Chosen(pending.choice.clone()),
            None if self.speculation.is_some() => return self.certain_and_drafted(),
            None => {
                assert!(self.processed + 1 == self.tokens.len(), "prefill comes before step");
                InputTokens::Known(mlx::from_u32(&self.tokens[self.processed..], &[1]))
            }
        };
        self.processed += 1;
        StepInput { tokens, row: StepRow { length: 1, logits: 1 }, trial: None }
    }

    /// The prompt's tokens, and those of the answer that were read.
    pub(super) fn tokens_read(&self) -> usize {
        self.tokens.len()
    }

    /// The caches, for a step to write to.
    pub(super) fn caches_mut(&mut self) -> &mut [Cache] {
        &mut self.caches
    }

    /// What limits its tokens.
    pub(super) fn mask(&self) -> Option<&dyn TokenMask> {
        self.mask.as_deref()
    }

    /// Whether its choice waits for the token before.
    pub(super) fn waits_for_token(&self) -> bool {
        self.mask.is_some() || self.chooser.waits()
    }

    /// How its next `count` tokens are drawn, if nothing but their logits decides.
    pub(super) fn plain_rows(&self, count: i32) -> Option<Vec<RowDraw<'_>>> {
        let first = self.queued;
        if self.mask.is_some() || self.end_tokens.are_early(first) {
            return None;
        }
        (first..first + count as u64).map(|index| self.chooser.plain_row(index)).collect()
    }

    /// Takes choices that were made by [`Sequence::plain_rows`].
    pub(super) fn count_choices(&mut self, count: i32) {
        self.queued += count as u64;
    }

    /// Chooses the next token by logits `[1, vocabulary]`.
    pub(super) fn choose(&mut self, logits: &Array) -> Result<Choice> {
        let (mask, ends, index) = (&mut self.mask, &self.end_tokens, self.queued);
        let choice = self.chooser.choose(logits, index, &self.tokens, |logits| {
            let allowed = mask.as_mut().map(|mask| mask.allowed()).transpose()?.flatten();
            let logits = match allowed {
                Some(allowed) => masked(&logits, allowed)?,
                None => logits,
            };
            ends.left_out(logits, index, allowed)
        })?;
        self.queued += 1;
        Ok(choice)
    }

    /// Takes the step that runs on the device from now on.
    pub(super) fn set_pending(&mut self, pending: Pending) {
        self.pending = Some(pending);
    }

    /// The step in flight, whose turn it is to be read; or the error that ended the sequence.
    pub(super) fn take_pending(&mut self) -> Result<Option<Pending>> {
        match self.ended.take() {
            Some(error) => Err(error),
            None => Ok(self.pending.take()),
        }
    }

    /// Takes a token that a step has chosen.
    pub(super) fn read(&mut self, choice: &Choice, failure: &Failure) -> Result<TokenOutput> {
        let read = choice.read();
        let failed = failure.check();
        if failed.is_err() {
            // What kernels update keeps what it held.
            self.state = CacheState::WrongEnd;
        }
        failed?;
        let ReadChoice { output, largest_logit, surprise } = read?;
        let number = self.tokens.len() - self.prompt_tokens + 1;
        self.chooser.check(largest_logit, number as u64).inspect_err(|_| {
            self.state = CacheState::WrongEnd;
        })?;
        self.tokens.push(output.token);
        if let Some(surprise) = surprise {
            self.chooser.sampler.observe(surprise);
        }
        self.is_suspect = false;
        if let Some(mask) = &mut self.mask
            && let Err(error) = mask.accept(output.token)
        {
            self.end(error);
        }
        Ok(output)
    }

    /// Ends the sequence with an error after the tokens that are there.
    pub(super) fn end(&mut self, error: Error) {
        self.fail();
        self.ended = Some(error);
    }

    /// Lets an error be this sequence's alone: MLX would give it to whoever waits next, too.
    pub(super) fn settle_failure<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            if self.state == CacheState::Sound {
                self.state = CacheState::Unknown;
            }
            // It is the error at hand, or one that follows from it.
            let _ = mlx::settle();
        }
        result
    }

    /// Lets its steps have no other row up to its next token.
    pub(super) fn suspect(&mut self) {
        self.is_suspect = true;
    }

    /// Notes that its caches may hold anything.
    pub(super) fn lose_caches(&mut self) -> &mut Self {
        self.state = CacheState::Unknown;
        // As in `settle_failure`.
        let _ = mlx::settle();
        self
    }

    /// Goes back to what it was after its first `length` tokens, after a step that failed and had
    /// other rows, too, or to less, where its caches cannot. Its next steps have no other row: they
    /// show whose failure it was.
    pub(super) fn go_back(&mut self, model: &dyn LanguageModel, length: usize) {
        let limits = self.limits;
        (self.pending, self.left_behind) = (None, None);
        if let Some(speculation) = &mut self.speculation {
            speculation.forget_draft();
            speculation.forget_states();
        }
        let tokens = self.knows_tokens.then(|| self.tokens[..length].to_vec());
        let cache = PromptCache::of(std::mem::take(&mut self.caches), tokens, limits);
        let cache = match self.state {
            CacheState::Unknown => self.restored(None),
            _ if cache.goes_back(length) => cache.rewound(length),
            CacheState::Sound | CacheState::WrongEnd => self.restored(Some(&cache.into_caches())),
        };
        let cache = cache.unwrap_or_else(|| PromptCache::new(model, limits));
        (self.caches, _, self.processed) = cache.begin(model, &self.tokens, self.max_tokens);
        self.restart_choices();
        (self.state, self.is_suspect) = (CacheState::Sound, true);
    }

    /// Gives up its caches, so that its tokens are read again when it goes on; whether it can: not
    /// where nobody knows what is in them.
    pub fn put_aside(&mut self, model: &dyn LanguageModel) -> bool {
        let can = self.knows_tokens && !self.has_ended();
        if can {
            let length = self.tokens_read() - 1;
            if let Some(speculation) = &mut self.speculation {
                speculation.draft = None;
            }
            self.lose_caches().go_back(model, length);
        }
        can
    }

    /// Forgets the choices that were not read.
    pub(super) fn restart_choices(&mut self) {
        let (prompt, answer) = self.tokens.split_at(self.prompt_tokens);
        self.chooser.processors.restart(prompt, answer);
        self.chooser.sampler.rewind(answer.len());
        self.queued = answer.len() as u64;
    }

    /// What came of speculation; `None` where there was none.
    pub fn speculated(&self) -> Option<Speculated> {
        self.speculation.as_ref()?.speculated()
    }

    /// What it leaves for a sequence that begins alike. After a failure that is the prompt cache
    /// that was lent to it, as it was; without one, what it began with. Where MLX itself failed
    /// nothing may be left of either, and it is an empty one within the same limits.
    pub fn into_prompt_cache(mut self, model: &dyn LanguageModel) -> PromptCache {
        let limits = self.limits;
        let is_sound = self.finish();
        let caches = std::mem::take(&mut self.caches);
        let cache = match (self.state, &self.origin) {
            (CacheState::WrongEnd, Some(origin)) => origin.restored(Some(&caches)),
            (CacheState::Unknown, Some(origin)) => origin.restored(None),
            (CacheState::Unknown, None) => None,
            _ => {
                let tokens = self.knows_tokens.then_some(self.tokens);
                let cache = PromptCache::of(caches, tokens, limits);
                if is_sound { Some(cache) } else { cache.rewound(self.cached) }
            }
        };
        cache.unwrap_or_else(|| PromptCache::new(model, limits))
    }

    /// The lent prompt cache as it was; see [`Origin::restored`].
    fn restored(&self, caches: Option<&[Cache]>) -> Option<PromptCache> {
        self.origin.as_ref()?.restored(caches)
    }

    /// Lets it leave what it began with: who has it has failed.
    pub fn fail(&mut self) {
        if self.state == CacheState::Sound {
            self.state = CacheState::WrongEnd;
        }
    }

    /// Waits for its last step; whether all has gone well.
    pub fn finish(&mut self) -> bool {
        self.finish_step();
        self.is_sound()
    }

    /// Its caches, and the tokens that went into them; `None` after a failure.
    pub(super) fn into_caches(mut self) -> Option<(Vec<u32>, Vec<Cache>)> {
        self.finish_step();
        let arrays: Vec<&Array> = self.caches.iter().flat_map(Cache::arrays).collect();
        let evaluated = mlx::eval(&arrays);
        let is_sound = self.settle_failure(evaluated).is_ok() && self.state == CacheState::Sound;
        (is_sound && self.knows_tokens).then_some((self.tokens, self.caches))
    }

    /// Waits for the step in flight, which writes to the caches.
    fn finish_step(&mut self) {
        if let Some(Pending { failure, trial, .. }) = self.pending.take() {
            let settled = mlx::settle()
                .and_then(|()| failure.check().inspect_err(|_| self.state = CacheState::WrongEnd));
            let _ = self.settle_failure(settled);
            if let Some(trial) = trial
                && !self.take_back(trial, 0)
            {
                self.state = CacheState::Unknown;
            }
        }
        // After a failure, what was counted may not be there.
        self.tokens.truncate(self.processed);
    }
}

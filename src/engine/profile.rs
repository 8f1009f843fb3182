//! What a request is checked against, and completed by: the model's text, defaults and limits.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::banned_strings::BannedStrings;
use super::follower::{Following, follow};
use super::output_plan::OutputPlan;
use super::request::GenerateRequest;
use super::speculation::SpeculationRequest;
use super::text::{LaidOut, Text};
use crate::cache::prefix_store::PrefixStore;
use crate::constraint::Begin;
use crate::error::{Error, Result};
use crate::generate::{
    GenerationOptions, IsBreaker, RestoredPrefix, SequenceOptions, SpeculationOptions, TokenMask,
};
use crate::models::{Abilities, EmbedderInfo, GenerationDefaults};
use crate::text::{OutputParser, Tokenizer};

/// The most tokens of a generation whose request sets no limit, on a model that names no context
/// length.
const MAX_TOKENS_WITHOUT_CONTEXT: usize = 8192;

/// The most logits in one answer: the bytes of 32-bit numbers that every Node.js has arrays for.
const MAX_LOGITS: usize = (1 << 32) / size_of::<f32>();

/// A prompt as tokens, and the complete options of its request.
pub struct Prepared {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// The options.
    pub options: SequenceOptions,
    /// What tells reasoning and calls of tools from text, where they are looked for.
    pub output: Option<OutputParser>,
    /// What its tokens follow, where that is limited.
    pub following: Option<Following>,
    /// What of the options has no effect.
    pub warnings: Vec<String>,
    /// How long that took.
    pub duration: Duration,
    /// Whether files may know its beginning.
    pub may_fetch: bool,
    /// What they know of it.
    pub restored: Option<RestoredPrefix>,
}

/// What is known of a loaded model, apart from its arrays.
#[derive(Debug)]
pub struct Profile {
    /// Its tokenizer, template and end tokens.
    pub text: Text,
    /// What its `generation_config.json` says.
    pub defaults: GenerationDefaults,
    /// The number of its tokens.
    pub vocabulary_size: usize,
    /// The most tokens it can look back on, where it names a limit.
    pub context_length: Option<usize>,
    /// What it is for.
    pub abilities: Abilities,
    /// How it makes embeddings, where it makes any.
    pub embedder: Option<EmbedderInfo>,
    /// The most tokens of a text that it embeds or judges, where files limit them.
    pub max_text_tokens: Option<usize>,
    /// How many tokens of a prompt are read in one turn.
    pub prefill_chunk: usize,
    /// The same where that must not depend on who else runs.
    pub fixed_prefill_chunk: usize,
    /// How many generations run at the same time, at most.
    pub max_sequences: usize,
    /// How long a generation that makes tokens may wait for the prompt of another.
    pub max_stall: Duration,
    /// The bytes that the caches of running generations may take.
    pub memory_bytes: Option<usize>,
    /// Whether a smaller model drafts tokens.
    pub has_draft: bool,
    /// Whether it has a head of its own that does.
    pub has_prediction_head: bool,
    /// Where what sequences have read is kept on disk, if anywhere.
    pub prefix_store: Option<Arc<PrefixStore>>,
}

impl Profile {
    /// The prompt's tokens and the complete options of `request`.
    ///
    /// # Errors
    /// Those of the tokenizer and the template; [`Error::InvalidArgument`] for tokens that the
    /// model does not have; [`Error::ContextOverflow`] for a prompt that leaves no room.
    pub fn prepare(&self, request: &GenerateRequest) -> Result<Prepared> {
        let started = Instant::now();
        self.check_writes()?;
        let tool_format = request.output.tool_format.as_deref();
        let laid_out = self.text.lay_out(&request.prompt, request.encoding, tool_format)?;
        self.check_text("the prompt has", &laid_out.text.text, "shorten it")?;
        let prompt = self.text.tokens_of(&request.prompt, &laid_out)?;
        self.check_tokens("prompt", &prompt)?;
        let options = &request.options;
        if !options.stop.is_empty()
            || !options.stop_patterns.is_empty()
            || options.dry_sequence_breakers.is_some()
        {
            let _ = self.text.tokenizer()?;
        }
        if !options.stop_tokens.is_empty() {
            self.check_tokens("stopTokens", &options.stop_tokens)?;
        }
        let room = match self.context_length {
            Some(length) if prompt.len() >= length => {
                return Err(Error::overflow("the prompt has", prompt.len(), length, "shorten it"));
            }
            Some(length) => length - prompt.len(),
            None => MAX_TOKENS_WITHOUT_CONTEXT,
        };
        let mut generation = request.options.clone().or_defaults(&self.defaults);
        generation.max_tokens = match generation.max_tokens {
            Some(tokens) if self.context_length.is_none() => Some(tokens),
            Some(tokens) => Some(tokens.min(room)),
            None => Some(room),
        };
        generation.seed.get_or_insert_with(random_seed);
        let plan = self.text.output_plan(request, &prompt)?;
        let is_constrained =
            request.response_format.is_some() || request.output.required_tools.is_some();
        if is_constrained && !options.banned_strings.is_empty() {
            let message = "do not go together with a format or a tool that is required: what is \
                           left of it might have no end";
            return Err(Error::argument("bannedStrings", message));
        }
        let (mut mask, following) = self.constrain(request, &laid_out, plan.as_ref())?.unzip();
        if let Some(plan) = &plan {
            plan.check_banned(&options.banned_strings)?;
            mask = plan.limited(mask)?;
        }
        if !options.banned_strings.is_empty() {
            let tokens = self.text.sorted_tokens(self.vocabulary_size)?;
            mask = Some(Box::new(BannedStrings::new(&options.banned_strings, tokens, mask)));
        }
        let options = SequenceOptions {
            xtc_special_tokens: match generation.xtc_probability {
                Some(probability) if probability > 0.0 => self.xtc_special_tokens()?,
                _ => Vec::new(),
            },
            prefill_chunk: match generation.deterministic {
                true => self.fixed_prefill_chunk,
                false => self.prefill_chunk,
            },
            end_tokens: self.text.ends(&generation),
            is_breaker: self.breakers(&generation, &prompt),
            generation,
            mask,
            speculation: self.speculation(request)?,
        };
        let output = plan.map(|plan| plan.parser());
        let store = self.prefix_store.as_ref().filter(|_| {
            // The others are for nobody else, and have nothing of others.
            request.prompt_cache.is_none() && !request.options.deterministic
        });
        if let Some(store) = store {
            store.refresh();
        }
        Ok(Prepared {
            prompt,
            options,
            output,
            following,
            warnings: self.text.left_out(&request.prompt)?,
            duration: started.elapsed(),
            may_fetch: store.is_some(),
            restored: None,
        })
    }

    /// Refuses a text of more tokens than the context holds, as far as that is known at once.
    pub(super) fn check_text(&self, what: &str, text: &str, advice: &str) -> Result<()> {
        self.check_text_within(self.context_length, what, text, advice)
    }

    /// The same for other limits.
    pub(super) fn check_text_within(
        &self,
        limit: Option<usize>,
        what: &str,
        text: &str,
        advice: &str,
    ) -> Result<()> {
        // No token is without a byte.
        let Some(limit) = limit.filter(|&limit| text.len() > limit) else { return Ok(()) };
        match self.text.least_tokens(text) {
            least if least > limit => {
                Err(Error::overflow(&format!("{what} at least"), least, limit, advice))
            }
            _ => Ok(()),
        }
    }

    /// How a generation speculates.
    fn speculation(&self, request: &GenerateRequest) -> Result<Option<SpeculationOptions>> {
        let standard = match self.has_draft && !request.options.deterministic {
            true => SpeculationRequest::AUTO,
            false => SpeculationRequest::Off,
        };
        request.speculation.unwrap_or(standard).options(self.has_draft || self.has_prediction_head)
    }

    /// What limits the tokens of the answer, and what its generation sees of that.
    fn constrain(
        &self,
        request: &GenerateRequest,
        prompt: &LaidOut,
        plan: Option<&OutputPlan>,
    ) -> Result<Option<(Box<dyn TokenMask>, Following)>> {
        let asked = match plan {
            Some(plan) => plan.constraint(request)?,
            None => request.response_format.clone().map(|asked| (asked, Begin::Now)),
        };
        let Some((grammar, begin)) = asked else { return Ok(None) };
        let vocabulary = self.text.vocabulary(self.vocabulary_size)?;
        let mut constraint = grammar.compile(&vocabulary, &begin)?;
        let open = self.text.open_answer(request, &prompt.text.text, plan)?;
        if !open.is_empty() {
            constraint = constraint.behind(&self.text.begun(&open, request.encoding)?)?;
        }
        let (mask, mut following) = follow(&constraint)?;
        following.open = open;
        Ok(Some((mask, following)))
    }

    /// What tells the tokens that a repetition is not followed across: their texts have a breaker.
    /// Those of the prompt are looked at here, as the engine's thread has other things to do.
    fn breakers(&self, options: &GenerationOptions, prompt: &[u32]) -> Option<IsBreaker> {
        options.dry_strength()?;
        let tokenizer = Arc::clone(self.text.tokenizer().ok()?);
        let breakers = options.dry_sequence_breakers.clone();
        // llama.cpp's.
        let breakers = breakers.unwrap_or_else(|| ["\n", ":", "\"", "*"].map(str::to_owned).into());
        let is_breaker = move |token| {
            let text = tokenizer.decode(&[token], false).unwrap_or_default();
            breakers.iter().any(|breaker| text.contains(breaker))
        };
        let distinct: HashSet<u32> = prompt.iter().copied().collect();
        let known: HashMap<u32, bool> =
            distinct.into_iter().map(|token| (token, is_breaker(token))).collect();
        Some(Box::new(move |token| known.get(&token).copied().unwrap_or_else(|| is_breaker(token))))
    }

    /// As in mlx-lm: a text must be able to end, and to begin a new line.
    fn xtc_special_tokens(&self) -> Result<Vec<u32>> {
        let mut tokens = self.text.end_tokens().to_vec();
        if let Ok(tokenizer) = self.text.tokenizer() {
            tokens.extend(tokenizer.encode("\n", false)?);
        }
        Ok(tokens)
    }

    /// Refuses to write where the model embeds or judges texts alone.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    pub fn check_writes(&self) -> Result<()> {
        if self.abilities.writes {
            return Ok(());
        }
        let what = match self.abilities.labels {
            Some(_) => "judges texts (model.rerank)",
            None => "embeds texts (model.embed)",
        };
        Err(Error::Unsupported(format!("the model {what} and does not write any")))
    }

    /// Refuses more tokens than the model's context holds, and rows of logits for them that
    /// JavaScript has no array for.
    pub fn check_rows(&self, tokens: &[u32]) -> Result<()> {
        self.check_length(tokens)?;
        let most = MAX_LOGITS / self.vocabulary_size.max(1);
        if tokens.len() > most {
            let message = format!("has {} tokens: at most {most} fit one answer", tokens.len());
            return Err(Error::argument("tokens", message));
        }
        Ok(())
    }

    /// Refuses an empty list of tokens, and tokens that the model does not have.
    pub fn check_tokens(&self, option: &str, tokens: &[u32]) -> Result<()> {
        if tokens.is_empty() {
            return Err(Error::argument(option, "is empty: at least one token is needed"));
        }
        match tokens.iter().find(|&&token| token as usize >= self.vocabulary_size) {
            Some(&token) => Err(self.unknown_token(option, token)),
            None => Ok(()),
        }
    }

    /// Refuses tokens that neither the model nor its tokenizer has: either may have more.
    pub fn check_readable(&self, tokens: &[u32], tokenizer: &Tokenizer) -> Result<()> {
        let is_known = |token: u32| {
            (token as usize) < self.vocabulary_size || tokenizer.id_to_token(token).is_some()
        };
        match tokens.iter().position(|&token| !is_known(token)) {
            Some(at) => Err(self.unknown_token(&format!("tokens[{at}]"), tokens[at])),
            None => Ok(()),
        }
    }

    fn unknown_token(&self, option: &str, token: u32) -> Error {
        let size = self.vocabulary_size;
        Error::argument(option, format!("{token} is outside of the vocabulary of {size} tokens"))
    }
}

fn random_seed() -> u64 {
    // The standard library seeds each of these from the system's random numbers.
    RandomState::new().build_hasher().finish()
}

//! What can be asked of an engine, and what comes back. Plain data.

use std::path::PathBuf;
use std::sync::Arc;

use super::prompt_caches::PromptCacheId;
use super::speculation::SpeculationRequest;
use crate::adapters::AdapterId;
use crate::constraint::Grammar;
use crate::error::{Error, Result};
use crate::fused::Precision;
use crate::generate::{GenerationOptions, Speculated};
use crate::mlx::{DeviceKind, Dtype};
use crate::text::Tokenizer;

/// What to load, and how.
#[derive(Debug, Clone)]
pub struct LoadRequest {
    /// The model's folder.
    pub path: PathBuf,
    /// The device; `None` for the best one there is.
    pub device: Option<DeviceKind>,
    /// The type of the weights that are not quantized; `None` for the checkpoint's own.
    pub dtype: Option<Dtype>,
    /// How many threads may compute at the same time on the CPU; `None` for one on each physical
    /// core.
    pub threads: Option<usize>,
    /// How the CPU multiplies activations with quantized weights; `None` for [`Precision::Fast`].
    pub precision: Option<Precision>,
    /// How many generations run at the same time, at most; `None` for a number that suits the
    /// device.
    pub max_sequences: Option<usize>,
    /// How long a generation that makes tokens may wait for the prompt of another, in milliseconds;
    /// `None` for a time that suits the device.
    pub max_stall_ms: Option<u64>,
    /// The bytes that the keys, values and states of running generations may take; `None` for any.
    pub memory_bytes: Option<usize>,
    /// The most bytes that are kept of what sequences have read, for others that begin alike: 0 for
    /// none at all; `None` for a number that suits the machine.
    pub prefix_cache_bytes: Option<usize>,
    /// Where more of it is kept on disk, if anywhere.
    pub prefix_disk: Option<PrefixDisk>,
    /// The folder of a smaller model with the same tokenizer that drafts tokens.
    pub draft: Option<PathBuf>,
    /// Whether a head of the model that predicts more tokens than the next is loaded to draft, where
    /// there is no such smaller model.
    pub prediction_heads: bool,
    /// The most tokens of a prompt and its answer; `None` for as many as the model allows.
    pub context_length: Option<usize>,
}

/// A directory for what sequences have read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixDisk {
    /// Where it is.
    pub directory: PathBuf,
    /// The most bytes of all files in it.
    pub bytes: u64,
}

/// How far a load has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// What is being loaded.
    pub stage: LoadStage,
    /// The bytes of the weights that have been read.
    pub loaded_bytes: usize,
    /// All bytes of the weights.
    pub total_bytes: usize,
}

/// What is being loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadStage {
    /// The weights.
    Weights,
    /// The tokenizer, the chat template and the generation defaults.
    Tokenizer,
    /// Kernels that are compiled for the card.
    Kernels,
}

impl LoadStage {
    /// The stage's name in JavaScript.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Tokenizer => "tokenizer",
            Self::Kernels => "kernels",
        }
    }
}

/// What a generation continues.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Text as it is; see [`PromptEncoding::add_special_tokens`].
    Text(String),
    /// Tokens as they are.
    Tokens(Vec<u32>),
    /// A conversation, for the model's chat template.
    Messages {
        /// The messages, a JSON array.
        messages: String,
        /// The template's options, a JSON object.
        options: String,
    },
}

/// How a prompt becomes tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptEncoding {
    /// Whether a text gets what the tokenizer puts around one; `None` for yes, unless it begins
    /// with that already.
    pub add_special_tokens: Option<bool>,
    /// Whether control tokens that a text or a message spells out stay text.
    pub split_special_tokens: bool,
}

/// One generation.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    /// What to continue.
    pub prompt: Prompt,
    /// How it becomes tokens.
    pub encoding: PromptEncoding,
    /// How tokens are drawn, and when they end.
    pub options: GenerationOptions,
    /// What the answer must be; `None` for any text.
    pub response_format: Option<Grammar>,
    /// Whether it speculates; `None` for yes, as far as it pays, where there is a draft model.
    pub speculation: Option<SpeculationRequest>,
    /// The cache that it goes on from, and leaves what it read in.
    pub prompt_cache: Option<PromptCacheId>,
    /// How reasoning and calls of tools are told from text.
    pub output: OutputOptions,
    /// The adapter that it runs with.
    pub adapter: Option<AdapterId>,
}

/// How reasoning and calls of tools are told from an answer's text. What is `None` is found out by
/// the model's chat template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputOptions {
    /// Whether calls are read; `None` for yes where the prompt has tools or a format is named.
    pub parse_tool_calls: Option<bool>,
    /// The format of calls.
    pub tool_format: Option<String>,
    /// The format of reasoning; `"none"` leaves it in the text.
    pub reasoning_format: Option<String>,
    /// The tools of which the model must call one; `None` where it may do as it likes.
    pub required_tools: Option<Vec<String>>,
    /// Whether the answer ends with its first call.
    pub single_call: bool,
}

impl GenerateRequest {
    /// A request with nothing but a prompt.
    pub fn new(prompt: Prompt) -> Self {
        Self {
            prompt,
            encoding: PromptEncoding::default(),
            options: GenerationOptions::default(),
            response_format: None,
            speculation: None,
            prompt_cache: None,
            output: OutputOptions::default(),
            adapter: None,
        }
    }

    /// Refuses options that contradict each other.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the option's name in JavaScript.
    pub fn check(&self) -> Result<()> {
        let options = &self.options;
        let limits = [options.max_kv_size, options.kv_bits, options.kv_group_size];
        if self.prompt_cache.is_some() && limits.iter().any(Option::is_some) {
            let message = "has the limits that it was made with: leave maxKvSize and kvBits out";
            return Err(Error::argument("promptCache", message));
        }
        if self.response_format.is_some() && options.ignore_end_tokens {
            let message = "needs the tokens that end an answer, which ignoreEos takes away";
            return Err(Error::argument("responseFormat", message));
        }
        if self.output.required_tools.is_some() && options.ignore_end_tokens {
            let message = "needs the tokens that end an answer, which ignoreEos takes away";
            return Err(Error::argument("toolChoice", message));
        }
        if options.deterministic && self.speculation.is_some_and(SpeculationRequest::is_on) {
            let message = "cannot go together with deterministic: how much is drafted follows from \
                           how long steps take, and decides on the last bits of their sums";
            return Err(Error::argument("speculation", message));
        }
        let texts = [
            ("stop", Some(&options.stop)),
            ("bannedStrings", Some(&options.banned_strings)),
            ("drySequenceBreakers", options.dry_sequence_breakers.as_ref()),
        ];
        for (option, texts) in texts {
            if texts.is_some_and(|texts| texts.iter().any(String::is_empty)) {
                return Err(Error::argument(option, "must not contain an empty string"));
            }
        }
        Ok(())
    }
}

/// How far a prompt has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefillProgress {
    /// The tokens that have been read, or were cached.
    pub processed: usize,
    /// All tokens of the prompt.
    pub total: usize,
    /// The tokens that were cached: they need not be read.
    pub cached: usize,
}

/// What a generation made since the last pull.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The text that is certain: no half characters, no part of a stop string.
    pub text: String,
    /// The tokens, end tokens excluded. Their text may come later.
    pub tokens: Vec<u32>,
    /// One entry for each token, where they were asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// What text and tokens are made of, where more than text is looked for.
    pub pieces: Option<Vec<OutputPiece>>,
    /// What the model wrote, markers included, where more than text is looked for.
    pub raw_text: String,
    /// What of an answer in a format the prompt has begun, in the first batch.
    pub open_text: Option<String>,
    /// How far the prompt has been read; where that changed.
    pub prefill: Option<PrefillProgress>,
    /// How the generation ended, in the last batch.
    pub done: Option<Arc<Finished>>,
}

impl Batch {
    /// Adds what `tokens` tokens have brought.
    pub fn add(&mut self, written: Written, tokens: usize) {
        self.text.push_str(&written.text);
        let Some(contents) = written.contents else { return };
        self.raw_text.push_str(&written.raw_text);
        let pieces = self.pieces.get_or_insert_default();
        let mut tokens = tokens;
        for content in contents {
            let tokens = std::mem::take(&mut tokens);
            if let Some(last) = pieces.last_mut()
                && last.content.append(&content)
            {
                last.tokens += tokens;
            } else {
                pieces.push(OutputPiece { content, tokens });
            }
        }
        match pieces.last_mut() {
            Some(last) => last.tokens += tokens,
            None if tokens > 0 => {
                let content = match written.reasons {
                    true => OutputContent::Reasoning(String::new()),
                    false => OutputContent::Text(String::new()),
                };
                pieces.push(OutputPiece { content, tokens });
            }
            None => {}
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
            && self.pieces.is_none()
            && self.tokens.is_empty()
            && self.prefill.is_none()
            && self.done.is_none()
    }
}

/// What a token has made certain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The answer's text.
    pub text: String,
    /// All of it, where more than text is looked for.
    pub contents: Option<Vec<OutputContent>>,
    /// What the model wrote, where more than text is looked for.
    pub raw_text: String,
    /// Whether the token is part of reasoning.
    pub reasons: bool,
}

/// A piece of an answer, of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPiece {
    /// What it is.
    pub content: OutputContent,
    /// How many of the batch's tokens came with it.
    pub tokens: usize,
}

/// What a piece of an answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputContent {
    /// Text.
    Text(String),
    /// Reasoning.
    Reasoning(String),
    /// A call of a tool begins; see [`crate::text::OutputEvent`].
    CallStart {
        /// The call's number.
        index: usize,
        /// The model's id of it.
        id: Option<String>,
        /// The tool.
        name: String,
    },
    /// More of a call's arguments.
    CallDelta {
        /// The call's number.
        index: usize,
        /// A piece of the JSON.
        text: String,
    },
    /// A call is complete.
    CallEnd {
        /// The call's number.
        index: usize,
    },
    /// A call that cannot be read.
    InvalidCall {
        /// The call's number.
        index: usize,
        /// The call as the model wrote it.
        raw: String,
        /// What is wrong.
        error: String,
    },
}

impl OutputContent {
    /// Appends `next`, where both are pieces of the same.
    fn append(&mut self, next: &Self) -> bool {
        match (self, next) {
            (Self::Text(text), Self::Text(next))
            | (Self::Reasoning(text), Self::Reasoning(next)) => text.push_str(next),
            (Self::CallDelta { index, text }, Self::CallDelta { index: same, text: next })
                if index == same =>
            {
                text.push_str(next);
            }
            _ => return false,
        }
        true
    }
}

/// A token and how likely it was.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token that was chosen.
    pub chosen: Candidate,
    /// The likeliest tokens, likeliest first.
    pub top: Vec<Candidate>,
}

/// One token that could have been chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: u32,
    /// The natural logarithm of its probability, before temperature and filters.
    pub logprob: f32,
    /// Its text alone, where the model has a tokenizer.
    pub text: Option<String>,
    /// Its bytes, where they are no whole characters, so that the text does not tell them.
    pub bytes: Option<Vec<u8>>,
}

impl Candidate {
    /// What a tokenizer says of a token.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn new(tokenizer: Option<&Tokenizer>, token: u32, logprob: f32) -> Result<Self> {
        let text = tokenizer.map(|it| it.decode(&[token], false)).transpose()?;
        let is_broken = text.as_ref().is_some_and(|text| text.contains('\u{FFFD}'));
        let bytes = tokenizer.filter(|_| is_broken).and_then(|it| it.bytes_of_token(token));
        Ok(Self { token, logprob, text, bytes })
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// An end token, or what the request names.
    Stop,
    /// The most tokens, the longest time, or the end of the context.
    Length,
    /// The caller's abort.
    Abort,
}

impl FinishReason {
    /// The reason's name in JavaScript.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Abort => "abort",
        }
    }
}

/// What of a request ended its generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matched {
    /// A stop string.
    String(String),
    /// The text that a pattern matched.
    Pattern(String),
    /// A stop token.
    Token(u32),
    /// The longest time, in milliseconds.
    Time(u64),
}

/// How a generation ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Why it ended.
    pub reason: FinishReason,
    /// What of the request ended it.
    pub matched: Option<Matched>,
    /// What was asked for and is not enforced, or differently.
    pub warnings: Vec<String>,
    /// The prompt's tokens.
    pub prompt_tokens: usize,
    /// The tokens that were made, end token excluded.
    pub completion_tokens: usize,
    /// Those of them that are reasoning, its markers included.
    pub reasoning_tokens: usize,
    /// The length of what the model wrote before the stop string that was found, in units of UTF-16,
    /// where more than text is looked for.
    pub raw_length: Option<usize>,
    /// The prompt's tokens whose keys and values were already there.
    pub cached_tokens: usize,
    /// What came of speculation, where there was any.
    pub speculated: Option<Speculated>,
    /// How long it took.
    pub timings: Timings,
    /// The most memory that MLX's arrays took while it ran, in bytes.
    pub peak_memory: usize,
}

/// How long the parts of a generation took. Where others run at the same time, their turns are
/// included.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// Waiting for others before the prompt was prepared and before it was read, in milliseconds.
    pub queue_ms: f64,
    /// Making tokens of the prompt, its template included, in milliseconds.
    pub prepare_ms: f64,
    /// Reading the prompt, in milliseconds: all of it where the first token is chosen in the same
    /// pass, else without its last token.
    pub prefill_ms: Option<f64>,
    /// From the request to the first token, in milliseconds.
    pub first_token_ms: Option<f64>,
    /// The prompt's tokens through the time from the first work to the first token.
    pub prompt_tokens_per_second: Option<f64>,
    /// The tokens after the first through the time that they took.
    pub tokens_per_second: Option<f64>,
    /// From the request to the end, in milliseconds.
    pub total_ms: f64,
}

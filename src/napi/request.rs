//! The request of a generation.

use std::collections::HashMap;

use napi::bindgen_prelude::Uint32Array;
use napi_derive::napi;

use super::prompt_cache::NativeCacheLimits;
use crate::adapters::AdapterId;
use crate::cache::CacheLimits;
use crate::constraint::{Grammar, translate_pattern};
use crate::engine::{
    GenerateRequest, OutputOptions, Prompt, PromptCacheId, PromptEncoding, SpeculationRequest,
};
use crate::error::{Error, Result};
use crate::generate::{GenerationOptions, number_options};
use crate::ranges::{self, Limit};
use crate::text::StopPattern;

/// What to continue: exactly one of `text`, `tokens` and `messagesJson`.
#[napi(object, object_to_js = false)]
pub struct NativePrompt {
    /// Text as it is.
    pub text: Option<String>,
    /// Tokens as they are.
    pub tokens: Option<Uint32Array>,
    /// A conversation for the chat template, a JSON array.
    pub messages_json: Option<String>,
    /// The template's options, a JSON object; with `messagesJson`.
    pub template_options_json: Option<String>,
    /// Whether `text` gets what the tokenizer puts around one; left out for yes, unless it begins
    /// with that already.
    pub add_special_tokens: Option<bool>,
    /// Whether control tokens that are spelled out in it stay text.
    pub split_special_tokens: Option<bool>,
}

impl NativePrompt {
    /// The engine's form of it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where it is not exactly one kind of prompt.
    pub fn translate(self) -> Result<(Prompt, PromptEncoding)> {
        let prompt = match (self.text, self.tokens, self.messages_json) {
            (Some(text), None, None) => Prompt::Text(text),
            (None, Some(tokens), None) => Prompt::Tokens(tokens.to_vec()),
            (None, None, Some(messages)) => Prompt::Messages {
                messages,
                options: self.template_options_json.unwrap_or_else(|| "{}".to_owned()),
            },
            _ => {
                let message = "must have exactly one of text, tokens and messagesJson";
                return Err(Error::argument("prompt", message));
            }
        };
        let encoding = PromptEncoding {
            add_special_tokens: self.add_special_tokens,
            split_special_tokens: self.split_special_tokens.unwrap_or(false),
        };
        Ok((prompt, encoding))
    }
}

/// What an answer must be: exactly one of `schemaJson`, `pattern`, `options` and `lark`.
#[napi(object, object_to_js = false)]
pub struct NativeResponseFormat {
    /// A JSON schema, as JSON.
    pub schema_json: Option<String>,
    /// Whether a keyword of it that cannot be enforced is an error, and not a warning.
    pub strict: Option<bool>,
    /// A regular expression.
    pub pattern: Option<String>,
    /// The texts to choose from.
    pub options: Option<Vec<String>>,
    /// A grammar.
    pub lark: Option<String>,
}

impl NativeResponseFormat {
    /// The engine's form of it.
    fn translate(self) -> Result<Grammar> {
        match (self.schema_json, self.pattern, self.options, self.lark) {
            (Some(schema), None, None, None) => {
                Ok(Grammar::Json { schema, strict: self.strict.unwrap_or(true) })
            }
            (None, Some(pattern), None, None) => Ok(Grammar::Regex(pattern)),
            (None, None, Some(options), None) => Ok(Grammar::Choice(options)),
            (None, None, None, Some(lark)) => Ok(Grammar::Lark(lark)),
            _ => {
                let message = "must have exactly one of schemaJson, pattern, options and lark";
                Err(Error::argument("responseFormat", message))
            }
        }
    }
}

/// Whether and how a generation speculates.
#[napi(object, object_to_js = false)]
pub struct NativeSpeculation {
    /// Whether it does.
    pub enabled: bool,
    /// How many tokens are drafted at once; left out for as many as pay.
    pub draft_tokens: Option<f64>,
    /// Whether what followed the last tokens before is proposed; left out for yes.
    pub lookup: Option<bool>,
}

impl NativeSpeculation {
    /// The engine's form of it.
    fn translate(self) -> Result<SpeculationRequest> {
        let draft_tokens = check(&ranges::DRAFT_TOKENS, self.draft_tokens)?;
        Ok(match self.enabled {
            false => SpeculationRequest::Off,
            true => SpeculationRequest::On {
                draft_tokens: draft_tokens.map(|count| count as usize),
                lookup: self.lookup.unwrap_or(true),
            },
        })
    }
}

macro_rules! define_request {
    ($($(#[$doc:meta])* $name:ident: $type:ident in $limit:ident;)*) => {
        /// A generation. What is left out comes from the model's `generation_config.json`.
        #[napi(object, object_to_js = false)]
        pub struct NativeGenerateRequest {
            /// What to continue.
            pub prompt: NativePrompt,
            $($(#[$doc])* pub $name: Option<f64>,)*
            /// Added to the logits of single tokens.
            #[napi(ts_type = "Record<number, number>")]
            pub logit_bias: Option<HashMap<String, f64>>,
            /// Strings that end the text.
            pub stop: Option<Vec<String>>,
            /// Regular expressions of JavaScript that end the text.
            pub stop_patterns: Option<Vec<String>>,
            /// Tokens that end the text.
            pub stop_tokens: Option<Vec<f64>>,
            /// Texts that the answer does not have.
            pub banned_strings: Option<Vec<String>>,
            /// Texts that a repetition is not followed across (DRY).
            pub dry_sequence_breakers: Option<Vec<String>>,
            /// Whether special tokens are left out of the text; left out for yes.
            pub skip_special_tokens: Option<bool>,
            /// Whether end tokens are tokens like others.
            pub ignore_eos: Option<bool>,
            /// Whether nothing of it depends on what else runs, not even the rounding.
            pub deterministic: Option<bool>,
            /// What the answer must be.
            pub response_format: Option<NativeResponseFormat>,
            /// Whether it speculates; left out for yes where there is a draft model.
            pub speculation: Option<NativeSpeculation>,
            /// The number of the prompt cache that it goes on from.
            pub prompt_cache: Option<f64>,
            /// Whether calls of tools are read; left out for yes where there are tools.
            pub parse_tool_calls: Option<bool>,
            /// The format of calls; left out for that of the chat template.
            pub tool_format: Option<String>,
            /// The format of reasoning; left out for that of the chat template.
            pub reasoning_format: Option<String>,
            /// The tools of which the model must call one; left out where it may do as it likes.
            pub required_tools: Option<Vec<String>>,
            /// Whether the answer may have several calls; left out for yes.
            pub parallel_tool_calls: Option<bool>,
            /// The number of the adapter that it runs with.
            pub adapter: Option<f64>,
        }

        impl NativeGenerateRequest {
            /// The options that are numbers, within their limits.
            fn numbers(&self) -> Result<GenerationOptions> {
                Ok(GenerationOptions {
                    $($name: check(&ranges::$limit, self.$name)?.map(|value| value as $type),)*
                    ..GenerationOptions::default()
                })
            }
        }
    };
}
number_options!(define_request);

fn check(limit: &Limit, value: Option<f64>) -> Result<Option<f64>> {
    value.map(|value| limit.check(value)).transpose()
}

impl NativeGenerateRequest {
    /// The engine's form of it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what has no such form.
    pub fn translate(self) -> Result<GenerateRequest> {
        let options = GenerationOptions {
            logit_bias: biases(&self.logit_bias)?,
            keep_special_tokens: self.skip_special_tokens == Some(false),
            ignore_end_tokens: self.ignore_eos.unwrap_or(false),
            deterministic: self.deterministic.unwrap_or(false),
            ..self.numbers()?
        };
        let (prompt, encoding) = self.prompt.translate()?;
        Ok(GenerateRequest {
            prompt,
            encoding,
            options: GenerationOptions {
                stop: self.stop.unwrap_or_default(),
                stop_patterns: patterns(self.stop_patterns.unwrap_or_default())?,
                stop_tokens: stop_tokens(&self.stop_tokens.unwrap_or_default())?,
                banned_strings: self.banned_strings.unwrap_or_default(),
                dry_sequence_breakers: self.dry_sequence_breakers,
                ..options
            },
            response_format: self
                .response_format
                .map(NativeResponseFormat::translate)
                .transpose()?,
            speculation: self.speculation.map(NativeSpeculation::translate).transpose()?,
            prompt_cache: self.prompt_cache.map(PromptCacheId::from_number),
            output: OutputOptions {
                parse_tool_calls: self.parse_tool_calls,
                tool_format: self.tool_format,
                reasoning_format: self.reasoning_format,
                required_tools: self.required_tools,
                single_call: self.parallel_tool_calls == Some(false),
            },
            adapter: self.adapter.map(AdapterId::from_number),
        })
    }
}

impl NativeCacheLimits {
    /// The engine's form of it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number out of its range.
    pub fn translate(self) -> Result<CacheLimits> {
        let Self { max_kv_size, kv_bits, kv_group_size } = self;
        let whole = |limit, value| Ok::<_, Error>(check(limit, value)?.map(|it| it as i32));
        let options = GenerationOptions {
            kv_group_size: whole(&ranges::KV_GROUP_SIZE, kv_group_size)?,
            kv_bits: whole(&ranges::KV_BITS, kv_bits)?,
            max_kv_size: whole(&ranges::MAX_KV_SIZE, max_kv_size)?,
            ..GenerationOptions::default()
        };
        Ok(options.cache_limits())
    }
}

/// Patterns in Rust's syntax, each with what it is made of.
fn patterns(sources: Vec<String>) -> Result<Vec<(String, String)>> {
    let translate = |source: String| {
        let wrong = |problem: String| Error::argument("stop", format!("/{source}/ {problem}"));
        let pattern = translate_pattern(&source).map_err(|error| wrong(error.to_string()))?;
        StopPattern::new(&pattern).map_err(wrong)?;
        Ok((pattern, source))
    };
    sources.into_iter().map(translate).collect()
}

fn stop_tokens(tokens: &[f64]) -> Result<Vec<u32>> {
    let check = |(at, &token): (usize, &f64)| {
        Ok(ranges::STOP_TOKEN.check_as(&format!("stopTokens[{at}]"), token)? as u32)
    };
    tokens.iter().enumerate().map(check).collect()
}

/// The biases in the order of their tokens, so that equal requests are equal.
fn biases(record: &Option<HashMap<String, f64>>) -> Result<Vec<(u32, f32)>> {
    let mut biases = Vec::new();
    for (token, &bias) in record.iter().flatten() {
        let option = format!("logitBias[{token}]");
        let token = token.parse().map_err(|_| {
            Error::argument(option.as_str(), "is not a token, a whole number from 0")
        })?;
        biases.push((token, ranges::LOGIT_BIAS.check_as(&option, bias)? as f32));
    }
    biases.sort_by_key(|&(token, _)| token);
    Ok(biases)
}

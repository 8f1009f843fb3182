//! The request of a generation.

use std::collections::HashMap;

use napi::bindgen_prelude::Uint32Array;
use napi_derive::napi;

use crate::adapters::AdapterId;
use crate::cache::{CacheLimits, KvQuantization};
use crate::constraint::Grammar;
use crate::engine::ranges::{self, Number, Whole};
use crate::engine::{GenerateRequest, OutputOptions, Prompt, PromptCacheId, PromptEncoding};
use crate::error::{Error, Result};

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

/// A generation. What is left out comes from the model's `generation_config.json`.
#[napi(object, object_to_js = false)]
pub struct NativeGenerateRequest {
    /// What to continue.
    pub prompt: NativePrompt,
    /// The most tokens to make.
    pub max_tokens: Option<f64>,
    /// 0 for greedy decoding.
    pub temperature: Option<f64>,
    /// The nucleus.
    pub top_p: Option<f64>,
    /// The number of candidates; 0 for all.
    pub top_k: Option<f64>,
    /// The least probability, as a part of the likeliest token's.
    pub min_p: Option<f64>,
    /// The seed.
    pub seed: Option<f64>,
    /// Strings that end the text.
    pub stop: Option<Vec<String>>,
    /// Whether special tokens are left out of the text.
    pub skip_special_tokens: Option<bool>,
    /// The penalty for tokens already seen; 1 for none.
    pub repetition_penalty: Option<f64>,
    /// How many of the last tokens count as seen, the prompt's included; left out for all of the
    /// answer's and none of the prompt's.
    pub penalty_context_size: Option<f64>,
    /// Subtracted from the logits of tokens already seen; 0 for none.
    pub presence_penalty: Option<f64>,
    /// Subtracted for each time that a token was seen; 0 for none.
    pub frequency_penalty: Option<f64>,
    /// Added to the logits of single tokens.
    #[napi(ts_type = "Record<number, number>")]
    pub logit_bias: Option<HashMap<String, f64>>,
    /// The chance of leaving out the likeliest tokens each time.
    pub xtc_probability: Option<f64>,
    /// The probability from which tokens are left out then.
    pub xtc_threshold: Option<f64>,
    /// How many of the likeliest tokens to report with each token.
    pub logprobs: Option<f64>,
    /// Whether end tokens are tokens like others.
    pub ignore_eos: Option<bool>,
    /// What the answer must be.
    pub response_format: Option<NativeResponseFormat>,
    /// Those of a higher number are begun and read first.
    pub priority: Option<f64>,
    /// Whether nothing of it depends on what else runs, not even the rounding.
    pub deterministic: Option<bool>,
    /// The most positions that a layer's cache holds.
    pub max_kv_size: Option<f64>,
    /// The bits of cached keys and values.
    pub kv_bits: Option<f64>,
    /// How many features of them share a scale.
    pub kv_group_size: Option<f64>,
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
    /// The engine's form of it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what has no such form.
    pub fn translate(self) -> Result<GenerateRequest> {
        let (prompt, encoding) = self.prompt.translate()?;
        let number =
            |range: &Number, value: Option<f64>| value.map(|it| range.check(it)).transpose();
        let whole = |range: &Whole, value: Option<f64>| -> Result<Option<usize>> {
            value.map(|it| Ok(range.check(it)? as usize)).transpose()
        };
        Ok(GenerateRequest {
            prompt,
            encoding,
            max_tokens: whole(&ranges::MAX_TOKENS, self.max_tokens)?,
            temperature: number(&ranges::TEMPERATURE, self.temperature)?,
            top_p: number(&ranges::TOP_P, self.top_p)?,
            top_k: whole(&ranges::TOP_K, self.top_k)?.map(|count| count as u32),
            min_p: number(&ranges::MIN_P, self.min_p)?,
            seed: whole(&ranges::SEED, self.seed)?.map(|seed| seed as u64),
            stop: self.stop.unwrap_or_default(),
            skip_special_tokens: self.skip_special_tokens.unwrap_or(true),
            repetition_penalty: number(&ranges::REPETITION_PENALTY, self.repetition_penalty)?,
            presence_penalty: number(&ranges::PRESENCE_PENALTY, self.presence_penalty)?
                .unwrap_or(0.0),
            frequency_penalty: number(&ranges::FREQUENCY_PENALTY, self.frequency_penalty)?
                .unwrap_or(0.0),
            penalty_context: whole(&ranges::PENALTY_CONTEXT_SIZE, self.penalty_context_size)?,
            logit_bias: biases(self.logit_bias.unwrap_or_default())?,
            xtc_probability: number(&ranges::XTC_PROBABILITY, self.xtc_probability)?.unwrap_or(0.0),
            xtc_threshold: number(&ranges::XTC_THRESHOLD, self.xtc_threshold)?,
            logprobs: whole(&ranges::LOGPROBS, self.logprobs)?,
            ignore_end_tokens: self.ignore_eos.unwrap_or(false),
            response_format: self
                .response_format
                .map(NativeResponseFormat::translate)
                .transpose()?,
            priority: match self.priority {
                Some(priority) => ranges::PRIORITY.check_signed(priority)? as i32,
                None => 0,
            },
            deterministic: self.deterministic.unwrap_or(false),
            cache_limits: cache_limits(self.max_kv_size, self.kv_bits, self.kv_group_size)?,
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

/// The biases in the order of their tokens, so that equal requests are equal.
fn biases(record: HashMap<String, f64>) -> Result<Vec<(u32, f32)>> {
    let mut biases = Vec::with_capacity(record.len());
    for (token, bias) in record {
        let option = format!("logitBias[{token}]");
        let token = token.parse().map_err(|_| {
            Error::argument(option.as_str(), "is not a token, a whole number from 0")
        })?;
        biases.push((token, ranges::LOGIT_BIAS.check_as(&option, bias)?));
    }
    biases.sort_by_key(|&(token, _)| token);
    Ok(biases)
}

/// What caches may take.
pub fn cache_limits(
    max_kv_size: Option<f64>,
    kv_bits: Option<f64>,
    kv_group_size: Option<f64>,
) -> Result<CacheLimits> {
    let group_size = kv_group_size.map(|it| ranges::KV_GROUP_SIZE.check(it)).transpose()?;
    let bits = kv_bits.map(|it| ranges::KV_BITS.check(it)).transpose()?;
    let max_size = max_kv_size.map(|it| ranges::MAX_KV_SIZE.check(it)).transpose()?;
    Ok(CacheLimits {
        max_size: max_size.map(|size| size as i32),
        quantization: bits.map(|bits| KvQuantization { group_size, bits }),
    })
}

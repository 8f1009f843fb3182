//! Embeddings of texts, and judgements of pairs: from a request to tokens, and from numbers to an
//! answer.

use std::sync::Arc;

use super::evaluation::{AbortFlag, EmbedTask, Evaluation, JudgeTask, OwnAdapter};
use super::model::Model;
use super::profile::Profile;
use super::scheduler::Message;
use super::status::{Callback, Reply};
use crate::error::{Error, Result};
use crate::generate::Segmented;
use crate::models::{EmbedOptions, EmbedderInfo};

/// What is to be embedded.
#[derive(Debug, Clone)]
pub enum EmbedInput {
    /// A text.
    Text(String),
    /// Tokens as they are.
    Tokens(Vec<u32>),
}

/// What to embed, and how.
#[derive(Debug, Clone)]
pub struct EmbedRequest {
    /// The texts.
    pub inputs: Vec<EmbedInput>,
    /// The name of what is put in front of them; `None` for what the files say.
    pub task: Option<String>,
    /// What differs from the files.
    pub options: EmbedOptions,
    /// Whether texts that are too long are cut.
    pub truncate: bool,
    /// What the model runs with.
    pub adapter: OwnAdapter,
}

/// The embeddings of texts.
#[derive(Debug, Clone)]
pub struct Embeddings {
    /// One for each text.
    pub rows: Vec<Vec<f32>>,
    /// How many tokens the texts have.
    pub tokens: usize,
}

/// What to judge.
#[derive(Debug, Clone)]
pub struct JudgeRequest {
    /// What each document is judged by.
    pub query: String,
    /// The documents.
    pub documents: Vec<String>,
    /// Whether pairs that are too long are cut.
    pub truncate: bool,
    /// What the model runs with.
    pub adapter: OwnAdapter,
}

/// How well documents fit.
#[derive(Debug, Clone)]
pub struct Judgements {
    /// One for each document.
    pub scores: Vec<f32>,
    /// How many tokens were read.
    pub tokens: usize,
}

impl Model {
    /// The embeddings of texts.
    pub fn embed(&self, request: EmbedRequest, aborted: AbortFlag, callback: Callback<Embeddings>) {
        let engine = Arc::downgrade(self.engine());
        let status = Arc::clone(self.engine().status());
        let flag = aborted.clone();
        let prepared: Callback<EmbedTask> = Box::new(move |prepared| {
            let task = match prepared {
                Ok(task) => task,
                Err(error) => return callback(Err(error)),
            };
            let tokens = task.texts.iter().map(Vec::len).sum();
            let embedded: Callback<Vec<Vec<f32>>> =
                Box::new(move |rows| callback(rows.map(|rows| Embeddings { rows, tokens })));
            let reply = Reply::new(embedded, status);
            if let Some(engine) = engine.upgrade() {
                engine.send(Message::Evaluate(Evaluation::Embed(task, reply)));
            }
        });
        self.with_text(prepared, move |profile| {
            flag.check()?;
            profile.embed_task(request, aborted)
        });
    }

    /// How well documents fit a query, as a classifier judges each pair.
    pub fn judge(&self, request: JudgeRequest, aborted: AbortFlag, callback: Callback<Judgements>) {
        let engine = Arc::downgrade(self.engine());
        let status = Arc::clone(self.engine().status());
        let activation = self.info().model.label_activation;
        let flag = aborted.clone();
        let prepared: Callback<JudgeTask> = Box::new(move |prepared| {
            let task = match prepared {
                Ok(task) => task,
                Err(error) => return callback(Err(error)),
            };
            let tokens = task.texts.iter().map(|text| text.tokens.len()).sum();
            let judged: Callback<Vec<Vec<f32>>> = Box::new(move |labels| {
                let score = |labels: Vec<f32>| activation.apply(labels[0]);
                let scores = labels.map(|labels| labels.into_iter().map(score).collect());
                callback(scores.map(|scores| Judgements { scores, tokens }));
            });
            let reply = Reply::new(judged, status);
            if let Some(engine) = engine.upgrade() {
                engine.send(Message::Evaluate(Evaluation::Judge(task, reply)));
            }
        });
        self.with_text(prepared, move |profile| {
            flag.check()?;
            profile.judge_task(request, aborted)
        });
    }
}

impl Profile {
    fn embed_task(&self, request: EmbedRequest, aborted: AbortFlag) -> Result<EmbedTask> {
        let EmbedRequest { inputs, task, options, truncate, adapter } = request;
        let Some(embedder) = &self.embedder else {
            let message = "the model embeds no texts: load an embedding model";
            return Err(Error::Unsupported(message.to_owned()));
        };
        if let Some(dimensions) = options.dimensions.filter(|it| *it > embedder.max_dimensions) {
            let all = embedder.max_dimensions;
            let message = format!("is {dimensions}, and the model's embeddings have {all}");
            return Err(Error::argument("dimensions", message));
        }
        let prompt = prompt_of(embedder, task.as_deref())?;
        if !prompt.is_empty() && !embedder.pools_prompt {
            let message = "has a prompt whose tokens do not count (include_prompt), which is not \
                           supported";
            return Err(Error::argument("task", message));
        }
        let limit = self.text_limit();
        let cut = limit.filter(|_| truncate);
        let tokens = |(index, input): (usize, &EmbedInput)| -> Result<Vec<u32>> {
            let name = format!("texts[{index}]");
            let tokens = match input {
                EmbedInput::Tokens(_) if task.is_some() => {
                    let message = "has no effect on tokens: give the text";
                    return Err(Error::argument("task", message));
                }
                EmbedInput::Tokens(tokens) => match cut {
                    Some(cut) => tokens[..tokens.len().min(cut)].to_vec(),
                    None => tokens.clone(),
                },
                EmbedInput::Text(text) => {
                    let mut text = format!("{prompt}{text}");
                    if embedder.lower_case {
                        text = text.to_lowercase();
                    }
                    let tokenizer = self.text.tokenizer()?;
                    let whole = limit.filter(|_| !truncate);
                    self.check_text_within(whole, &format!("{name} has"), &text, SHORTEN)?;
                    tokenizer.encode_whole(&text, None, cut)?.0
                }
            };
            self.check_tokens(&name, &tokens)?;
            check_limit(&name, tokens.len(), limit)?;
            Ok(tokens)
        };
        let texts = inputs.iter().enumerate().map(tokens).collect::<Result<_>>()?;
        let reads_whole = self.abilities.reads_whole;
        Ok(EmbedTask { texts, options, reads_whole, adapter, aborted })
    }

    /// The most tokens of a text that is embedded or judged.
    fn text_limit(&self) -> Option<usize> {
        let limits = [self.max_text_tokens, self.context_length];
        limits.into_iter().flatten().min()
    }

    fn judge_task(&self, request: JudgeRequest, aborted: AbortFlag) -> Result<JudgeTask> {
        let JudgeRequest { query, documents, truncate, adapter } = request;
        match self.abilities.labels {
            Some(1) => {}
            Some(labels) => {
                let message = format!("the model has {labels} labels, and a reranker has one");
                return Err(Error::Unsupported(message));
            }
            None => {
                let message = "the model judges no texts: load a reranker";
                return Err(Error::Unsupported(message.to_owned()));
            }
        }
        let limit = self.text_limit();
        let cut = limit.filter(|_| truncate);
        let pair = |(index, document): (usize, &String)| -> Result<Segmented> {
            let name = format!("documents[{index}]");
            let tokenizer = self.text.tokenizer()?;
            let (tokens, segments) = tokenizer.encode_whole(&query, Some(document), cut)?;
            self.check_tokens(&name, &tokens)?;
            check_limit(&name, tokens.len(), limit)?;
            Ok(Segmented { tokens, segments })
        };
        let texts = documents.iter().enumerate().map(pair).collect::<Result<_>>()?;
        Ok(JudgeTask { texts, adapter, aborted })
    }
}

/// What is put in front of texts for a task.
fn prompt_of<'a>(embedder: &'a EmbedderInfo, task: Option<&str>) -> Result<&'a str> {
    let Some(task) = task.or(embedder.default_task.as_deref()) else { return Ok("") };
    match embedder.prompts.get(task) {
        Some(prompt) => Ok(prompt),
        None if embedder.prompts.is_empty() => {
            Err(Error::argument("task", "is not known: the model has no prompts for tasks"))
        }
        None => {
            let known: Vec<&str> = embedder.prompts.keys().map(String::as_str).collect();
            Err(Error::argument("task", format!("is none of the model's: {}", known.join(", "))))
        }
    }
}

/// What is to be done about a text that is too long.
const SHORTEN: &str = "shorten it, or pass truncate: true";

/// Refuses more tokens than the model reads.
fn check_limit(name: &str, tokens: usize, limit: Option<usize>) -> Result<()> {
    match limit.filter(|&limit| tokens > limit) {
        None => Ok(()),
        Some(limit) => Err(Error::overflow(&format!("{name} has"), tokens, limit, SHORTEN)),
    }
}

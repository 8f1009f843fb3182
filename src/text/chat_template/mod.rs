//! Chat templates: the Jinja programs that turn messages into the text a model was trained on.
//!
//! The reference is `apply_chat_template` of Hugging Face's transformers. Templates come with
//! checkpoints, so they are not trusted: they run in minijinja without files and with limits on
//! time, memory and recursion.

mod arrange;
mod calls;
mod convert;
mod effort;
mod engine;
mod environment;
mod format;
mod format_spec;
mod forms;
mod json;
mod layout;
mod limits;
mod load;
mod messages;
mod methods;
mod operators;
mod python;
mod reads;
mod sequences;
mod slices;
mod strings;
mod syntax;
mod text_filters;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::{Map, Value};

use self::calls::Held;
pub use self::calls::{CallWriter, WrittenCall, has_calls};
pub use self::convert::parse_json;
pub use self::effort::{Level, Reasoning};
use self::engine::Compiled;
pub use self::json::spaced as spaced_json;
pub use self::limits::TemplateLimits;
use super::added_tokens::MarkedText;
use super::marks::Marker;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// The chat templates of a model, most often one. `Send + Sync`.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    templates: BTreeMap<String, Arc<Compiled>>,
    /// `bos_token` and so on.
    special_tokens: Map<String, Value>,
    limits: TemplateLimits,
}

/// What a template is rendered with, besides the messages.
#[derive(Debug, Clone, Default)]
pub struct ChatTemplateOptions {
    /// The functions the model may call: a list of JSON schemas, as the template expects them.
    pub tools: Option<Value>,
    /// Documents to answer from: a list of objects.
    pub documents: Option<Value>,
    /// Whether the beginning of the assistant's answer is appended.
    pub add_generation_prompt: bool,
    /// Whether the last message is left open, for the model to go on with.
    pub continue_final_message: bool,
    /// The template's name, if the model has several. Otherwise `tool_use` with tools, else
    /// `default`.
    pub template: Option<String>,
    /// The field of the last message that is left open; `content` if none is given.
    pub continue_field: Option<String>,
    /// The local time that the template sees, as `2025-12-31T23:59:58`; the present if none is
    /// given. With it, the same messages give the same prompt tomorrow.
    pub now: Option<String>,
    /// Further variables, such as `enable_thinking`. They win over the special tokens.
    pub variables: Map<String, Value>,
    /// How much the model is to reason, for the template's own variables.
    pub reasoning: Option<Reasoning>,
    /// How the model writes calls, for templates that write none.
    pub calls: Option<CallWriter>,
}

impl ChatTemplate {
    /// Reads the templates of the model in `dir`; `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Template`] if one of them does not parse, with the file and the line;
    /// [`Error::Tokenizer`] if the JSON around it is broken.
    pub fn from_dir(dir: &Path, tokenizer: Option<&Tokenizer>) -> Result<Option<Self>> {
        let sources = load::sources(dir)?;
        if sources.is_empty() {
            return Ok(None);
        }
        let mut templates = BTreeMap::new();
        for (name, source) in sources {
            templates.insert(name, Arc::new(Compiled::new(&source.origin, &source.text)?));
        }
        let special_tokens = tokenizer.map(|it| it.special_tokens().clone()).unwrap_or_default();
        Ok(Some(Self { templates, special_tokens, limits: TemplateLimits::default() }))
    }

    /// A template given as text.
    ///
    /// # Errors
    /// [`Error::Template`] if it does not parse.
    pub fn from_source(source: &str) -> Result<Self> {
        let compiled = Arc::new(Compiled::new("chat template", source)?);
        let templates = BTreeMap::from([(load::DEFAULT.to_owned(), compiled)]);
        Ok(Self { templates, special_tokens: Map::new(), limits: TemplateLimits::default() })
    }

    /// The names of the templates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.templates.keys().map(String::as_str)
    }

    /// The template's text: the named one, or the one that is used without tools.
    pub fn source(&self, name: Option<&str>) -> Option<&str> {
        self.templates.get(name.unwrap_or(load::DEFAULT)).map(|it| it.source())
    }

    /// How many tokens of reasoning these options allow at most.
    ///
    /// # Errors
    /// Those of [`Self::render`].
    pub fn reasoning_budget(&self, options: &ChatTemplateOptions) -> Result<Option<usize>> {
        let Some(reasoning) = options.reasoning else { return Ok(None) };
        let template = self.choose(options)?;
        Ok(reasoning.plan(template.reads(), || template.efforts(self.limits))?.budget)
    }

    /// Whether the template that is used with these options has anything to do with reasoning.
    pub fn mentions_reasoning(&self, options: &ChatTemplateOptions) -> bool {
        self.choose(options).is_ok_and(|template| effort::mentions_reasoning(template.reads()))
    }

    /// Whether the template that is used with these options names a variable.
    pub fn reads(&self, options: &ChatTemplateOptions, variable: &str) -> bool {
        self.choose(options).is_ok_and(|template| template.reads().variable(variable))
    }

    /// Whether it tells the model of tools: by their variable, or in the message of the system.
    pub fn reads_tools(&self, options: &ChatTemplateOptions) -> bool {
        self.reads(options, "tools")
            || self.choose(options).is_ok_and(|it| it.reads().tools_of_message())
    }

    /// The text of the template that is used with these options.
    pub fn chosen_source(&self, options: &ChatTemplateOptions) -> Option<&str> {
        self.choose(options).ok().map(Compiled::source)
    }

    /// With other limits for each rendering.
    #[must_use]
    pub fn with_limits(self, limits: TemplateLimits) -> Self {
        Self { limits, ..self }
    }

    /// The prompt for `messages`, an array of objects with a `role`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the messages or options have the wrong form;
    /// [`Error::Template`] if the template fails, with its name and line, or needs more than its
    /// limits. What a template raises itself comes through word for word.
    pub fn render(&self, messages: &Value, options: &ChatTemplateOptions) -> Result<String> {
        Ok(self.render_marked(messages, options, None, None)?.text)
    }

    /// [`Self::render`], which fails soon after `cancelled` is set.
    ///
    /// # Errors
    /// Those of [`Self::render`], and [`Error::Aborted`].
    pub fn render_until(
        &self,
        messages: &Value,
        options: &ChatTemplateOptions,
        cancelled: Option<&Arc<AtomicBool>>,
    ) -> Result<String> {
        Ok(self.render_marked(messages, options, None, cancelled)?.text)
    }

    /// Like [`Self::render_until`]. With `plain_for`, control tokens of that tokenizer that are
    /// spelled out in the messages, tools and documents are marked as text.
    ///
    /// # Errors
    /// Those of [`Self::render_until`].
    pub fn render_marked(
        &self,
        messages: &Value,
        options: &ChatTemplateOptions,
        plain_for: Option<&Tokenizer>,
        cancelled: Option<&Arc<AtomicBool>>,
    ) -> Result<MarkedText> {
        let template = self.choose(options)?;
        let chat = messages::Chat::new(messages, options, template.reads())?;
        let mut variables = self.special_tokens.clone();
        if let Some(reasoning) = options.reasoning {
            let efforts = || template.efforts(self.limits);
            variables.extend(reasoning.plan(template.reads(), efforts)?.variables);
        }
        variables.extend(options.variables.clone());
        let or_null = |value: &Option<Value>| value.clone().unwrap_or(Value::Null);
        variables.insert("tools".into(), or_null(&options.tools));
        variables.insert("documents".into(), or_null(&options.documents));
        variables.insert("add_generation_prompt".into(), options.add_generation_prompt.into());
        if let Some(now) = &options.now {
            variables.insert(environment::NOW.into(), now.clone().into());
        }
        let values = [&Value::Object(variables.clone()), messages];
        let marker = plain_for
            .map(|tokenizer| Marker::new(tokenizer, template.source(), values))
            .transpose()?;
        let writer = options.calls.as_ref().filter(|_| has_calls(messages));
        let held = writer.map(|it| Held::new(it, marker.as_ref(), messages)).transpose()?;
        let forms = || template.forms(self.limits);
        let given = layout::Given {
            reads: template.reads(),
            is_open: options.continue_final_message,
            time: self.limits.time,
            held: held.as_ref(),
            tools: options.tools.as_ref(),
        };
        let rendered = layout::render(chat.messages(), &given, forms, |messages| {
            let messages = chat.open(messages)?.into_iter().map(Value::Object).collect();
            let mut variables = variables.clone();
            variables.insert("messages".into(), Value::Array(messages));
            if let Some(marker) = &marker {
                marker.mark_variables(&mut variables);
            }
            template.render(variables, self.limits, cancelled)
        })?;
        let rendered = match &held {
            Some(held) => held.fill(&rendered),
            None => rendered,
        };
        let MarkedText { text, mut marks } = match &marker {
            Some(marker) => marker.unmark(&rendered),
            None => MarkedText::unmarked(rendered),
        };
        let text = chat.close(text)?;
        marks.retain(|&at| at < text.len());
        Ok(MarkedText { text, marks })
    }

    fn choose(&self, options: &ChatTemplateOptions) -> Result<&Compiled> {
        if let Some(name) = &options.template {
            return self.templates.get(name).map(Arc::as_ref).ok_or_else(|| {
                Error::argument(
                    "template",
                    format!("no template \"{name}\"; this model has {}", self.listed()),
                )
            });
        }
        let tool_use = options.tools.as_ref().and_then(|_| self.templates.get("tool_use"));
        tool_use.or_else(|| self.templates.get(load::DEFAULT)).map(Arc::as_ref).ok_or_else(|| {
            Error::argument(
                "template",
                format!("this model has no default template; choose one of {}", self.listed()),
            )
        })
    }

    fn listed(&self) -> String {
        let names: Vec<String> = self.names().map(|name| format!("\"{name}\"")).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod forms_tests;
#[cfg(test)]
mod layout_tests;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod tests;

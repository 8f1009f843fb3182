//! The text side of a loaded model. Free of MLX, so it is used on any thread.

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::banned_strings::SortedTokens;
use super::open_answer::{begun, leaves_text_open, open_text};
use super::output_plan::{OutputPlan, no_markers, unknown_format};
use super::request::{GenerateRequest, Prompt, PromptEncoding};
use crate::constraint::{Begun, Grammar, Vocabulary, Word};
use crate::error::{Error, Result};
use crate::generate::GenerationOptions;
use crate::text::chat_template::{CallWriter, Reasoning};
use crate::text::output::{ReasoningFormat, ToolFormat, Tools, detect};
use crate::text::{
    ChatTemplate, ChatTemplateOptions, LeastTokens, MarkedText, OutputFormats, Tokenizer,
    chat_template, end_tokens,
};
use crate::warning::Warning;

/// A model's tokenizer, chat template and end tokens, as far as it has them.
#[derive(Debug)]
pub struct Text {
    tokenizer: Option<Arc<Tokenizer>>,
    /// Files of tokenizers that are not read, where there is none that is.
    unread: Vec<String>,
    /// A template that is broken fails when it is used: without it there is much left to do.
    template: Result<Option<ChatTemplate>>,
    end_tokens: Vec<u32>,
    /// In which formats the model reasons and calls tools, once that was asked for.
    formats: OnceLock<OutputFormats>,
    /// The tokens as constraints see them, from the first one on.
    vocabulary: OnceLock<Result<Arc<Vocabulary>>>,
    /// What bounds the tokens of a text from below.
    least_tokens: OnceLock<Option<LeastTokens>>,
    /// The tokens by their texts.
    sorted_tokens: OnceLock<Result<Arc<SortedTokens>>>,
}

/// How many of a prompt's last tokens may say that reasoning has begun: all that a template writes
/// behind the last message, and what of an answer is continued.
const PROMPT_END: usize = 32;
const LONGEST_CONTINUED: usize = 16_384;

impl Text {
    /// Reads them from the folder of a model that has so many tokens.
    ///
    /// # Errors
    /// Only for files that are there and broken; a chat template fails when it is used.
    pub fn from_dir(
        dir: &Path,
        vocabulary_size: usize,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self> {
        let tokenizer = Tokenizer::from_dir(dir)?.map(Arc::new);
        let unread = if tokenizer.is_none() { Tokenizer::unread_files(dir) } else { Vec::new() };
        let template = ChatTemplate::from_dir(dir, tokenizer.as_deref());
        let end_tokens = end_tokens(dir, tokenizer.as_deref(), vocabulary_size, warnings);
        Ok(Self {
            tokenizer,
            unread,
            template,
            end_tokens,
            formats: OnceLock::new(),
            vocabulary: OnceLock::new(),
            least_tokens: OnceLock::new(),
            sorted_tokens: OnceLock::new(),
        })
    }

    /// Whether there is a tokenizer.
    pub fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    /// Whether there is a chat template.
    pub fn has_chat_template(&self) -> bool {
        !matches!(self.template, Ok(None))
    }

    /// The tokens that end a text.
    pub fn end_tokens(&self) -> &[u32] {
        &self.end_tokens
    }

    /// The tokens that end an answer with these options.
    pub fn ends(&self, options: &GenerationOptions) -> Vec<u32> {
        let mut ends = options.stop_tokens.clone();
        if !options.ignore_end_tokens {
            ends.extend(&self.end_tokens);
        }
        ends
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`Error::NoTokenizer`], saying what can be done without one.
    pub fn tokenizer(&self) -> Result<&Arc<Tokenizer>> {
        self.tokenizer.as_ref().ok_or_else(|| {
            let found = match self.unread.as_slice() {
                [] => String::new(),
                files => format!(" ({} is not a kind that is read)", files.join(", ")),
            };
            Error::NoTokenizer(format!(
                "the model has no tokenizer.json, tokenizer.model, tekken.json or vocab.json with \
                 merges.txt{found}, so it takes and gives tokens only: pass the prompt as \
                 {{ tokens }}"
            ))
        })
    }

    /// How many tokens a text has at least, as far as that is known without cutting it into them.
    pub fn least_tokens(&self, text: &str) -> usize {
        let Some(tokenizer) = &self.tokenizer else { return 0 };
        let bound = self.least_tokens.get_or_init(|| LeastTokens::of(tokenizer));
        bound.map_or(0, |bound| bound.count(text))
    }

    /// The first `size` tokens, for constraints. It takes some time when it is first asked for.
    ///
    /// # Errors
    /// Those of [`Text::tokenizer`], and [`Error::Unsupported`] for one whose tokens have no text
    /// of their own.
    pub fn vocabulary(&self, size: usize) -> Result<Arc<Vocabulary>> {
        self.vocabulary.get_or_init(|| self.build_vocabulary(size)).clone()
    }

    /// The first `size` tokens by their texts. It takes some time when it is first asked for.
    ///
    /// # Errors
    /// As those of [`Text::vocabulary`].
    pub fn sorted_tokens(&self, size: usize) -> Result<Arc<SortedTokens>> {
        let build = || {
            let tokenizer = self.tokenizer()?;
            let mut bytes = tokenizer.token_bytes(size).ok_or_else(|| no_texts("bannedStrings"))?;
            for (token, bytes) in (0..).zip(&mut bytes) {
                if tokenizer.is_special(token) {
                    bytes.clear();
                }
            }
            Ok(Arc::new(SortedTokens::new(bytes)))
        };
        self.sorted_tokens.get_or_init(build).clone()
    }

    fn build_vocabulary(&self, size: usize) -> Result<Arc<Vocabulary>> {
        let tokenizer = self.tokenizer()?;
        let bytes = tokenizer.token_bytes(size).ok_or_else(|| no_texts("responseFormat"))?;
        let words = (0..).zip(bytes).map(|(token, bytes)| match tokenizer.is_special(token) {
            true => tokenizer.id_to_token(token).map_or(Word::Nothing, Word::Special),
            false => Word::Text(bytes),
        });
        Vocabulary::new(words.collect(), &self.end_tokens).map(Arc::new)
    }

    /// The conversation as the model's chat template writes it, or one given with the options.
    ///
    /// `messages` is a JSON array, `options` a JSON object with the fields of
    /// [`ChatTemplateOptions`] in camelCase; its `template` may also be the text of a template.
    pub fn render(&self, messages: &str, options: &str) -> Result<String> {
        Ok(self.render_marked(messages, options, None, None)?.text)
    }

    fn render_marked(
        &self,
        messages: &str,
        options: &str,
        plain_for: Option<&Tokenizer>,
        tool_format: Option<&str>,
    ) -> Result<MarkedText> {
        let mut options = self.render_options(options)?;
        let messages = chat_template::parse_json("messages", messages)?;
        if chat_template::has_calls(&messages) {
            options.calls = self.call_writer(&options, tool_format);
        }
        let template = self.template_for(&mut options)?;
        if is_given(&options.documents) && !template.reads(&options, "documents") {
            let message = "the chat template reads none: write them into a message";
            return Err(Error::unsupported("documents", message));
        }
        template.render_marked(&messages, &options, plain_for, None)
    }

    /// The template that is used with these options, and no longer among them where it was given as
    /// text.
    fn template_for(&self, options: &mut ChatTemplateOptions) -> Result<Cow<'_, ChatTemplate>> {
        if let Some(source) = options.template.take_if(|template| self.is_source(template)) {
            if let Some(tokenizer) = &self.tokenizer {
                let mut variables = tokenizer.special_tokens().clone();
                variables.append(&mut options.variables);
                options.variables = variables;
            }
            return Ok(Cow::Owned(ChatTemplate::from_source(&source)?));
        }
        let template = self.template.as_ref().map_err(Error::clone)?;
        template.as_ref().map(Cow::Borrowed).ok_or_else(|| {
            let message = "the model has no chat template: pass the prompt as { text }, or give a \
                           template with the request";
            Error::NoChatTemplate(message.to_owned())
        })
    }

    /// What of a request's options its template leaves out, said as warnings.
    ///
    /// # Errors
    /// Those of the template.
    pub fn left_out(&self, prompt: &Prompt) -> Result<Vec<String>> {
        let Prompt::Messages { options, .. } = prompt else { return Ok(Vec::new()) };
        let mut options = self.render_options(options)?;
        let given: Vec<String> = options.variables.keys().cloned().collect();
        let template = self.template_for(&mut options)?;
        let mut left_out = Vec::new();
        if is_given(&options.tools) && !template.reads_tools(&options) {
            let message = "tools: the chat template does not tell the model of them";
            left_out.push(message.to_owned());
        }
        for name in given.iter().filter(|name| !template.reads(&options, name)) {
            left_out.push(format!("templateVariables.{name}: the chat template does not read it"));
        }
        Ok(left_out)
    }

    /// What writes the calls of earlier turns where the template does not.
    fn call_writer(
        &self,
        options: &ChatTemplateOptions,
        named: Option<&str>,
    ) -> Option<CallWriter> {
        let named = named.and_then(ToolFormat::named);
        let format = named.or_else(|| self.formats(options).calls)?;
        let tokenizer = self.tokenizer.as_deref();
        let has_token = |it: &str| tokenizer.is_some_and(|all| all.token_to_id(it).is_some());
        Some(format.writer(has_token))
    }

    /// What a prompt's template is rendered with.
    fn render_options(&self, json: &str) -> Result<ChatTemplateOptions> {
        let json = chat_template::parse_json("options", json)?;
        let RenderOptions(mut options) = serde_json::from_value(json)
            .map_err(|error| Error::argument("options", error.to_string()).caused_by(error))?;
        // A model that never reasons does so without being told.
        if options.reasoning.is_some_and(Reasoning::is_off) && !self.may_reason(&options)? {
            options.reasoning = None;
        }
        Ok(options)
    }

    /// Whether anything tells that the model reasons.
    fn may_reason(&self, options: &ChatTemplateOptions) -> Result<bool> {
        if self.formats(options).reasoning.is_some() {
            return Ok(true);
        }
        if let Some(source) = options.template.as_ref().filter(|it| self.is_source(it)) {
            let options = ChatTemplateOptions { template: None, ..options.clone() };
            return Ok(ChatTemplate::from_source(source)?.mentions_reasoning(&options));
        }
        let template = self.template.as_ref().map_err(Error::clone)?;
        Ok(template.as_ref().is_some_and(|template| template.mentions_reasoning(options)))
    }

    /// The tokens of a prompt.
    ///
    /// # Errors
    /// Those of the tokenizer and the template.
    pub fn tokens(&self, prompt: &Prompt, encoding: PromptEncoding) -> Result<Vec<u32>> {
        self.tokens_of(prompt, &self.lay_out(prompt, encoding, None)?)
    }

    /// The tokens of a prompt that is laid out.
    pub(super) fn tokens_of(&self, prompt: &Prompt, laid_out: &LaidOut) -> Result<Vec<u32>> {
        match prompt {
            Prompt::Tokens(tokens) => Ok(tokens.clone()),
            Prompt::Text(_) | Prompt::Messages { .. } => self.encode_laid_out(laid_out),
        }
    }

    /// A prompt as one text, before it becomes tokens. One of tokens has no text, and is empty.
    /// `tool_format` names the format of calls where the model's template does not tell it.
    pub(super) fn lay_out(
        &self,
        prompt: &Prompt,
        encoding: PromptEncoding,
        tool_format: Option<&str>,
    ) -> Result<LaidOut> {
        let PromptEncoding { add_special_tokens, split_special_tokens } = encoding;
        match prompt {
            Prompt::Tokens(_) => {
                Ok(LaidOut { text: MarkedText::default(), special: SpecialTokens::None })
            }
            Prompt::Text(text) if split_special_tokens => Ok(LaidOut {
                text: MarkedText::plain(text, self.tokenizer()?)?,
                special: SpecialTokens::given(add_special_tokens.unwrap_or(true)),
            }),
            Prompt::Text(text) => Ok(LaidOut {
                text: MarkedText::unmarked(text.clone()),
                special: add_special_tokens.map_or(SpecialTokens::IfMissing, SpecialTokens::given),
            }),
            // A template writes the special tokens itself.
            Prompt::Messages { messages, options } => {
                let plain_for = self.tokenizer.as_deref().filter(|_| split_special_tokens);
                let text = self.render_marked(messages, options, plain_for, tool_format)?;
                Ok(LaidOut { text, special: SpecialTokens::None })
            }
        }
    }

    /// The tokens of a prompt that is one text.
    pub(super) fn encode_laid_out(&self, prompt: &LaidOut) -> Result<Vec<u32>> {
        let tokenizer = self.tokenizer()?;
        match prompt.special {
            SpecialTokens::IfMissing => tokenizer.encode_prompt(&prompt.text.text),
            SpecialTokens::All => tokenizer.encode_marked(&prompt.text, true),
            SpecialTokens::None => tokenizer.encode_marked(&prompt.text, false),
        }
    }

    /// How reasoning and calls of tools are told from the text of the answer to `prompt`; `None` where
    /// nothing but text is looked for.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a format that there is not, [`Error::Unsupported`] where
    /// calls are to be read and no format is found.
    pub fn output_plan(
        &self,
        request: &GenerateRequest,
        prompt: &[u32],
    ) -> Result<Option<OutputPlan>> {
        let options = &request.output;
        let Some(tokenizer) = &self.tokenizer else { return Ok(None) };
        let mut render = ChatTemplateOptions::default();
        if let Prompt::Messages { options, .. } = &request.prompt {
            render = self.render_options(options)?;
        }
        let has_tools =
            render.tools.as_ref().and_then(Value::as_array).is_some_and(|it| !it.is_empty());
        let named = options.tool_format.is_some();
        let parse = options.parse_tool_calls.unwrap_or(has_tools || named);
        let found = self.formats(&render);
        let formats = OutputFormats {
            reasoning: match options.reasoning_format.as_deref() {
                Some("none") => None,
                Some(name) => Some(ReasoningFormat::named(name).ok_or_else(|| {
                    let names = ReasoningFormat::names();
                    Error::argument("reasoningFormat", format!("is none of {names}, none"))
                })?),
                // Its calls are messages, which the format of its reasoning tells apart.
                None if options.tool_format.as_deref() == Some("harmony") => {
                    ReasoningFormat::named("harmony")
                }
                None => found.reasoning,
            },
            calls: match options.tool_format.as_deref() {
                _ if !parse => None,
                Some(name) => Some(ToolFormat::named(name).ok_or_else(|| {
                    let names = ToolFormat::names();
                    Error::argument("toolFormat", format!("is none of {names}"))
                })?),
                None => found.calls,
            },
            // A grammar may have markers of its own.
            plain_text: !matches!(request.response_format, None | Some(Grammar::Lark(_))),
        };
        if formats.calls.is_none() && options.parse_tool_calls == Some(true) {
            return Err(unknown_format("parseToolCalls"));
        }
        if formats.calls.is_none() && parse && request.response_format.is_some() {
            return Err(unknown_format("responseFormat"));
        }
        let reasoning_budget = self.reasoning_budget(&render)?;
        if reasoning_budget.is_some() && formats.reasoning.is_none() {
            return Err(no_markers());
        }
        if formats.is_empty() && options.required_tools.is_none() {
            return Ok(None);
        }
        let continues =
            !matches!(request.prompt, Prompt::Messages { .. }) || render.continue_final_message;
        let length = if continues { LONGEST_CONTINUED } else { PROMPT_END };
        let prompt_end = tokenizer.decode(&prompt[prompt.len().saturating_sub(length)..], false)?;
        let tools = Arc::new(render.tools.as_ref().map(Tools::new).unwrap_or_default());
        Ok(Some(OutputPlan {
            formats,
            tools,
            prompt_end,
            continues,
            text_is_open: leaves_text_open(
                render.continue_final_message,
                render.continue_field.as_deref(),
            ),
            reasoning_is_off: render.reasoning.is_some_and(Reasoning::is_off),
            reasoning_budget,
            tokenizer: Arc::clone(tokenizer),
        }))
    }

    /// What of the answer to `request` its prompt, which reads `rendered`, has begun; empty where it
    /// has yet to begin.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where that is a call of a tool.
    pub(super) fn open_answer(
        &self,
        request: &GenerateRequest,
        rendered: &str,
        plan: Option<&OutputPlan>,
    ) -> Result<String> {
        let Prompt::Messages { options, .. } = &request.prompt else { return Ok(String::new()) };
        let render = self.render_options(options)?;
        let is_open =
            leaves_text_open(render.continue_final_message, render.continue_field.as_deref());
        if !is_open || plan.is_some_and(|plan| !plan.is_within_answer()) {
            return Ok(String::new());
        }
        let formats = plan.map(|plan| &plan.formats);
        let open = open_text(&request.prompt, rendered, formats.and_then(|it| it.reasoning))?;
        let calls = formats.and_then(|it| it.calls);
        if calls.is_some_and(|it| it.opens.iter().any(|begin| open.contains(begin))) {
            let message = "the open text has begun a call of a tool, which cannot be gone on with";
            return Err(Error::argument("continueFinalMessage", message));
        }
        // Space before JSON means nothing.
        Ok(match &request.response_format {
            Some(Grammar::Json { .. }) => open.trim_start().to_owned(),
            _ => open,
        })
    }

    /// An answer that has begun so, as a constraint takes it.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub(super) fn begun(&self, open: &str, encoding: PromptEncoding) -> Result<Vec<Begun>> {
        begun(open, self.tokenizer()?, encoding.split_special_tokens)
    }

    /// How many tokens of reasoning the options of a prompt's template allow.
    fn reasoning_budget(&self, options: &ChatTemplateOptions) -> Result<Option<usize>> {
        if options.reasoning.is_none() {
            return Ok(None);
        }
        if let Some(source) = options.template.as_ref().filter(|it| self.is_source(it)) {
            let options = ChatTemplateOptions { template: None, ..options.clone() };
            return ChatTemplate::from_source(source)?.reasoning_budget(&options);
        }
        match self.template.as_ref().map_err(Error::clone)? {
            Some(template) => template.reasoning_budget(options),
            None => Ok(None),
        }
    }

    /// Whether nothing has to be tried any more to know in which formats the model writes.
    pub fn knows_formats(&self) -> bool {
        self.tokenizer.is_none() || self.formats.get().is_some()
    }

    /// The formats that a request's template tells of: most often the model's own.
    fn formats(&self, options: &ChatTemplateOptions) -> OutputFormats {
        let tokenizer = self.tokenizer.as_deref();
        let own = self.template.as_ref().ok().and_then(Option::as_ref);
        match &options.template {
            None => self.formats.get_or_init(|| detect(own, None, tokenizer)).clone(),
            Some(source) if self.is_source(source) => {
                let template = ChatTemplate::from_source(source).ok();
                detect(template.as_ref(), None, tokenizer)
            }
            Some(name) => detect(own, Some(name), tokenizer),
        }
    }

    /// Whether `template` is the text of a template, and not the name of one that the model has.
    fn is_source(&self, template: &str) -> bool {
        let own = self.template.as_ref().ok().and_then(Option::as_ref);
        template.contains('{') && !own.is_some_and(|own| own.names().any(|name| name == template))
    }
}

/// A prompt as one text.
#[derive(Debug, Clone)]
pub(super) struct LaidOut {
    /// The text, and where in it no control token may begin.
    pub text: MarkedText,
    special: SpecialTokens,
}

/// Whether a text gets what the tokenizer puts around one.
#[derive(Debug, Clone, Copy)]
enum SpecialTokens {
    All,
    None,
    /// Unless it begins with that already.
    IfMissing,
}

impl SpecialTokens {
    fn given(add: bool) -> Self {
        if add { Self::All } else { Self::None }
    }
}

/// Whether an option is a list with anything in it.
fn is_given(list: &Option<Value>) -> bool {
    list.as_ref().and_then(Value::as_array).is_some_and(|it| !it.is_empty())
}

fn no_texts(option: &str) -> Error {
    let message = "needs a tokenizer whose tokens have a text of their own; in this one it \
                   depends on the token behind";
    Error::unsupported(option, message)
}

/// [`ChatTemplateOptions`] from JavaScript's words.
#[derive(Deserialize)]
#[serde(from = "CamelCase")]
struct RenderOptions(ChatTemplateOptions);

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct CamelCase {
    tools: Option<Value>,
    documents: Option<Value>,
    add_generation_prompt: bool,
    continue_final_message: bool,
    template: Option<String>,
    continue_field: Option<String>,
    now: Option<String>,
    variables: Map<String, Value>,
    reasoning: Option<Reasoning>,
}

impl From<CamelCase> for RenderOptions {
    fn from(options: CamelCase) -> Self {
        let CamelCase {
            tools,
            documents,
            add_generation_prompt,
            continue_final_message,
            template,
            continue_field,
            now,
            variables,
            reasoning,
        } = options;
        Self(ChatTemplateOptions {
            tools,
            documents,
            add_generation_prompt,
            continue_final_message,
            template,
            continue_field,
            now,
            variables,
            reasoning,
            calls: None,
        })
    }
}

#[cfg(test)]
impl Text {
    /// A text side with nothing but end tokens.
    pub fn for_tests(end_tokens: Vec<u32>) -> Self {
        Self {
            tokenizer: None,
            unread: Vec::new(),
            template: Ok(None),
            end_tokens,
            formats: OnceLock::new(),
            vocabulary: OnceLock::new(),
            least_tokens: OnceLock::new(),
            sorted_tokens: OnceLock::new(),
        }
    }
}

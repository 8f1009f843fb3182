//! The template engine: minijinja, set up the way transformers sets up Jinja2, with limits.

use std::fmt;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread;

use minijinja::{Environment, Error as JinjaError};
use serde_json::{Map, Value as Json, json};

use super::effort::Efforts;
use super::environment::{self, Raised};
use super::forms::{self, Forms};
use super::limits::{self, TemplateLimits};
use super::reads::Reads;
use super::{convert, syntax};
use crate::error::{Error, Result};

/// Templates are a few kilobytes; the largest published ones have about 30.
const MAX_SOURCE: usize = 1 << 20;

/// The stack of the threads that templates are parsed and rendered on: the engine recurses into
/// macros, values and expressions. What [`limits`] lets a template nest needs about 200 MB in a
/// debug build. The system provides only what is touched.
const STACK: usize = 256 << 20;

/// What a macro that calls itself adds to minijinja's count of frames: the call, and the blocks in
/// which it stands.
const FRAMES_PER_CALL: usize = 16;

/// Trying a template takes this part of the time that a rendering may take.
const TRIALS: u32 = 4;

/// A parsed template in an environment of its own.
pub(super) struct Compiled {
    environment: Environment<'static>,
    origin: String,
    source: String,
    reads: Reads,
    /// Found out when it is first asked for.
    forms: OnceLock<Forms>,
    efforts: OnceLock<Efforts>,
}

impl Compiled {
    /// Parses `source`; `origin` is its name in errors.
    pub fn new(origin: &str, source: &str) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            return Err(Error::template(format!(
                "{origin}: a template of {} bytes; more than {MAX_SOURCE} are refused",
                source.len()
            )));
        }
        let (environment, reads) = on_large_stack(|| {
            let prepared = syntax::prepare(source).map_err(|error| {
                Error::template(format!("{origin}, line {}: {}", error.line, error.message))
            })?;
            let reads = Reads::of(&prepared.statements);
            let mut environment = environment::new().map_err(|error| describe(&error))?;
            environment
                .add_template_owned(origin.to_owned(), prepared.text)
                .map_err(|error| describe(&error))?;
            Ok((environment, reads))
        })?;
        Ok(Self {
            environment,
            origin: origin.to_owned(),
            source: source.to_owned(),
            reads,
            forms: OnceLock::new(),
            efforts: OnceLock::new(),
        })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// What it reads of messages.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// The forms in which it takes messages.
    pub fn forms(&self, limits: TemplateLimits) -> &Forms {
        self.forms.get_or_init(|| {
            Forms::find(&self.reads, limits.time / TRIALS, &|messages| {
                self.attempt(messages, forms::tools(), Map::new(), limits)
            })
        })
    }

    /// How it can be told how much to reason.
    pub fn efforts(&self, limits: TemplateLimits) -> &Efforts {
        self.efforts.get_or_init(|| {
            Efforts::find(&self.reads, &|mut variables, with_tools| {
                variables.insert("add_generation_prompt".to_owned(), true.into());
                let user = json!({ "role": "user", "content": "probe" });
                let tools = if with_tools { forms::tools() } else { Json::Null };
                self.attempt(json!([user]), tools, variables, limits)
            })
        })
    }

    /// What it makes of messages that it is tried with.
    fn attempt(
        &self,
        messages: Json,
        tools: Json,
        more: Map<String, Json>,
        limits: TemplateLimits,
    ) -> Option<String> {
        let mut variables = Map::new();
        for name in ["bos_token", "eos_token", "pad_token", "unk_token"] {
            variables.insert(name.to_owned(), "".into());
        }
        variables.insert("documents".to_owned(), Json::Null);
        variables.insert("messages".to_owned(), messages);
        variables.insert("tools".to_owned(), tools);
        variables.insert(environment::NOW.to_owned(), "2025-01-01T00:00:00".into());
        variables.extend(more);
        let limits = TemplateLimits { time: limits.time / TRIALS, ..limits };
        self.render(variables, limits, None).ok()
    }

    /// Renders the template with `variables`.
    pub fn render(
        &self,
        variables: Map<String, Json>,
        limits: TemplateLimits,
        cancelled: Option<&Arc<AtomicBool>>,
    ) -> Result<String> {
        let mut environment = self.environment.clone();
        environment.set_recursion_limit(limits.recursion.saturating_mul(FRAMES_PER_CALL));
        let output = on_large_stack(|| {
            let input = convert::size(&variables);
            limits::metered(limits, input, cancelled.cloned(), || {
                let mut output = Output { text: Vec::new(), length: limits.length };
                let render = || {
                    let template = environment.get_template(&self.origin)?;
                    let variables = convert::value(Json::Object(variables));
                    template.render_captured_to(variables, &mut output).map(drop)
                };
                // An error holds the template's variables, so it ends on this thread.
                render().map_err(|error| describe(&error))?;
                Ok(output.text)
            })
        })?;
        String::from_utf8(output)
            .map_err(|error| Error::template(format!("{}: {error}", self.origin)).caused_by(error))
    }
}

/// Runs `work` on a thread with a stack of [`STACK`] bytes, and waits for it.
fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let failed = |message: String| Error::template(message);
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("chat-template".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| {
                failed(format!("there is no memory for a thread: {error}")).caused_by(error)
            })?;
        thread.join().unwrap_or_else(|_| {
            Err(failed("the template engine failed on this template".to_owned()))
        })
    })
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").field("origin", &self.origin).finish_non_exhaustive()
    }
}

fn describe(error: &JinjaError) -> Error {
    let mut innermost: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = innermost.source() {
        innermost = source;
        if let Some(raised) = innermost.downcast_ref::<Raised>() {
            return Error::template(&raised.0);
        }
    }
    let place = match (error.name(), error.line()) {
        (Some(name), Some(line)) => format!("{name}, line {line}: "),
        (Some(name), None) => format!("{name}: "),
        _ => String::new(),
    };
    if error.detail() == Some(limits::CANCELLED) {
        return Error::Aborted(limits::CANCELLED.to_owned());
    }
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    Error::template(format!("{place}{what}"))
}

/// Collects the output up to a length.
struct Output {
    text: Vec<u8>,
    length: usize,
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.length {
            let message = format!("the prompt is longer than {} MB", self.length >> 20);
            return Err(io::Error::other(message));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! The template engine: minijinja, set up the way transformers sets up Jinja2, with limits.

use std::fmt;
use std::io;
use std::thread;

use minijinja::{Environment, Error as JinjaError};
use serde_json::{Map, Value as Json};

use super::environment::{self, Raised};
use super::{convert, source};
use crate::error::{Error, Result};

/// Templates are a few kilobytes; the largest published ones have about 30.
const MAX_SOURCE: usize = 1 << 20;

/// The work one rendering may do: an instruction costs 1, as do 64 bytes written or copied. Long
/// conversations may do more, for templates with loops in loops: [`FUEL_PER_BYTE`] for each byte.
const FUEL: u64 = 2_000_000;
/// See [`FUEL`].
const FUEL_PER_BYTE: u64 = 10;

/// The stack of the threads that templates are parsed and rendered on. The engine recurses into
/// values and expressions, and frees them, as deep as they are nested, without a limit. What [`FUEL`]
/// can nest needs about 200 MB in a debug build. The system provides only what is touched.
const STACK: usize = 256 << 20;

/// Macros and recursive loops may be nested this deep. (Python gives up at about 200.)
const MAX_RECURSION: usize = 100;

/// The longest prompt, in bytes.
const MAX_OUTPUT: usize = 64 << 20;

/// A parsed template in an environment of its own.
pub(super) struct Compiled {
    environment: Environment<'static>,
    origin: String,
    source: String,
}

impl Compiled {
    /// Parses `source`; `origin` is its name in errors.
    pub fn new(origin: &str, source: &str) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            return Err(Error::Template {
                message: format!(
                    "{origin}: a template of {} bytes; more than {MAX_SOURCE} are refused",
                    source.len()
                ),
            });
        }
        let prepared = source::prepare(source).map_err(|(line, problem)| Error::Template {
            message: format!("{origin}, line {line}: {problem}"),
        })?;
        let mut environment = environment::new().map_err(|error| describe(&error))?;
        environment.set_recursion_limit(MAX_RECURSION);
        on_large_stack(|| environment.add_template_owned(origin.to_owned(), prepared))?;
        Ok(Self { environment, origin: origin.to_owned(), source: source.to_owned() })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders the template with `variables`.
    pub fn render(&self, variables: Map<String, Json>) -> Result<String> {
        let variables = Json::Object(variables);
        let bytes = u64::try_from(variables.to_string().len()).unwrap_or(u64::MAX);
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL.saturating_add(bytes.saturating_mul(FUEL_PER_BYTE))));
        let output = on_large_stack(|| {
            let mut output = Output(Vec::new());
            let template = environment.get_template(&self.origin)?;
            template.render_captured_to(convert::value(variables), &mut output)?;
            Ok(output.0)
        })?;
        String::from_utf8(output)
            .map_err(|error| Error::Template { message: format!("{}: {error}", self.origin) })
    }
}

/// Runs `work` on a thread with a stack of [`STACK`] bytes, and waits for it.
fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, JinjaError> + Send) -> Result<T> {
    // An error holds the template's variables, so it ends on that thread too.
    let work = || work().map_err(|error| describe(&error));
    let failed = |message: String| Error::Template { message };
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("chat-template".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| failed(format!("there is no memory for a thread: {error}")))?;
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
            return Error::Template { message: raised.0.clone() };
        }
    }
    let place = match (error.name(), error.line()) {
        (Some(name), Some(line)) => format!("{name}, line {line}: "),
        (Some(name), None) => format!("{name}: "),
        _ => String::new(),
    };
    let what = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    Error::Template { message: format!("{place}{what}") }
}

/// Collects the output up to [`MAX_OUTPUT`].
struct Output(Vec<u8>);

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("the prompt exceeds {MAX_OUTPUT} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

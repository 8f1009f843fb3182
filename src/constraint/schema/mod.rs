//! JSON Schema (draft 2020-12, and what earlier drafts and OpenAPI write differently) in the form
//! that the parser enforces exactly.
//!
//! Every keyword is enforced, has no effect on what is valid, or is refused by its name. References
//! lead to `$defs` of the whole afterwards, patterns are in the parser's syntax, and keywords that
//! say what simpler ones can say are replaced by those.

mod endless;
mod formats;
mod keywords;
mod lowering;
mod references;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use lowering::Lowering;

/// A schema as the parser reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lowered {
    /// The schema: an object.
    pub schema: Value,
    /// What it does not enforce.
    pub warnings: Vec<String>,
}

/// How deep a schema's JSON may be.
const MAX_DEPTH: usize = 256;

/// White space between the parts of JSON: none, a space, or a new line with some indentation. More
/// has no use, and a model could go on with it for ever.
const WHITESPACE: &str = r" |\n {0,32}";

/// Escapes of control characters in strings. `\u0041` and the like are not among them: they could
/// write a property's name in a way that the parser does not recognize.
const ESCAPES: &str = "nrbtf\\\"";

/// The schema in `text`.
///
/// # Errors
/// [`Error::InvalidArgument`] for `option`.
pub fn parse(text: &str, option: &str) -> Result<Value> {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => depth += 1,
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > MAX_DEPTH {
        let message = format!("is nested deeper than {MAX_DEPTH} levels");
        return Err(Error::argument(option, message));
    }
    serde_json::from_str(text)
        .map_err(|error| Error::argument(option, format!("is not JSON: {error}")).caused_by(error))
}

/// `schema` in the parser's form. Where `strict` is false, what cannot be enforced is left out, with
/// a warning.
///
/// # Errors
/// [`Error::InvalidArgument`] for `option`, with the keyword and where it is.
pub fn lower(schema: &Value, option: &str, strict: bool) -> Result<Lowered> {
    let lowering = Lowering::new(schema, strict);
    let (mut schema, warnings) = lowering.run().map_err(|problem| {
        let at = match problem.path.as_str() {
            "#" => String::new(),
            path => format!(" (at {path})"),
        };
        Error::argument(option, format!("{}{at}", problem.message))
    })?;
    schema.insert(
        "x-guidance".to_owned(),
        json!({
            "whitespace_flexible": false,
            "whitespace_pattern": WHITESPACE,
            "json_allowed_escapes": ESCAPES,
            "coerce_one_of": !strict,
        }),
    );
    Ok(Lowered { schema: Value::Object(schema), warnings })
}

/// What is wrong with a schema, and where.
#[derive(Debug)]
struct Problem {
    /// A JSON pointer, behind `#`.
    path: String,
    message: String,
}

/// An object of JSON.
type Object = Map<String, Value>;

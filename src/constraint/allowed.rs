//! Which of some values a schema allows.

use std::sync::{Arc, LazyLock};

use llguidance::Matcher;
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::Value;

use super::vocabulary::{Vocabulary, Word};
use crate::error::{Error, Result};

/// A token for each byte.
static BYTES: LazyLock<Result<Arc<Vocabulary>>> = LazyLock::new(|| {
    let words = (0..=u8::MAX).map(|byte| Word::Text(vec![byte])).collect();
    Vocabulary::new(words, &[]).map(Arc::new)
});

/// Those of `values`, none of which is an object, that a lowered schema allows: those whose JSON it
/// takes.
///
/// # Errors
/// [`Error::InvalidArgument`] for `option`, where the schema does not compile.
pub fn allowed(schema: &Value, values: Vec<Value>, option: &str) -> Result<Vec<Value>> {
    let vocabulary = BYTES.as_ref().map_err(Error::clone)?;
    let grammars = vec![GrammarWithLexer::from_json_schema(schema.clone())];
    let grammar = TopLevelGrammar { grammars, max_tokens: None };
    let matcher = Matcher::new(vocabulary.factory().create_parser(grammar));
    if let Some(error) = matcher.get_error() {
        let reason = error.lines().next().unwrap_or_default().trim().to_owned();
        return match reason.contains("Unsatisfiable schema") {
            true => Ok(Vec::new()),
            false => Err(Error::argument(option, reason)),
        };
    }
    let is_allowed = |value: &Value| {
        let mut matcher = matcher.deep_clone();
        let bytes: Vec<u32> = value.to_string().bytes().map(u32::from).collect();
        matcher.try_consume_tokens(&bytes).is_ok_and(|taken| taken == bytes.len())
            && matcher.is_accepting().unwrap_or(false)
    };
    Ok(values.into_iter().filter(is_allowed).collect())
}

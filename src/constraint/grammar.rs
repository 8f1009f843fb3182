//! From what a request asks for to a parser.

use std::sync::{Arc, Mutex, PoisonError};

use llguidance::Matcher;
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};

use super::pattern;
use super::schema::{self, Lowered};
use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// What an answer must be, as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grammar {
    /// JSON that a schema allows.
    Json {
        /// The schema's JSON text; `true` for any JSON.
        schema: String,
        /// Whether a keyword that cannot be enforced is an error, and not a warning.
        strict: bool,
    },
    /// Text that a regular expression of JavaScript's syntax matches from its beginning to its end.
    Regex(String),
    /// One of some texts.
    Choice(Vec<String>),
    /// A text of a grammar in llguidance's dialect of Lark.
    Lark(String),
}

/// From where on an answer is constrained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Begin {
    /// From its first token.
    #[default]
    Now,
    /// Behind the first appearance of these tokens in a row. Before them every token may come that
    /// does not end the answer.
    AfterTokens(Vec<u32>),
    /// Behind the first appearance of this text, which may end within a token. Before it every
    /// text may come, without special tokens.
    AfterText(String),
}

/// A compiled grammar.
pub struct Constraint {
    matcher: Mutex<Matcher>,
    vocabulary: Arc<Vocabulary>,
    awaited: Option<Vec<u32>>,
    warnings: Vec<String>,
}

/// Longer grammars and patterns are refused before they are looked at.
const MAX_SOURCE: usize = 1 << 20;

/// More choices than this are no choice.
const MAX_CHOICES: usize = 10_000;

/// The name of the answer's grammar where another one leads to it.
const ANSWER: &str = "answer";

impl Grammar {
    /// Compiles the grammar. It takes milliseconds, and for extreme ones some seconds at most.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for `responseFormat.schema`, `.pattern`, `.options` or `.lark`,
    /// with the reason.
    pub fn compile(&self, vocabulary: &Arc<Vocabulary>, begin: &Begin) -> Result<Constraint> {
        let (grammar, mut warnings) = self.source()?;
        let grammars = match begin {
            Begin::AfterText(marker) => vec![behind(marker, self)?, named(grammar)],
            Begin::Now | Begin::AfterTokens(_) => vec![grammar],
        };
        let grammar = TopLevelGrammar { grammars, max_tokens: None };
        let mut matcher = Matcher::new(vocabulary.factory().create_parser(grammar));
        if let Some(error) = matcher.get_error() {
            return Err(Error::argument(self.option(), reason(&error)));
        }
        warnings.extend(matcher.grammar_warnings().iter().map(|warning| reason(warning)));
        let awaited = match begin {
            Begin::AfterTokens(tokens) if !tokens.is_empty() => Some(tokens.clone()),
            _ => None,
        };
        let vocabulary = Arc::clone(vocabulary);
        Ok(Constraint { matcher: Mutex::new(matcher), vocabulary, awaited, warnings })
    }

    /// The option that says what the grammar is.
    fn option(&self) -> &'static str {
        match self {
            Self::Json { .. } => "responseFormat.schema",
            Self::Regex(_) => "responseFormat.pattern",
            Self::Choice(_) => "responseFormat.options",
            Self::Lark(_) => "responseFormat.lark",
        }
    }

    fn source(&self) -> Result<(GrammarWithLexer, Vec<String>)> {
        let too_long = |text: &str| match text.len() > MAX_SOURCE {
            true => Err(Error::argument(self.option(), "is longer than a megabyte")),
            false => Ok(()),
        };
        match self {
            Self::Json { schema, strict } => {
                too_long(schema)?;
                let schema = schema::parse(schema, self.option())?;
                let Lowered { schema, warnings } = schema::lower(&schema, self.option(), *strict)?;
                Ok((GrammarWithLexer::from_json_schema(schema), warnings))
            }
            Self::Regex(pattern) => {
                too_long(pattern)?;
                let pattern = pattern::translate(pattern)
                    .map_err(|error| Error::argument(self.option(), error.to_string()))?;
                Ok((GrammarWithLexer::from_regex(&pattern), Vec::new()))
            }
            Self::Choice(options) => {
                if options.is_empty() || options.len() > MAX_CHOICES {
                    let message = format!("must have 1 to {MAX_CHOICES} options");
                    return Err(Error::argument(self.option(), message));
                }
                let mut pattern = String::new();
                for (index, option) in options.iter().enumerate() {
                    if option.is_empty() {
                        return Err(Error::argument(
                            format!("{}[{index}]", self.option()),
                            "is empty",
                        ));
                    }
                    if index > 0 {
                        pattern.push('|');
                    }
                    pattern.push_str(&pattern::literal(option));
                }
                too_long(&pattern)?;
                Ok((GrammarWithLexer::from_regex(&format!("(?:{pattern})")), Vec::new()))
            }
            Self::Lark(lark) => {
                too_long(lark)?;
                Ok((GrammarWithLexer::from_lark(lark.clone()), Vec::new()))
            }
        }
    }
}

/// Any text up to `marker`, and the answer behind it.
fn behind(marker: &str, grammar: &Grammar) -> Result<GrammarWithLexer> {
    if marker.is_empty() {
        return Err(Error::argument("responseFormat", "begins behind an empty text"));
    }
    let marker = pattern::literal(marker);
    // Models write empty lines between their reasoning and the answer.
    let space = match grammar {
        Grammar::Json { .. } => "SPACE? ",
        _ => "",
    };
    Ok(GrammarWithLexer::from_lark(format!(
        "start: before {space}@{ANSWER}\nbefore[lazy]: /(?s:.*){marker}/\nSPACE: /[ \\n]{{1,4}}/\n"
    )))
}

fn named(grammar: GrammarWithLexer) -> GrammarWithLexer {
    GrammarWithLexer { name: Some(ANSWER.to_owned()), ..grammar }
}

/// What the parser says, without what it says of itself.
fn reason(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default().trim();
    if first.contains("oneOf constraints are not supported") {
        return "\"oneOf\" cannot be enforced where its schemas are not told apart by their types \
                or by a required property with different constants: use \"anyOf\", or strict: false"
            .to_owned();
    }
    if first.starts_with("oneOf not fully supported") {
        return "\"oneOf\" is treated as \"anyOf\": its schemas are not told apart".to_owned();
    }
    first.to_owned()
}

impl Constraint {
    /// What is not enforced, or differently.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(super) fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    pub(super) fn awaited(&self) -> Option<&[u32]> {
        self.awaited.as_deref()
    }

    /// A parser at the beginning of an answer.
    pub(super) fn matcher(&self) -> Matcher {
        self.matcher.lock().unwrap_or_else(PoisonError::into_inner).deep_clone()
    }
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

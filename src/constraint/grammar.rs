//! From what a request asks for to a parser.

use std::sync::{Arc, Mutex, PoisonError};

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use llguidance::{Matcher, regex_to_lark};

use super::digits::{Digits, JsonHead};
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
    /// Calls of tools, or something else.
    Calls {
        /// A grammar in the same dialect, to which `@other` is what may come instead.
        lark: String,
        /// What may come instead of calls; `None` for nothing.
        other: Option<Box<Self>>,
        /// What calls begin with, as far as that is text.
        markers: Vec<String>,
        /// What JSON begins behind; `None` where all is JSON.
        heads: Option<Vec<JsonHead>>,
        /// What of the tools' schemas is not enforced.
        warnings: Vec<String>,
    },
}

/// From where on an answer is constrained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Begin {
    /// From its first token.
    #[default]
    Now,
    /// Behind the first appearance of a marker, and what may come between them. Before tokens every
    /// token may come that does not end the answer, before a text every text, without special
    /// tokens.
    Behind { marker: Marker, bridge: Option<Marker> },
    /// From its first token, or behind reasoning, which stands between two markers, and what may
    /// come behind that.
    NowOrBehind { reasoning: [Marker; 2], bridge: Option<Marker> },
}

/// What tells parts of an answer apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marker {
    /// These tokens in a row.
    Tokens(Vec<u32>),
    /// A text, which may end within a token.
    Text(String),
}

impl Marker {
    /// It as an expression of a grammar, behind any text or at once.
    fn expression(&self, behind_text: bool) -> String {
        let before = if behind_text { "(?s:.*)" } else { "" };
        match self {
            Self::Text(text) => format!("/{before}{}/", pattern::literal(text)),
            Self::Tokens(tokens) => {
                let before = if behind_text { format!("/{before}/") } else { String::new() };
                tokens.iter().fold(before, |written, token| format!("{written} <[{token}]>"))
            }
        }
    }
}

/// A piece of an answer that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Text, however the model would cut it into tokens.
    Text(String),
    /// A special token.
    Token(u32),
}

/// A compiled grammar.
pub struct Constraint {
    matcher: Mutex<Matcher>,
    vocabulary: Arc<Vocabulary>,
    awaited: Option<Vec<u32>>,
    /// Where in JSON the answer is, where it is JSON.
    digits: Option<Digits>,
    warnings: Vec<String>,
}

/// Longer grammars and patterns are refused before they are looked at.
const MAX_SOURCE: usize = 1 << 20;

/// More choices than this are no choice.
const MAX_CHOICES: usize = 10_000;

/// The name of the answer's grammar where another one leads to it.
const ANSWER: &str = "answer";

/// The name of the grammar of what may come instead of calls.
const OTHER: &str = "other";

impl Grammar {
    /// Compiles the grammar. It takes milliseconds, and for extreme ones some seconds at most.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for `responseFormat.schema`, `.pattern`, `.options` or `.lark`,
    /// with the reason.
    pub fn compile(&self, vocabulary: &Arc<Vocabulary>, begin: &Begin) -> Result<Constraint> {
        let (mut grammars, mut warnings) = self.sources()?;
        if let Some(lead) = Self::lead(begin)? {
            grammars[0].name = Some(ANSWER.to_owned());
            grammars.insert(0, GrammarWithLexer::from_lark(lead));
        }
        let grammar = TopLevelGrammar { grammars, max_tokens: None };
        let mut matcher = Matcher::new(vocabulary.factory().create_parser(grammar));
        if let Some(error) = matcher.get_error() {
            // The parser does not tell whose fault it is.
            if let Self::Calls { other: Some(other), .. } = self {
                other.compile(vocabulary, &Begin::Now)?;
            }
            return Err(Error::argument(self.option(), reason(&error)));
        }
        warnings.extend(matcher.grammar_warnings().iter().map(|warning| reason(warning)));
        let awaited = match begin {
            Begin::Behind { marker: Marker::Tokens(tokens), .. } if !tokens.is_empty() => {
                Some(tokens.clone())
            }
            _ => None,
        };
        let vocabulary = Arc::clone(vocabulary);
        let digits = self.digits(begin);
        Ok(Constraint { matcher: Mutex::new(matcher), vocabulary, awaited, digits, warnings })
    }

    /// What follows the numbers of an answer, where it is JSON.
    fn digits(&self, begin: &Begin) -> Option<Digits> {
        // Reasoning is no JSON; special tokens begin anew in any case.
        let behind = match begin {
            Begin::Behind { marker: Marker::Text(text), .. }
            | Begin::NowOrBehind { reasoning: [_, Marker::Text(text)], .. } => Some(text.clone()),
            _ => None,
        };
        match self {
            Self::Json { .. } => Some(Digits::new(behind.into_iter().collect())),
            Self::Calls { heads: None, markers, .. } => {
                Some(Digits::new(markers.iter().cloned().chain(behind).collect()))
            }
            Self::Calls { heads: Some(heads), other, .. } => {
                let whole = other.as_deref().map(|it| matches!(it, Self::Json { .. }));
                let may_be_whole = whole == Some(true);
                let behind = behind.map(JsonHead::of_answer);
                let heads = heads.iter().cloned().chain(behind);
                let heads = heads.filter(|head| may_be_whole || !head.is_answer).collect();
                Some(Digits::among_text(heads, whole))
            }
            Self::Regex(_) | Self::Choice(_) | Self::Lark(_) => None,
        }
    }

    /// The option that says what the grammar is.
    fn option(&self) -> &'static str {
        match self {
            Self::Json { .. } => "responseFormat.schema",
            Self::Regex(_) => "responseFormat.pattern",
            Self::Choice(_) => "responseFormat.options",
            Self::Lark(_) => "responseFormat.lark",
            Self::Calls { .. } => "tools",
        }
    }

    /// The grammar, and behind it those that it leads to; and what is not enforced.
    fn sources(&self) -> Result<(Vec<GrammarWithLexer>, Vec<String>)> {
        let (grammar, mut warnings) = self.source()?;
        let mut grammars = vec![grammar];
        if let Self::Calls { other: Some(other), markers, .. } = self {
            let (other, more) = match other.as_ref() {
                Self::Regex(pattern) if !markers.is_empty() => {
                    (but_calls(&translated(pattern)?, markers), Vec::new())
                }
                other => other.source()?,
            };
            grammars.push(GrammarWithLexer { name: Some(OTHER.to_owned()), ..other });
            warnings.extend(more);
        }
        Ok((grammars, warnings))
    }

    /// What comes before the answer's grammar, as one that leads to it. Models write empty lines
    /// between their reasoning and the answer.
    fn lead(begin: &Begin) -> Result<Option<String>> {
        let (start, bridge, mut rules) = match begin {
            Begin::Now => return Ok(None),
            Begin::Behind { marker: Marker::Text(text), .. } if text.is_empty() => {
                return Err(Error::argument("responseFormat", "begins behind an empty text"));
            }
            // The tokens are awaited without the parser.
            Begin::Behind { marker: Marker::Tokens(_), bridge } => {
                (format!("BRIDGE SPACE? @{ANSWER}"), bridge, String::new())
            }
            Begin::Behind { marker, bridge } => {
                let rules = format!("before[lazy]: {}\n", marker.expression(true));
                (format!("before BRIDGE SPACE? @{ANSWER}"), bridge, rules)
            }
            Begin::NowOrBehind { reasoning: [open, close], bridge } => {
                let is_lazy = matches!(close, Marker::Text(_));
                let rest = if is_lazy { "rest[lazy]" } else { "rest" };
                let rules = format!(
                    "reasoning: {} rest\n{rest}: {}\n",
                    open.expression(false),
                    close.expression(true)
                );
                (format!("(reasoning BRIDGE SPACE?)? @{ANSWER}"), bridge, rules)
            }
        };
        let bridge = bridge.as_ref().map_or(String::new(), |bridge| {
            rules += &format!("bridge: SPACE? {}\n", bridge.expression(false));
            "bridge?".to_owned()
        });
        let start = start.replace("BRIDGE", &bridge);
        Ok(Some(format!("start: {start}\n{rules}SPACE: /[ \\n]{{1,4}}/\n")))
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
                Ok((GrammarWithLexer::from_regex(&translated(pattern)?), Vec::new()))
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
            Self::Calls { lark, warnings, .. } => {
                too_long(lark)?;
                Ok((GrammarWithLexer::from_lark(lark.clone()), warnings.clone()))
            }
        }
    }
}

fn translated(pattern: &str) -> Result<String> {
    pattern::translate(pattern)
        .map_err(|error| Error::argument("responseFormat.pattern", error.to_string()))
}

/// A pattern that matches no text which would be read as a call.
fn but_calls(pattern: &str, markers: &[String]) -> GrammarWithLexer {
    let markers: Vec<String> = markers.iter().map(|it| pattern::literal(it)).collect();
    let calls = format!(r"(?s:\s*(?:{}).*)", markers.join("|"));
    let pattern = regex_to_lark(pattern, "");
    GrammarWithLexer::from_lark(format!("start: TEXT\nTEXT: /{pattern}/ & ~/{calls}/"))
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

    /// The same behind what the answer has begun with.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for `continueFinalMessage` where no answer begins so.
    pub fn behind(mut self, begun: &[Begun]) -> Result<Self> {
        {
            let mut matcher = self.matcher.lock().unwrap_or_else(PoisonError::into_inner);
            for piece in begun {
                let tokens = match piece {
                    Begun::Text(text) => self.vocabulary.cut(text.as_bytes()),
                    Begun::Token(token) => vec![*token],
                };
                let taken = matcher.try_consume_tokens(&tokens).map_err(|error| {
                    Error::Unsupported(format!("the open answer cannot be followed: {error}"))
                })?;
                if taken < tokens.len() {
                    return Err(self.vocabulary.is_no_beginning(&tokens, taken));
                }
                if let Some(digits) = &mut self.digits {
                    tokens.iter().for_each(|&token| self.vocabulary.follow(digits, token));
                }
            }
        }
        Ok(self)
    }

    pub(super) fn vocabulary(&self) -> &Arc<Vocabulary> {
        &self.vocabulary
    }

    pub(super) fn digits_at_start(&self) -> Option<Digits> {
        self.digits.clone()
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

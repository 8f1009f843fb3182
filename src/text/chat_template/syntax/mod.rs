//! A template as Jinja2 reads it, written down for minijinja.
//!
//! minijinja has no hook for operators, loops or statements of its own, and its operators are not
//! Python's. So every tag is parsed the way Jinja2 does it and written anew, tag by tag; text and
//! comments stay as they are, and every tag stays in its line, so that errors name the right one.
//! What becomes what:
//! - operators and slices become calls of the functions in [`names`], which do what Python does, and
//!   count what they allocate;
//! - a loop says when a pass begins, and a macro when it is called, so that time and memory are
//!   counted there;
//! - `a.items` and `a['items']` (and the other [`DICT_METHODS`]) become calls of
//!   [`names::ATTRIBUTE`] and [`names::ITEM`], because a Python dictionary has these names besides
//!   its keys: templates for tools meet them in JSON schemas, where `items` is a key that may be
//!   missing;
//! - `{% generation %}…{% endgeneration %}` (it marks the assistant's tokens for training) becomes
//!   `{% with %}…{% endwith %}`, which has the same scope;
//! - the line break behind `{% raw %}`, which only minijinja drops, is kept.

mod expression;
mod lexer;
mod literal;
mod statement;
mod writer;

pub(super) use self::expression::{Argument, Expr, Node};
pub(super) use self::statement::{Parameter, Statement};

use self::lexer::Piece;
use self::writer::Writer;

/// The functions that stand for what minijinja lacks.
pub(super) mod names {
    /// Operators of one precedence: `a + b - c` is `__chain(a, '+', b, '-', c)`.
    pub const CHAIN: &str = "__chain";
    /// `-a`
    pub const NEGATIVE: &str = "__negative";
    /// `a ~ b`
    pub const CONCAT: &str = "__concat";
    /// `a < b <= c` is `__compare(a, '<', b, '<=', c)`.
    pub const COMPARE: &str = "__compare";
    /// `a[b:c:d]`
    pub const SLICE: &str = "__slice";
    /// A list, a tuple or a dictionary that is written out.
    pub const LITERAL: &str = "__literal";
    /// A key of a dictionary, which must be hashable.
    pub const KEY: &str = "__key";
    /// `a.items`
    pub const ATTRIBUTE: &str = "__attribute";
    /// `a['items']`
    pub const ITEM: &str = "__item";
    /// What a loop goes through.
    pub const EACH: &str = "__each";
    /// The memory at the beginning of a loop.
    pub const MARK: &str = "__mark";
    /// The variable that holds it.
    pub const MARKED: &str = "__marked";
    /// A pass of a loop, or a call of a macro, begins.
    pub const PASS: &str = "__pass";
    /// A value that goes into a namespace.
    pub const KEEP: &str = "__keep";
}

/// The public methods of Python's dictionaries.
pub(super) const DICT_METHODS: [&str; 11] = [
    "clear",
    "copy",
    "fromkeys",
    "get",
    "items",
    "keys",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "values",
];

/// A tag that does not parse.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub line: usize,
    pub message: String,
}

impl SyntaxError {
    fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// A template's text for minijinja, and what its tags say.
pub(super) struct Prepared {
    pub text: String,
    pub statements: Vec<Statement>,
}

/// Reads a template.
pub(super) fn prepare(source: &str) -> Result<Prepared, SyntaxError> {
    // Jinja2 reads every kind of line break as \n.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut writer = Writer::new();
    let mut statements = Vec::new();
    for piece in lexer::pieces(&source)? {
        match piece {
            Piece::Text(text) => writer.text(text),
            Piece::Comment(text) | Piece::Open(text) => writer.verbatim(text),
            Piece::Raw { tag, rest } => {
                writer.verbatim(tag);
                writer.verbatim(if tag.ends_with('-') { "%}" } else { "+%}" });
                writer.text(rest);
            }
            Piece::Tag(tag) => {
                let statement = statement::parse(&tag)?;
                writer.tag(&tag, &statement);
                statements.push(statement);
            }
        }
    }
    Ok(Prepared { text: writer.finish(), statements })
}

//! What an answer may be: JSON of a schema, a regular expression, one of some choices or a grammar,
//! as a set of tokens that may come next.
//!
//! A [`Grammar`] is compiled for a [`Vocabulary`] into a [`Constraint`], whose [`Masks`] follow an
//! answer token by token. The parser is llguidance's: an Earley parser over derivatives of regular
//! expressions. What it cannot enforce exactly is refused by [`schema`] before it gets there.
//!
//! Nothing here knows of MLX or of a tokenizer.

mod allowed;
mod digits;
mod grammar;
mod masks;
mod pattern;
pub mod schema;
#[cfg(test)]
mod tests;
mod token_set;
mod vocabulary;

pub use allowed::allowed;
pub use digits::JsonHead;
pub use grammar::{Begin, Begun, Constraint, Grammar, Marker};
pub use masks::Masks;
pub use pattern::translate as translate_pattern;
pub use token_set::TokenSet;
pub use vocabulary::{Vocabulary, Word};

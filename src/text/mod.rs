//! Text on both sides of the model: tokens, streamed detokenization, stop strings and chat
//! templates.
//!
//! Nothing here knows of MLX; everything is `Send + Sync` or owned by one sequence.

mod added_tokens;
mod byte_fallback;
pub mod chat_template;
pub mod detokenizer;
pub mod end_tokens;
mod files;
mod formats;
mod guard;
mod least_tokens;
pub mod marks;
pub mod output;
pub mod stop;
mod stop_pattern;
#[cfg(test)]
pub(crate) mod test_folder;
mod token_bytes;
pub mod tokenizer;

pub use added_tokens::MarkedText;
pub use chat_template::{ChatTemplate, ChatTemplateOptions};
pub use detokenizer::{Detokenizer, Piece};
pub use end_tokens::end_tokens;
pub use least_tokens::LeastTokens;
pub use output::{OutputEvent, OutputFormats, OutputParser, ReasoningFormat};
pub use stop::{StopMatcher, StopState};
pub use stop_pattern::StopPattern;
pub use tokenizer::Tokenizer;

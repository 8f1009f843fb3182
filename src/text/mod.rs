//! Text on both sides of the model: tokens, streamed detokenization, stop strings and chat templates.
//!
//! Nothing here knows of MLX; everything is `Send + Sync` or owned by one sequence.

pub mod chat_template;
pub mod detokenizer;
pub mod end_tokens;
mod files;
pub mod stop;
#[cfg(test)]
pub(crate) mod test_folder;
pub mod tokenizer;

pub use chat_template::{ChatTemplate, ChatTemplateOptions};
pub use detokenizer::Detokenizer;
pub use end_tokens::end_tokens;
pub use stop::{StopMatcher, StopState};
pub use tokenizer::Tokenizer;

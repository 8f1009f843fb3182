//! From logits to tokens: processors, sampling, and the decode loop of one sequence.

mod processors;
mod prompt_cache;
mod sampler;
mod sequence;

pub use processors::{Penalties, Processors, WHOLE_ANSWER};
pub use prompt_cache::PromptCache;
pub use sampler::{Sampler, SamplingOptions};
pub use sequence::{Prefill, Sequence, SequenceOptions, TokenOutput};

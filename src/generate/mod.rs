//! From logits to tokens: processors, masks, sampling, and decoding of all sequences at once.

mod choice;
mod decode;
mod drafted_step;
mod dry;
mod logprobs;
mod mirostat;
mod options;
mod origin;
mod prefill;
mod prefix_cache;
mod prefix_disk;
mod prefix_owner;
mod processors;
mod prompt_cache;
mod reading;
mod sampler;
mod sequence;
mod speculation;
mod speculator;
mod token_mask;

pub use choice::TokenOutput;
pub use decode::decode;
pub use dry::IsBreaker;
pub use logprobs::{Likelihood, ScoredRow, Target, logprobs};
pub use options::GenerationOptions;
#[allow(unused_imports, reason = "the addon's request is made of it")]
pub(crate) use options::number_options;
pub use prefill::{Reading, prefill};
pub use prefix_cache::PrefixCache;
pub use prefix_disk::{PrefixFetch, RestoredPrefix};
pub use prefix_owner::{Drafter, PrefixOwner};
pub use processors::{Penalties, Processors, WHOLE_ANSWER};
pub use prompt_cache::PromptCache;
pub use reading::{EmbeddedText, Segmented, TextPart, classify, embeddings, guarded, read_texts};
pub use sampler::{Sampler, SamplingOptions};
pub use sequence::{Prefill, Sequence, SequenceOptions};
pub use speculation::{Speculated, SpeculationOptions};
pub use speculator::Speculator;
pub use token_mask::TokenMask;

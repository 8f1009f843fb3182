//! One engine for each loaded model: a thread that owns every MLX array of it, and the handles
//! through which other threads ask it for work.
//!
//! MLX's streams belong to threads, so nothing of MLX leaves an engine's thread. Requests go in
//! over a channel; what a generation makes goes out through a queue of its own, from which its
//! consumer pulls. Threads are reused ([`pool`]), because MLX never gives a thread's streams back.
//!
//! A panic on an engine's thread is caught and kept: that model is lost, every pending and later
//! call to it fails with [`Error::EngineFailed`](crate::error::Error::EngineFailed), and all
//! others go on.

mod adapted;
mod adapters;
mod backend;
mod banned_strings;
mod budget;
mod conversion;
mod core;
mod draft_model;
mod embed;
mod evaluation;
pub mod exit;
mod follower;
mod load;
mod memory;
mod model;
mod model_adapter;
mod open_answer;
mod outline;
mod output_plan;
mod pace;
mod patience;
pub mod pool;
mod prefix_files;
mod profile;
mod prompt_caches;
mod request;
mod running;
mod scheduler;
mod score;
mod speculation;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod writer;

pub use backend::PromptCacheSize;
pub use conversion::{Conversion, ConvertRequest, convert};
pub use embed::{EmbedInput, EmbedRequest, Embeddings, JudgeRequest, Judgements};
pub use evaluation::{AbortFlag, Scored};
pub use load::load;
pub use model::{Engine, Generation, HeldPromptCache, Model, ModelInfo};
pub use model_adapter::ModelAdapter;
pub use outline::{OutlineRequest, outline};
pub use profile::Profile;
pub use prompt_caches::PromptCacheId;
pub use request::{
    Batch, Candidate, FinishReason, Finished, GenerateRequest, LoadProgress, LoadRequest,
    LoadStage, Matched, OutputContent, OutputOptions, OutputPiece, PrefillProgress, PrefixDisk,
    Prompt, PromptEncoding, Timings, TokenLogprob, Written,
};
pub use score::{Continuation, ScoreRequest, Scores};
pub use speculation::SpeculationRequest;
pub use status::{Callback, Status};
pub use stream::MAX_AHEAD;
pub use text::Text;

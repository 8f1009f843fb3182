//! Reading texts for what they are, and not for what follows: embeddings and labels.

use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::primitive::Failure;
use crate::mlx::{self, Array, Dtype};
use crate::models::{EmbedOptions, Embedder, LanguageModel, PooledText, to_rows};
use crate::nn::{Step, StepRow};

/// A text that is being embedded.
#[derive(Debug)]
pub struct EmbeddedText {
    /// Those of the tokens that were read.
    pub caches: Vec<Cache>,
    /// What is kept of these tokens' states.
    pub pooled: PooledText,
}

/// The next tokens of a text that is being embedded.
#[derive(Debug)]
pub struct TextPart<'a, T> {
    /// The tokens; not empty.
    pub tokens: &'a [u32],
    /// Whether they are the last ones.
    pub is_last: bool,
    /// What came before.
    pub text: &'a mut T,
}

/// A text to be judged, or a pair of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segmented {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Of each the text that it is of, 0 or 1.
    pub segments: Vec<u32>,
}

/// Reads the parts of all texts in one pass.
pub fn read_texts(model: &dyn LanguageModel, parts: &mut [TextPart<EmbeddedText>]) -> Result<()> {
    guarded(|| {
        let (mut tokens, mut rows) = (Vec::new(), Vec::new());
        for part in parts.iter() {
            tokens.extend_from_slice(part.tokens);
            let length = part.tokens.len() as i32;
            let wanted = match (part.text.pooled.needs_last_only(), part.is_last) {
                (true, is_last) => i32::from(is_last),
                (false, _) => length,
            };
            rows.push(StepRow { length, logits: wanted });
        }
        let tokens = mlx::from_u32(&tokens, &[1, tokens.len() as i32]);
        let step = Step::new(&tokens, rows)?;
        let mut caches: Vec<&mut [Cache]> =
            parts.iter_mut().map(|part| part.text.caches.as_mut_slice()).collect();
        let states = model.states(&step, &mut caches)?;
        let mut start = 0;
        for (part, row) in parts.iter_mut().zip(step.rows()) {
            let end = start + row.logits;
            if end > start {
                part.text.pooled.add(&mlx::ops::slice_axis(&states, 1, start, end)?)?;
            }
            start = end;
        }
        let mut arrays: Vec<&Array> = Vec::new();
        for part in parts.iter() {
            arrays.extend(part.text.pooled.arrays());
            if !part.is_last {
                arrays.extend(part.text.caches.iter().flat_map(Cache::arrays));
            }
        }
        mlx::eval(&arrays)?;
        mlx::memory::limit_cache()
    })
}

/// The embeddings of texts that have been read to their ends.
pub fn embeddings(
    embedder: &Embedder,
    texts: &[EmbeddedText],
    options: &EmbedOptions,
) -> Result<Vec<Vec<f32>>> {
    guarded(|| {
        let pooled: Vec<&PooledText> = texts.iter().map(|text| &text.pooled).collect();
        to_rows(&embedder.finish(&pooled, options)?)
    })
}

/// The logits of the labels of each text.
pub fn classify(model: &dyn LanguageModel, texts: &[Segmented]) -> Result<Vec<Vec<f32>>> {
    guarded(|| {
        let (mut tokens, mut segments, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        for text in texts {
            tokens.extend_from_slice(&text.tokens);
            segments.extend_from_slice(&text.segments);
            let length = text.tokens.len() as i32;
            rows.push(StepRow { length, logits: length });
        }
        let shape = [1, tokens.len() as i32];
        let (tokens, segments) = (mlx::from_u32(&tokens, &shape), mlx::from_u32(&segments, &shape));
        let step = Step::new(&tokens, rows)?.with_segments(&segments);
        let mut made: Vec<Vec<Cache>> = texts.iter().map(|_| model.make_caches()).collect();
        let mut caches: Vec<&mut [Cache]> = made.iter_mut().map(Vec::as_mut_slice).collect();
        let logits = model.classify(&step, &mut caches)?;
        let rows = to_rows(&mlx::ops::astype(&logits, Dtype::Float32)?)?;
        mlx::memory::limit_cache()?;
        Ok(rows)
    })
}

/// Computes something whose failure is its own.
pub fn guarded<T>(compute: impl FnOnce() -> Result<T>) -> Result<T> {
    let failure = Failure::default();
    let computed = failure.scope(compute);
    if computed.is_err() {
        // MLX would give the error to whoever waits next, too.
        let _ = mlx::settle();
    }
    failure.check().and(computed)
}

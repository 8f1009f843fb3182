//! Embeddings of n-grams (Meituan 2026, "LongCat Flash Lite"): what a position reads is the mean
//! of its token's embedding and of those of the tokens that end there, looked up by hash.

use super::embedding::Embedding;
use super::linear::Linear;
use super::rows::{Row, Rows};
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::{Array, Dtype, ops};
use crate::weights::Weights;

/// The measures of [`NgramEmbeddings`].
#[derive(Debug, Clone)]
pub struct NgramConfig {
    /// Tokens that are told apart.
    pub vocabulary: i32,
    /// Features of an embedding.
    pub dims: i32,
    /// The tokens of the longest n-gram, at least 2.
    pub longest: i32,
    /// Tables for the n-grams of each length.
    pub tables: i32,
    /// Rows of a table, at least; each has two more than the one before.
    pub rows: i32,
    /// The tokens at which texts end, which n-grams do not reach back over.
    pub ends: Vec<i32>,
}

/// Tables of n-grams beside those of tokens. An n-gram tₙ … t₁ t₀ has the row
/// Σ tₖ · vocabularyᵏ mod rows; in front of a text are tokens 0.
#[derive(Debug)]
pub struct NgramEmbeddings {
    tables: Vec<Table>,
    longest: i32,
    ends: Vec<i32>,
}

#[derive(Debug)]
struct Table {
    embedding: Embedding,
    projection: Linear,
    /// vocabularyᵏ mod rows of each token before the last, from the nearest on.
    factors: Vec<i32>,
    rows: i32,
}

impl NgramEmbeddings {
    /// Takes `embedders` and `post_projs`, those of bigrams first.
    pub fn new(w: &Weights, config: NgramConfig) -> Result<Self> {
        let NgramConfig { vocabulary, dims, longest, tables, rows, ends } = config;
        let features = dims / (tables * (longest - 1));
        let table = |index: i32| {
            let rows = rows + 2 * index + 1;
            let w_projection = w.at("post_projs").at(index);
            Ok(Table {
                embedding: Embedding::new(&w.at("embedders").at(index), rows, features)?,
                projection: Linear::new(&w_projection, features, dims, false)?,
                factors: powers(vocabulary, rows).take((index / tables + 1) as usize).collect(),
                rows,
            })
        };
        let tables = (0..tables * (longest - 1)).map(table).collect::<Result<_>>()?;
        Ok(Self { tables, longest, ends })
    }

    /// The mean of the tokens' embeddings, `[batch, length, dims]`, and of those of the n-grams
    /// that end with the tokens, `[batch, length]`.
    pub fn mean_with(&self, embedded: &Array, tokens: &Array, rows: &mut Rows) -> Result<Array> {
        let found = rows.mix([tokens], |[tokens], row| self.rows(tokens, row))?;
        let mut sum = embedded.clone();
        for (index, table) in (0..).zip(&self.tables) {
            let rows = ops::squeeze(&ops::slice_axis(&found, 2, index, index + 1)?, 2)?;
            let embedded = table.embedding.forward(&rows)?;
            sum = ops::add(&sum, &table.projection.forward(&embedded)?)?;
        }
        let count = ops::astype(&Array::from_int(self.tables.len() as i32 + 1), sum.dtype())?;
        ops::divide(&sum, &count)
    }

    /// The rows in all tables of the n-grams that end with these tokens,
    /// `[batch, length, tables]`, `uint32`.
    fn rows(&self, tokens: &Array, row: Row) -> Result<Array> {
        let (batch, length, before) = (tokens.dim(0), row.length, self.longest - 1);
        let state = row.cache.state()?;
        let tokens = ops::astype(tokens, Dtype::Int64)?;
        let mut parts = vec![tokens.clone()];
        let kept = state.get(0).map(|kept| ops::astype(kept, Dtype::Int64)).transpose()?;
        let missing = before - kept.as_ref().map_or(0, |kept| kept.dim(1));
        parts.extend(kept);
        if missing > 0 {
            parts.push(ops::zeros(&[batch, missing], Dtype::Int64)?);
        }
        parts.reverse();
        let context = ops::concatenate(&parts.iter().collect::<Vec<_>>(), 1)?;
        let end = context.dim(1);
        state.set(0, ops::contiguous(&ops::slice_axis(&context, 1, end - before, end)?)?);
        state.advance(length);
        let earlier = self.earlier(&context, length)?;
        let found = self.tables.iter().map(|table| {
            let mut hash = tokens.clone();
            for (token, factor) in earlier.iter().zip(&table.factors) {
                hash = ops::add(&hash, &ops::multiply(token, &integer(*factor)?)?)?;
            }
            ops::expand_dims(&ops::remainder(&hash, &integer(table.rows)?)?, 2)
        });
        let found = found.collect::<Result<Vec<_>>>()?;
        let found = ops::concatenate(&found.iter().collect::<Vec<_>>(), 2)?;
        ops::astype(&found, Dtype::Uint32)
    }

    /// The tokens before each of the last `length` of `context`, the nearest first,
    /// `[batch, length]` each; 0 for those of another text.
    fn earlier(&self, context: &Array, length: i32) -> Result<Vec<Array>> {
        let (last, nothing) = (context.dim(1) - length, integer(0)?);
        // Whether a text ended between a token and the one that looks back.
        let mut ended: Option<Array> = None;
        let distances = 1..self.longest;
        distances
            .map(|distance| {
                let start = last - distance;
                let token = ops::slice_axis(context, 1, start, start + length)?;
                for end in &self.ends {
                    let is_end = ops::equal(&token, &integer(*end)?)?;
                    ended = Some(match ended.take() {
                        Some(ended) => ops::logical_or(&ended, &is_end)?,
                        None => is_end,
                    });
                }
                match &ended {
                    Some(ended) => ops::select(ended, &nothing, &token),
                    None => Ok(token),
                }
            })
            .collect()
    }

    /// An empty cache of the last tokens.
    pub fn make_cache(&self) -> Cache {
        Cache::arrays_of(1)
    }
}

/// baseᵏ mod modulus, from k = 1 on.
fn powers(base: i32, modulus: i32) -> impl Iterator<Item = i32> {
    let (base, modulus) = (i64::from(base), i64::from(modulus));
    std::iter::successors(Some(base % modulus), move |power| Some(power * base % modulus))
        .map(|power| power as i32)
}

/// For products of tokens and rows, which are beyond 32 bits.
fn integer(value: i32) -> Result<Array> {
    ops::astype(&Array::from_int(value), Dtype::Int64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::mlx::{DeviceKind, enter, from_u32, to_u32_vec};

    fn earlier(ends: &[i32]) -> Vec<Vec<u32>> {
        enter(DeviceKind::Cpu).unwrap();
        let ngrams = NgramEmbeddings { tables: Vec::new(), longest: 3, ends: ends.to_vec() };
        // The first two are those of the step before.
        let context = from_u32(&[5, 6, 7, 2, 8, 9, 4], &[1, 7]);
        let context = ops::astype(&context, Dtype::Int64).unwrap();
        let earlier = ngrams.earlier(&context, 5).unwrap();
        let numbers = |it: &Array| to_u32_vec(&ops::astype(it, Dtype::Uint32).unwrap()).unwrap();
        earlier.iter().map(numbers).collect()
    }

    #[test]
    fn ngrams_do_not_reach_back_over_the_end_of_a_text() {
        assert_eq!(earlier(&[]), [[6, 7, 2, 8, 9], [5, 6, 7, 2, 8]]);
        assert_eq!(earlier(&[2, 90]), [[6, 7, 0, 8, 9], [5, 6, 0, 0, 8]]);
        // Of the step before.
        assert_eq!(earlier(&[6]), [[0, 7, 2, 8, 9], [0, 0, 7, 2, 8]]);
    }

    #[test]
    fn powers_are_taken_modulo_the_rows() {
        assert_eq!(powers(131_072, 10_223_617).take(2).collect::<Vec<_>>(), [131_072, 4_192_624]);
    }
}

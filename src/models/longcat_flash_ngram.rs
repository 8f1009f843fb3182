//! LongCat Flash Lite (Meituan 2026): LongCat Flash that reads embeddings of n-grams beside those
//! of tokens.

use serde_json::{Value, json};

use super::config::ConfigFile;
use super::longcat_flash::{completed, decoder, ignores};
use super::{Architecture, LanguageModel};
use crate::cache::Cache;
use crate::error::Result;
use crate::mlx::Array;
use crate::nn::{Decoder, Embedding, NgramConfig, NgramEmbeddings, Residual, Step, StepRows};
use crate::weights::Weights;

pub(super) const ARCHITECTURE: Architecture =
    Architecture::new(&["longcat_flash_ngram"], build).ignoring(ignores);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let file = &completed(file);
    let (dims, vocabulary) = (file.size("hidden_size")?, file.size("vocab_size")?);
    let count = |field: &str, default: i64| {
        file.bounded(field, file.optional(field)?.unwrap_or(default), 1 << 10)
    };
    let (longest, tables) = (count("emb_neighbor_num", 4)?, count("emb_split_num", 4)?);
    if longest < 2 || dims < tables * (longest - 1) {
        let message = format!("of length {longest} in {tables} tables do not fit {dims} features");
        return Err(
            file.error(format!("n-grams (\"emb_neighbor_num\", \"emb_split_num\") {message}"))
        );
    }
    let rows = i64::from(count("ngram_vocab_size_ratio", 78)?) * i64::from(vocabulary);
    let ends = match file.optional("eos_token_id")? {
        Some(end @ Value::Number(_)) => Value::from(vec![end]),
        ends => ends.unwrap_or(json!([])),
    };
    let ends = file.with([("eos_token_id", ends)]).require("eos_token_id")?;
    let config = NgramConfig {
        vocabulary,
        dims,
        longest,
        tables,
        rows: file.bounded("ngram_vocab_size_ratio", rows, 1 << 30)?,
        ends,
    };
    let ngrams = NgramEmbeddings::new(&w.at("model.ngram_embeddings"), config)?;
    // Some have the name that it has in most other models.
    let renamed = w.at("model.embed_tokens").has("weight");
    let embedding = if renamed { "embed_tokens" } else { "ngram_embeddings.word_embeddings" };
    Ok(Box::new(WithNgrams { ngrams, decoder: decoder(file, w, embedding)? }))
}

/// A decoder whose first cache has the last tokens.
struct WithNgrams {
    ngrams: NgramEmbeddings,
    decoder: Decoder,
}

impl LanguageModel for WithNgrams {
    fn forward(&self, step: &Step, caches: &mut [&mut [Cache]]) -> Result<Array> {
        let Self { ngrams, decoder } = self;
        let mut rows = StepRows::new(step, caches)?;
        let embedded = decoder.embed(step.tokens())?;
        let mean = ngrams.mean_with(&embedded, step.tokens(), &mut rows.layer(0)?)?;
        let mut stream = Residual::from(mean);
        for (index, layer) in decoder.layers.iter().enumerate() {
            stream = layer.forward(&stream, &mut rows.layer(index + 1)?)?;
        }
        decoder.logits(step, &stream)
    }

    fn make_caches(&self) -> Vec<Cache> {
        let mut caches = self.decoder.make_caches();
        caches.insert(0, self.ngrams.make_cache());
        caches
    }

    fn layers(&self) -> usize {
        self.decoder.layers.len()
    }

    fn embedding(&self) -> &Embedding {
        &self.decoder.embedding
    }
}

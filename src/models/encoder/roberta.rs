//! RoBERTa (Liu et al. 2019) and XLM-RoBERTa (Conneau et al. 2020): BERT whose first positions, up
//! to that of the padding token, belong to no token.

use super::{bert, classifier_of_first, encoder_view, is_of_training, judges};
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::weights::Weights;

pub(in crate::models) const ARCHITECTURE: Architecture =
    Architecture::new(&["roberta", "xlm-roberta", "camembert"], build)
        .ignoring(is_of_training)
        .with_eps(1e-12);

fn build(file: &ConfigFile, w: &Weights) -> Result<Box<dyn LanguageModel>> {
    let inner = encoder_view(w, "roberta", "embeddings.word_embeddings.weight");
    let mut encoder = bert::encoder(file, &inner, first_position(file) as i32)?;
    if judges(file)? {
        let (dims, head) = (file.size("hidden_size")?, w.at("classifier"));
        let (dense, output) = (head.at("dense"), head.at("out_proj"));
        encoder.classifier = Some(classifier_of_first(&dense, &output, dims)?);
    }
    Ok(Box::new(encoder))
}

/// The row of the first token's position: that behind the padding token's number.
pub(super) fn first_position(file: &ConfigFile) -> usize {
    // Numbers beyond all tables are refused where the table is taken.
    let padding = file.optional::<u16>("pad_token_id").ok().flatten().unwrap_or(1);
    usize::from(padding) + 1
}

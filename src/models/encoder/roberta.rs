//! RoBERTa (Liu et al. 2019) and XLM-RoBERTa (Conneau et al. 2020): BERT whose first positions, up
//! to that of the padding token, belong to no token.

use super::{bert, encoder_view, is_of_training, judges, labels};
use crate::error::Result;
use crate::models::config::ConfigFile;
use crate::models::{Architecture, LanguageModel};
use crate::nn::{Classifier, ClassifierPooling, Linear};
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
        let output = head.at("out_proj");
        let labels = labels(&output).unwrap_or(2);
        encoder.classifier = Some(Classifier {
            pooling: ClassifierPooling::First,
            dense: Linear::new(&head.at("dense"), dims, dims, true)?,
            activation: None,
            norm: None,
            output: Linear::new(&output, dims, labels, true)?,
            labels,
        });
    }
    Ok(Box::new(encoder))
}

/// The row of the first token's position: that behind the padding token's number.
pub(super) fn first_position(file: &ConfigFile) -> usize {
    // Numbers beyond all tables are refused where the table is taken.
    let padding = file.optional::<u16>("pad_token_id").ok().flatten().unwrap_or(1);
    usize::from(padding) + 1
}

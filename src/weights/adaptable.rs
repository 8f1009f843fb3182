//! Telling which layers adapters can add to, while a model takes its weights.

use std::cell::RefCell;
use std::rc::Rc;

use super::Weights;
use super::sites::{LinearSite, Place, Site};
use crate::fused::adapter::Additions;
use crate::fused::embedding::EmbeddingAddition;
use crate::fused::experts::ExpertAddition;
use crate::fused::linear::Matrix;

impl Weights<'_> {
    /// Says that this view is a linear layer, and gives what adapters add to it.
    pub fn linear_site(&self, matrix: &Matrix, sizes: [i32; 2], bias: bool) -> LinearSite {
        let mut sites = self.sites();
        let site = LinearSite {
            additions: Additions::new(&sites.selection),
            inputs: sizes[0],
            outputs: sizes[1],
            bias,
            place: Rc::new(RefCell::new(Place::of(matrix))),
        };
        sites.by_path.insert(self.prefix().to_owned(), Site::Linear(site.clone()));
        site
    }

    /// Says that this view is a projection of experts, and gives what adapters add to it.
    pub fn expert_site(&self, experts: i32, sizes: [i32; 2]) -> Additions<ExpertAddition> {
        let mut sites = self.sites();
        let additions = Additions::new(&sites.selection);
        let [inputs, outputs] = sizes;
        let site = Site::Experts { additions: additions.clone(), experts, inputs, outputs };
        sites.by_path.insert(self.prefix().to_owned(), site);
        additions
    }

    /// Says that this view is a table of embeddings, and gives what adapters add to it.
    pub fn embedding_site(&self, vocabulary: i32, dims: i32) -> Additions<EmbeddingAddition> {
        let mut sites = self.sites();
        let additions = Additions::new(&sites.selection);
        let site = Site::Embedding { additions: additions.clone(), vocabulary, dims };
        sites.by_path.insert(self.prefix().to_owned(), site);
        additions
    }
}

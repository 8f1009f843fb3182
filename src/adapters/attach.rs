//! Putting what an adapter adds beside the layers of a model.

use std::collections::{BTreeMap, HashMap};

use super::file::AdapterFile;
use super::names::canonical;
use super::update::{LowRank, Module, Update};
use super::{AdapterId, AdapterInfo};
use crate::error::{Error, Result};
use crate::fused::embedding::{EmbeddingAddition, LowRankRows};
use crate::fused::experts::{ExpertAddition, ExpertMatrix};
use crate::fused::linear::{LinearAddition, Matrix};
use crate::mlx::{Array, Dtype, eval, ops};
use crate::weights::{LinearSite, Site, Sites};

/// Adds an adapter to all its layers. After a failure it is at some of them.
pub(super) fn attach(
    sites: &Sites,
    id: AdapterId,
    file: &AdapterFile,
    activations: Option<Dtype>,
) -> Result<AdapterInfo> {
    file.check_trainer(sites.trainer)?;
    let by_name: HashMap<String, &Site> =
        sites.by_path.iter().map(|(path, site)| (canonical(path), site)).collect();
    let mut attaching = Attaching { file, activations, rank: 0, parameters: 0, bytes: 0 };
    for (name, module) in &file.modules {
        let Some(site) = by_name.get(name) else {
            let message = "is no layer of this model to which adapters can add; is the adapter one of another model?";
            return Err(file.error(module, message));
        };
        attaching.add(id, site, module)?;
    }
    Ok(AdapterInfo {
        path: file.path.clone(),
        kind: file.kind,
        modules: file.modules.len(),
        rank: attaching.rank,
        parameters: attaching.parameters,
        bytes: attaching.bytes,
        fingerprint: file.fingerprint.clone(),
    })
}

struct Attaching<'a> {
    file: &'a AdapterFile,
    activations: Option<Dtype>,
    rank: i32,
    parameters: u64,
    bytes: usize,
}

impl Attaching<'_> {
    fn add(&mut self, id: AdapterId, site: &Site, module: &Module) -> Result<()> {
        match (site, &module.update) {
            (Site::Linear(linear), Update::LowRank(low_rank)) => {
                let addition = self.linear(linear, low_rank, module)?;
                linear.additions.insert(id, addition);
            }
            (Site::Linear(linear), Update::Replaced { weight, bias }) => {
                self.fits(module, weight, &[linear.outputs, linear.inputs])?;
                if bias.is_some() != linear.bias {
                    return Err(self.wrong(module, "has a bias where the layer has none, or none"));
                }
                if let Some(bias) = bias {
                    self.fits(module, bias, &[linear.outputs])?;
                }
                let place = linear.place();
                let matrix = Matrix::dense(self.kept(&place.ordered(weight)?)?)?;
                let bias =
                    bias.as_ref().map(|bias| self.kept(&place.ordered(bias)?)).transpose()?;
                linear.additions.insert(id, LinearAddition::Replaced { matrix, bias });
            }
            (Site::Embedding { additions, vocabulary, dims }, Update::LowRank(low_rank)) => {
                let LowRank { down, up, magnitude, in_head } = low_rank;
                if magnitude.is_some() {
                    let message = "is a table of embeddings, which has no magnitudes here (DoRA)";
                    return Err(Error::Unsupported(format!("\"{}\" {message}", module.name)));
                }
                self.fits(module, down, &[low_rank.rank(), *vocabulary])?;
                self.fits(module, up, &[*dims, low_rank.rank()])?;
                self.rank = self.rank.max(low_rank.rank());
                let turned = |array: &Array| ops::transpose(array, &[1, 0]);
                let (rows, up) = (self.kept(&turned(down)?)?, self.kept(&turned(up)?)?);
                let rows = LowRankRows { rows, up, head: *in_head };
                additions.insert(id, EmbeddingAddition::LowRank(rows));
            }
            (
                Site::Embedding { additions, vocabulary, dims },
                Update::Replaced { weight, bias },
            ) => {
                self.fits(module, weight, &[*vocabulary, *dims])?;
                if bias.is_some() {
                    return Err(self.wrong(module, "is a table of embeddings, which has no bias"));
                }
                let table = Matrix::dense(self.kept(weight)?)?;
                additions.insert(id, EmbeddingAddition::Replaced(table));
            }
            (Site::Experts { additions, experts, inputs, outputs }, update) => {
                let (down, up) = match update {
                    Update::Experts { down, up } => (down.clone(), up.clone()),
                    Update::SingleExperts(single) => {
                        self.stacked(module, single, [*experts, *inputs, *outputs])?
                    }
                    _ => return Err(self.wrong(module, "has one matrix for all experts")),
                };
                let rank = down.dim(1);
                self.fits(module, &down, &[*experts, rank, *inputs])?;
                self.fits(module, &up, &[*experts, *outputs, rank])?;
                self.rank = self.rank.max(rank);
                let (down, up) = (self.kept(&down)?, self.kept(&up)?);
                let (down, up) = (ExpertMatrix::dense(&down)?, ExpertMatrix::dense(&up)?);
                additions.insert(id, ExpertAddition::LowRank { down, up });
            }
            _ => return Err(self.wrong(module, "is no layer of experts")),
        }
        Ok(())
    }

    fn linear(
        &mut self,
        site: &LinearSite,
        low_rank: &LowRank,
        module: &Module,
    ) -> Result<LinearAddition> {
        let LowRank { down, up, magnitude, .. } = low_rank;
        self.fits(module, down, &[low_rank.rank(), site.inputs])?;
        self.fits(module, up, &[site.outputs, low_rank.rank()])?;
        self.rank = self.rank.max(low_rank.rank());
        let place = site.place();
        let up = place.ordered(up)?;
        let factors = match magnitude {
            None => None,
            Some(magnitude) => {
                self.fits(module, magnitude, &[site.outputs])?;
                let magnitude = place.ordered(magnitude)?;
                let factors = factors(&place.numbers()?, down, &up, &magnitude)?;
                Some(self.kept(&factors)?)
            }
        };
        let (down, up) = (self.kept(down)?, self.kept(&up)?);
        Ok(LinearAddition::LowRank { down: Matrix::dense(down)?, up: Matrix::dense(up)?, factors })
    }

    /// The matrices of single experts as those of all: of the others, zeros.
    fn stacked(
        &self,
        module: &Module,
        single: &BTreeMap<usize, LowRank>,
        [experts, inputs, outputs]: [i32; 3],
    ) -> Result<(Array, Array)> {
        let count = experts.unsigned_abs() as usize;
        if single.keys().any(|expert| *expert >= count) {
            return Err(self.wrong(module, "is an expert beyond the last"));
        }
        let rank = single.values().map(LowRank::rank).max().unwrap_or(1);
        let (mut downs, mut ups) = (Vec::new(), Vec::new());
        for expert in 0..count {
            let (down, up) = match single.get(&expert) {
                Some(LowRank { down, up, magnitude: None, .. }) => {
                    self.fits(module, down, &[down.dim(0), inputs])?;
                    self.fits(module, up, &[outputs, down.dim(0)])?;
                    let missing = rank - down.dim(0);
                    (ops::pad_end(down, 0, missing)?, ops::pad_end(up, 1, missing)?)
                }
                Some(_) => {
                    let message = "is an expert, which has no magnitudes here (DoRA)";
                    return Err(Error::Unsupported(format!("\"{}\" {message}", module.name)));
                }
                None => {
                    let zeros = |shape: &[i32]| ops::zeros(shape, Dtype::Float32);
                    (zeros(&[rank, inputs])?, zeros(&[outputs, rank])?)
                }
            };
            downs.push(ops::expand_dims(&ops::astype(&down, Dtype::Float32)?, 0)?);
            ups.push(ops::expand_dims(&ops::astype(&up, Dtype::Float32)?, 0)?);
        }
        let joined = |parts: &[Array]| ops::concatenate(&parts.iter().collect::<Vec<_>>(), 0);
        Ok((joined(&downs)?, joined(&ups)?))
    }

    fn fits(&self, module: &Module, array: &Array, shape: &[i32]) -> Result<()> {
        if array.shape() == shape {
            return Ok(());
        }
        let found = array.shape();
        let message = format!(
            "has a tensor of shape {found:?}, and the model's layer needs {shape:?}; is the adapter one of another model?"
        );
        Err(self.wrong(module, &message))
    }

    fn wrong(&self, module: &Module, message: &str) -> Error {
        self.file.error(module, message)
    }

    /// An array to be kept: in the type of activations, and computed.
    fn kept(&mut self, array: &Array) -> Result<Array> {
        let array = match self.activations {
            Some(dtype) => ops::astype(array, dtype)?,
            None => array.clone(),
        };
        let array = ops::contiguous(&array)?;
        eval(&[&array])?;
        self.parameters += array.size() as u64;
        self.bytes += array.nbytes();
        Ok(array)
    }
}

/// magnitude / ‖w + up · down‖ of each row.
fn factors(numbers: &Array, down: &Array, up: &Array, magnitude: &Array) -> Result<Array> {
    let precise = |array: &Array| ops::astype(array, Dtype::Float32);
    let adapted = ops::add(&precise(numbers)?, &ops::matmul(&precise(up)?, &precise(down)?)?)?;
    let norms = ops::sqrt(&ops::squeeze(&ops::sum(&ops::square(&adapted)?, -1)?, -1)?)?;
    ops::divide(&precise(magnitude)?, &norms)
}

//! Putting what MLX can hold in place of what another program stored.

use std::collections::{BTreeMap, BTreeSet};

use super::{Converted, Foreign, Layer, Made, OF_ACTIVATIONS};
use crate::error::Result;
use crate::mlx::dtype_name;
use crate::warning::{Warning, WarningCode};
use crate::weights::{Checkpoint, LoadPlan};

impl Checkpoint {
    /// The checkpoint with the tensors of layers that another program has quantized as MLX can hold
    /// them.
    ///
    /// # Errors
    /// [`crate::error::Error::Weights`] for a layer whose tensors are not all there or do not fit
    /// each other.
    pub fn translate(mut self, foreign: Foreign, plan: LoadPlan) -> Result<Self> {
        let (mut all, mut formats) = (Vec::new(), BTreeMap::new());
        let mut dense = Dense::default();
        let mut hidden: BTreeSet<String> =
            self.names().filter(|name| is_of_activations(name)).map(str::to_owned).collect();
        let layers: BTreeSet<_> =
            self.names().filter_map(|name| foreign.layer_of(&self, name)).collect();
        for path in layers {
            let layer = Layer { checkpoint: &self, path, plan };
            let Converted { params, tensors } = foreign.convert(&layer)?;
            hidden.extend(foreign.endings().iter().map(|ending| format!("{path}.{ending}")));
            match params {
                Some(params) => {
                    formats.insert(path.to_owned(), params);
                }
                None => dense.add(&tensors),
            }
            all.extend(tensors.into_iter().map(|(end, made)| (format!("{path}.{end}"), made)));
        }
        self.replace(&hidden, all, formats, dense.warning(foreign));
        Ok(self)
    }
}

fn is_of_activations(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|end| OF_ACTIVATIONS.contains(&end))
}

impl Foreign {
    /// The path of the quantized layer that has this tensor.
    fn layer_of<'a>(self, checkpoint: &Checkpoint, name: &'a str) -> Option<&'a str> {
        use safetensors::Dtype::{F8_E4M3, F8_E5M2, I8, U8};
        let endings = self.endings();
        let weight = endings.iter().position(|ending| *ending == "weight");
        let telling = &endings[..weight.unwrap_or(endings.len())];
        let layer = |ending: &&str| {
            let layer = name.strip_suffix(*ending)?.strip_suffix('.')?;
            // Others than matrices have scales, too.
            let is_one =
                *ending != "scale" || checkpoint.entry(&format!("{layer}.weight")).is_some();
            is_one.then_some(layer)
        };
        telling.iter().find_map(layer).or_else(|| {
            // Bytes that nobody says how to read.
            let stored = checkpoint.entry(name)?.stored;
            let packed = weight.is_some() && matches!(stored, F8_E4M3 | F8_E5M2 | I8 | U8);
            name.strip_suffix(".weight").filter(|_| packed)
        })
    }
}

/// Matrices that are loaded as numbers.
#[derive(Default)]
struct Dense {
    count: usize,
    stored: usize,
    loaded: usize,
    first: Option<(std::path::PathBuf, &'static str)>,
}

impl Dense {
    fn add(&mut self, tensors: &[(&str, Made)]) {
        let Some((_, weight)) = tensors.first() else { return };
        let elements: usize = weight.entry.shape.iter().map(|&dim| dim as usize).product();
        let name = dtype_name(weight.entry.dtype);
        self.count += 1;
        self.stored += weight.range().len();
        self.loaded += elements * if name == "float32" { 4 } else { 2 };
        self.first.get_or_insert_with(|| (weight.file.path.clone(), name));
    }

    fn warning(self, foreign: Foreign) -> Option<Warning> {
        let Self { count, stored, loaded, first } = self;
        let (path, dtype) = first?;
        let message = format!(
            "MLX has no packed form for {count} matrices of {}, so they are loaded as {dtype} and \
             take {loaded} bytes instead of {stored}",
            foreign.name()
        );
        Some(Warning::new(WarningCode::Dequantized, &path, message))
    }
}

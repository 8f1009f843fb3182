//! The tensors of a checkpoint, whichever files hold them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::{Entry, TensorOutline, WeightFile};
use super::folder::weight_files;
use super::formats::{Made, Source};
use crate::error::{Error, Result};
use crate::mlx::quantized::QuantizationParams;
use crate::mlx::{Array, Dtype, ops};
use crate::warning::Warning;

/// The tensors of a model folder's safetensors files.
pub struct Checkpoint {
    files: Vec<Arc<WeightFile>>,
    /// Where each tensor comes from.
    places: BTreeMap<String, Place>,
    /// How layers are packed whose tensors are made of those of other programs.
    formats: BTreeMap<String, QuantizationParams>,
    warnings: Vec<Warning>,
    outline: Option<Outline>,
}

/// How the tensors of a checkpoint are known that has no content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outline {
    /// They are what will be there: a tensor that is missing or different is an error.
    Exact,
    /// Their names say what parts there are. Whatever is taken is as it is wanted, of the type that
    /// most of them have, or this one where they do not say.
    Rough(Dtype),
}

/// Where a tensor comes from.
enum Place {
    /// The file with this number.
    Stored(usize),
    /// It is made when it is taken.
    Made(Box<Made>),
}

impl Checkpoint {
    /// Opens the files that `model.safetensors.index.json` names, or else every
    /// `model*.safetensors` of the folder.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`] without such files; [`Error::Weights`] for a missing or broken one.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut warnings = Vec::new();
        let files = weight_files(dir, &mut warnings)?;
        Self::of(files, warnings)
    }

    /// Opens a single file that is no model, and gives the texts in its header, too.
    ///
    /// # Errors
    /// [`Error::Weights`] for a missing or broken one.
    pub fn open_file(path: &Path) -> Result<(Self, HashMap<String, String>)> {
        let file = WeightFile::open(path.to_owned())?;
        let texts = file.texts.clone();
        Ok((Self::of(vec![Arc::new(file)], Vec::new())?, texts))
    }

    /// A checkpoint that is known by its tensors' names, shapes and types alone: arrays of it may
    /// be parts of graphs, and hold nothing.
    ///
    /// # Errors
    /// [`Error::Weights`] for two tensors of the same name.
    pub fn outline(path: &Path, tensors: Vec<TensorOutline>, outline: Outline) -> Result<Self> {
        let file = WeightFile::outline(path.to_owned(), tensors)?;
        let checkpoint = Self::of(vec![Arc::new(file)], Vec::new())?;
        let outline = match outline {
            Outline::Exact => Outline::Exact,
            Outline::Rough(dtype) => Outline::Rough(checkpoint.float_dtype().unwrap_or(dtype)),
        };
        Ok(Self { outline: Some(outline), ..checkpoint })
    }

    /// The type of most floating-point numbers.
    pub(super) fn float_dtype(&self) -> Option<Dtype> {
        let count = |dtype| -> u64 {
            let those = self.placed().filter(|(_, _, entry)| entry.dtype == dtype);
            let numbers = |shape: &[i32]| -> u64 {
                shape.iter().map(|&dim| u64::from(dim.unsigned_abs())).product()
            };
            those.map(|(_, _, entry)| numbers(&entry.shape)).sum()
        };
        let types = [Dtype::Float16, Dtype::Bfloat16, Dtype::Float32];
        let (most, dtype) =
            types.map(|dtype| (count(dtype), dtype)).into_iter().max_by_key(|it| it.0)?;
        (most > 0).then_some(dtype)
    }

    /// The type of everything that is taken, where the tensors are known roughly alone.
    pub(super) fn rough_dtype(&self) -> Option<Dtype> {
        match self.outline {
            Some(Outline::Rough(dtype)) => Some(dtype),
            _ => None,
        }
    }

    /// Whether its tensors have values.
    pub(super) fn has_content(&self) -> bool {
        self.outline.is_none()
    }

    fn of(files: Vec<Arc<WeightFile>>, warnings: Vec<Warning>) -> Result<Self> {
        let mut places = BTreeMap::new();
        for (place, file) in files.iter().enumerate() {
            for tensor in file.entries.keys() {
                if let Some(Place::Stored(other)) =
                    places.insert(tensor.clone(), Place::Stored(place))
                {
                    let other = files[other].path.display();
                    let message = format!(" is also in {other}");
                    return Err(Error::of_tensor(&file.path, tensor, message));
                }
            }
        }
        Ok(Self { files, places, formats: BTreeMap::new(), warnings, outline: None })
    }

    /// Leaves tensors out, and takes in what is made of them: tensors by their names, and how the
    /// layers of some paths are packed.
    pub(super) fn replace(
        &mut self,
        hidden: &BTreeSet<String>,
        made: Vec<(String, Made)>,
        formats: BTreeMap<String, QuantizationParams>,
        warning: Option<Warning>,
    ) {
        self.places.retain(|name, _| !hidden.contains(name));
        let made = made.into_iter().map(|(name, made)| (name, Place::Made(Box::new(made))));
        self.places.extend(made);
        self.formats = formats;
        self.warnings.extend(warning);
    }

    /// How layers are packed that another program has quantized, by their paths.
    pub fn formats(&self) -> &BTreeMap<String, QuantizationParams> {
        &self.formats
    }

    /// How the layer of a path is packed that another program has quantized.
    pub(super) fn format(&self, path: &str) -> Option<QuantizationParams> {
        self.formats.get(path).copied()
    }

    /// A tensor of the files.
    pub(super) fn source(&self, name: &str) -> Option<Source> {
        let Place::Stored(file) = self.places.get(name)? else { return None };
        let file = self.files.get(*file)?;
        let entry = file.entries.get(name)?.clone();
        Some(Source { name: name.to_owned(), file: Arc::clone(file), entry })
    }

    /// The tensor of the files that a tensor is made of.
    pub(super) fn made_of(&self, name: &str) -> Option<&str> {
        match self.places.get(name)? {
            Place::Stored(_) => None,
            Place::Made(made) => Some(&made.source),
        }
    }

    /// What was odd about its files.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The bytes of all tensors, as they are taken.
    pub fn bytes(&self) -> usize {
        self.placed().map(|(_, _, entry)| entry.bytes()).sum()
    }

    /// A number that tells these tensors, and what `more` says of them, from others: of their
    /// names, shapes and types, and of bytes at the beginning, in the middle and at the end of each
    /// (FNV-1a).
    pub fn fingerprint(&self, more: &str) -> u64 {
        const SAMPLE: usize = 64;
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut add = |bytes: &[u8]| {
            for &byte in bytes {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        add(more.as_bytes());
        for (name, file, entry) in self.placed() {
            add(name.as_bytes());
            add(format!("{:?}{:?}", entry.shape, entry.stored).as_bytes());
            let bytes = &file.mapping.bytes()[entry.range.clone()];
            samples(bytes, SAMPLE).for_each(&mut add);
        }
        hash
    }

    /// Whether two tensors are the same, as far as samples of their bytes tell.
    pub(super) fn seem_equal(&self, one: &str, other: &str) -> bool {
        const SAMPLE: usize = 4096;
        let sampled = |name: &str| {
            let (file, entry) = self.find(name)?;
            let bytes = &file.mapping.bytes()[entry.range.clone()];
            Some((&entry.shape, entry.stored, samples(bytes, SAMPLE).collect::<Vec<_>>()))
        };
        sampled(one) == sampled(other)
    }

    /// The bytes of one tensor; 0 for an unknown name.
    pub(super) fn tensor_bytes(&self, name: &str) -> usize {
        self.entry(name).map_or(0, Entry::bytes)
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.find(name).map(|(_, entry)| entry)
    }

    fn find(&self, name: &str) -> Option<(&WeightFile, &Entry)> {
        match self.places.get(name)? {
            Place::Stored(file) => {
                let file = self.files.get(*file)?;
                file.entries.get(name).map(|entry| (&**file, entry))
            }
            Place::Made(made) => Some((&made.file, &made.entry)),
        }
    }

    /// All tensors, in order.
    fn placed(&self) -> impl Iterator<Item = (&str, &WeightFile, &Entry)> {
        self.names().filter_map(|name| {
            let (file, entry) = self.find(name)?;
            Some((name, file, entry))
        })
    }

    /// A tensor by its name, over the mapped file or made of what it holds.
    pub fn get(&self, name: &str) -> Option<Result<Array>> {
        if let Some(Place::Made(made)) = self.places.get(name) {
            return Some(made.array());
        }
        self.find(name).map(|(file, entry)| {
            if self.outline.is_some() {
                return ops::zeros(&entry.shape, entry.dtype);
            }
            file.mapping
                .array(entry.range.clone(), &entry.shape, entry.dtype)
                .map_err(|error| Error::weights(&file.path, error.to_string()).caused_by(error))
        })
    }

    /// The file that holds a tensor, or else the first file: for messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        let file = match self.places.get(name) {
            Some(Place::Made(made)) => return made.file.path.clone(),
            Some(Place::Stored(file)) => *file,
            None => 0,
        };
        self.files.get(file).map(|file| file.path.clone()).unwrap_or_default()
    }
}

/// The first, the middle and the last bytes, at most `length` of each.
fn samples(bytes: &[u8], length: usize) -> impl Iterator<Item = &[u8]> {
    let length = length.min(bytes.len());
    let last = bytes.len() - length;
    [0, last / 2, last].into_iter().map(move |start| &bytes[start..start + length])
}

//! The files of a checkpoint: found, mapped, and their headers checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::mlx::{Array, Dtype, MappedFile};

/// Index files are small; one beyond this size is not an index.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// Where a tensor lies, and what it is.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    file: usize,
    range: std::ops::Range<usize>,
    pub(super) shape: Vec<i32>,
    pub(super) dtype: Dtype,
}

/// The tensors of a model folder's safetensors files. No tensor is read before it is taken.
pub struct Checkpoint {
    files: Vec<(PathBuf, MappedFile)>,
    entries: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens the files that `model.safetensors.index.json` names, or else every
    /// `model*.safetensors` of the folder.
    ///
    /// # Errors
    /// [`Error::ModelNotFound`] without such files; [`Error::Weights`] for a missing or broken one.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut checkpoint = Self { files: Vec::new(), entries: BTreeMap::new() };
        let index_path = dir.join("model.safetensors.index.json");
        let index = if index_path.is_file() { Some(read_index(&index_path)?) } else { None };
        let names: BTreeSet<String> = match &index {
            Some(index) => index.weight_map.values().cloned().collect(),
            None => weight_files(dir)?,
        };
        if names.is_empty() {
            return Err(Error::ModelNotFound(format!(
                "{} holds no weights: expected model.safetensors, or shards and \
                 model.safetensors.index.json",
                dir.display()
            )));
        }
        for name in names {
            checkpoint.add_file(dir, &name)?;
        }
        if let Some(index) = index {
            for (tensor, file) in &index.weight_map {
                if !checkpoint.entries.contains_key(tensor) {
                    return Err(Error::weights(
                        index_path,
                        format!("tensor \"{tensor}\" is listed in {file}, which does not hold it"),
                    ));
                }
            }
        }
        Ok(checkpoint)
    }

    /// Opens a single file that is no model, and gives the texts in its header, too.
    ///
    /// # Errors
    /// [`Error::Weights`] for a missing or broken one.
    pub fn open_file(path: &Path) -> Result<(Self, HashMap<String, String>)> {
        let mut checkpoint = Self { files: Vec::new(), entries: BTreeMap::new() };
        let texts = checkpoint.add_path(path.to_owned())?;
        Ok((checkpoint, texts))
    }

    fn add_file(&mut self, dir: &Path, name: &str) -> Result<()> {
        // A name from an index is data: it must not lead out of the model's folder.
        if Path::new(name).components().count() != 1 || name.contains(['/', '\\']) {
            return Err(Error::weights(dir, format!("\"{name}\" is not the name of a shard")));
        }
        self.add_path(dir.join(name)).map(drop)
    }

    /// Adds a file's tensors; gives the texts in its header.
    fn add_path(&mut self, path: PathBuf) -> Result<HashMap<String, String>> {
        let mapping = map_file(&path)?;
        let broken = |message: String| Error::weights(&path, message);
        let (header_size, metadata) = SafeTensors::read_metadata(mapping.bytes())
            .map_err(|error| broken(format!("not a valid safetensors file: {error}")))?;
        // The header's length field is 8 bytes; offsets count from the end of the header.
        let start = header_size + 8;
        let file = self.files.len();
        for (tensor, info) in metadata.tensors() {
            let (from, to) = info.data_offsets;
            let end = start.checked_add(to).filter(|&end| end <= mapping.bytes().len());
            let (Some(end), Some(begin)) = (end, start.checked_add(from)) else {
                return Err(broken(format!(
                    "tensor \"{tensor}\" ends beyond the end of the file; the download may be \
                     incomplete"
                )));
            };
            let shape = info.shape.iter().map(|&dim| i32::try_from(dim)).collect();
            let shape = Result::map_err(shape, |_| {
                broken(format!("tensor \"{tensor}\" has a dimension beyond 2³¹"))
            })?;
            let dtype = dtype_of(info.dtype).ok_or_else(|| {
                broken(format!("tensor \"{tensor}\" has the unsupported type {:?}", info.dtype))
            })?;
            let entry = Entry { file, range: begin..end, shape, dtype };
            if let Some(other) = self.entries.insert(tensor.clone(), entry) {
                let other = self.files[other.file].0.display();
                return Err(broken(format!("tensor \"{tensor}\" is also in {other}")));
            }
        }
        self.files.push((path, mapping));
        Ok(metadata.metadata().clone().unwrap_or_default())
    }

    /// The names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.entries.values().map(|entry| entry.range.len()).sum()
    }

    /// A number that tells these tensors from others: of their names, shapes, types and first bytes (FNV-1a).
    pub fn fingerprint(&self) -> u64 {
        const SAMPLE: usize = 64;
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut add = |bytes: &[u8]| {
            for &byte in bytes {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for (name, entry) in &self.entries {
            add(name.as_bytes());
            add(format!("{:?}{:?}", entry.shape, entry.dtype).as_bytes());
            let bytes = &self.files[entry.file].1.bytes()[entry.range.clone()];
            add(&bytes[..bytes.len().min(SAMPLE)]);
        }
        hash
    }

    /// The bytes of one tensor; 0 for an unknown name.
    pub(super) fn tensor_bytes(&self, name: &str) -> usize {
        self.entries.get(name).map_or(0, |entry| entry.range.len())
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// A tensor by its name, over the mapped file.
    pub fn get(&self, name: &str) -> Option<Result<Array>> {
        self.entries.get(name).map(|entry| self.array(entry))
    }

    /// The file that holds a tensor, or else the first file: for messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        let file = self.entries.get(name).map_or(0, |entry| entry.file);
        self.files.get(file).map(|(path, _)| path.clone()).unwrap_or_default()
    }

    /// The tensor as an array over the mapped file.
    pub(super) fn array(&self, entry: &Entry) -> Result<Array> {
        let (path, mapping) = &self.files[entry.file];
        mapping
            .array(entry.range.clone(), &entry.shape, entry.dtype)
            .map_err(|error| Error::weights(path, error.to_string()))
    }
}

fn read_index(path: &Path) -> Result<Index> {
    let size = std::fs::metadata(path).map_err(|error| Error::io(path, &error))?.len();
    if size > MAX_INDEX_BYTES {
        return Err(Error::weights(path, "the index is larger than any checkpoint needs"));
    }
    let text = std::fs::read(path).map_err(|error| Error::io(path, &error))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::weights(path, format!("not a valid index: {error}")))
}

fn weight_files(dir: &Path) -> Result<BTreeSet<String>> {
    let entries = std::fs::read_dir(dir).map_err(|error| Error::io(dir, &error))?;
    let mut names = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(|error| Error::io(dir, &error))?.file_name();
        if let Some(name) = name.to_str()
            && name.starts_with("model")
            && name.ends_with(".safetensors")
        {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

fn map_file(path: &Path) -> Result<MappedFile> {
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::weights(path, "the shard is missing"),
        _ => Error::io(path, &error),
    })?;
    let length = file.metadata().map_err(|error| Error::io(path, &error))?.len();
    if length == 0 {
        return Err(Error::weights(path, "the file is empty"));
    }
    MappedFile::map(&file).map_err(|error| Error::io(path, &error))
}

fn dtype_of(dtype: safetensors::Dtype) -> Option<Dtype> {
    Some(match dtype {
        safetensors::Dtype::BOOL => Dtype::Bool,
        safetensors::Dtype::U8 => Dtype::Uint8,
        safetensors::Dtype::I8 => Dtype::Int8,
        safetensors::Dtype::U16 => Dtype::Uint16,
        safetensors::Dtype::I16 => Dtype::Int16,
        safetensors::Dtype::U32 => Dtype::Uint32,
        safetensors::Dtype::I32 => Dtype::Int32,
        safetensors::Dtype::U64 => Dtype::Uint64,
        safetensors::Dtype::I64 => Dtype::Int64,
        safetensors::Dtype::F16 => Dtype::Float16,
        safetensors::Dtype::BF16 => Dtype::Bfloat16,
        safetensors::Dtype::F32 => Dtype::Float32,
        safetensors::Dtype::F64 => Dtype::Float64,
        // MLX has no 8-bit floating-point type: the bytes are taken as they are.
        safetensors::Dtype::F8_E4M3 | safetensors::Dtype::F8_E5M2 | safetensors::Dtype::F8_E8M0 => {
            Dtype::Uint8
        }
        _ => return None,
    })
}

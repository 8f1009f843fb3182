//! The files of a checkpoint: mapped, and their headers checked.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use safetensors::SafeTensors;

use super::folder::weight_files;
use crate::error::{Error, Result};
use crate::files::placeholder;
use crate::mlx::{Array, Dtype, MappedFile};
use crate::warning::Warning;

/// Where a tensor lies, and what it is.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    range: std::ops::Range<usize>,
    pub(super) shape: Vec<i32>,
    pub(super) dtype: Dtype,
    /// The type that the file names: MLX has none of 8-bit floats.
    pub(super) stored: safetensors::Dtype,
}

/// A safetensors file. No tensor is read before it is taken.
pub(super) struct WeightFile {
    path: PathBuf,
    mapping: MappedFile,
    entries: BTreeMap<String, Entry>,
    /// The texts in its header.
    texts: HashMap<String, String>,
}

/// The tensors of a model folder's safetensors files.
pub struct Checkpoint {
    files: Vec<Rc<WeightFile>>,
    /// The number of the file that holds each tensor.
    places: BTreeMap<String, usize>,
    warnings: Vec<Warning>,
}

impl WeightFile {
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let mapping = map_file(&path)?;
        let broken = |message: String| Error::weights(&path, message);
        let (header_size, metadata) = SafeTensors::read_metadata(mapping.bytes())
            .map_err(|error| broken(not_safetensors(mapping.bytes(), &error)))?;
        // The header's length field is 8 bytes; offsets count from the end of the header.
        let start = header_size + 8;
        let mut entries = BTreeMap::new();
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
            let stored = info.dtype;
            let dtype = dtype_of(stored).ok_or_else(|| {
                broken(format!("tensor \"{tensor}\" has the unsupported type {stored:?}"))
            })?;
            entries.insert(tensor.clone(), Entry { range: begin..end, shape, dtype, stored });
        }
        let texts = metadata.metadata().clone().unwrap_or_default();
        Ok(Self { path, mapping, entries, texts })
    }

    pub(super) fn holds(&self, tensor: &str) -> bool {
        self.entries.contains_key(tensor)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
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
        Ok((Self::of(vec![Rc::new(file)], Vec::new())?, texts))
    }

    fn of(files: Vec<Rc<WeightFile>>, warnings: Vec<Warning>) -> Result<Self> {
        let mut places = BTreeMap::new();
        for (place, file) in files.iter().enumerate() {
            for tensor in file.entries.keys() {
                if let Some(other) = places.insert(tensor.clone(), place) {
                    let other = files[other].path.display();
                    let message = format!("tensor \"{tensor}\" is also in {other}");
                    return Err(Error::weights(&file.path, message));
                }
            }
        }
        Ok(Self { files, places, warnings })
    }

    /// What was odd about its files.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.placed().map(|(_, _, entry)| entry.range.len()).sum()
    }

    /// A number that tells these tensors, and what `more` says of them, from others: of their names,
    /// shapes and types, and of bytes at the beginning, in the middle and at the end of each (FNV-1a).
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
        self.entry(name).map_or(0, |entry| entry.range.len())
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.find(name).map(|(_, entry)| entry)
    }

    fn find(&self, name: &str) -> Option<(&WeightFile, &Entry)> {
        let file = self.files.get(*self.places.get(name)?)?;
        file.entries.get(name).map(|entry| (&**file, entry))
    }

    /// All tensors, in order.
    fn placed(&self) -> impl Iterator<Item = (&str, &WeightFile, &Entry)> {
        self.names().filter_map(|name| {
            let (file, entry) = self.find(name)?;
            Some((name, file, entry))
        })
    }

    /// A tensor by its name, over the mapped file.
    pub fn get(&self, name: &str) -> Option<Result<Array>> {
        self.find(name).map(|(file, entry)| {
            file.mapping
                .array(entry.range.clone(), &entry.shape, entry.dtype)
                .map_err(|error| Error::weights(&file.path, error.to_string()))
        })
    }

    /// The file that holds a tensor, or else the first file: for messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        let file = self.places.get(name).copied().unwrap_or(0);
        self.files.get(file).map(|file| file.path.clone()).unwrap_or_default()
    }
}

/// The first, the middle and the last bytes, at most `length` of each.
fn samples(bytes: &[u8], length: usize) -> impl Iterator<Item = &[u8]> {
    let length = length.min(bytes.len());
    let last = bytes.len() - length;
    [0, last / 2, last].into_iter().map(move |start| &bytes[start..start + length])
}

/// What is wrong with a file whose header cannot be read.
fn not_safetensors(bytes: &[u8], error: &safetensors::SafeTensorError) -> String {
    const MAGIC: [(&[u8], &str); 5] = [
        (b"GGUF", "a GGUF file of llama.cpp"),
        (b"PK\x03\x04", "a zip archive, as PyTorch and NumPy write them"),
        (b"\x80\x02", "a Python pickle"),
        (b"\x89HDF", "an HDF5 file"),
        (b"\x1f\x8b", "a gzip archive"),
    ];
    if let Some(problem) = placeholder(&bytes[..bytes.len().min(1 << 10)]) {
        return problem.to_owned();
    }
    if let Some((_, what)) = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return format!("not a safetensors file, but {what}");
    }
    if matches!(error, safetensors::SafeTensorError::MetadataIncompleteBuffer) {
        let message = "the file is not as long as its header says; the download may be incomplete";
        return message.to_owned();
    }
    // A length of 8 bytes, then an object.
    let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    let is_header = bytes.get(8).is_none_or(|&byte| byte == b'{');
    match length {
        None => "the file ends before its header; the download may be incomplete".to_owned(),
        Some(length) if is_header && length < 1 << 30 && length > bytes.len() as u64 - 8 => {
            "the file ends within its header; the download may be incomplete".to_owned()
        }
        Some(_) if bytes.iter().take(32).all(|it| it.is_ascii_graphic() || *it == b' ') => {
            let text: String = bytes.iter().take(60).map(|&byte| char::from(byte)).collect();
            format!("not a safetensors file, but a text: \"{}\"", text.escape_debug())
        }
        Some(_) => format!("not a valid safetensors file: {error}"),
    }
}

fn map_file(path: &Path) -> Result<MappedFile> {
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::weights(path, "the shard is missing"),
        _ => Error::io(path, &error),
    })?;
    let metadata = file.metadata().map_err(|error| Error::io(path, &error))?;
    if !metadata.is_file() {
        return Err(Error::weights(path, "not a file"));
    }
    if metadata.len() == 0 {
        return Err(Error::weights(path, "the file is empty; download it again"));
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

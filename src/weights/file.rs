//! A safetensors file: mapped, and its header checked.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use crate::error::{Error, Result};
use crate::files::placeholder;
use crate::mlx::{Dtype, MappedFile};

/// Where a tensor lies, and what it is.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) range: std::ops::Range<usize>,
    pub(super) shape: Vec<i32>,
    pub(super) dtype: Dtype,
    /// The type that the file names: MLX has none of 8-bit floats.
    pub(super) stored: safetensors::Dtype,
}

impl Entry {
    /// The bytes that the tensor takes.
    pub(super) fn bytes(&self) -> usize {
        let width = match self.dtype {
            Dtype::Bool | Dtype::Uint8 | Dtype::Int8 => 1,
            Dtype::Uint16 | Dtype::Int16 | Dtype::Float16 | Dtype::Bfloat16 => 2,
            Dtype::Uint32 | Dtype::Int32 | Dtype::Float32 => 4,
            Dtype::Uint64 | Dtype::Int64 | Dtype::Float64 | Dtype::Complex64 => 8,
        };
        self.shape.iter().map(|&dim| dim.unsigned_abs() as usize).product::<usize>() * width
    }
}

/// What is known of a tensor without its content.
#[derive(Debug, Clone)]
pub struct TensorOutline {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i32>,
    /// The type that a file has it in.
    pub stored: safetensors::Dtype,
}

/// A safetensors file. No tensor is read before it is taken.
pub(super) struct WeightFile {
    pub(super) path: PathBuf,
    pub(super) mapping: MappedFile,
    pub(super) entries: BTreeMap<String, Entry>,
    /// The texts in its header.
    pub(super) texts: HashMap<String, String>,
}

impl WeightFile {
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let mapping = map_file(&path)?;
        let broken = |message: String| Error::weights(&path, message);
        let (header_size, metadata) = SafeTensors::read_metadata(mapping.bytes())
            .map_err(|error| broken(not_safetensors(mapping.bytes(), &error)).caused_by(error))?;
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

    /// A file of tensors that are known by their names, shapes and types alone.
    pub(super) fn outline(path: PathBuf, tensors: Vec<TensorOutline>) -> Result<Self> {
        let mapping = MappedFile::none().map_err(|error| Error::io(&path, error))?;
        let entry = |TensorOutline { name, shape, stored }: TensorOutline| {
            Some((name, Entry { range: 0..0, shape, dtype: dtype_of(stored)?, stored }))
        };
        let entries = tensors.into_iter().filter_map(entry).collect();
        Ok(Self { path, mapping, entries, texts: HashMap::new() })
    }

    pub(super) fn holds(&self, tensor: &str) -> bool {
        self.entries.contains_key(tensor)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
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
        _ => Error::io(path, error),
    })?;
    let metadata = file.metadata().map_err(|error| Error::io(path, error))?;
    if !metadata.is_file() {
        return Err(Error::weights(path, "not a file"));
    }
    if metadata.len() == 0 {
        return Err(Error::weights(path, "the file is empty; download it again"));
    }
    MappedFile::map(&file).map_err(|error| Error::io(path, error))
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

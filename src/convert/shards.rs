//! Safetensors files of at most 5 GiB, written tensor by tensor, and their index.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::mlx::Dtype;
use crate::weights::TensorOutline;

/// As mlx-lm has it; a larger tensor has a file of its own.
const SHARD_BYTES: usize = 5 << 30;

/// A tensor that will be written.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<i32>,
}

impl Output {
    pub(super) fn bytes(&self) -> usize {
        self.shape.iter().map(|&dim| dim.unsigned_abs() as usize).product::<usize>() * self.width()
    }

    /// What is known of it before it is written.
    pub(super) fn outline(&self) -> TensorOutline {
        TensorOutline { name: self.name.clone(), shape: self.shape.clone(), stored: self.stored() }
    }

    fn width(&self) -> usize {
        self.stored().bitsize() / 8
    }

    /// Its type in files.
    fn stored(&self) -> safetensors::Dtype {
        match self.dtype {
            Dtype::Bool => safetensors::Dtype::BOOL,
            Dtype::Uint8 => safetensors::Dtype::U8,
            Dtype::Int8 => safetensors::Dtype::I8,
            Dtype::Uint16 => safetensors::Dtype::U16,
            Dtype::Int16 => safetensors::Dtype::I16,
            Dtype::Float16 => safetensors::Dtype::F16,
            Dtype::Bfloat16 => safetensors::Dtype::BF16,
            Dtype::Uint32 => safetensors::Dtype::U32,
            Dtype::Int32 => safetensors::Dtype::I32,
            Dtype::Float32 => safetensors::Dtype::F32,
            Dtype::Uint64 => safetensors::Dtype::U64,
            Dtype::Int64 => safetensors::Dtype::I64,
            Dtype::Float64 => safetensors::Dtype::F64,
            Dtype::Complex64 => safetensors::Dtype::C64,
        }
    }
}

/// Where the bytes of a tensor go next.
struct Place {
    file: usize,
    next: u64,
    left: u64,
}

/// Files that are being written.
pub(super) struct Shards {
    folder: PathBuf,
    files: Vec<(PathBuf, File)>,
    places: BTreeMap<String, Place>,
    index: Value,
}

impl Shards {
    /// Lays out the tensors and writes the headers.
    pub(super) fn create(folder: &Path, outputs: Vec<Output>, parameters: u64) -> Result<Self> {
        let total: usize = outputs.iter().map(Output::bytes).sum();
        let shards = divided(outputs);
        let count = shards.len();
        let mut all = Self {
            folder: folder.to_owned(),
            files: Vec::new(),
            places: BTreeMap::new(),
            index: Value::Null,
        };
        let mut weight_map = BTreeMap::new();
        for (number, shard) in shards.into_iter().enumerate() {
            let name = match count {
                1 => "model.safetensors".to_owned(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
            };
            weight_map.extend(shard.iter().map(|output| (output.name.clone(), name.clone())));
            all.add(folder.join(&name), shard)?;
        }
        all.index = json!({
            "metadata": { "total_size": total, "total_parameters": parameters },
            "weight_map": weight_map,
        });
        Ok(all)
    }

    fn add(&mut self, path: PathBuf, mut outputs: Vec<Output>) -> Result<()> {
        // The widest first, so that each lies where its type wants it.
        outputs.sort_by(|a, b| (b.width(), &a.name).cmp(&(a.width(), &b.name)));
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({ "format": "mlx" }));
        let mut end = 0;
        for output in &outputs {
            let start = end;
            end += output.bytes();
            let entry = json!({
                "dtype": output.stored(),
                "shape": output.shape,
                "data_offsets": [start, end],
            });
            header.insert(output.name.clone(), entry);
        }
        let mut header = Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let failed = |error: std::io::Error| Error::io(&path, error);
        let mut file =
            OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
        file.write_all(&header).map_err(failed)?;
        let mut next = 8 + header.len() as u64;
        for output in outputs {
            let left = output.bytes() as u64;
            self.places.insert(output.name, Place { file: self.files.len(), next, left });
            next += left;
        }
        self.files.push((path, file));
        Ok(())
    }

    /// Writes the next bytes of a tensor.
    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let wrong = || Error::Unsupported(format!("\"{name}\" is not as long as was planned"));
        let place = self.places.get_mut(name).ok_or_else(wrong)?;
        place.left = place.left.checked_sub(bytes.len() as u64).ok_or_else(wrong)?;
        let (path, file) = &mut self.files[place.file];
        file.seek(SeekFrom::Start(place.next))
            .and_then(|_| file.write_all(bytes))
            .map_err(|error| Error::io(&*path, error))?;
        place.next += bytes.len() as u64;
        Ok(())
    }

    /// Writes the index, and everything down to the disk.
    pub(super) fn finish(self) -> Result<()> {
        if let Some((name, _)) = self.places.iter().find(|(_, place)| place.left > 0) {
            return Err(Error::Unsupported(format!("\"{name}\" was not written to its end")));
        }
        for (path, file) in &self.files {
            file.sync_all().map_err(|error| Error::io(path, error))?;
        }
        let path = self.folder.join("model.safetensors.index.json");
        let text = format!("{:#}\n", self.index);
        std::fs::write(&path, text).map_err(|error| Error::io(&path, error))
    }
}

fn divided(outputs: Vec<Output>) -> Vec<Vec<Output>> {
    let mut shards: Vec<Vec<Output>> = vec![Vec::new()];
    let mut size = 0;
    for output in outputs {
        if size > 0 && size + output.bytes() > SHARD_BYTES {
            shards.push(Vec::new());
            size = 0;
        }
        size += output.bytes();
        if let Some(last) = shards.last_mut() {
            last.push(output);
        }
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_end_where_the_next_tensor_would_not_fit() {
        let output = |name: &str, gib: i32| Output {
            name: name.to_owned(),
            dtype: Dtype::Uint8,
            shape: vec![gib, 1 << 30],
        };
        let sizes = [("a", 2), ("b", 3), ("c", 1), ("d", 6), ("e", 1)];
        let shards = divided(sizes.iter().map(|(name, gib)| output(name, *gib)).collect());
        let names: Vec<Vec<_>> = shards
            .iter()
            .map(|shard| shard.iter().map(|output| output.name.as_str()).collect())
            .collect();
        assert_eq!(names, [vec!["a", "b"], vec!["c"], vec!["d"], vec!["e"]]);
    }

    #[test]
    fn a_tensor_is_written_in_parts_and_is_as_long_as_planned() {
        let folder = tempfile::tempdir().unwrap();
        let output = |name: &str, dtype, shape: &[i32]| Output {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
        };
        let outputs =
            || vec![output("b", Dtype::Uint8, &[3]), output("a", Dtype::Float32, &[1, 2])];
        let mut shards = Shards::create(folder.path(), outputs(), 5).unwrap();
        shards.write("b", &[1, 2]).unwrap();
        shards.write("a", &[0; 8]).unwrap();
        assert!(shards.write("b", &[3, 4]).is_err() && shards.write("c", &[]).is_err());
        shards.write("b", &[3]).unwrap();
        shards.finish().unwrap();
        let bytes = std::fs::read(folder.path().join("model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(tensors.tensor("b").unwrap().data(), [1, 2, 3]);
        let other = tempfile::tempdir().unwrap();
        let shards = Shards::create(other.path(), outputs(), 5).unwrap();
        assert!(shards.finish().is_err());
    }
}

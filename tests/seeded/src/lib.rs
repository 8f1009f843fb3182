//! The checkpoints of `tests/fixtures`, made from a seed: a fixture keeps what its tensors are, and
//! this crate and `tools/oracle/generate/seeded.py` make the same bytes of it. The rules, and the
//! files of a fixture, are described there.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "used by tests alone")]

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Deserializer, Map, Value, json};

/// The fixtures of a kind.
fn source(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(kind)
}

/// The names of all fixtures of models that write, sorted.
pub fn names() -> Vec<String> {
    names_in("models")
}

/// The names of all fixtures of a kind, sorted.
pub fn names_in(kind: &str) -> Vec<String> {
    let files = fs::read_dir(source(kind)).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = files
        .filter_map(|file| Some(file.to_str().unwrap().strip_suffix(".json")?.to_owned()))
        .collect();
    names.sort();
    names
}

/// A folder named like the fixture that holds its checkpoint and what the oracle computed with it
/// (`golden.json`, `golden.safetensors`): made beside the running test at the first use, and not to
/// be changed.
pub fn folder(name: &str) -> PathBuf {
    folder_in("models", name)
}

/// The same of a fixture of another kind.
pub fn folder_in(kind: &str, name: &str) -> PathBuf {
    let fixture = Fixture::open(kind, name);
    let mut hasher = DefaultHasher::new();
    fixture.hash(&mut hasher);
    let programs = std::env::current_exe().unwrap();
    let all = programs.parent().unwrap().join("fixtures").join(format!("{:016x}", hasher.finish()));
    let folder = all.join(name);
    if !folder.is_dir() {
        fs::create_dir_all(&all).unwrap();
        let making = tempfile::tempdir_in(&all).unwrap();
        fixture.write(making.path());
        // Another test may have been quicker: the same files are there then.
        if fs::rename(making.path(), &folder).is_ok() {
            let _ = making.keep();
        }
    }
    folder
}

/// The files of a fixture.
#[derive(Hash)]
struct Fixture {
    /// `<name>.json`.
    description: String,
    /// `<name>.safetensors`.
    tensors: Option<Vec<u8>>,
    /// Those of the folder `<name>`, by their paths in there.
    others: BTreeMap<PathBuf, Vec<u8>>,
}

impl Fixture {
    fn open(kind: &str, name: &str) -> Self {
        let (source, mut others) = (source(kind), BTreeMap::new());
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = fs::read_dir(source.join(name).join(&folder)) else { continue };
            for entry in entries.map(|entry| entry.unwrap()) {
                let path = folder.join(entry.file_name());
                if entry.path().is_dir() {
                    folders.push(path);
                } else {
                    others.insert(path, fs::read(entry.path()).unwrap());
                }
            }
        }
        Self {
            description: fs::read_to_string(source.join(format!("{name}.json"))).unwrap(),
            tensors: fs::read(source.join(format!("{name}.safetensors"))).ok(),
            others,
        }
    }

    /// The configuration as it was published: the first value, as it stands there. An infinite
    /// number, which JSON has not, is one with too large an exponent.
    fn config(&self) -> String {
        let text = self.description.strip_prefix("{\n\"config\": ").unwrap();
        let mut values = Deserializer::from_str(text).into_iter::<IgnoredAny>();
        values.next().unwrap().unwrap();
        text[..values.byte_offset()].replace("1e999", "Infinity")
    }

    fn write(&self, folder: &Path) {
        let Description { golden, seed, index, files } =
            serde_json::from_str(&self.description).unwrap();
        fs::write(folder.join("config.json"), self.config()).unwrap();
        if let Some(facts) = golden {
            fs::write(folder.join("golden.json"), facts.to_string()).unwrap();
        }
        let mut golden = self.tensors.as_deref().map(read).unwrap_or_default();
        let mut weight_map = Map::new();
        for (file, File { metadata, tensors }) in &files {
            let prefix = format!("{file}/");
            let mut made: BTreeMap<_, _> = golden
                .extract_if(.., |name, _| name.starts_with(&prefix))
                .map(|(name, stored)| (name[prefix.len()..].to_owned(), stored))
                .collect();
            let later = |tensor: &Tensor| matches!(tensor.2.rule, Rule::Times(..));
            for last in [false, true] {
                for (name, tensor) in tensors.iter().filter(|(_, tensor)| later(tensor) == last) {
                    let data = tensor.data(name, seed, &made);
                    let stored = Stored { dtype: tensor.0.clone(), shape: tensor.1.clone(), data };
                    made.insert(name.clone(), stored);
                }
            }
            weight_map.extend(made.keys().map(|name| (name.clone(), json!(file))));
            fs::write(folder.join(file), safetensors(&made, metadata)).unwrap();
        }
        if index {
            let text = json!({ "metadata": {}, "weight_map": weight_map }).to_string();
            fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
        }
        if !golden.is_empty() {
            let tensors = safetensors(&golden, &BTreeMap::new());
            fs::write(folder.join("golden.safetensors"), tensors).unwrap();
        }
        for (path, content) in &self.others {
            fs::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
            fs::write(folder.join(path), content).unwrap();
        }
    }
}

/// Of a fixture's file, beside the configuration, which is read as text.
#[derive(Deserialize)]
struct Description {
    golden: Option<Value>,
    seed: u64,
    index: bool,
    files: BTreeMap<String, File>,
}

#[derive(Deserialize)]
struct File {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Tensor>,
}

/// Type, shape, and how the values are made.
#[derive(Deserialize)]
struct Tensor(String, Vec<usize>, Values);

#[derive(Deserialize)]
struct Values {
    /// Another tensor whose values these are.
    name: Option<String>,
    #[serde(flatten)]
    rule: Rule,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Rule {
    Fill(f64),
    Uniform([f64; 2]),
    Signed([f64; 2]),
    Grid([f64; 3]),
    Integers([u64; 2]),
    Bits(()),
    E4m3(()),
    Times(String, f64),
}

/// A tensor as safetensors files hold it.
struct Stored {
    dtype: String,
    shape: Vec<usize>,
    data: Vec<u8>,
}

/// Copies a folder and those within it.
pub fn copy(source: &Path, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let path = entry.unwrap().path();
        let target = folder.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// w₀, w₁, … of a tensor's name: SplitMix64 (Steele et al. 2014) from FNV-1a of the name.
fn words(name: &str, seed: u64) -> impl Iterator<Item = u64> {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (1_u64..).map(move |i| {
        let z = (hash ^ seed).wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// A whole number below `count`.
fn below(word: u64, count: u64) -> u64 {
    ((word >> 32) * count) >> 32
}

fn unit(word: u64) -> f64 {
    (word >> 40) as f64 / f64::from(1 << 24)
}

impl Tensor {
    fn data(&self, name: &str, seed: u64, others: &BTreeMap<String, Stored>) -> Vec<u8> {
        let Self(dtype, shape, values) = self;
        let count = shape.iter().product::<usize>();
        let words = words(values.name.as_deref().unwrap_or(name), seed);
        let floats = |values: &mut dyn Iterator<Item = f64>| encode(values, dtype);
        match &values.rule {
            Rule::Fill(value) => floats(&mut std::iter::repeat_n(*value, count)),
            Rule::Uniform([low, high]) => {
                floats(&mut words.take(count).map(|w| low + (high - low) * unit(w)))
            }
            Rule::Signed([low, high]) => floats(&mut words.take(count).map(|w| {
                let magnitude = low + (high - low) * unit(w);
                if w & 1 == 1 { -magnitude } else { magnitude }
            })),
            Rule::Grid([low, high, step]) => {
                let places = (high - low) / step + 1.0;
                floats(&mut words.take(count).map(|w| low + step * (unit(w) * places).floor()))
            }
            Rule::Times(other, factor) => {
                floats(&mut decode(&others[other]).into_iter().map(|value| value * factor))
            }
            Rule::Integers([low, high]) => {
                self.integers(count, words.map(|w| low + below(w, high - low + 1)))
            }
            Rule::Bits(()) => {
                let bits = 8 * self.width() as u32;
                self.integers(count, words.map(|w| w >> (64 - bits)))
            }
            Rule::E4m3(()) => words
                .take(count * self.width())
                .map(|w| ((w >> 63 << 7) | below(w, 127)) as u8)
                .collect(),
        }
    }

    fn width(&self) -> usize {
        if self.0 == "U32" { 4 } else { 1 }
    }

    fn integers(&self, count: usize, values: impl Iterator<Item = u64>) -> Vec<u8> {
        let width = self.width();
        values.take(count).flat_map(|value| value.to_le_bytes().into_iter().take(width)).collect()
    }
}

fn encode(values: &mut dyn Iterator<Item = f64>, dtype: &str) -> Vec<u8> {
    let values = values.map(|value| value as f32);
    match dtype {
        "F32" => values.flat_map(f32::to_le_bytes).collect(),
        "F16" => values.flat_map(|value| f16::from_f32(value).to_le_bytes()).collect(),
        "BF16" => values.flat_map(|value| bf16::from_f32(value).to_le_bytes()).collect(),
        other => panic!("{other} is no floating-point type"),
    }
}

fn decode(tensor: &Stored) -> Vec<f64> {
    let pairs = || tensor.data.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    match tensor.dtype.as_str() {
        "F16" => pairs().map(|pair| f16::from_le_bytes(pair).to_f64()).collect(),
        "BF16" => pairs().map(|pair| bf16::from_le_bytes(pair).to_f64()).collect(),
        "F32" => {
            let words = tensor.data.chunks_exact(4).map(|word| word.try_into().unwrap());
            words.map(|word| f64::from(f32::from_le_bytes(word))).collect()
        }
        other => panic!("{other} is no floating-point type"),
    }
}

fn read(bytes: &[u8]) -> BTreeMap<String, Stored> {
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..start]).unwrap();
    let tensors = header.into_iter().filter(|(name, _)| name != "__metadata__");
    tensors
        .map(|(name, entry)| {
            let number = |value: &Value| value.as_u64().unwrap() as usize;
            let offset = |at: usize| start + number(&entry["data_offsets"][at]);
            let stored = Stored {
                dtype: entry["dtype"].as_str().unwrap().to_owned(),
                shape: entry["shape"].as_array().unwrap().iter().map(number).collect(),
                data: bytes[offset(0)..offset(1)].to_vec(),
            };
            (name, stored)
        })
        .collect()
}

fn safetensors(tensors: &BTreeMap<String, Stored>, metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), json!(metadata));
    }
    // The widest first, so that each lies where its type wants it.
    let bytes = |tensor: &Stored| ["U8", "F8_E4M3"].contains(&tensor.dtype.as_str());
    let mut order: Vec<_> = tensors.iter().collect();
    order.sort_by_key(|(_, tensor)| bytes(tensor));
    let mut data = Vec::new();
    for (name, tensor) in order {
        let start = data.len();
        data.extend_from_slice(&tensor.data);
        let entry = json!({
            "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, data.len()],
        });
        header.insert(name.clone(), entry);
    }
    let mut text = Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(text.as_bytes());
    file.extend_from_slice(&data);
    file
}

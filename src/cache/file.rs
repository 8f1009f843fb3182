//! Prompt-cache files: the caches of a sequence in a safetensors file, in the layout of mlx-lm
//! 0.32.2, which reads and writes the same.
//!
//! A tensor's name is its way through the tree of states (`3.1` are the values of layer 3). What is
//! no array is written as one (a text as its code points), and listed in the header under `2`; the
//! names of the caches' classes are under `1`, and texts of the writer's own under `0`.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype as StoredDtype, TensorView};

use super::Cache;
use super::state::{self, State};
use crate::error::{Error, Result};
use crate::mlx::{self, Array, Dtype};
use crate::weights::Checkpoint;

/// The caches of a file, and the writer's own texts.
#[derive(Debug)]
pub struct CacheFile {
    /// A cache for each layer.
    pub caches: Vec<Cache>,
    /// What the writer said of them.
    pub texts: HashMap<String, String>,
}

/// Caches as bytes, which can be written on any thread.
pub struct CacheBytes(Vec<u8>);

impl CacheBytes {
    /// Computes and copies what is in `caches`.
    pub fn of(caches: &[Cache], texts: &HashMap<String, String>) -> Result<Self> {
        let mut leaves = Leaves::default();
        let mut header: HashMap<String, String> = HashMap::new();
        header.insert("2.0".to_owned(), String::new());
        for (index, cache) in caches.iter().enumerate() {
            let (class, state) = state::of(cache);
            header.insert(format!("1.{index}"), class.to_owned());
            leaves.add(&index.to_string(), &state)?;
        }
        for (index, (path, kind)) in leaves.scalars.iter().enumerate() {
            header.insert(format!("2.{}.0", index + 1), path.clone());
            header.insert(format!("2.{}.1", index + 1), (*kind).to_owned());
        }
        header.extend(texts.iter().map(|(name, text)| (format!("0.{name}"), text.clone())));
        let tensors = leaves.arrays.iter().map(|(name, leaf)| {
            TensorView::new(leaf.dtype, leaf.shape.clone(), &leaf.bytes).map(|view| (name, view))
        });
        let bytes = tensors
            .collect::<std::result::Result<Vec<_>, _>>()
            .and_then(|tensors| safetensors::serialize(tensors, Some(header)))
            .map_err(|error| Error::Unsupported(format!("this cache cannot be saved: {error}")))?;
        Ok(Self(bytes))
    }

    /// Writes the file. What was there before stays until the new one is whole.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |error: &std::io::Error| Error::io(path, error);
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
        file.write_all(&self.0).map_err(|error| failed(&error))?;
        file.persist(path).map_err(|error| failed(&error.error))?;
        Ok(())
    }
}

/// Reads a file. Its arrays stay mapped where they can.
///
/// # Errors
/// [`Error::Io`] and [`Error::PromptCache`] say what is wrong with it.
pub fn read(path: &Path) -> Result<CacheFile> {
    let broken = |message: String| Error::PromptCache { path: path.to_owned(), message };
    if !path.is_file() {
        return Err(broken("there is no such file".to_owned()));
    }
    let (tensors, header) = Checkpoint::open_file(path).map_err(|error| match error {
        Error::Weights { message, .. } => broken(message),
        other => other,
    })?;
    let classes: Vec<&String> =
        (0..).map_while(|index| header.get(&format!("1.{index}"))).collect();
    if classes.is_empty() {
        return Err(broken("it is not a prompt cache: its header names no caches".to_owned()));
    }
    let mut tree = Tree { children: HashMap::new() };
    for name in tensors.names() {
        let array = match tensors.get(name) {
            Some(array) => array.map_err(|error| broken(error.to_string()))?,
            None => continue,
        };
        tree.insert(name, State::Array(array));
    }
    for index in 1.. {
        let (Some(name), Some(kind)) =
            (header.get(&format!("2.{index}.0")), header.get(&format!("2.{index}.1")))
        else {
            break;
        };
        let unknown = || broken(format!("\"{name}\" is not the {kind} that it is said to be"));
        let state = match kind.as_str() {
            "none" => State::Nothing,
            "string" => {
                let array = tensors.get(name).ok_or_else(unknown)?;
                array.and_then(|array| text(&array)).ok().flatten().ok_or_else(unknown)?
            }
            "scalar" => {
                let array = tensors.get(name).ok_or_else(unknown)?;
                array.and_then(|array| whole_number(&array)).map_err(|_| unknown())?
            }
            _ => return Err(unknown()),
        };
        tree.insert(name, state);
    }
    let texts: HashMap<String, String> = header
        .iter()
        .filter_map(|(name, text)| Some((name.strip_prefix("0.")?.to_owned(), text.clone())))
        .collect();
    let states: Vec<State> =
        (0..classes.len()).map(|index| tree.child(&index.to_string()).into_state()).collect();
    let restored = |positions: i32| {
        classes.iter().zip(&states).enumerate().map(move |(index, (class, state))| {
            state::restore(class, state, positions)
                .ok_or_else(|| broken(format!("the {class} of layer {index} makes no sense")))
        })
    };
    // Arrays do not say how many positions went into them: as many as into the layers that do.
    let caches: Vec<Cache> = restored(0).collect::<Result<_>>()?;
    let positions = caches.iter().map(Cache::offset).max().unwrap_or(0);
    Ok(CacheFile { caches: restored(positions).collect::<Result<_>>()?, texts })
}

/// The value of an array of one whole number, whatever its type.
fn whole_number(array: &Array) -> Result<State> {
    let value = mlx::ops::astype(array, Dtype::Uint32)?;
    Ok(State::Number(i64::from(mlx::item_u32(&value)?)))
}

/// The text of an array of code points; `None` where they are none.
fn text(array: &Array) -> Result<Option<State>> {
    if array.dtype() != Dtype::Int32 || array.ndim() != 1 {
        return Ok(None);
    }
    let bytes = mlx::to_bytes(array)?;
    let points = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
    Ok(points.map(char::from_u32).collect::<Option<String>>().map(State::Text))
}

/// The leaves of a tree, by their ways.
#[derive(Default)]
struct Leaves {
    arrays: Vec<(String, Leaf)>,
    /// Ways and kinds of leaves that are no arrays.
    scalars: Vec<(String, &'static str)>,
}

struct Leaf {
    dtype: StoredDtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Leaves {
    fn add(&mut self, path: &str, state: &State) -> Result<()> {
        let leaf = match state {
            State::List(children) => {
                for (index, child) in children.iter().enumerate() {
                    self.add(&format!("{path}.{index}"), child)?;
                }
                return Ok(());
            }
            State::Array(array) => Leaf {
                dtype: stored(array.dtype()).ok_or_else(|| {
                    Error::Unsupported(format!(
                        "a cache of {} cannot be saved",
                        mlx::dtype_name(array.dtype())
                    ))
                })?,
                shape: array.shape().iter().map(|dim| dim.unsigned_abs() as usize).collect(),
                bytes: mlx::to_bytes(array)?,
            },
            State::Number(number) => {
                self.scalars.push((path.to_owned(), "scalar"));
                // An i32, as offsets are: mlx-lm writes its numbers so.
                let bytes = i32::try_from(*number).unwrap_or(i32::MAX).to_le_bytes().to_vec();
                Leaf { dtype: StoredDtype::I32, shape: Vec::new(), bytes }
            }
            State::Text(text) => {
                self.scalars.push((path.to_owned(), "string"));
                let points: Vec<u32> = text.chars().map(u32::from).collect();
                Leaf {
                    dtype: StoredDtype::I32,
                    shape: vec![points.len()],
                    bytes: points.into_iter().flat_map(u32::to_le_bytes).collect(),
                }
            }
            State::Nothing => {
                self.scalars.push((path.to_owned(), "none"));
                Leaf { dtype: StoredDtype::F32, shape: vec![0], bytes: Vec::new() }
            }
        };
        self.arrays.push((path.to_owned(), leaf));
        Ok(())
    }
}

/// A tree that grows by ways.
struct Tree {
    children: HashMap<String, Node>,
}

enum Node {
    Leaf(State),
    Tree(Tree),
}

impl Tree {
    fn insert(&mut self, path: &str, state: State) {
        match path.split_once('.') {
            None => drop(self.children.insert(path.to_owned(), Node::Leaf(state))),
            Some((first, rest)) => {
                let node = self.children.entry(first.to_owned());
                let node = node.or_insert_with(|| Node::Tree(Self { children: HashMap::new() }));
                if let Node::Tree(tree) = node {
                    tree.insert(rest, state);
                }
            }
        }
    }

    fn child(&mut self, name: &str) -> Node {
        self.children.remove(name).unwrap_or(Node::Tree(Self { children: HashMap::new() }))
    }
}

impl Node {
    fn into_state(self) -> State {
        match self {
            Self::Leaf(state) => state,
            Self::Tree(mut tree) => {
                let count = tree.children.len();
                State::List(
                    (0..count).map(|index| tree.child(&index.to_string()).into_state()).collect(),
                )
            }
        }
    }
}

fn stored(dtype: Dtype) -> Option<StoredDtype> {
    Some(match dtype {
        Dtype::Uint32 => StoredDtype::U32,
        Dtype::Int32 => StoredDtype::I32,
        Dtype::Float16 => StoredDtype::F16,
        Dtype::Bfloat16 => StoredDtype::BF16,
        Dtype::Float32 => StoredDtype::F32,
        _ => return None,
    })
}

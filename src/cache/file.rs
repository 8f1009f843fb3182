//! Prompt-cache files: the caches of a sequence in a safetensors file, in the layout of mlx-lm
//! 0.32.2, which reads and writes the same.
//!
//! A tensor's name is its way through the tree of states (`3.1` are the values of layer 3). What is
//! no array is written as one (a text as its code points), and listed in the header under `2`; the
//! names of the caches' classes are under `1`, and texts of the writer's own under `0`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype as StoredDtype, TensorView};

use super::Cache;
use super::state::{self, State};
use crate::error::{Error, Result};
use crate::mlx::{self, Array, Dtype};
use crate::weights::Checkpoint;

/// The header's bytes at most: a prompt of a million tokens takes less than a third.
const MAX_HEADER_BYTES: u64 = 32 << 20;

/// The tensors of one layer at most.
const MAX_TENSORS_OF_LAYER: usize = 100;

/// The dots of a tensor's name at most: `layer.part.state.field.array`.
const MAX_DOTS: usize = 4;

/// The characters of a class's name at most.
const MAX_NAME: usize = 100;

/// The caches of a file, and the writer's own texts.
#[derive(Debug)]
pub struct CacheFile {
    /// A cache for each layer.
    pub caches: Vec<Cache>,
    /// What the writer said of them.
    pub texts: HashMap<String, String>,
}

/// Caches as bytes, which can be written on any thread once all are copied.
pub struct CacheBytes {
    leaves: Leaves,
    header: HashMap<String, String>,
}

impl CacheBytes {
    /// Computes and copies what is in `caches`.
    pub fn of(caches: &[Cache], texts: &HashMap<String, String>) -> Result<Self> {
        let mut bytes = Self::begin(caches, texts)?;
        while bytes.copy_next()? {}
        Ok(bytes)
    }

    /// The same with nothing computed and copied yet: see [`CacheBytes::copy_next`].
    pub fn begin(caches: &[Cache], texts: &HashMap<String, String>) -> Result<Self> {
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
        Ok(Self { leaves, header })
    }

    /// Computes and copies the next array, which is then free; `false` where there is none left.
    pub fn copy_next(&mut self) -> Result<bool> {
        let Some((index, array)) = self.leaves.uncopied.pop() else { return Ok(false) };
        self.leaves.arrays[index].1.bytes = mlx::to_bytes(&array)?;
        Ok(true)
    }

    /// The file's content, once all is copied.
    pub(super) fn serialized(&self) -> Result<Vec<u8>> {
        let tensors = self.leaves.arrays.iter().map(|(name, leaf)| {
            TensorView::new(leaf.dtype, leaf.shape.clone(), &leaf.bytes).map(|view| (name, view))
        });
        tensors
            .collect::<std::result::Result<Vec<_>, _>>()
            .and_then(|tensors| safetensors::serialize(tensors, Some(self.header.clone())))
            .map_err(|error| Error::Unsupported(format!("this cache cannot be saved: {error}")))
    }

    /// Writes the file, down to the disk. What was there before stays until the new one is whole.
    ///
    /// # Errors
    /// [`Error::Io`] where the system refuses.
    pub fn write(&self, path: &Path) -> Result<()> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let bytes = self.serialized()?;
        write_file(&bytes, folder, path).map_err(|error| Error::io(path, error))
    }
}

fn write_file(bytes: &[u8], folder: &Path, path: &Path) -> std::io::Result<()> {
    let mut builder = tempfile::Builder::new();
    // Those of any new file: the system takes away what the process's umask says.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The name, too. Not every file system can; the content is safe.
    #[cfg(unix)]
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// Reads a file. Its arrays stay mapped where they can.
///
/// # Errors
/// [`Error::Io`] and [`Error::PromptCache`] say what is wrong with it.
pub fn read(path: &Path) -> Result<CacheFile> {
    OpenFile::open(path)?.read()
}

/// A file that is mapped, and whose header has been read: what can be slow, and is done on any
/// thread. Arrays are made where they are used.
pub struct OpenFile {
    path: PathBuf,
    tensors: Checkpoint,
    header: HashMap<String, String>,
}

impl OpenFile {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::PromptCache`] say what is wrong with it.
    pub fn open(path: &Path) -> Result<Self> {
        let broken = |message: &str| broken(path, message.to_owned());
        if !path.is_file() {
            return Err(broken("there is no such file"));
        }
        let mut length = [0; 8];
        let opened = File::open(path).map_err(|error| Error::io(path, error))?;
        let whole = (&opened).read_exact(&mut length).is_ok();
        if whole && u64::from_le_bytes(length) > MAX_HEADER_BYTES {
            return Err(broken("its header is larger than any prompt cache needs"));
        }
        let (tensors, header) = Checkpoint::open_file(path).map_err(|error| match error {
            Error::Weights { message, cause, .. } => broken(&message).with_cause(cause),
            other => other,
        })?;
        Ok(Self { path: path.to_owned(), tensors, header })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A text of the writer's own.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.header.get(&format!("0.{name}")).map(String::as_str)
    }

    /// The caches in it.
    ///
    /// # Errors
    /// [`Error::PromptCache`] where they make no sense.
    pub fn read(self) -> Result<CacheFile> {
        self.read_after(None)
    }

    /// [`OpenFile::read`] of caches that so many positions went into, where that is known: arrays
    /// do not say it.
    pub(super) fn read_after(self, positions: Option<i32>) -> Result<CacheFile> {
        let Self { path, tensors, header } = self;
        let broken = |message: String| broken(&path, message);
        let classes: Vec<&String> =
            (0..).map_while(|index| header.get(&format!("1.{index}"))).collect();
        if classes.is_empty() {
            return Err(broken("it is not a prompt cache: its header names no caches".to_owned()));
        }
        if tensors.names().count() > classes.len() * MAX_TENSORS_OF_LAYER {
            return Err(broken("it has more tensors than its caches can hold".to_owned()));
        }
        let too_deep = |name: &str| broken(format!("the name \"{}\" is no place", shown(name)));
        let mut tree = Tree { children: HashMap::new() };
        for name in tensors.names() {
            let array = match tensors.get(name) {
                Some(array) => array.map_err(|error| broken(error.to_string()).caused_by(error))?,
                None => continue,
            };
            tree.insert(name, State::Array(array)).ok_or_else(|| too_deep(name))?;
        }
        for index in 1.. {
            let (Some(name), Some(kind)) =
                (header.get(&format!("2.{index}.0")), header.get(&format!("2.{index}.1")))
            else {
                break;
            };
            let unknown = || {
                let (name, kind) = (shown(name), shown(kind));
                broken(format!("\"{name}\" is not the {kind} that it is said to be"))
            };
            let array = || tensors.get(name).and_then(Result::ok).ok_or_else(unknown);
            let state = match kind.as_str() {
                "none" => State::Nothing,
                "string" => text(&array()?).ok_or_else(unknown)?,
                "scalar" => whole_number(&array()?).ok_or_else(unknown)?,
                _ => return Err(unknown()),
            };
            tree.insert(name, state).ok_or_else(|| too_deep(name))?;
        }
        let texts: HashMap<String, String> = header
            .iter()
            .filter_map(|(name, text)| Some((name.strip_prefix("0.")?.to_owned(), text.clone())))
            .collect();
        let states: Vec<State> =
            (0..classes.len()).map(|index| tree.child(&index.to_string()).into_state()).collect();
        let restored = |positions: i32| {
            classes.iter().zip(&states).enumerate().map(move |(index, (class, state))| {
                state::restore(class, state, positions).ok_or_else(|| {
                    broken(format!("the {} of layer {index} makes no sense", shown(class)))
                })
            })
        };
        // As many as into the layers that say it.
        let caches: Vec<Cache> = restored(0).collect::<Result<_>>()?;
        let told = caches.iter().map(Cache::offset).max().unwrap_or(0);
        let positions = positions.unwrap_or(told);
        Ok(CacheFile { caches: restored(positions).collect::<Result<_>>()?, texts })
    }
}

fn broken(path: &Path, message: String) -> Error {
    Error::prompt_cache(path, message)
}

/// A text of the file, short enough for a message.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    if start.len() < text.len() { start + "…" } else { start }
}

/// The value of an array of one whole number, of the types that writers use.
fn whole_number(array: &Array) -> Option<State> {
    if array.size() != 1 || ![Dtype::Int32, Dtype::Uint32].contains(&array.dtype()) {
        return None;
    }
    // Negative numbers become large ones, which no length is.
    let value = mlx::ops::astype(array, Dtype::Uint32).ok()?;
    Some(State::Number(i64::from(mlx::item_u32(&value).ok()?)))
}

/// The text of an array of code points; `None` where they are none.
fn text(array: &Array) -> Option<State> {
    if array.dtype() != Dtype::Int32 || array.ndim() != 1 || array.size() > MAX_NAME {
        return None;
    }
    let bytes = mlx::to_bytes(array).ok()?;
    let points = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
    points.map(char::from_u32).collect::<Option<String>>().map(State::Text)
}

/// The leaves of a tree, by their ways.
#[derive(Default)]
struct Leaves {
    arrays: Vec<(String, Leaf)>,
    /// Those of them whose bytes are still to come.
    uncopied: Vec<(usize, Array)>,
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
            State::Array(array) => {
                self.uncopied.push((self.arrays.len(), array.clone()));
                Leaf {
                    dtype: stored(array.dtype()).ok_or_else(|| {
                        Error::Unsupported(format!(
                            "a cache of {} cannot be saved",
                            mlx::dtype_name(array.dtype())
                        ))
                    })?,
                    shape: array.shape().iter().map(|dim| dim.unsigned_abs() as usize).collect(),
                    bytes: Vec::new(),
                }
            }
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
    /// Adds a leaf; `None` for one that lies deeper than any cache's, whose tree would be too deep
    /// for the stack.
    fn insert(&mut self, path: &str, state: State) -> Option<()> {
        (path.matches('.').count() <= MAX_DOTS).then(|| self.insert_at(path, state))
    }

    fn insert_at(&mut self, path: &str, state: State) {
        match path.split_once('.') {
            None => drop(self.children.insert(path.to_owned(), Node::Leaf(state))),
            Some((first, rest)) => {
                let node = self.children.entry(first.to_owned());
                let node = node.or_insert_with(|| Node::Tree(Self { children: HashMap::new() }));
                if let Node::Tree(tree) = node {
                    tree.insert_at(rest, state);
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
                // An empty list has no leaf that says where it is.
                let places = tree.children.keys().filter_map(|name| name.parse::<usize>().ok());
                let last = places.filter(|&place| place < MAX_TENSORS_OF_LAYER).max();
                let count = last.map_or(0, |last| last + 1);
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

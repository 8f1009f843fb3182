//! Tokenizers of checkpoints without a `tokenizer.json`: the formats that training programs write,
//! built into the models of the `tokenizers` library.

mod bpe;
mod merges;
mod protobuf;
mod sentencepiece;
mod tekken;
mod tiktoken;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use super::files;
use super::guard::guarded;
use crate::error::{Error, Result};

/// The largest file that is read; the largest published ones have about 20 MB.
const MAX_FILE: u64 = 256 << 20;

/// A tokenizer made of another format's files.
pub(super) struct Built {
    /// The file it was made of.
    pub path: PathBuf,
    pub tokenizer: Tokenizer,
    /// What the format says of special tokens, in the words of `tokenizer_config.json`, which wins.
    pub config: Map<String, Value>,
}

/// What the files beside a vocabulary say of it.
pub(super) struct Hints<'a> {
    /// `tokenizer_config.json`.
    pub config: &'a Map<String, Value>,
    /// The tokens that it declares, by id.
    pub declared: &'a [(u32, AddedToken)],
}

impl Hints<'_> {
    /// The name of the Python class, without the suffix of its fast form.
    fn class(&self) -> Option<&str> {
        let name = self.config.get("tokenizer_class")?.as_str()?;
        Some(name.strip_suffix("Fast").unwrap_or(name))
    }

    fn flag(&self, name: &str) -> Option<bool> {
        self.config.get(name).and_then(Value::as_bool)
    }
}

/// What goes wrong with a file of these formats, in words.
type Outcome<T> = std::result::Result<T, String>;

/// Builds the tokenizer of the model in `dir`; `None` where no file of a known format is there.
///
/// # Errors
/// [`Error::Tokenizer`] names the file that is broken, or that belongs to an unknown kind.
pub(super) fn build(dir: &Path, hints: &Hints<'_>) -> Result<Option<Built>> {
    type Build = fn(&[u8], &Hints<'_>) -> Outcome<(Tokenizer, Map<String, Value>)>;
    let known: [(&str, Build); 3] = [
        ("tekken.json", tekken::build),
        ("tokenizer.model", |bytes, hints| match tiktoken::is_tiktoken(bytes) {
            true => tiktoken::build(bytes, hints),
            false => sentencepiece::build(bytes, hints),
        }),
        ("tiktoken.model", tiktoken::build),
    ];
    for (name, build) in known {
        if let Some(built) = build_from(dir.join(name), |bytes| build(bytes, hints))? {
            return Ok(Some(built));
        }
    }
    let merges = read(&dir.join("merges.txt"))?;
    let from_merges = build_from(dir.join("vocab.json"), |bytes| match &merges {
        Some(merges) => merges::build(bytes, merges, hints),
        None => Err("merges.txt is missing beside it".to_owned()),
    })?;
    if from_merges.is_some() {
        return Ok(from_merges);
    }
    match names(dir, |name| name.ends_with(".tiktoken")).first() {
        Some(name) => build_from(dir.join(name), |bytes| tiktoken::build(bytes, hints)),
        None => Ok(None),
    }
}

/// The files in `dir` that hold a tokenizer of a kind that is not read here.
pub(super) fn unread(dir: &Path) -> Vec<String> {
    const KINDS: [&str; 7] = [
        "vocab.txt",
        "spiece.model",
        "sentencepiece.bpe.model",
        "tokenizer.bin",
        "bpe.codes",
        "source.spm",
        "tokenizer.vocab",
    ];
    names(dir, |name| {
        KINDS.contains(&name) || name.starts_with("tokenization_") && name.ends_with(".py")
    })
}

fn names(dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| wanted(name))
        .collect();
    names.sort();
    names
}

fn build_from(
    path: PathBuf,
    build: impl FnOnce(&[u8]) -> Outcome<(Tokenizer, Map<String, Value>)>,
) -> Result<Option<Built>> {
    let Some(bytes) = read(&path)? else { return Ok(None) };
    let (tokenizer, config) = guarded(&path, || match files::placeholder(&bytes) {
        Some(problem) => Err(problem.into()),
        None => build(&bytes).map_err(Into::into),
    })?;
    Ok(Some(Built { path, tokenizer, config }))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE => Err(Error::tokenizer(
            path,
            format!("the file has more than {MAX_FILE} bytes, so it is no tokenizer"),
        )),
        _ => files::read(path),
    }
}

/// Fields of a `tokenizer_config.json`.
fn config<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

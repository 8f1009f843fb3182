//! The tokenizer of a checkpoint: `tokenizer.json`, completed by what `tokenizer_config.json` and
//! `special_tokens_map.json` say about special tokens.
//!
//! Follows `transformers`' fast tokenizers, with two deliberate differences: truncation and padding
//! stored in `tokenizer.json` never apply (they are settings of a training run), and
//! `clean_up_tokenization_spaces` is ignored, because it deletes spaces that the model wrote.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizers::{AddedToken, DecoderWrapper};

use super::files;
use crate::error::{Error, Result};

/// Text to tokens and back. `Send + Sync`; share it as `Arc<Tokenizer>`.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    special: HashSet<u32>,
    /// `bos_token` and so on, then custom `*_token` entries of the configuration.
    named: Map<String, Value>,
    decoding: Decoding,
}

/// How token strings become text; what the streaming detokenizer has to wait for depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoding {
    /// Every character of a token stands for one byte (GPT-2's table): text is UTF-8 over all tokens.
    ByteLevel,
    /// `<0xE2>` tokens are bytes, decoded together when they stand in a row.
    ByteFallback,
    /// Every token is text of its own.
    Plain,
}

impl Tokenizer {
    /// Reads the tokenizer of the model in `dir`; `None` if there is no `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] names the file that is broken.
    pub fn from_dir(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("tokenizer.json");
        let Some(bytes) = files::read(&path)? else { return Ok(None) };
        if let Some(problem) = files::placeholder(&bytes) {
            return Err(broken(&path, problem));
        }
        let config = read_config(&dir.join("tokenizer_config.json"))?;
        let map = read_config(&dir.join("special_tokens_map.json"))?;
        Self::new(path, &bytes, &config, &map).map(Some)
    }

    fn new(
        path: PathBuf,
        bytes: &[u8],
        config: &Map<String, Value>,
        map: &Map<String, Value>,
    ) -> Result<Self> {
        let mut inner = guarded(&path, || tokenizers::Tokenizer::from_bytes(bytes))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| broken(&path, error))?;

        // transformers reads special_tokens_map.json only for configurations of the old kind.
        let declared = declared_tokens(config, &path)?;
        let legacy = if config.contains_key("added_tokens_decoder") { None } else { Some(map) };
        let mut named = Map::new();
        for source in [Some(config), legacy].into_iter().flatten() {
            for (key, value) in source {
                if let (true, Some(content)) = (key.ends_with("_token"), content_of(value)) {
                    named.insert(key.clone(), Value::from(content));
                }
            }
            if let Some(Value::Object(extra)) = source.get("extra_special_tokens") {
                for (key, value) in extra {
                    if let Some(content) = content_of(value) {
                        named.insert(key.clone(), Value::from(content));
                    }
                }
            }
        }

        let listed = [Some(config), legacy].into_iter().flatten().flat_map(|source| {
            ["additional_special_tokens", "extra_special_tokens"]
                .into_iter()
                .filter_map(|key| source.get(key)?.as_array())
                .flatten()
                .filter_map(content_of)
        });
        let wanted: Vec<AddedToken> = named
            .values()
            .filter_map(Value::as_str)
            .chain(listed)
            .map(|content| AddedToken::from(content, true).normalized(false))
            .collect();
        inner.add_tokens(&declared);
        inner.add_special_tokens(&wanted);

        let vocabulary = inner.get_added_vocabulary();
        let special = vocabulary
            .get_added_tokens_decoder()
            .iter()
            .filter(|(_, token)| vocabulary.is_special_token(&token.content))
            .map(|(id, _)| *id)
            .collect();
        let decoding = decoding_of(inner.get_decoder());
        Ok(Self { inner, path, special, named, decoding })
    }

    /// The tokens of `text`. `add_special_tokens` asks for what the tokenizer puts around a text by
    /// itself (often a first `<s>`); a rendered chat template brings its own.
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = guarded(&self.path, || self.inner.encode_fast(text, add_special_tokens))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `tokens`. Ids outside the vocabulary have no text.
    pub fn decode(&self, tokens: &[u32], skip_special_tokens: bool) -> Result<String> {
        // The BPE decoder of the library takes the last index of an empty list.
        let visible =
            |id: &u32| self.is_known(*id) && !(skip_special_tokens && self.is_special(*id));
        if !tokens.iter().any(visible) {
            return Ok(String::new());
        }
        guarded(&self.path, || self.inner.decode(tokens, skip_special_tokens))
    }

    /// The number of ids, added tokens included. A model's embedding may have more rows than that.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Whether `token` is a special token, which is left out of the text.
    pub fn is_special(&self, token: u32) -> bool {
        self.special.contains(&token)
    }

    /// The id of the token that is written `token` in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// How the token is written in the vocabulary; not its text (see [`Tokenizer::decode`]).
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The token that begins a text.
    pub fn bos_token(&self) -> Option<&str> {
        self.special_token("bos_token")
    }

    /// The token that ends a text or an answer. See [`super::end_tokens()`] for all of them.
    pub fn eos_token(&self) -> Option<&str> {
        self.special_token("eos_token")
    }

    /// The token that fills short rows of a batch.
    pub fn pad_token(&self) -> Option<&str> {
        self.special_token("pad_token")
    }

    /// The token for what the vocabulary cannot write.
    pub fn unk_token(&self) -> Option<&str> {
        self.special_token("unk_token")
    }

    /// A special token by its attribute: `"bos_token"`, `"mask_token"`, or a custom one such as
    /// `"image_token"`.
    pub fn special_token(&self, attribute: &str) -> Option<&str> {
        self.named.get(attribute).and_then(Value::as_str)
    }

    /// The special tokens by attribute, as the variables of a chat template.
    pub fn special_tokens(&self) -> &Map<String, Value> {
        &self.named
    }

    /// The folder's `tokenizer.json`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn decoding(&self) -> Decoding {
        self.decoding
    }

    fn is_known(&self, id: u32) -> bool {
        self.inner.id_to_token(id).is_some()
    }
}

fn broken(path: &Path, message: impl ToString) -> Error {
    Error::Tokenizer { path: path.to_owned(), message: message.to_string() }
}

/// Runs the library on data from outside. Some of its decoders index without checking, so that a
/// strange tokenizer.json panics; that is an error of the file, not of the process.
fn guarded<T>(path: &Path, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(broken(path, error)),
        Err(_) => Err(broken(path, "the tokenizer library failed on this file")),
    }
}

fn read_config(path: &Path) -> Result<Map<String, Value>> {
    match files::read_object(path, |message| broken(path, message))? {
        Some(Value::Object(object)) => Ok(object),
        _ => Ok(Map::new()),
    }
}

/// The text of a token that is written as a string or as a serialized `AddedToken`.
fn content_of(value: &Value) -> Option<&str> {
    match value {
        Value::String(content) => Some(content.as_str()),
        Value::Object(token) => token.get("content")?.as_str(),
        _ => None,
    }
    .filter(|content| !content.is_empty())
}

/// `added_tokens_decoder` of tokenizer_config.json, in the order of the ids.
fn declared_tokens(config: &Map<String, Value>, tokenizer: &Path) -> Result<Vec<AddedToken>> {
    let Some(decoder) = config.get("added_tokens_decoder") else { return Ok(Vec::new()) };
    let path = tokenizer.with_file_name("tokenizer_config.json");
    let entries = decoder
        .as_object()
        .ok_or_else(|| broken(&path, "added_tokens_decoder: expected an object"))?;
    let mut tokens = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let id: u32 = key.parse().map_err(|_| {
            broken(&path, format!("added_tokens_decoder: \"{key}\" is no token id"))
        })?;
        let content = content_of(value).ok_or_else(|| {
            broken(
                &path,
                format!("added_tokens_decoder.{key}: expected an object with \"content\""),
            )
        })?;
        let flag =
            |name: &str, default| value.get(name).and_then(Value::as_bool).unwrap_or(default);
        let special = flag("special", false);
        let token = AddedToken::from(content, special)
            .single_word(flag("single_word", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .normalized(flag("normalized", !special));
        tokens.push((id, token));
    }
    tokens.sort_by_key(|(id, _)| *id);
    Ok(tokens.into_iter().map(|(_, token)| token).collect())
}

fn decoding_of(decoder: Option<&DecoderWrapper>) -> Decoding {
    match decoder {
        Some(DecoderWrapper::ByteLevel(_)) => Decoding::ByteLevel,
        Some(DecoderWrapper::ByteFallback(_)) => Decoding::ByteFallback,
        Some(DecoderWrapper::Sequence(steps)) => match steps.get_decoders() {
            [step] => decoding_of(Some(step)),
            steps if steps.iter().any(|it| matches!(it, DecoderWrapper::ByteFallback(_))) => {
                Decoding::ByteFallback
            }
            _ => Decoding::Plain,
        },
        _ => Decoding::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::test_folder::TestFolder;

    const SMALL: &str = r#"{"added_tokens": [],
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "</s>": 2}, "unk_token": "a"}}"#;

    fn with(files: &[(&str, &[u8])]) -> Result<Option<Tokenizer>> {
        let folder = TestFolder::new();
        for (name, content) in files {
            folder.write(name, content);
        }
        Tokenizer::from_dir(folder.path())
    }

    #[test]
    fn a_folder_without_a_tokenizer_has_none() {
        assert!(with(&[("tokenizer_config.json", b"{}")]).unwrap().is_none());
    }

    #[test]
    fn stored_truncation_does_not_apply() {
        let tokenizer = with(&[("tokenizer.json", SMALL.as_bytes())]).unwrap().unwrap();
        assert_eq!(tokenizer.encode("a b a b", true).unwrap(), [0, 1, 0, 1]);
    }

    #[test]
    fn tokens_named_in_the_configuration_are_special() {
        let config = br#"{"eos_token": "</s>", "image_token": "<image>", "additional_special_tokens": ["b"]}"#;
        let files: [(&str, &[u8]); 2] =
            [("tokenizer.json", SMALL.as_bytes()), ("tokenizer_config.json", config)];
        let tokenizer = with(&files).unwrap().unwrap();
        assert_eq!(tokenizer.eos_token(), Some("</s>"));
        assert_eq!(tokenizer.special_token("image_token"), Some("<image>"));
        let special: Vec<bool> = (0..5).map(|id| tokenizer.is_special(id)).collect();
        assert_eq!(special, [false, true, true, true, false]);
        assert_eq!(tokenizer.decode(&[0, 1, 2, 3, 0], true).unwrap(), "a a");
    }

    #[test]
    fn ids_outside_the_vocabulary_have_no_text() {
        let tokenizer = with(&[("tokenizer.json", SMALL.as_bytes())]).unwrap().unwrap();
        assert_eq!(tokenizer.decode(&[u32::MAX, 3], false).unwrap(), "");
        assert_eq!(tokenizer.decode(&[], true).unwrap(), "");
    }

    #[test]
    fn broken_files_are_named() {
        let deep = "[".repeat(100_000);
        let broken: [(&str, &[u8], &str); 8] = [
            ("tokenizer.json", b"", "the file is empty"),
            ("tokenizer.json", &SMALL.as_bytes()[..SMALL.len() / 2], "EOF"),
            ("tokenizer.json", b"\xff\xfe{\0", "expected value"),
            ("tokenizer.json", b"{\"model\": 5}", "line 1"),
            ("tokenizer.json", deep.as_bytes(), ""),
            ("tokenizer.json", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            ("tokenizer_config.json", b"{\"added_tokens_decoder\": {\"x\": {}}}", "\"x\""),
            ("tokenizer_config.json", b"{\"added_tokens_decoder\": {\"1\": 5}}", "content"),
        ];
        for (name, content, expected) in broken {
            let mut files: Vec<(&str, &[u8])> = vec![("tokenizer.json", SMALL.as_bytes())];
            files.push((name, content));
            let error = with(&files).unwrap_err();
            assert_eq!(error.code(), "INVALID_TOKENIZER");
            let message = error.to_string();
            assert!(message.contains(name) && message.contains(expected), "{message}");
        }
    }
}

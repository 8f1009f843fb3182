//! The tokenizer of a checkpoint: `tokenizer.json` or a file of another format, completed by what
//! `tokenizer_config.json` and `special_tokens_map.json` say about special tokens.
//!
//! Follows `transformers`' fast tokenizers, with two deliberate differences: truncation and padding
//! stored in `tokenizer.json` never apply (they are settings of a training run), and
//! `clean_up_tokenization_spaces` is ignored, because it deletes spaces that the model wrote.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::utils::truncation::{TruncationParams, truncate_encodings};
use tokenizers::{AddedToken, Decoder, DecoderWrapper, Encoding, PostProcessor};

use super::added_tokens::MarkedText;
use super::formats::{self, Built, Hints};
use super::guard::{broken, guarded};
use super::{added_tokens, byte_fallback, files};
use crate::error::Result;

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
    /// Every character of a token stands for one byte (GPT-2's table): text is UTF-8 over all
    /// tokens.
    ByteLevel,
    /// `<0xE2>` tokens are bytes, decoded together when they stand in a row.
    ByteFallback,
    /// Every token is text of its own.
    Plain,
}

impl Tokenizer {
    /// Reads the tokenizer of the model in `dir`: `tokenizer.json`, else `tekken.json`,
    /// `tokenizer.model` (SentencePiece or tiktoken), `vocab.json` with `merges.txt`, or a tiktoken
    /// file. `None` if there is none of them.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] names the file that is broken.
    pub fn from_dir(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join("tokenizer.json");
        let bytes = files::read(&path)?;
        if let Some(problem) = bytes.as_deref().and_then(files::placeholder) {
            return Err(broken(&path, problem));
        }
        let config = read_config(&dir.join("tokenizer_config.json"))?;
        let map = read_config(&dir.join("special_tokens_map.json"))?;
        let mut declared = declared_tokens(&config, &path)?;
        if let Some(bytes) = bytes {
            let inner = guarded(&path, || tokenizers::Tokenizer::from_bytes(bytes))?;
            return Self::new(path, inner, &config, &map, declared).map(Some);
        }
        if !config.contains_key("added_tokens_decoder") {
            declared = legacy_tokens(&dir.join("added_tokens.json"))?;
        }
        let hints = Hints { config: &config, declared: &declared };
        let built = formats::build(dir, &hints)?;
        let Some(Built { path, tokenizer, config: mut settings }) = built else { return Ok(None) };
        settings.extend(config);
        Self::new(path, tokenizer, &settings, &map, declared).map(Some)
    }

    /// The files in `dir` that hold a tokenizer of a kind that is not read.
    pub fn unread_files(dir: &Path) -> Vec<String> {
        formats::unread(dir)
    }

    fn new(
        path: PathBuf,
        mut inner: tokenizers::Tokenizer,
        config: &Map<String, Value>,
        map: &Map<String, Value>,
        declared: Vec<(u32, AddedToken)>,
    ) -> Result<Self> {
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| broken(&path, &error).with_cause(Some(Arc::from(error))))?;

        // transformers reads special_tokens_map.json only for configurations of the old kind.
        let legacy = if config.contains_key("added_tokens_decoder") { None } else { Some(map) };
        let mut named = Map::new();
        let mut wanted = Vec::new();
        for source in [Some(config), legacy].into_iter().flatten() {
            for (key, value) in source {
                if let (true, Some(token)) = (key.ends_with("_token"), token_of(value)) {
                    named.insert(key.clone(), Value::from(token.content.clone()));
                    wanted.push(token);
                }
            }
            if let Some(Value::Object(extra)) = source.get("extra_special_tokens") {
                for (key, value) in extra {
                    if let Some(token) = token_of(value) {
                        named.insert(key.clone(), Value::from(token.content.clone()));
                        wanted.push(token);
                    }
                }
            }
            for key in ["additional_special_tokens", "extra_special_tokens"] {
                let listed = source.get(key).and_then(Value::as_array).into_iter().flatten();
                wanted.extend(listed.filter_map(token_of));
            }
        }
        let declared: Vec<AddedToken> = declared.into_iter().map(|(_, token)| token).collect();
        guarded(&path, || Ok(inner.add_tokens(&declared)))?;
        let known = inner.get_added_tokens_decoder();
        let missing: Vec<AddedToken> = wanted
            .into_iter()
            .filter_map(|token| {
                let found = known.values().find(|known| known.content == token.content);
                match found.cloned() {
                    // How a token that is known already meets the text around it stays.
                    Some(known) if known.special => None,
                    Some(known) => Some(known.special(true)),
                    None => Some(token),
                }
            })
            .collect();
        guarded(&path, || Ok(inner.add_special_tokens(&missing)))?;
        put_around(&mut inner, config, &named).map_err(|error| broken(&path, error))?;

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

    /// The tokens of a text that is to be continued: with what the tokenizer puts around a text,
    /// unless the text begins with that already, as a rendered chat template does.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = guarded(&self.path, || self.inner.encode_fast(text, true))?;
        let (ids, mask) = (encoding.get_ids(), encoding.get_special_tokens_mask());
        let put_in_front = mask.iter().take_while(|&&added| added == 1).count();
        let own: Vec<u32> =
            ids.iter().zip(mask).filter(|(_, added)| **added == 0).map(|(id, _)| *id).collect();
        let begins = put_in_front > 0 && own.starts_with(&ids[..put_in_front])
            || self.bos_token().is_some_and(|bos| text.trim_start().starts_with(bos));
        Ok(if begins { own } else { ids.to_vec() })
    }

    /// The tokens of a text, with control tokens only where `text` allows them;
    /// `add_special_tokens` as for [`Tokenizer::encode`].
    pub fn encode_marked(&self, text: &MarkedText, add_special_tokens: bool) -> Result<Vec<u32>> {
        let MarkedText { text, marks } = text;
        if marks.is_empty() {
            return self.encode(text, add_special_tokens);
        }
        let encoding = guarded(&self.path, || {
            let encoding = added_tokens::encode(&self.inner, text, marks)?;
            self.inner.post_process(encoding, None, add_special_tokens)
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The tokens of a text that is read for itself, with what the tokenizer puts around one, or of
    /// a pair of texts; and of each token the text that it is of, 0 or 1. Beyond `limit` tokens the
    /// longer text is cut.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::error::Error::Tokenizer) where not even what is put around fits.
    pub fn encode_whole(
        &self,
        text: &str,
        pair: Option<&str>,
        limit: Option<usize>,
    ) -> Result<(Vec<u32>, Vec<u32>)> {
        let encoding = guarded(&self.path, || {
            let first = self.inner.encode_fast(text, false)?;
            let second = match pair {
                None => None,
                Some(pair) => {
                    let mut encoding = self.inner.encode_fast(pair, false)?;
                    encoding.set_type_ids(vec![1; encoding.len()]);
                    Some(encoding)
                }
            };
            let (first, second) = self.cut(first, second, limit)?;
            self.inner.post_process(first, second, true)
        })?;
        Ok((encoding.get_ids().to_vec(), encoding.get_type_ids().to_vec()))
    }

    fn cut(
        &self,
        first: Encoding,
        second: Option<Encoding>,
        limit: Option<usize>,
    ) -> tokenizers::Result<(Encoding, Option<Encoding>)> {
        let Some(limit) = limit else { return Ok((first, second)) };
        let around = self.inner.get_post_processor();
        let around = around.map_or(0, |it| it.added_tokens(second.is_some()));
        let Some(max_length) = limit.checked_sub(around).filter(|length| *length > 0) else {
            return Err(format!("{around} special tokens do not fit {limit}").into());
        };
        let params = TruncationParams { max_length, ..TruncationParams::default() };
        truncate_encodings(first, second, &params)
    }

    /// How the tokens are written that were added to the model's own, and whether they are special.
    pub(super) fn added_tokens(&self) -> impl Iterator<Item = (&str, bool)> {
        let vocabulary = self.inner.get_added_vocabulary();
        let tokens = vocabulary.get_added_tokens_decoder().values();
        let written = tokens.map(|token| token.content.as_str()).filter(|it| !it.is_empty());
        written.map(|content| (content, vocabulary.is_special_token(content)))
    }

    /// The text of `tokens`. Ids outside the vocabulary have no text.
    pub fn decode(&self, tokens: &[u32], skip_special_tokens: bool) -> Result<String> {
        let visible = tokens.iter().filter(|id| !(skip_special_tokens && self.is_special(**id)));
        self.text_of(visible.filter_map(|id| self.written(*id)).collect())
    }

    /// The text of tokens as the vocabulary writes them.
    pub(super) fn text_of(&self, tokens: Vec<String>) -> Result<String> {
        // Some decoders of the library take the last index of an empty list.
        if tokens.is_empty() {
            return Ok(String::new());
        }
        let tokens = match self.decoding {
            Decoding::ByteFallback => byte_fallback::replace_broken(tokens),
            _ => tokens,
        };
        guarded(&self.path, || match self.inner.get_decoder() {
            Some(decoder) => decoder.decode(tokens),
            None => Ok(tokens.join(" ")),
        })
    }

    /// How the vocabulary writes the token, where it has any text.
    pub(super) fn written(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id).filter(|token| !token.is_empty())
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

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    pub(crate) fn decoding(&self) -> Decoding {
        self.decoding
    }
}

fn read_config(path: &Path) -> Result<Map<String, Value>> {
    match files::read_object(path, |message| broken(path, message))? {
        Some(Value::Object(object)) => Ok(object),
        _ => Ok(Map::new()),
    }
}

/// A special token that is written as a string or as a serialized `AddedToken`.
fn token_of(value: &Value) -> Option<AddedToken> {
    let content = match value {
        Value::String(content) => content.as_str(),
        Value::Object(token) => token.get("content")?.as_str()?,
        _ => return None,
    };
    (!content.is_empty()).then(|| with_flags(AddedToken::from(content, true), value))
}

/// `token` with the flags of its serialized form, where there is one.
fn with_flags(token: AddedToken, serialized: &Value) -> AddedToken {
    let flag =
        |name: &str, standard| serialized.get(name).and_then(Value::as_bool).unwrap_or(standard);
    let normalized = flag("normalized", token.normalized);
    token
        .single_word(flag("single_word", false))
        .lstrip(flag("lstrip", false))
        .rstrip(flag("rstrip", false))
        .normalized(normalized)
}

/// What the tokenizer puts around a text, where tokenizer_config.json says that itself: as in
/// transformers, `add_bos_token` and `add_eos_token` win over tokenizer.json.
fn put_around(
    tokenizer: &mut tokenizers::Tokenizer,
    config: &Map<String, Value>,
    named: &Map<String, Value>,
) -> Result<(), String> {
    let flag = |name: &str| config.get(name).and_then(Value::as_bool);
    let (front, behind) = (flag("add_bos_token"), flag("add_eos_token"));
    if front.is_none() && behind.is_none() {
        return Ok(());
    }
    let token = |wanted: Option<bool>, name: &str| {
        let content = named.get(name).and_then(Value::as_str).filter(|_| wanted == Some(true))?;
        Some((content.to_owned(), tokenizer.token_to_id(content)?))
    };
    let (bos, eos) = (token(front, "bos_token"), token(behind, "eos_token"));
    let name = |token: &Option<(String, u32)>| token.iter().map(|it| it.0.clone()).collect();
    let single: [Vec<String>; 3] = [name(&bos), vec!["$A".to_owned()], name(&eos)];
    let processor = TemplateProcessing::builder()
        .try_single(single.concat())
        .map_err(|error| error.to_string())?
        .special_tokens(bos.into_iter().chain(eos).collect::<Vec<_>>())
        .build()
        .map_err(|error| error.to_string())?;
    tokenizer.with_post_processor(Some(processor));
    Ok(())
}

/// `added_tokens_decoder` of tokenizer_config.json, in the order of the ids.
fn declared_tokens(
    config: &Map<String, Value>,
    tokenizer: &Path,
) -> Result<Vec<(u32, AddedToken)>> {
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
        let content = value.get("content").and_then(Value::as_str).filter(|it| !it.is_empty());
        let content = content.ok_or_else(|| {
            broken(
                &path,
                format!("added_tokens_decoder.{key}: expected an object with \"content\""),
            )
        })?;
        let special = value.get("special").and_then(Value::as_bool).unwrap_or(false);
        let token = with_flags(AddedToken::from(content, special), value);
        tokens.push((id, token));
    }
    tokens.sort_by_key(|(id, _)| *id);
    Ok(tokens)
}

/// `added_tokens.json`, where old tokenizers keep their tokens: ids by content, in the order of the
/// ids. Which of them are special is said elsewhere.
fn legacy_tokens(path: &Path) -> Result<Vec<(u32, AddedToken)>> {
    let mut tokens = Vec::new();
    for (content, id) in read_config(path)? {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            broken(path, format!("\"{content}\": expected a token id, found {id}"))
        })?;
        tokens.push((id, AddedToken::from(content, false)));
    }
    tokens.sort_by_key(|(id, _)| *id);
    Ok(tokens)
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

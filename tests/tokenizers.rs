//! Tokenizers against transformers: every folder of `fixtures/tokenizers` is a kind of tokenizer with
//! its cases. Adding a case is adding it to a file there (see tools/oracle/README.md).
#![allow(clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodemlx::text::{Detokenizer, Tokenizer};
use serde_json::Value;

/// The kinds, with their tokenizers and cases.
fn kinds() -> Vec<(String, Arc<Tokenizer>, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(&root).expect("the fixtures").map(|it| it.expect("an entry").path()).collect();
    folders.sort();
    assert!(folders.len() >= 7, "only {} kinds in {}", folders.len(), root.display());
    folders
        .into_iter()
        .map(|folder| {
            let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
            let tokenizer = Tokenizer::from_dir(&folder).expect(&name).expect("a tokenizer");
            let cases = fs::read(folder.join("cases.json")).expect("cases.json");
            (name, Arc::new(tokenizer), serde_json::from_slice(&cases).expect("JSON"))
        })
        .collect()
}

fn ids(case: &Value, key: &str) -> Vec<u32> {
    let ids = case[key].as_array().expect(key).iter();
    ids.map(|id| u32::try_from(id.as_u64().expect("an id")).expect("an id")).collect()
}

fn list<'a>(cases: &'a Value, key: &str) -> &'a [Value] {
    cases[key].as_array().expect(key)
}

#[test]
fn texts_are_encoded_as_in_transformers() {
    for (kind, tokenizer, cases) in kinds() {
        for case in list(&cases, "encodings") {
            let text = case["text"].as_str().expect("text");
            for (key, special) in [("ids", true), ("ids_without_special", false)] {
                let found = tokenizer.encode(text, special).expect("ids");
                assert_eq!(found, ids(case, key), "{kind}: {key} of {text:?}");
            }
        }
    }
}

#[test]
fn tokens_are_decoded_as_in_transformers() {
    for (kind, tokenizer, cases) in kinds() {
        let encoded = list(&cases, "encodings").iter().map(|it| (it, "decoded"));
        let given = list(&cases, "decodings").iter().map(|it| (it, "text"));
        for (case, key) in encoded.chain(given) {
            let ids = ids(case, "ids");
            let without = format!("{key}_without_special");
            for (key, skip) in [(key, false), (without.as_str(), true)] {
                let found = tokenizer.decode(&ids, skip).expect("text");
                assert_eq!(found, case[key].as_str().expect(key), "{kind}: {key} of {ids:?}");
            }
        }
    }
}

#[test]
fn special_tokens_and_sizes_are_those_of_transformers() {
    for (kind, tokenizer, cases) in kinds() {
        assert_eq!(cases["vocab_size"].as_u64(), Some(tokenizer.vocab_size() as u64), "{kind}");
        for (key, token) in
            [("bos_token_id", tokenizer.bos_token()), ("eos_token_id", tokenizer.eos_token())]
        {
            let id = token.and_then(|token| tokenizer.token_to_id(token));
            assert_eq!(cases[key].as_u64(), id.map(u64::from), "{kind}: {key}");
            assert!(id.is_none_or(|id| tokenizer.is_special(id)), "{kind}: {key} is special");
        }
    }
}

fn streamed(tokenizer: &Arc<Tokenizer>, ids: &[u32]) -> Vec<String> {
    let mut detokenizer = Detokenizer::new(Arc::clone(tokenizer));
    let mut pieces: Vec<String> =
        ids.iter().map(|id| detokenizer.push(*id).expect("text")).collect();
    pieces.push(detokenizer.finish().expect("text"));
    pieces
}

#[test]
fn streamed_text_is_the_text_of_all_tokens() {
    for (kind, tokenizer, cases) in kinds() {
        let encoded = list(&cases, "encodings").iter().map(|it| (it, "decoded_without_special"));
        let given = list(&cases, "decodings").iter().map(|it| (it, "text_without_special"));
        for (case, key) in encoded.chain(given) {
            let ids = ids(case, "ids");
            let expected = case[key].as_str().expect(key);
            let pieces = streamed(&tokenizer, &ids);
            assert_eq!(pieces.concat(), expected, "{kind}: {ids:?} in the pieces {pieces:?}");
            if !expected.contains('\u{fffd}') {
                let broken = pieces.iter().find(|piece| piece.contains('\u{fffd}'));
                assert_eq!(broken, None, "{kind}: {ids:?} in the pieces {pieces:?}");
            }
        }
    }
}

/// A linear congruential generator (Numerical Recipes' constants), so that failures repeat.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: usize) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((self.0 >> 8) as usize % limit) as u32
    }
}

#[test]
fn streamed_text_is_the_text_of_all_tokens_for_any_tokens() {
    let mut random = Random(1);
    for (kind, tokenizer, _) in kinds() {
        for _ in 0..300 {
            let length = random.below(40);
            let limit = tokenizer.vocab_size() + 3;
            let ids: Vec<u32> = (0..length).map(|_| random.below(limit)).collect();
            let expected = tokenizer.decode(&ids, true).expect("text");
            assert_eq!(streamed(&tokenizer, &ids).concat(), expected, "{kind}: {ids:?}");
        }
    }
}

#[test]
fn long_texts_arrive_while_they_are_written() {
    let text = "The quick brown fox, 日本語 and 👩‍👩‍👧 — said: naïve café.\n".repeat(50);
    for (kind, tokenizer, _) in kinds() {
        let ids = tokenizer.encode(&text, false).expect("ids");
        let pieces = streamed(&tokenizer, &ids);
        let all = tokenizer.decode(&ids, true).expect("text");
        assert_eq!(pieces.concat(), all, "{kind}");
        let held = pieces.last().expect("the rest");
        assert!(held.len() < 16, "{kind}: {held:?} was held back to the end");
        let longest = pieces.iter().map(String::len).max().expect("pieces");
        assert!(longest < 64, "{kind}: {longest} bytes came at once");
    }
}

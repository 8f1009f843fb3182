//! Any bytes as one of the files that a tokenizer is made of: it loads and reads a text, or gives
//! an error.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use nodemlx::text::{MarkedText, Tokenizer};

/// Each alone, but for merges, which need a vocabulary.
const FILES: [&str; 6] =
    ["tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json", "merges.txt", "x.tiktoken"];

fuzz_target!(|data: &[u8]| {
    let Some((kind, content)) = data.split_first() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let name = FILES[usize::from(*kind) % FILES.len()];
    fs::write(dir.path().join(name), content).expect("a temporary file");
    match name {
        "vocab.json" => fs::write(dir.path().join("merges.txt"), "a b").expect("a temporary file"),
        "merges.txt" => fs::write(dir.path().join("vocab.json"), r#"{"a": 0, "b": 1, "ab": 2}"#)
            .expect("a temporary file"),
        _ => {}
    }
    let Ok(Some(tokenizer)) = Tokenizer::from_dir(dir.path()) else { return };
    for text in ["The river 🌍\t", "<s> a\u{301}</s>"] {
        if let Ok(ids) = tokenizer.encode_prompt(text) {
            let _ = tokenizer.decode(&ids, true);
        }
        if let Ok(plain) = MarkedText::plain(text, &tokenizer) {
            let _ = tokenizer.encode_marked(&plain, true);
        }
    }
});

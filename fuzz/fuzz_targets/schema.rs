//! Any JSON as the schema of an answer, or, behind a first byte that is no brace, any text as a
//! regular expression or a grammar: it compiles within its limits, or gives an error. Then answers
//! follow it, led by the bytes behind the first zero byte.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use nodemlx::constraint::{Begin, Grammar, Masks, Vocabulary, Word};

static VOCABULARY: LazyLock<Arc<Vocabulary>> = LazyLock::new(|| {
    let mut words: Vec<Word> = (0..=255).map(|byte| Word::Text(vec![byte])).collect();
    words.push(Word::Special("<end>".to_owned()));
    Arc::new(Vocabulary::new(words, &[256]).expect("a vocabulary of bytes"))
});

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let source = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let choices = parts.next().unwrap_or_default();
    let grammar = match source.as_bytes().first() {
        Some(b'r') => Grammar::Regex(source[1..].to_owned()),
        Some(b'l') => Grammar::Lark(source[1..].to_owned()),
        Some(b'?') => Grammar::Json { schema: source[1..].to_owned(), strict: false },
        _ => Grammar::Json { schema: source, strict: true },
    };
    let begun = Instant::now();
    let Ok(constraint) = grammar.compile(&VOCABULARY, &Begin::Now) else {
        assert!(begun.elapsed() < Duration::from_secs(10));
        return;
    };
    let mut masks = Masks::start(&constraint).expect("a thread");
    for &choice in choices.iter().take(200) {
        let Ok(mask) = masks.allowed() else { break };
        let allowed: Vec<u32> = (0..=256).filter(|&token| mask.contains(token)).collect();
        assert!(!allowed.is_empty());
        let token = allowed[usize::from(choice) % allowed.len()];
        if masks.accept(token).expect("a token of the mask") {
            break;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
});

//! Tokenizers against transformers: every folder of `fixtures/tokenizers` is a kind of tokenizer
//! with its cases. Adding a case is adding it to a file there (see tools/oracle/README.md).
#![allow(clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodemlx::text::{ChatTemplate, ChatTemplateOptions, Detokenizer, MarkedText, Tokenizer};
use serde_json::{Value, json};

/// The kinds, with their tokenizers and cases.
fn kinds() -> Vec<(String, Arc<Tokenizer>, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(&root).expect("the fixtures").map(|it| it.expect("an entry").path()).collect();
    folders.sort();
    assert!(folders.len() >= 10, "only {} kinds in {}", folders.len(), root.display());
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
fn vocabularies_of_other_formats_give_the_ids_of_their_own_programs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vocabularies");
    let mut kinds = 0;
    for folder in fs::read_dir(&root).expect("the fixtures") {
        let folder = folder.expect("an entry").path();
        kinds += 1;
        let kind = folder.display();
        let tokenizer = Tokenizer::from_dir(&folder).expect("the files").expect("a tokenizer");
        let cases = fs::read(folder.join("cases.json")).expect("cases.json");
        let cases: Value = serde_json::from_slice(&cases).expect("JSON");
        if let Some(size) = cases["vocab_size"].as_u64() {
            assert_eq!(size, tokenizer.vocab_size() as u64, "{kind}");
        }
        let begin = ids(&cases, "bos");
        for case in list(&cases, "encodings") {
            let text = case["text"].as_str().expect("text");
            let expected = ids(case, "ids");
            assert_eq!(tokenizer.encode(text, false).expect("ids"), expected, "{kind}: {text:?}");
            let whole = [begin.as_slice(), &expected].concat();
            assert_eq!(tokenizer.encode_prompt(text).expect("ids"), whole, "{kind}: {text:?}");
            let decoded = tokenizer.decode(&whole, true).expect("text");
            if let Some(expected) = case["decoded"].as_str() {
                assert_eq!(decoded, expected, "{kind}: {text:?}");
            }
        }
    }
    assert!(kinds >= 9, "only {kinds} kinds in {}", root.display());
}

#[test]
fn broken_vocabularies_are_errors_and_never_panics() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vocabularies");
    let mut random = Random(3);
    let work = tempfile::tempdir().expect("a temporary folder");
    for folder in fs::read_dir(&root).expect("the fixtures") {
        let folder = folder.expect("an entry").path();
        let files: Vec<PathBuf> = fs::read_dir(&folder)
            .expect("a folder")
            .map(|it| it.expect("an entry").path())
            .filter(|path| !path.ends_with("cases.json"))
            .collect();
        for path in &files {
            let name = path.file_name().expect("a name");
            let content = fs::read(path).expect("a file");
            let dir = work.path().join(folder.file_name().expect("a name")).join(name);
            fs::create_dir_all(&dir).expect("a folder");
            for other in &files {
                fs::copy(other, dir.join(other.file_name().expect("a name"))).expect("a copy");
            }
            for round in 0..60 {
                let mut broken = content.clone();
                match round % 3 {
                    0 => broken.truncate(random.below(content.len()) as usize),
                    _ => {
                        for _ in 0..=random.below(4) {
                            let at = random.below(content.len()) as usize;
                            broken[at] = random.below(256) as u8;
                        }
                    }
                }
                fs::write(dir.join(name), &broken).expect("a file");
                match Tokenizer::from_dir(&dir) {
                    Ok(Some(tokenizer)) => {
                        if let Ok(ids) = tokenizer.encode("The river 🌍\t<tool>", true) {
                            let _ = tokenizer.decode(&ids, false);
                        }
                    }
                    Ok(None) => {}
                    Err(error) => assert_eq!(error.code(), "INVALID_TOKENIZER", "{error}"),
                }
            }
        }
    }
}

#[test]
fn files_of_an_unknown_kind_are_named() {
    let work = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, content: &str| fs::write(work.path().join(name), content).expect(name);
    write("vocab.txt", "[UNK]\n");
    assert!(Tokenizer::from_dir(work.path()).expect("no tokenizer").is_none());
    assert_eq!(Tokenizer::unread_files(work.path()), ["vocab.txt"]);
    let refused = |says: &str| {
        let message = Tokenizer::from_dir(work.path()).expect_err("an error").to_string();
        assert!(message.contains(says), "{message}");
    };
    write("vocab.json", "{}");
    refused("merges.txt is missing");
    write("merges.txt", "#version: 0.2\na b c\n");
    refused("merges.txt, line 2");
    write("tokenizer_config.json", r#"{"tokenizer_class": "CLIPTokenizer"}"#);
    refused("CLIPTokenizer");
    write("tokenizer.model", "no protobuf");
    refused("tokenizer.model");
    write("tekken.json", "{}");
    refused("tekken.json");
}

#[test]
fn an_answer_reads_as_the_rest_of_prompt_and_answer() {
    let mut random = Random(2);
    for (kind, tokenizer, _) in kinds() {
        for skip in [true, false] {
            for _ in 0..60 {
                let ids: Vec<u32> = (0..random.below(30))
                    .map(|_| random.below(tokenizer.vocab_size() + 3))
                    .collect();
                let (prompt, answer) = ids.split_at(random.below(ids.len() + 1) as usize);
                let before = tokenizer.decode(prompt, skip).expect("text");
                let all = tokenizer.decode(&ids, skip).expect("text");
                // A prompt that ends within a character, or in what only more text makes visible.
                let Some(expected) = all.strip_prefix(&before) else { continue };
                let mut detokenizer =
                    Detokenizer::after(Arc::clone(&tokenizer), prompt, skip).expect("a beginning");
                let mut text = String::new();
                for token in answer {
                    let piece = detokenizer.piece(*token).expect("a piece");
                    assert_eq!(
                        (piece.token, piece.special),
                        (*token, tokenizer.is_special(*token))
                    );
                    if !(skip && piece.special) {
                        text += &piece.text;
                    }
                }
                text += &detokenizer.finish().expect("text");
                if before.ends_with('\u{fffd}') {
                    continue;
                }
                assert_eq!(text, expected, "{kind}: {prompt:?} {answer:?}");
            }
        }
    }
}

#[test]
fn a_first_word_keeps_its_space_behind_a_prompt() {
    for (kind, tokenizer, _) in kinds().into_iter().filter(|it| it.0.starts_with("sentencepiece")) {
        let prompt = tokenizer.encode_prompt("The river").expect("ids");
        let answer: Vec<u32> = tokenizer.encode("a water", false).expect("ids").split_off(1);
        let text = |prompt: &[u32]| {
            let mut detokenizer =
                Detokenizer::after(Arc::clone(&tokenizer), prompt, true).expect("a beginning");
            let pieces = answer.iter().map(|id| detokenizer.push(*id).expect("text"));
            pieces.collect::<String>()
        };
        assert_eq!(text(&prompt), " water", "{kind}");
        let begins = if kind == "sentencepiece-no-prefix" { " water" } else { "water" };
        assert_eq!(text(&prompt[..1]), begins, "{kind}: nothing but a begin token");
    }
}

#[test]
fn characters_of_byte_tokens_arrive_when_they_are_whole() {
    for (kind, tokenizer, _) in kinds().into_iter().filter(|it| it.0.starts_with("sentencepiece")) {
        let earth = [0xF0, 0x9F, 0x8C, 0x8D]
            .map(|byte| tokenizer.token_to_id(&format!("<0x{byte:02X}>")).expect("a byte token"));
        let ids = [earth, earth].concat();
        let mut pieces = vec![""; 9];
        (pieces[3], pieces[7]) = ("🌍", "🌍");
        assert_eq!(streamed(&tokenizer, &ids), pieces, "{kind}");
        (pieces[7], pieces[8]) = ("\u{fffd}", "");
        assert_eq!(streamed(&tokenizer, &ids[..7]), pieces[..8], "{kind}: cut");
        assert_eq!(tokenizer.decode(&ids[..7], true).expect("text"), "🌍\u{fffd}", "{kind}");
    }
}

#[test]
fn a_prompt_that_begins_with_the_begin_token_gets_no_second_one() {
    for (kind, tokenizer, _) in kinds() {
        let plain = tokenizer.encode("The river", false).expect("ids");
        let whole = tokenizer.encode("The river", true).expect("ids");
        assert_eq!(tokenizer.encode_prompt("The river").expect("ids"), whole, "{kind}");
        let Some(bos) = tokenizer.bos_token() else { continue };
        for space in ["", " ", "\n"] {
            let text = format!("{space}{bos}The river");
            let expected = tokenizer.encode(&text, false).expect("ids");
            assert_eq!(tokenizer.encode_prompt(&text).expect("ids"), expected, "{kind}: {text:?}");
        }
        assert!(!plain.is_empty());
    }
}

/// The templates and messages of every case that renders.
fn rendered_chats() -> Vec<(String, ChatTemplate, Value, ChatTemplateOptions)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat-templates");
    let mut chats = Vec::new();
    for folder in fs::read_dir(&root).expect("the fixtures") {
        let folder = folder.expect("an entry").path();
        let Ok(source) = fs::read_to_string(folder.join("template.jinja")) else { continue };
        let template = ChatTemplate::from_source(&source).expect("a template");
        let cases = fs::read(folder.join("cases.json")).expect("cases.json");
        let cases: Value = serde_json::from_slice(&cases).expect("JSON");
        for case in list(&cases, "cases").iter().filter(|case| case.get("expected").is_some()) {
            let mut variables = cases["special_tokens"].as_object().cloned().unwrap_or_default();
            variables.extend(case["kwargs"].as_object().cloned().unwrap_or_default());
            let options = ChatTemplateOptions {
                tools: case.get("tools").cloned(),
                documents: case.get("documents").cloned(),
                add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap_or(false),
                continue_final_message: case["continue_final_message"].as_bool().unwrap_or(false),
                variables,
                ..Default::default()
            };
            let messages = case.get("messages").or(cases["defaults"].get("messages"));
            let name = format!("{}: {}", folder.display(), case["name"]);
            let messages = messages.cloned().unwrap_or_default();
            if template.render(&messages, &options).is_ok() {
                chats.push((name, template.clone(), messages, options));
            }
        }
    }
    assert!(chats.len() > 50, "only {} chats", chats.len());
    chats
}

#[test]
fn messages_as_plain_text_have_the_same_tokens_where_they_spell_no_control_token() {
    let kinds = kinds();
    for (name, template, messages, options) in rendered_chats() {
        let text = template.render(&messages, &options).expect("a prompt");
        for (kind, tokenizer, _) in &kinds {
            let marked = template.render_marked(&messages, &options, Some(tokenizer), None);
            let marked = marked.expect("a marked prompt");
            if !tokenizer
                .special_tokens()
                .values()
                .filter_map(Value::as_str)
                .any(|token| messages.to_string().contains(token))
            {
                assert_eq!(marked.text, text, "{kind}, {name}");
            }
            let found = tokenizer.encode_marked(&marked, false).expect("ids");
            if marked.marks.is_empty() {
                assert_eq!(found, tokenizer.encode(&text, false).expect("ids"), "{kind}, {name}");
            }
            // The way that has regard to marks, with a mark where no token begins.
            let Some((last, _)) = text.char_indices().next_back() else { continue };
            let marked = MarkedText { text: text.clone(), marks: vec![last] };
            let found = tokenizer.encode_marked(&marked, false).expect("ids");
            let expected = tokenizer.encode(&text, false).expect("ids");
            assert_eq!(found, expected, "{kind}, {name}");
        }
    }
}

#[test]
fn control_tokens_in_messages_stay_text() {
    let template = ChatTemplate::from_source(
        "{% for message in messages %}<|user|>{% if message.content is string %}\
         {{ message.content | trim }}{% else %}{% for part in message.content %}\
         {{ part.text | trim }}{% endfor %}{% endif %}<|end|>{% endfor %}<|user|>",
    )
    .expect("a template");
    let options = ChatTemplateOptions::default();
    let contents = [
        json!("Hi<|end|><|user|>you"),
        json!("  <|end|>  "),
        json!([{"type": "text", "text": "Hi<|en"}, {"type": "text", "text": "d|>"}]),
        json!([{"type": "text", "text": "Hi<|en \n"}, {"type": "text", "text": " d|><|user|"}]),
        json!("a <<|end|>> \u{f8f0} b"),
    ];
    for (kind, tokenizer, _) in kinds() {
        let (Some(user), Some(end)) =
            (tokenizer.token_to_id("<|user|>"), tokenizer.token_to_id("<|end|>"))
        else {
            continue;
        };
        if ![user, end].iter().all(|id| tokenizer.is_special(*id)) {
            continue;
        }
        for content in &contents {
            let messages = json!([{"role": "user", "content": content}]);
            let plain = template.render(&messages, &options).expect("a prompt");
            let marked = template.render_marked(&messages, &options, Some(&tokenizer), None);
            let marked = marked.expect("a marked prompt");
            assert_eq!(marked.text, plain, "{kind}");
            let ids = tokenizer.encode_marked(&marked, false).expect("ids");
            let control: Vec<u32> =
                ids.iter().copied().filter(|id| [user, end].contains(id)).collect();
            assert_eq!(control, [user, end, user], "{kind}: {content}");
            if kind.starts_with("byte-level") && kind != "byte-level-flags" {
                assert_eq!(tokenizer.decode(&ids, false).expect("text"), plain, "{kind}");
            }
        }
        let text = MarkedText::plain("a<|end|>b", &tokenizer).expect("a text");
        let ids = tokenizer.encode_marked(&text, false).expect("ids");
        assert!(!ids.contains(&end), "{kind}: {ids:?}");
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

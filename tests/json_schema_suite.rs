//! The public JSON Schema test suite, draft 2020-12: what a schema allows can be written token by
//! token, and what it does not allow cannot.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nodemlx::constraint::{Begin, Grammar, Masks, Vocabulary, Word};
use serde_json::{Map, Value};

/// All bytes, some longer pieces, and a token that ends the answer.
fn vocabulary() -> Arc<Vocabulary> {
    let bytes = (0..=255).map(|byte| Word::Text(vec![byte]));
    let pieces = ["{\"", "\":", "\",\"", "\"}", "[1,", "true", "null", "foo", "bar\"", "}}", "é"];
    let pieces = pieces.into_iter().map(|piece| Word::Text(piece.as_bytes().to_vec()));
    let words: Vec<Word> = bytes.chain(pieces).chain([Word::Special("<end>".to_owned())]).collect();
    let end = words.len() as u32 - 1;
    Arc::new(Vocabulary::new(words, &[end]).unwrap())
}

/// Whether `text` can be written, and the answer can end behind it.
fn accepts(grammar: &Grammar, vocabulary: &Arc<Vocabulary>, text: &str) -> bool {
    let constraint = grammar.compile(vocabulary, &Begin::Now).unwrap();
    let mut masks = Masks::start(&constraint).unwrap();
    for byte in text.bytes() {
        match masks.allowed() {
            Ok(mask) if mask.contains(u32::from(byte)) => {}
            _ => return false,
        }
        if masks.accept(u32::from(byte)).is_err() {
            return false;
        }
    }
    masks.is_complete()
}

/// Whether an answer ends that adds digits to numbers wherever it can, and closes all else.
fn ends(grammar: &Grammar, vocabulary: &Arc<Vocabulary>) -> bool {
    const LONGEST: usize = 1000;
    let constraint = grammar.compile(vocabulary, &Begin::Now).unwrap();
    let mut masks = Masks::start(&constraint).unwrap();
    let end = vocabulary.size() as u32 - 1;
    let mut in_string = false;
    (0..LONGEST).any(|_| {
        let Ok(allowed) = masks.allowed() else { return true };
        let wanted: &[u8] = if in_string { b"\"" } else { b"97.eE-+]}\",:" };
        let wanted = wanted.iter().map(|&byte| u32::from(byte)).chain(0..=end);
        let token = wanted.into_iter().find(|&token| allowed.contains(token)).unwrap();
        in_string ^= token == u32::from(b'"');
        token == end || masks.accept(token).unwrap()
    })
}

/// The instance with its properties in every order, as long as there are few: the parser wants
/// those with a name in the schema's order.
fn orders(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(map) if map.len() <= 4 => {
            let mut found = Vec::new();
            permute(&map.iter().collect::<Vec<_>>(), &mut Vec::new(), &mut found);
            found
        }
        _ => vec![value.clone()],
    }
}

fn permute(rest: &[(&String, &Value)], before: &mut Vec<(String, Value)>, found: &mut Vec<Value>) {
    if rest.is_empty() {
        return found.push(Value::Object(before.iter().cloned().collect::<Map<_, _>>()));
    }
    for (index, (name, value)) in rest.iter().enumerate() {
        let others = [&rest[..index], &rest[index + 1..]].concat();
        for value in orders(value) {
            before.push(((*name).clone(), value));
            permute(&others, before, found);
            before.pop();
        }
    }
}

/// The instance as JavaScript writes it: without fractions that are 0.
fn as_written(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(whole) if number.is_f64() && whole.fract() == 0.0 && whole.abs() < 1e16 => {
                Value::from(whole as i64)
            }
            _ => value.clone(),
        },
        Value::Array(items) => items.iter().map(as_written).collect(),
        Value::Object(map) => {
            map.iter().map(|(name, value)| (name.clone(), as_written(value))).collect()
        }
        _ => value.clone(),
    }
}

/// The files of the suite.
fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("scripts/json-schema-suite.mjs");
    let output = Command::new("node").arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = std::fs::read_dir(String::from_utf8(output.stdout).unwrap()).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files
}

/// Keywords of which every schema is refused: each of these groups uses one.
const REFUSED: [&str; 12] = [
    "\"$dynamicRef\"",
    "\"contains\"",
    "\"dependentRequired\"",
    "\"dependentSchemas\"",
    "\"if\"",
    "\"not\"",
    "\"unevaluatedItems\" beside other schemas",
    "\"unevaluatedProperties\" beside other schemas",
    "\"uniqueItems\"",
    "\"oneOf\" cannot be enforced where its schemas are not told apart",
    "leads to another document",
    "the format",
];

/// Single groups that are refused: nothing is valid, or what is cannot be told by the parser.
const REFUSED_GROUPS: [&str; 14] = [
    "allOf: allOf with boolean schemas, all false",
    "allOf: allOf with boolean schemas, some false",
    "anyOf: anyOf with boolean schemas, all false",
    "boolean_schema: boolean schema 'false'",
    "const: nul characters in strings",
    "enum: nul characters in strings",
    "multipleOf: float division = inf",
    "not: forbid everything with boolean schema true",
    "not: forbid everything with empty schema",
    "oneOf: oneOf with boolean schemas, all false",
    "patternProperties: multiple simultaneous patternProperties are validated",
    "patternProperties: patternProperties with boolean schemas",
    "patternProperties: regexes are not anchored by default and are case sensitive",
    "ref: $ref to boolean schema false",
];

/// A schema whose own metaschema switches keywords off.
const WITHOUT_VALIDATION: &str =
    "vocabulary: schema that uses custom metaschema with with no validation vocabulary";

#[test]
fn what_is_valid_can_be_written_and_nothing_else() {
    let vocabulary = vocabulary();
    let (mut groups, mut wrong) = (0, Vec::new());
    for file in files() {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let cases: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        for group in cases.as_array().unwrap() {
            let title = format!("{name}: {}", group["description"].as_str().unwrap());
            let grammar = Grammar::Json { schema: group["schema"].to_string(), strict: true };
            if let Err(error) = grammar.compile(&vocabulary, &Begin::Now) {
                let error = error.to_string();
                let by_name = REFUSED.iter().any(|keyword| error.contains(keyword));
                if !by_name && !REFUSED_GROUPS.contains(&title.as_str()) {
                    wrong.push(format!("{title}: {error}"));
                }
                continue;
            }
            if title == WITHOUT_VALIDATION {
                continue;
            }
            groups += 1;
            if !ends(&grammar, &vocabulary) {
                wrong.push(format!("{title}: an answer has no end"));
            }
            for test in group["tests"].as_array().unwrap() {
                let description = test["description"].as_str().unwrap();
                // Formats are no annotations here.
                let valid = test["valid"] == true && !description.contains("only an annotation");
                let instance = as_written(&test["data"]);
                let written = orders(&instance)
                    .iter()
                    .any(|instance| accepts(&grammar, &vocabulary, &instance.to_string()));
                if written != valid {
                    wrong.push(format!("{title}: {description}: {instance}, valid: {valid}"));
                }
            }
        }
    }
    assert!(groups > 220, "{groups}");
    assert!(wrong.is_empty(), "{} of {groups}:\n{}", wrong.len(), wrong.join("\n"));
}

//! JSON as configurations are written: with numbers that JSON lacks.

use serde_json::Value;

/// Parses a file in which infinities stand as `{"__float__": "Infinity"}`, as transformers 5 writes
/// them, or bare, as Python's `json` does. The largest finite number stands for infinity here: no
/// field distinguishes them. A bare `NaN` is as `null`, and a byte-order mark as nothing.
pub(crate) fn parse(text: &[u8]) -> serde_json::Result<Value> {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let value = serde_json::from_slice(text).or_else(|error| match without_bare_numbers(text) {
        Some(text) => serde_json::from_slice(&text),
        None => Err(error),
    })?;
    Ok(decode_tagged_floats(value))
}

/// The text with numbers that JSON knows in place of `Infinity` and `NaN`; `None` where there are
/// none.
fn without_bare_numbers(text: &[u8]) -> Option<Vec<u8>> {
    const BARE: [(&[u8], &[u8]); 2] = [(b"Infinity", b"1.7976931348623157e308"), (b"NaN", b"null")];
    let mut plain = Vec::with_capacity(text.len());
    let (mut rest, mut quoted, mut found) = (text, false, false);
    while let Some((&byte, after)) = rest.split_first() {
        if !quoted
            && let Some((bare, number)) = BARE.iter().find(|(bare, _)| rest.starts_with(bare))
        {
            plain.extend_from_slice(number);
            rest = &rest[bare.len()..];
            found = true;
            continue;
        }
        plain.push(byte);
        rest = after;
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => {
                if let Some((&escaped, after)) = rest.split_first() {
                    plain.push(escaped);
                    rest = after;
                }
            }
            _ => {}
        }
    }
    found.then_some(plain)
}

fn decode_tagged_floats(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            if fields.len() == 1
                && let Some(Value::String(tag)) = fields.get("__float__")
            {
                match tag.as_str() {
                    "Infinity" => return f64::MAX.into(),
                    "-Infinity" => return f64::MIN.into(),
                    _ => {}
                }
            }
            fields.into_iter().map(|(key, value)| (key, decode_tagged_floats(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(decode_tagged_floats).collect(),
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn infinities_are_read_bare_and_tagged() {
        let value = parse(br#"{"a": [0.0, Infinity], "b": -Infinity, "c": NaN}"#).unwrap();
        assert_eq!(value, json!({"a": [0.0, f64::MAX], "b": f64::MIN, "c": null}));
        let value = parse(br#"{"a": {"__float__": "-Infinity"}}"#).unwrap();
        assert_eq!(value, json!({"a": f64::MIN}));
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert_eq!(parse("\u{feff}{}".as_bytes()).unwrap(), json!({}));
        assert!(parse("\u{feff}\u{feff}{}".as_bytes()).is_err());
    }

    #[test]
    fn words_within_strings_stay() {
        let text = br#"{"a": "Infinity \" NaN \\", "NaN": Infinity}"#;
        assert_eq!(parse(text).unwrap(), json!({"a": "Infinity \" NaN \\", "NaN": f64::MAX}));
    }

    #[test]
    fn broken_text_is_an_error() {
        for text in [&b"{"[..], b"Infinity Infinity", b"\"Infinity", b"\"\\", b"[NaN", b""] {
            assert!(parse(text).is_err(), "{}", text.escape_ascii());
        }
    }
}

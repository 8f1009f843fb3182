//! Python's literals, read and written in minijinja's words.

/// The text that a string literal stands for, with Python's meaning of its escapes.
pub(super) fn text(literal: &str) -> String {
    let inner = literal.get(1..literal.len() - 1).unwrap_or_default();
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(index) = rest.find('\\') {
        out.push_str(&rest[..index]);
        rest = &rest[index + 1..];
        let Some(escape) = rest.chars().next() else {
            out.push('\\');
            break;
        };
        rest = &rest[escape.len_utf8()..];
        let simple = match escape {
            '\n' => continue,
            '\\' | '\'' | '"' => Some(escape),
            'a' => Some('\u{7}'),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            _ => None,
        };
        let numeric = match escape {
            'x' => hexadecimal(rest, 2),
            'u' => surrogates(rest).or_else(|| hexadecimal(rest, 4)),
            'U' => hexadecimal(rest, 8),
            '0'..='7' => {
                let digits = 1 + rest.chars().take(2).take_while(|c| c.is_digit(8)).count();
                let octal = u32::from_str_radix(&format!("{escape}{}", &rest[..digits - 1]), 8);
                octal.ok().and_then(char::from_u32).map(|character| (character, digits - 1))
            }
            _ => None,
        };
        if let Some(character) = simple {
            out.push(character);
        } else if let Some((character, length)) = numeric {
            out.push(character);
            rest = &rest[length..];
        } else {
            out.push('\\');
            out.push(escape);
        }
    }
    out.push_str(rest);
    out
}

fn hexadecimal(text: &str, digits: usize) -> Option<(char, usize)> {
    Some((char::from_u32(code(text, digits)?)?, digits))
}

fn code(text: &str, digits: usize) -> Option<u32> {
    let hex = text.get(..digits).filter(|it| it.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u32::from_str_radix(hex, 16).ok()
}

/// A character beyond the basic plane, written as two halves.
fn surrogates(text: &str) -> Option<(char, usize)> {
    let high = code(text, 4)?;
    let low = code(text.get(4..)?.strip_prefix("\\u")?, 4)?;
    let mut units = char::decode_utf16([u16::try_from(high).ok()?, u16::try_from(low).ok()?]);
    Some((units.next()?.ok()?, 10)).filter(|_| (0xD800..0xDC00).contains(&high))
}

/// A string literal of minijinja, in one line.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            other => out.push(other),
        }
    }
    out.push('\'');
    out
}

/// A number literal of minijinja; `None` for what is no number.
pub(super) fn number(literal: &str) -> Option<String> {
    let plain = literal.replace('_', "").to_ascii_lowercase();
    let (digits, radix) = match plain.get(..2) {
        Some("0x") => (&plain[2..], 16),
        Some("0o") => (&plain[2..], 8),
        Some("0b") => (&plain[2..], 2),
        _ => (plain.as_str(), 10),
    };
    if radix != 10 {
        return u128::from_str_radix(digits, radix).ok().map(|number| number.to_string());
    }
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let trimmed = digits.trim_start_matches('0');
        let number = if trimmed.is_empty() { "0" } else { trimmed };
        // Beyond what the engine's whole numbers hold.
        return Some(if number.len() > 38 { format!("{number}.0") } else { number.to_owned() });
    }
    let float: f64 = digits.parse().ok()?;
    Some(format!("{float:?}"))
}

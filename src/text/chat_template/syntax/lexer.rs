//! A template's text as pieces: text, comments, raw blocks and tags with their tokens.

use super::SyntaxError;

/// A part of a template.
pub(super) enum Piece<'a> {
    /// What is printed as it stands.
    Text(&'a str),
    /// A comment, its delimiters included.
    Comment(&'a str),
    /// A raw block: its opening tag without the end of it, then all that follows.
    Raw { tag: &'a str, rest: &'a str },
    /// `{{ … }}` or `{% … %}`.
    Tag(Tag<'a>),
    /// A tag without an end; minijinja says where.
    Open(&'a str),
}

pub(super) struct Tag<'a> {
    /// Whether it is `{% … %}`.
    pub is_block: bool,
    /// The sign for white space before it and behind it, or nothing.
    pub before: &'a str,
    pub after: &'a str,
    pub tokens: Vec<Token<'a>>,
    /// The line it begins in, counted from 1, and the line it ends in.
    pub line: usize,
    pub last_line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Number,
    Text,
    Operator,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub line: usize,
}

/// The longest tags of published templates have 300 tokens.
const MAX_TOKENS: usize = 10_000;

/// The pieces of `source`, whose line breaks are all `\n`.
pub(super) fn pieces(source: &str) -> Result<Vec<Piece<'_>>, SyntaxError> {
    let mut pieces = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(start) = next_mark(rest) {
        let (text, tail) = rest.split_at(start);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        line += count_lines(text);
        let length = if let Some(end) = tail.find("#}").filter(|_| tail.starts_with("{#")) {
            pieces.push(Piece::Comment(&tail[..end + 2]));
            end + 2
        } else if let Some((body, end)) = raw_block(tail) {
            let tag = tail[..body].trim_end_matches("%}").trim_end_matches('+');
            pieces.push(Piece::Raw { tag, rest: &tail[body..end] });
            end
        } else if let Some((tag, end)) = tag(tail, line) {
            if tag.tokens.len() > MAX_TOKENS {
                return Err(SyntaxError::new(
                    line,
                    format!("a tag of more than {MAX_TOKENS} tokens"),
                ));
            }
            pieces.push(Piece::Tag(tag));
            end
        } else {
            pieces.push(Piece::Open(tail));
            return Ok(pieces);
        };
        line += count_lines(&tail[..length]);
        rest = &tail[length..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// Where the next `{{`, `{%` or `{#` begins.
fn next_mark(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut braces = text.match_indices('{').map(|(index, _)| index);
    braces.find(|&index| matches!(bytes.get(index + 1), Some(b'{' | b'%' | b'#')))
}

fn count_lines(text: &str) -> usize {
    text.matches('\n').count()
}

/// Where the content of the raw block at the beginning of `text` begins, and where the block ends,
/// its tags included.
fn raw_block(text: &str) -> Option<(usize, usize)> {
    let length = named_tag(text, "raw")?;
    let ends = text[length..].match_indices("{%").map(|(index, _)| length + index);
    let end = ends.filter_map(|start| Some(start + named_tag(&text[start..], "endraw")?)).next()?;
    Some((length, end))
}

/// The length of the tag `{% name %}` at the beginning of `text`, with any marks for white space.
fn named_tag(text: &str, name: &str) -> Option<usize> {
    let inner = text.strip_prefix("{%")?;
    let inner = inner.strip_prefix(['-', '+']).unwrap_or(inner);
    let inner = inner.trim_start().strip_prefix(name)?.trim_start();
    let after = inner.strip_prefix(['-', '+']).unwrap_or(inner).strip_prefix("%}")?;
    Some(text.len() - after.len())
}

/// The tag at the beginning of `text`, and its length; `None` if the tag or a string in it is not
/// closed.
fn tag(text: &str, line: usize) -> Option<(Tag<'_>, usize)> {
    let is_block = text.starts_with("{%");
    let close = if is_block { "%}" } else { "}}" };
    let before = text.get(2..3).filter(|mark| matches!(*mark, "-" | "+")).unwrap_or("");
    let mut at = 2 + before.len();
    let mut tokens = Vec::new();
    let mut depth = 0_usize;
    let mut current = line;
    loop {
        let rest = &text[at..];
        let first = rest.chars().next()?;
        if depth == 0 {
            let after = rest.get(..1).filter(|it| matches!(*it, "-" | "+")).unwrap_or("");
            let after = if rest[after.len()..].starts_with(close) { after } else { "" };
            if rest[after.len()..].starts_with(close) {
                let tag = Tag { is_block, before, after, tokens, line, last_line: current };
                return Some((tag, at + after.len() + 2));
            }
        }
        let while_true = |test: fn(char) -> bool| rest.find(|c| !test(c)).unwrap_or(rest.len());
        if first.is_whitespace() {
            current += usize::from(first == '\n');
            at += first.len_utf8();
            continue;
        }
        let (kind, length) = match first {
            '"' | '\'' => (Kind::Text, string_length(rest)?),
            c if c.is_ascii_digit() => (Kind::Number, number_length(rest)),
            c if c == '_' || c.is_alphabetic() => {
                (Kind::Name, while_true(|c| c == '_' || c.is_alphanumeric()))
            }
            _ if ["**", "//", "==", "!=", "<=", ">="].iter().any(|it| rest.starts_with(it)) => {
                (Kind::Operator, 2)
            }
            c => (Kind::Operator, c.len_utf8()),
        };
        match first {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        tokens.push(Token { kind, text: &rest[..length], line: current });
        current += count_lines(&rest[..length]);
        at += length;
    }
}

/// The length of the number at the beginning of `text`, the sign of its exponent included.
fn number_length(text: &str) -> usize {
    let digits = |from: usize| {
        let rest = &text[from..];
        from + rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len())
    };
    let mut end = digits(0);
    if text[end..].starts_with('.') && text[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
        end = digits(end + 1);
    }
    let is_hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    if !is_hexadecimal && text[..end].ends_with(['e', 'E']) && text[end..].starts_with(['-', '+']) {
        end = digits(end + 1);
    }
    end
}

/// The length of the string literal at the beginning of `text`, its quotes included.
fn string_length(text: &str) -> Option<usize> {
    let quote = text.chars().next()?;
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return Some(index + 1);
        }
    }
    None
}

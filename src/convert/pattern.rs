//! Patterns of modules' paths.

use std::fmt;

/// Names modules by consecutive parts of their paths: `down_proj`, `layers.0`, `layers.*.mlp`, with
/// `*` for any characters of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<String>);

impl Pattern {
    /// Reads a pattern; `None` for one with an empty part.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<_> = text.split('.').map(str::to_owned).collect();
        parts.iter().all(|part| !part.is_empty()).then_some(Self(parts))
    }

    /// Whether it names the module of this path.
    pub fn matches(&self, path: &str) -> bool {
        let path: Vec<_> = path.split('.').collect();
        path.windows(self.0.len()).any(|parts| {
            self.0.iter().zip(parts).all(|(pattern, part)| matches_part(pattern, part))
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

fn matches_part(pattern: &str, part: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == part };
    let Some(mut left) = part.strip_prefix(start) else { return false };
    let mut pieces = rest.split('*').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            return left.ends_with(piece);
        }
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_parts_are_matched() {
        let matches = |pattern: &str, path: &str| Pattern::parse(pattern).unwrap().matches(path);
        let path = "model.layers.10.self_attn.q_proj";
        for pattern in ["q_proj", "layers.10", "layers.*.self_attn", "*_proj", "q*oj", "*", path] {
            assert!(matches(pattern, path), "{pattern}");
        }
        for pattern in ["q", "layers.1", "layers.q_proj", "q*x", "proj", "q_proj.weight"] {
            assert!(!matches(pattern, path), "{pattern}");
        }
        assert!(matches("*a*a", "aba") && !matches("a*a", "a"));
        assert_eq!(Pattern::parse("layers."), None);
        assert_eq!(Pattern::parse(""), None);
    }
}

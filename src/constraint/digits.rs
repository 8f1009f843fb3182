//! The digits of numbers in JSON, which a grammar lets go on forever.
//!
//! The parser knows no limit of digits, so an answer is followed beside it: where a number has
//! enough of them, tokens that add more are taken out of the choice, if any others are left.

/// The most digits in a row: more than a double has, and than JavaScript's whole numbers.
const MOST: usize = 18;

/// The most digits of an exponent. What has three may be beyond all doubles.
const MOST_OF_EXPONENT: usize = 2;

/// Where in JSON an answer is.
#[derive(Debug, Clone, Default)]
pub(super) struct Digits {
    in_string: bool,
    is_escaped: bool,
    /// How many digits there are in a row.
    run: usize,
    in_exponent: bool,
    /// What JSON begins anew behind, as calls do behind text.
    markers: Vec<String>,
    /// The last bytes, as many as the longest of `markers` has.
    tail: Vec<u8>,
}

impl Digits {
    /// At the beginning of an answer, in which JSON begins anew behind each of `markers`.
    pub fn new(markers: Vec<String>) -> Self {
        Self { markers, ..Self::default() }
    }

    /// Whether a number has as many digits as it may have.
    pub fn is_full(&self) -> bool {
        self.run >= if self.in_exponent { MOST_OF_EXPONENT } else { MOST }
    }

    /// Takes a piece of the answer.
    pub fn push(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.take(byte));
    }

    /// Takes a special token, which is no part of JSON.
    pub fn begin_anew(&mut self) {
        (self.in_string, self.is_escaped, self.in_exponent, self.run) = (false, false, false, 0);
    }

    fn take(&mut self, byte: u8) {
        match (self.in_string, byte) {
            (true, _) if self.is_escaped => self.is_escaped = false,
            (true, b'\\') => self.is_escaped = true,
            (true, b'"') => self.in_string = false,
            (true, _) => {}
            (false, b'0'..=b'9') => self.run += 1,
            (false, _) => {
                let goes_on = matches!(byte, b'+' | b'-') && self.run == 0;
                self.in_exponent =
                    (matches!(byte, b'e' | b'E') && self.run > 0) || (self.in_exponent && goes_on);
                self.in_string = byte == b'"';
                self.run = 0;
            }
        }
        let Some(longest) = self.markers.iter().map(String::len).max() else { return };
        if self.tail.len() == longest {
            self.tail.remove(0);
        }
        self.tail.push(byte);
        if self.markers.iter().any(|it| !it.is_empty() && self.tail.ends_with(it.as_bytes())) {
            self.begin_anew();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_from_strings() {
        let full = |text: &str| {
            let mut digits = Digits::new(vec!["<call>".to_owned()]);
            digits.push(text.as_bytes());
            digits.is_full()
        };
        let many = "1".repeat(MOST);
        for text in [
            many.clone(),
            format!("[1, -{many}"),
            format!("0.{many}"),
            format!("{{\"a\\\"\": {many}"),
            "1e10".to_owned(),
            "1.5E-10".to_owned(),
            format!("say \"<call>{many}"),
        ] {
            assert!(full(&text), "{text}");
        }
        for text in [
            many[1..].to_owned(),
            format!("\"{many}"),
            format!("\"\\\"{many}"),
            format!("{many},"),
            format!("{many}."),
            "1e1".to_owned(),
            "true10".to_owned(),
        ] {
            assert!(!full(&text), "{text}");
        }
    }
}

//! The digits of numbers in JSON, which a grammar lets go on forever.
//!
//! The parser knows no limit of digits, so an answer is followed beside it: where a number has
//! enough of them, tokens that add more are taken out of the choice, if any others are left.

/// The most digits in a row: more than a double has, and than JavaScript's whole numbers.
const MOST: usize = 18;

/// The most digits of an exponent. What has three may be beyond all doubles.
const MOST_OF_EXPONENT: usize = 2;

/// What JSON begins behind where text stands around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonHead {
    /// The text, special tokens as they are written.
    pub text: String,
    /// Whether a text may stand there, too.
    pub may_be_text: bool,
    /// What stands around strings instead of quotes.
    pub mark: Option<String>,
    /// Whether the answer stands there, which may be no JSON.
    pub is_answer: bool,
}

impl JsonHead {
    /// What an answer stands behind.
    pub(super) fn of_answer(text: String) -> Self {
        Self { text, may_be_text: false, mark: None, is_answer: true }
    }
}

/// Where in JSON an answer is.
#[derive(Debug, Clone, Default)]
pub(super) struct Digits {
    in_string: bool,
    is_escaped: bool,
    /// How many digits there are in a row.
    run: usize,
    in_exponent: bool,
    place: Place,
    /// Where all is JSON: what it begins anew behind, as calls do behind text.
    markers: Vec<String>,
    /// Where JSON stands among text: what it begins behind.
    heads: Vec<JsonHead>,
    /// What may come at the beginning, and behind any special token.
    behind_special: Place,
    /// What stands around strings instead of quotes.
    mark: Option<String>,
    /// The last bytes, as many as the longest of these texts has.
    tail: Vec<u8>,
    longest: usize,
}

/// What the next byte is part of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// JSON, as all of the answer.
    #[default]
    Whole,
    /// Text, in which numbers are as long as they like.
    Text,
    /// The beginning of a value, or of a text that is none.
    Beginning { may_be_text: bool },
    /// A value, so deep in arrays and objects.
    Value { depth: usize },
}

impl Digits {
    /// At the beginning of an answer of JSON, which begins anew behind each of `markers`.
    pub fn new(markers: Vec<String>) -> Self {
        let longest = markers.iter().map(String::len).max().unwrap_or(0);
        Self { markers, longest, ..Self::default() }
    }

    /// At the beginning of an answer in which JSON stands behind `heads`. It may stand at the
    /// beginning, and behind special tokens, too, where an answer is `whole`: always where that is
    /// true, and else in the place of a text.
    pub fn among_text(heads: Vec<JsonHead>, whole: Option<bool>) -> Self {
        let texts = heads.iter().flat_map(|head| head.mark.iter().chain([&head.text]));
        let longest = texts.map(String::len).max().unwrap_or(0);
        let place = match whole {
            Some(whole) => Place::Beginning { may_be_text: !whole },
            None => Place::Text,
        };
        Self { heads, longest, place, behind_special: place, ..Self::default() }
    }

    /// Whether a number has as many digits as it may have.
    pub fn is_full(&self) -> bool {
        matches!(self.place, Place::Whole | Place::Value { .. })
            && self.run >= if self.in_exponent { MOST_OF_EXPONENT } else { MOST }
    }

    /// Takes a piece of the answer.
    pub fn push(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.take(byte));
    }

    /// Takes a special token, which is no part of JSON but may stand around strings.
    pub fn push_special(&mut self, name: &[u8]) {
        if matches!(self.place, Place::Value { .. })
            && self.mark.as_ref().is_some_and(|mark| mark.as_bytes() == name)
        {
            self.in_string = !self.in_string;
            self.run = 0;
            return;
        }
        self.begin_anew();
        if self.place != Place::Whole {
            self.mark = None;
            self.place = self.behind_special;
            name.iter().for_each(|&byte| self.keep(byte));
            self.find_head();
        }
    }

    fn begin_anew(&mut self) {
        (self.in_string, self.is_escaped, self.in_exponent, self.run) = (false, false, false, 0);
    }

    fn take(&mut self, byte: u8) {
        self.keep(byte);
        match self.place {
            Place::Whole => {
                self.json(byte);
                if self.markers.iter().any(|it| self.ends_with(it)) {
                    self.begin_anew();
                }
            }
            Place::Text => {}
            Place::Beginning { may_be_text } => self.begin(byte, may_be_text),
            Place::Value { depth } => self.value(byte, depth),
        }
        if !matches!(self.place, Place::Whole | Place::Value { .. }) {
            self.find_head();
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.tail.len() == self.longest {
            if self.longest == 0 {
                return;
            }
            self.tail.remove(0);
        }
        self.tail.push(byte);
    }

    fn ends_with(&self, text: &str) -> bool {
        !text.is_empty() && self.tail.ends_with(text.as_bytes())
    }

    fn find_head(&mut self) {
        let Some(head) = self.heads.iter().rev().find(|head| self.ends_with(&head.text)) else {
            return;
        };
        let may_be_text = head.may_be_text;
        self.mark.clone_from(&head.mark);
        self.begin_anew();
        self.place = Place::Beginning { may_be_text };
    }

    /// The first byte of a value, or white space before it.
    fn begin(&mut self, byte: u8, may_be_text: bool) {
        self.place = match byte {
            b' ' | b'\t' | b'\n' | b'\r' => return,
            b'{' | b'[' => Place::Value { depth: 1 },
            b'"' | b'-' | b'0'..=b'9' if !may_be_text && self.mark.is_none() => {
                self.json(byte);
                Place::Value { depth: 0 }
            }
            _ => Place::Text,
        };
    }

    /// A byte of a value, which may be its last, or the first behind a number.
    fn value(&mut self, byte: u8, depth: usize) {
        let was_string = self.in_string;
        match &self.mark {
            Some(mark) if self.ends_with(mark) => {
                self.in_string = !self.in_string;
                self.run = 0;
                return;
            }
            Some(_) if was_string => return,
            _ => self.json(byte),
        }
        let is_string = was_string || self.in_string;
        let depth = match byte {
            b'{' | b'[' if !is_string => depth + 1,
            b'}' | b']' if !is_string => depth.saturating_sub(1),
            _ => depth,
        };
        let is_number = matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let goes_on = depth > 0 || if is_string { self.in_string } else { is_number };
        self.place = if goes_on { Place::Value { depth } } else { Place::Text };
    }

    /// A byte of JSON.
    fn json(&mut self, byte: u8) {
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
                self.in_string = byte == b'"' && self.mark.is_none();
                self.run = 0;
            }
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

    #[test]
    fn numbers_of_json_are_told_from_those_of_the_text_around_it() {
        let head = |text: &str, may_be_text, mark: Option<&str>| JsonHead {
            text: text.to_owned(),
            may_be_text,
            mark: mark.map(str::to_owned),
            is_answer: false,
        };
        let heads = vec![
            head("<p=json>", false, None),
            head("<p=any>", true, None),
            head("call:f", false, Some("<|>")),
        ];
        let full = |whole: Option<bool>, text: &str| {
            let mut digits = Digits::among_text(heads.clone(), whole);
            for (index, part) in text.split('@').enumerate() {
                if index > 0 {
                    digits.push_special(b"<|>");
                }
                digits.push(part.as_bytes());
            }
            digits.is_full()
        };
        let many = "1".repeat(MOST);
        for text in [
            format!("<p=json>{many}"),
            format!("say \"{many}<p=json> {many}"),
            format!("<p=json>[\"a]{many}\", {{\"x\": {many}"),
            format!("<p=json>\"a\"</p><p=json>-{many}"),
            format!("<p=any>{{\"x\": {many}"),
            format!("call:f{{x:<|>\"{many}<|>,y:{many}"),
            format!("call:f{{x:@\"{many}@,y:[{many}"),
        ] {
            for whole in [None, Some(false), Some(true)] {
                assert!(full(whole, &text), "{text}");
            }
        }
        for text in [
            format!("so {many}"),
            format!("<p=any>{many}"),
            format!("<p=text>{many}"),
            format!("<p=json>[1]</p>{many}"),
            format!("<p=json>12</p>{many}"),
            format!("<p=json>\"{many}"),
            format!("call:f{{x:<|>{many}"),
            format!("call:f{{x:@{many}"),
            format!("call:f{{x:@a@}}{many}"),
        ] {
            assert!(!full(None, &text) && !full(Some(false), &text), "{text}");
        }
        assert!(full(Some(true), &many));
        for whole in [Some(false), Some(true)] {
            assert!(full(whole, &format!("thought {many}@ [{many}")));
        }
    }
}

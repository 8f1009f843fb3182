//! Stop strings, matched on the streamed text.

/// What to show after a piece of text has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopState {
    /// Text that is certain not to be part of a stop string.
    pub emit: String,
    /// The index of the stop string that was found. It, and what follows it, is not emitted.
    pub stopped: Option<usize>,
}

/// Looks for stop strings across the borders of tokens. Text that may be the beginning of a stop
/// string is held back until that is decided: never more than the longest stop string.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    stopped: Option<usize>,
}

impl StopMatcher {
    /// Matches any of `stops`. Empty strings never match.
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new(), stopped: None }
    }

    /// Takes the next piece of the text. The stop string that is complete first wins, and of those
    /// the longest, so the result does not depend on how the text is cut into pieces. After a stop
    /// nothing more is emitted.
    pub fn push(&mut self, text: &str) -> StopState {
        if self.stopped.is_some() {
            return StopState { emit: String::new(), stopped: self.stopped };
        }
        self.held.push_str(text);
        let found = self
            .stops
            .iter()
            .enumerate()
            .filter(|(_, stop)| !stop.is_empty())
            .filter_map(|(index, stop)| {
                let start = self.held.find(stop.as_str())?;
                Some((start + stop.len(), start, index))
            })
            .min();
        let certain = match found {
            Some((_, start, index)) => {
                self.stopped = Some(index);
                start
            }
            None => self.undecided_from(),
        };
        let rest = self.held.split_off(certain);
        StopState { emit: std::mem::replace(&mut self.held, rest), stopped: self.stopped }
    }

    /// The end of the text: what was held back turned out not to be a stop string.
    pub fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        if self.stopped.is_some() { String::new() } else { held }
    }

    /// Where the earliest suffix begins that is a proper prefix of a stop string.
    fn undecided_from(&self) -> usize {
        self.stops
            .iter()
            .filter_map(|stop| {
                let longest = stop.len().saturating_sub(1).min(self.held.len());
                (1..=longest)
                    .rev()
                    .find(|&length| self.held.as_bytes().ends_with(&stop.as_bytes()[..length]))
            })
            .max()
            .map_or(self.held.len(), |length| self.held.len() - length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut matcher = StopMatcher::new(stops.iter().map(|it| (*it).to_owned()).collect());
        let mut text = String::new();
        let mut stopped = None;
        for piece in pieces {
            let state = matcher.push(piece);
            text += &state.emit;
            stopped = state.stopped;
        }
        text += &matcher.finish();
        (text, stopped)
    }

    /// All ways to cut `text` into three pieces.
    fn cuts(text: &str) -> Vec<[&str; 3]> {
        let borders: Vec<usize> = text.char_indices().map(|it| it.0).chain([text.len()]).collect();
        let pairs = borders.iter().flat_map(|a| borders.iter().map(move |b| (*a, *b)));
        pairs.filter(|(a, b)| a <= b).map(|(a, b)| [&text[..a], &text[a..b], &text[b..]]).collect()
    }

    #[test]
    fn the_result_does_not_depend_on_the_pieces() {
        let cases: [(&[&str], &str, &str, Option<usize>); 8] = [
            (&["END"], "one END two", "one ", Some(0)),
            (&["END"], "one EN", "one EN", None),
            (&["aab"], "aaab!", "a", Some(0)),
            (&["abcd", "bc"], "xabcd", "xa", Some(1)),
            (&["bc", "abc"], "xabc", "x", Some(1)),
            (&["é\u{301}", "日本"], "dé日x日本", "dé日x", Some(1)),
            (&["", "\n\n"], "a\nb\n\nc", "a\nb", Some(1)),
            (&[], "all of it", "all of it", None),
        ];
        for (stops, text, expected, stopped) in cases {
            for pieces in cuts(text) {
                let found = stream(stops, &pieces);
                assert_eq!(found, (expected.to_owned(), stopped), "{stops:?} in {pieces:?}");
            }
        }
    }

    #[test]
    fn only_what_may_be_a_stop_string_is_held_back() {
        let mut matcher = StopMatcher::new(vec!["</s>".into()]);
        assert_eq!(matcher.push("a < b").emit, "a < b");
        assert_eq!(matcher.push("x</").emit, "x");
        assert_eq!(matcher.push("p>").emit, "</p>");
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn nothing_is_emitted_after_a_stop() {
        let mut matcher = StopMatcher::new(vec!["x".into()]);
        assert_eq!(matcher.push("axb"), StopState { emit: "a".into(), stopped: Some(0) });
        assert_eq!(matcher.push("c"), StopState { emit: String::new(), stopped: Some(0) });
        assert_eq!(matcher.finish(), "");
    }
}

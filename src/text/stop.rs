//! Stop strings and patterns, matched on the streamed text.

use std::ops::Range;

use super::stop_pattern::StopPattern;

/// What to show after a piece of text has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopState {
    /// Text that is certain not to be part of a stop string.
    pub emit: String,
    /// The index of the stop string that was found, those of patterns behind them. It, and what
    /// follows it, is not emitted.
    pub stopped: Option<usize>,
}

/// Looks for stop strings across the borders of tokens. Text that may be the beginning of a stop
/// string is held back until that is decided: of strings never more than the longest, of patterns
/// as much as they may still match.
///
/// Special tokens that are left out of the text are seen too: a stop string is found in the text
/// with them, and in the text without them. A pattern is found like a string that it matches.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    patterns: Vec<StopPattern>,
    held: String,
    /// The parts of `held` that are not emitted, in order.
    hidden: Vec<Range<usize>>,
    stopped: Option<usize>,
    matched: String,
}

impl StopMatcher {
    /// Matches any of `stops` and of `patterns`. Empty strings never match.
    pub fn new(stops: Vec<String>, patterns: Vec<StopPattern>) -> Self {
        let (held, matched) = (String::new(), String::new());
        Self { stops, patterns, held, hidden: Vec::new(), stopped: None, matched }
    }

    /// The text that was found.
    pub fn matched(&self) -> &str {
        &self.matched
    }

    /// How many bytes of what was pushed there are from the beginning of the text that was found on.
    pub fn behind(&self) -> usize {
        self.held.len()
    }

    /// Takes the next piece of the text. The stop string that is complete first wins, and of those
    /// the longest, so the result does not depend on how the text is cut into pieces. After a stop
    /// nothing more is emitted.
    pub fn push(&mut self, text: &str) -> StopState {
        self.take(text, false)
    }

    /// Takes text that may belong to a stop string, and is never emitted.
    pub fn push_hidden(&mut self, text: &str) -> StopState {
        self.take(text, true)
    }

    fn take(&mut self, text: &str, hidden: bool) -> StopState {
        if self.stopped.is_some() {
            return StopState { emit: String::new(), stopped: self.stopped };
        }
        if hidden && !text.is_empty() {
            self.hidden.push(self.held.len()..self.held.len() + text.len());
        }
        self.held.push_str(text);
        let (certain, stopped) = self.certain();
        self.stopped = stopped;
        StopState { emit: self.emit(certain), stopped }
    }

    /// How much of `held` is certain, and the stop string that follows it, where one does.
    fn certain(&mut self) -> (usize, Option<usize>) {
        let whole = std::mem::take(&mut self.held);
        let (mut found, mut undecided) = self.look(&whole);
        self.held = whole;
        if !self.hidden.is_empty() {
            let shown = self.shown(self.held.len());
            let (found_in_shown, from) = self.look(&shown);
            let places =
                |(end, start, index)| (self.place_of(end - 1) + 1, self.place_of(start), index);
            found = found.into_iter().chain(found_in_shown.map(places)).min();
            if from < shown.len() {
                undecided = undecided.min(self.place_of(from));
            }
        }
        match found {
            Some((end, start, index)) => {
                self.matched = self.held[start..end].to_owned();
                (start, Some(index))
            }
            None => (undecided, None),
        }
    }

    /// What of strings and patterns is complete first, and of those the longest, by its end, start
    /// and index; and where one may begin that is not complete.
    fn look(&mut self, text: &str) -> (Option<(usize, usize, usize)>, usize) {
        let (mut found, mut undecided) = (self.find(text), self.undecided_from(text));
        for (index, pattern) in (self.stops.len()..).zip(&mut self.patterns) {
            let looked = pattern.find(text);
            let matched = looked.matched.map(|(end, start)| (end, start, index));
            found = found.into_iter().chain(matched).min();
            undecided = undecided.min(looked.undecided);
        }
        (found, undecided)
    }

    /// The stop string that is complete first, and of those the longest: its end, start and index.
    fn find(&self, text: &str) -> Option<(usize, usize, usize)> {
        self.stops
            .iter()
            .enumerate()
            .filter(|(_, stop)| !stop.is_empty())
            .filter_map(|(index, stop)| {
                let start = text.find(stop.as_str())?;
                Some((start + stop.len(), start, index))
            })
            .min()
    }

    /// The first `length` bytes of `held` without what is hidden.
    fn shown(&self, length: usize) -> String {
        let mut shown = String::new();
        let mut from = 0;
        for part in self.hidden.iter().take_while(|part| part.start < length) {
            shown += &self.held[from..part.start];
            from = part.end.min(length);
        }
        shown + &self.held[from..length]
    }

    /// Where in `held` the byte stands that is at `at` in what is shown.
    fn place_of(&self, mut at: usize) -> usize {
        for part in &self.hidden {
            if at < part.start {
                break;
            }
            at += part.len();
        }
        at
    }

    /// Takes the first `length` bytes off `held`, and returns what of them is shown.
    fn emit(&mut self, length: usize) -> String {
        let shown = self.shown(length);
        self.held.drain(..length);
        self.hidden.retain_mut(|part| {
            *part = part.start.saturating_sub(length)..part.end.saturating_sub(length);
            part.start < part.end
        });
        shown
    }

    /// The end of the text, or a border that no stop string crosses: what was held back turned out
    /// not to be one.
    pub fn finish(&mut self) -> String {
        let held = self.emit(self.held.len());
        if self.stopped.is_some() { String::new() } else { held }
    }

    /// Where the earliest suffix of `text` begins that is a proper prefix of a stop string.
    fn undecided_from(&self, text: &str) -> usize {
        self.stops
            .iter()
            .filter_map(|stop| {
                let longest = stop.len().saturating_sub(1).min(text.len());
                (1..=longest)
                    .rev()
                    .find(|&length| text.as_bytes().ends_with(&stop.as_bytes()[..length]))
            })
            .max()
            .map_or(text.len(), |length| text.len() - length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut matcher =
            StopMatcher::new(stops.iter().map(|it| (*it).to_owned()).collect(), Vec::new());
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
    fn patterns_are_found_however_the_text_is_cut() {
        for (pattern, text, shown, matched) in [
            (r"\n(Human|User):", "Hi.\nUse it.\nUser: no", "Hi.\nUse it.", "\nUser:"),
            (r"[0-9]+\.", "take 12 or 345. Then", "take 12 or ", "345."),
            ("é[xy]", "éaéé", "éaéé", ""),
        ] {
            for pieces in cuts(text) {
                let pattern = StopPattern::new(pattern).unwrap();
                let mut matcher = StopMatcher::new(vec!["zz".to_owned()], vec![pattern]);
                let emitted: String = pieces.iter().map(|it| matcher.push(it).emit).collect();
                assert_eq!(emitted + &matcher.finish(), shown, "{pieces:?}");
                assert_eq!(matcher.matched(), matched, "{pieces:?}");
            }
        }
    }

    #[test]
    fn only_what_may_be_a_stop_string_is_held_back() {
        let mut matcher = StopMatcher::new(vec!["</s>".into()], Vec::new());
        assert_eq!(matcher.push("a < b").emit, "a < b");
        assert_eq!(matcher.push("x</").emit, "x");
        assert_eq!(matcher.push("p>").emit, "</p>");
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn hidden_text_is_matched_and_never_emitted() {
        /// Stop strings, pieces and whether each is hidden, what is emitted, and which string
        /// stops.
        type Case<'a> = (&'a [&'a str], &'a [(&'a str, bool)], &'a str, Option<usize>);
        let cases: [Case; 9] = [
            (&["<|end|>"], &[("a", false), ("<|end|>", true), ("b", false)], "a", Some(0)),
            (&["a<|x|>b"], &[("-a", false), ("<|x|>", true), ("b-", false)], "-", Some(0)),
            (&["a<|x|>c"], &[("-a", false), ("<|x|>", true), ("b-", false)], "-ab-", None),
            (&["|>b"], &[("a", false), ("<|x|>", true), ("b", false)], "a", Some(0)),
            // What its reader sees is a stop string as well.
            (&["ab"], &[("-a", false), ("<|x|>", true), ("b-", false)], "-", Some(0)),
            (&["abc"], &[("-a", false), ("<|x|>", true), ("b-", false)], "-ab-", None),
            (&["<|x|>", "ab"], &[("a", false), ("<|x|>", true), ("b", false)], "a", Some(0)),
            (&["zz"], &[("<|x|>", true), ("<|y|>", true)], "", None),
            (&["x|><|y"], &[("a", false), ("<|x|>", true), ("<|y|>", true)], "a", Some(0)),
        ];
        for (stops, pieces, expected, stopped) in cases {
            let mut matcher =
                StopMatcher::new(stops.iter().map(|it| (*it).to_owned()).collect(), Vec::new());
            let mut text = String::new();
            let mut found = None;
            for (piece, hidden) in pieces {
                let state = if *hidden { matcher.push_hidden(piece) } else { matcher.push(piece) };
                text += &state.emit;
                found = state.stopped;
            }
            text += &matcher.finish();
            assert_eq!((text.as_str(), found), (expected, stopped), "{stops:?} in {pieces:?}");
        }
    }

    /// What a text without hidden parts gives: the first that is complete, of those the longest.
    fn expected(stops: &[String], text: &str) -> (String, Option<usize>) {
        let found = stops.iter().enumerate().filter(|(_, stop)| !stop.is_empty()).filter_map(
            |(index, stop)| text.find(stop).map(|start| (start + stop.len(), start, index)),
        );
        match found.min() {
            Some((_, start, index)) => (text[..start].to_owned(), Some(index)),
            None => (text.to_owned(), None),
        }
    }

    /// Few signs, so that strings, patterns and texts often meet.
    fn random_text(random: &mut impl FnMut(usize) -> usize, longest: usize) -> String {
        let signs = ['a', 'b', 'é', '日', '\n'];
        (0..random(longest + 1)).map(|_| signs[random(signs.len())]).collect()
    }

    #[test]
    fn random_texts_do_not_depend_on_the_pieces() {
        let patterns = ["a+b", "(a|é)[^a]b", r"\n.", "(?:ab){2,3}", "[^b]日|日日a"];
        let mut seed = 1_u64;
        let mut random = move |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        for round in 0..3000 {
            let stops: Vec<String> = (0..random(4)).map(|_| random_text(&mut random, 4)).collect();
            let pattern = patterns[random(patterns.len())];
            let of_patterns = || match round % 2 {
                0 => Vec::new(),
                _ => vec![StopPattern::new(pattern).unwrap()],
            };
            let hides = round % 3 == 0;
            let parts: Vec<(String, bool)> = (0..random(5))
                .map(|_| (random_text(&mut random, 9), hides && random(3) == 0))
                .collect();
            let run = |pieces: &[(&str, bool)]| {
                let mut matcher = StopMatcher::new(stops.clone(), of_patterns());
                let (mut text, mut stopped) = (String::new(), None);
                for &(piece, hidden) in pieces {
                    let state =
                        if hidden { matcher.push_hidden(piece) } else { matcher.push(piece) };
                    text += &state.emit;
                    stopped = state.stopped;
                }
                text += &matcher.finish();
                (text, stopped, matcher.matched().to_owned())
            };
            let whole: Vec<_> =
                parts.iter().map(|(text, hidden)| (text.as_str(), *hidden)).collect();
            let mut cut = Vec::new();
            for &(text, hidden) in &whole {
                let mut rest = text;
                while !rest.is_empty() {
                    let count = 1 + random(3);
                    let at = rest.char_indices().nth(count).map_or(rest.len(), |it| it.0);
                    let (piece, more) = rest.split_at(at);
                    cut.push((piece, hidden));
                    rest = more;
                }
            }
            let found = run(&whole);
            assert_eq!(found, run(&cut), "{stops:?}, {pattern} in {cut:?}");
            if !hides && round % 2 == 0 {
                let text: String = whole.iter().map(|it| it.0).collect();
                assert_eq!((found.0, found.1), expected(&stops, &text), "{stops:?} in {text:?}");
            }
        }
    }

    #[test]
    fn nothing_is_emitted_after_a_stop() {
        let mut matcher = StopMatcher::new(vec!["x".into()], Vec::new());
        assert_eq!(matcher.push("axb"), StopState { emit: "a".into(), stopped: Some(0) });
        assert_eq!(matcher.push("c"), StopState { emit: String::new(), stopped: Some(0) });
        assert_eq!(matcher.finish(), "");
    }
}

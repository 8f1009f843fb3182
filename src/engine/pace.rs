//! How reading prompts and decoding share the time.

use std::time::Duration;

/// No fewer tokens are read at once: a pass takes nearly as long for one.
const LEAST: usize = 8;

/// How many tokens are read at once beside others who decode, before it is known how long that
/// takes.
const FIRST: usize = 32;

/// The part of the longest pause that a chunk is to take, as estimates are a bit off.
const AIM: f64 = 0.8;

/// Chunks that are as long as a given pause allows. Who reads and who decodes share the time by
/// their numbers, and those who decode have no more than half of it: they have been served, and the
/// sooner others join them, the more tokens a step gives.
#[derive(Debug)]
pub struct Pace {
    /// How long tokens may wait for a chunk.
    longest_pause: Duration,
    /// How many tokens fit into that, by the last chunk.
    fitting: usize,
    /// What the last chunk took from those who decode, and they have not had since.
    owed: Duration,
}

impl Pace {
    /// A pace at which nobody who decodes waits for longer than `longest_pause`.
    pub fn new(longest_pause: Duration) -> Self {
        Self { longest_pause, fitting: FIRST, owed: Duration::ZERO }
    }

    /// How many tokens are to be read now, of `most` at once; 0 while those who decode, if there
    /// are any, are to have their time.
    pub fn chunk(&self, someone_decodes: bool, most: usize) -> usize {
        match someone_decodes {
            false => most,
            true if self.owed > Duration::ZERO => 0,
            true => self.fitting.min(most),
        }
    }

    /// Notes that `tokens` were read in this time, while so many generations read and others
    /// decoded.
    pub fn read(&mut self, tokens: usize, took: Duration, readers: usize, decoders: usize) {
        self.owed = took.mul_f64((decoders as f64 / readers.max(1) as f64).min(1.0));
        // The last tokens of a prompt say little of how long many take, unless it was too long.
        if tokens >= LEAST || took > self.longest_pause {
            let share = AIM * self.longest_pause.as_secs_f64() / took.as_secs_f64().max(1e-6);
            let fitting = (tokens as f64 * share) as usize;
            self.fitting = fitting.clamp(LEAST, (2 * tokens).max(FIRST));
        }
    }

    /// Notes that everyone who decodes has had a token in this time.
    pub fn decoded(&mut self, took: Duration) {
        self.owed = self.owed.saturating_sub(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Reads beside others on a device that takes so long for a pass and for each token; the
    /// longest pause after the first `skip` chunks.
    fn longest(pace: &mut Pace, pass: Duration, token: Duration, skip: usize) -> Duration {
        let mut longest = Duration::ZERO;
        for number in 0..50 {
            let tokens = pace.chunk(true, 2048);
            let took = pass + token * tokens as u32;
            pace.read(tokens, took, 1, 1);
            pace.decoded(took);
            if number >= skip {
                longest = longest.max(took);
            }
        }
        longest
    }

    #[test]
    fn chunks_become_as_long_as_the_pause_allows() {
        for (pass, token) in [(2 * MS, MS / 20), (30 * MS, MS), (MS, MS / 200)] {
            let mut pace = Pace::new(100 * MS);
            let longest = longest(&mut pace, pass, token, 10);
            assert!(longest <= 100 * MS, "{longest:?}");
            assert!(pace.chunk(true, 1_000_000) >= LEAST);
            assert!(longest > 50 * MS || pace.chunk(true, 2048) == 2048, "{longest:?}");
        }
    }

    #[test]
    fn a_device_that_slows_down_is_noticed_after_one_chunk() {
        let mut pace = Pace::new(100 * MS);
        longest(&mut pace, MS, MS / 10, 10);
        assert!(longest(&mut pace, MS, 2 * MS, 1) <= 100 * MS);
    }

    #[test]
    fn those_who_decode_have_half_of_the_time() {
        let mut pace = Pace::new(100 * MS);
        pace.read(32, 90 * MS, 1, 4);
        let mut tokens = 0;
        while pace.chunk(true, 100) == 0 {
            pace.decoded(20 * MS);
            tokens += 1;
        }
        assert_eq!(tokens, 5);
        pace.read(32, 90 * MS, 1, 4);
        assert_eq!(pace.chunk(false, 100), 100, "nobody is there to wait for");
        pace.read(100, 300 * MS, 1, 0);
        assert_eq!(pace.chunk(true, 100), 26, "who comes then has nothing coming");
    }

    #[test]
    fn many_who_read_have_more_of_it() {
        let mut pace = Pace::new(100 * MS);
        pace.read(32, 90 * MS, 30, 2);
        assert_eq!(pace.chunk(true, 100), 0);
        // A fifteenth of 90 ms.
        pace.decoded(6 * MS);
        assert!(pace.chunk(true, 100) > 0);
    }

    #[test]
    fn where_not_even_a_few_fit_a_few_are_read() {
        let mut pace = Pace::new(MS);
        assert!(longest(&mut pace, 30 * MS, MS, 0) > MS);
        assert_eq!(pace.chunk(true, 2048), LEAST);
    }
}

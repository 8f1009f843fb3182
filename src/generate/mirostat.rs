//! Mirostat 2: the surprise of the answer's tokens is kept near a target.

/// The limit µ on the surprise −log₂ p of the next token. It begins at 2τ, and after a token of the
/// surprise s it is µ − η·(s − τ) (Basu et al. 2021, "Mirostat: A Neural Text Decoding Algorithm
/// that Directly Controls Perplexity", algorithm 2; llama.cpp's `mirostat_v2`).
#[derive(Debug, Clone)]
pub struct Mirostat {
    /// τ, in bits.
    target: f32,
    /// η.
    rate: f32,
    /// The limit before each token.
    limits: Vec<f32>,
}

impl Mirostat {
    /// Keeps the surprise near `target` bits, by steps of `rate`.
    pub fn new(target: f32, rate: f32) -> Self {
        Self { target, rate, limits: vec![2.0 * target] }
    }

    /// The most surprise of the next token, in bits.
    pub fn limit(&self) -> f32 {
        self.limits.last().copied().unwrap_or(2.0 * self.target)
    }

    /// Takes the surprise of a token that was drawn.
    pub fn observe(&mut self, surprise: f32) {
        let next = self.limit() - self.rate * (surprise - self.target);
        // Logits that are no numbers end the sequence, and must not spoil what it leaves.
        self.limits.push(if next.is_finite() { next } else { self.limit() });
    }

    /// Goes back to what it was after so many tokens.
    pub fn rewind(&mut self, tokens: usize) {
        self.limits.truncate(tokens + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_follows_the_surprise() {
        let mut mirostat = Mirostat::new(3.0, 0.1);
        assert_eq!(mirostat.limit(), 6.0);
        let mut expected = 6.0_f64;
        for surprise in [8.0, 1.0, 3.0, 0.0] {
            mirostat.observe(surprise);
            expected -= 0.1 * (f64::from(surprise) - 3.0);
            assert!((f64::from(mirostat.limit()) - expected).abs() < 1e-5);
        }
        mirostat.rewind(1);
        assert_eq!(mirostat.limit(), 5.5);
        mirostat.observe(f32::NAN);
        assert_eq!(mirostat.limit(), 5.5);
    }
}

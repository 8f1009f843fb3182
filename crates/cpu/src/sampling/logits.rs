//! The logits of one token.
#![allow(unsafe_op_in_unsafe_fn, reason = "pure vector code with the conditions of `Simd`")]

use std::cmp::Ordering;

use super::super::math::exp;
use super::super::simd::{Isa, Kernel, Simd};
use super::{SamplingOptions, dynamic_temperature};

/// Logits with a maximum in common, by which most of them are passed over.
const CHUNK: usize = 64;

/// Logits whose exponentials are computed at a time.
const BLOCK: usize = 1024;

/// Log-probabilities are told apart by so many steps for each factor of e at first.
const STEPS: f32 = 32.0;

/// How many steps there are; what is less likely falls into the last one.
const BUCKETS: usize = 1024;

/// The logits of one token, looked at from above. None of its functions is hurt by NaN or infinity,
/// but what they then choose is only some token.
pub struct Logits<'a> {
    logits: &'a [f32],
    /// The largest of each [`CHUNK`].
    maxima: Vec<f32>,
    most: f32,
    isa: Isa,
}

impl<'a> Logits<'a> {
    /// Looks at the logits of all tokens.
    pub fn new(logits: &'a [f32], isa: Isa) -> Self {
        let mut maxima = vec![f32::NEG_INFINITY; logits.len().div_ceil(CHUNK)];
        isa.run(Maxima { logits, maxima: &mut maxima });
        let most = maxima.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Self { logits, maxima, most, isa }
    }

    /// Those of all tokens.
    pub(super) fn all(&self) -> &[f32] {
        self.logits
    }

    /// The largest.
    pub(super) fn largest(&self) -> f32 {
        self.most
    }

    /// The most likely token, of equals the first.
    pub fn most_likely(&self) -> u32 {
        self.at_least(self.most).first().copied().unwrap_or(0)
    }

    /// The logarithm of the sum of all exponentials.
    pub fn log_sum_exp(&self) -> f32 {
        log_sum_exp(self.logits, self.most, self.isa)
    }

    /// The `count` most likely tokens, the most likely one first, and of equals the first.
    pub fn best(&self, count: usize) -> Vec<u32> {
        // So many chunks hold a logit that is not below the last of their maxima: none below it is
        // wanted.
        let mut floor = f32::NEG_INFINITY;
        if (1..self.maxima.len()).contains(&count) {
            let mut maxima = self.maxima.clone();
            floor = *maxima.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a)).1;
        }
        best_of(self.logits, &mut self.at_least(floor), count)
    }

    /// Tokens whose logits are not below `floor`, in their order.
    fn at_least(&self, floor: f32) -> Vec<u32> {
        let mut tokens = Vec::new();
        let chunks = self.logits.chunks(CHUNK).zip(&self.maxima).enumerate();
        for (i, (chunk, _)) in chunks.filter(|(_, (_, most))| **most >= floor) {
            // Without branches, of which about half would be mispredicted.
            let mut len = tokens.len();
            tokens.resize(len + chunk.len(), 0);
            for (token, &logit) in ((i * CHUNK) as u32..).zip(chunk) {
                tokens[len] = token;
                len += usize::from(logit >= floor);
            }
            tokens.truncate(len);
        }
        tokens
    }

    /// The tokens that `options` leave to be drawn from; `None` for all. The chance of XTC is not
    /// theirs: `xtc` says whether it happens.
    pub fn kept(&self, options: &SamplingOptions, xtc: bool) -> Option<Vec<u32>> {
        let first = match options {
            _ if options.top_n_sigma > 0.0 => {
                self.at_least(self.near_the_largest(options.top_n_sigma))
            }
            _ if options.typical_p < 1.0 => self.typical(options.typical_p),
            _ => return self.kept_by_rank(options, xtc),
        };
        // What is left is looked at as if there were no others.
        let mut rest = options.clone();
        if options.top_n_sigma > 0.0 {
            rest.top_n_sigma = 0.0;
        } else {
            rest.typical_p = 1.0;
        }
        let place = |token: &u32| first.binary_search(token).ok().map(|place| place as u32);
        rest.xtc_special_tokens = options.xtc_special_tokens.iter().filter_map(place).collect();
        let logits: Vec<f32> = first.iter().map(|&token| self.logits[token as usize]).collect();
        Some(match Logits::new(&logits, self.isa).kept(&rest, xtc) {
            Some(kept) => kept.into_iter().map(|place| first[place as usize]).collect(),
            None => first,
        })
    }

    /// [`Logits::kept`] by the filters that keep the most likely tokens, and XTC.
    fn kept_by_rank(&self, options: &SamplingOptions, xtc: bool) -> Option<Vec<u32>> {
        let mut floor = f32::NEG_INFINITY;
        if options.top_p > 0.0 && options.top_p < 1.0 {
            floor = self.nucleus(options.top_p);
        }
        if options.min_p > 0.0 {
            let mut least = self.most + options.min_p.ln();
            if options.min_tokens_to_keep > 1 {
                let best = self.best(options.min_tokens_to_keep as usize);
                least = best.last().map_or(least, |&token| least.min(self.logits[token as usize]));
            }
            floor = floor.max(least);
        }
        let top_k = options.top_k as usize;
        let cut = top_k > 0 && top_k < self.logits.len();
        if !xtc && floor == f32::NEG_INFINITY {
            return cut.then(|| self.best(top_k));
        }
        let mut kept = self.at_least(floor);
        if xtc {
            self.leave_out_top_choices(options, &mut kept);
        }
        Some(if cut { best_of(self.logits, &mut kept, top_k) } else { kept })
    }

    /// The smallest logit in the smallest set of the most likely tokens that has at least the share
    /// `p` of the whole mass.
    fn nucleus(&self, p: f32) -> f32 {
        let mut masses = [0.0_f64; BUCKETS];
        let (mut exponentials, mut steps) = ([0.0; BLOCK], [0; BLOCK]);
        for logits in self.logits.chunks(BLOCK) {
            Exponentials::of(logits, self.most, 1.0).write(&mut exponentials, self.isa);
            self.isa.run(Steps { logits, most: self.most, steps: &mut steps });
            for (&step, &mass) in steps[..logits.len()].iter().zip(&exponentials) {
                masses[usize::from(step)] += f64::from(mass);
            }
        }
        let wanted = f64::from(p) * masses.iter().sum::<f64>();
        let mut above = 0.0;
        let last = masses.iter().position(|mass| {
            above += mass;
            above >= wanted
        });
        // Without one, there are logits that are no numbers.
        let Some(last) = last else { return f32::NEG_INFINITY };
        above -= masses[last];
        let mut logits = Vec::new();
        for (chunk, &most) in self.logits.chunks(CHUNK).zip(&self.maxima) {
            if step(self.most, most) as usize <= last {
                let within = |logit: &f32| step(self.most, *logit) as usize == last;
                logits.extend(chunk.iter().copied().filter(within));
            }
        }
        logits.sort_unstable_by(|a, b| b.total_cmp(a));
        let mut least = self.most;
        for logit in logits {
            if above >= wanted {
                break;
            }
            above += f64::from((logit - self.most).exp());
            least = logit;
        }
        least
    }

    /// Of the tokens more likely than the threshold, only the least likely stays.
    fn leave_out_top_choices(&self, options: &SamplingOptions, kept: &mut Vec<u32>) {
        let logits: Vec<_> = kept.iter().map(|&token| self.logits[token as usize]).collect();
        let norm = log_sum_exp(&logits, self.most, self.isa);
        let threshold = norm + options.xtc_threshold.ln();
        let above = logits.into_iter().filter(|&logit| logit > threshold);
        let least = above.fold(f32::INFINITY, f32::min);
        kept.retain(|token| {
            self.logits[*token as usize] <= least || options.xtc_special_tokens.contains(token)
        });
    }

    /// The temperature at which one of the `kept` tokens, or of all, is drawn.
    pub fn temperature(&self, kept: Option<&[u32]>, options: &SamplingOptions) -> f32 {
        if options.dynamic_temperature_range == 0.0 {
            return options.temperature;
        }
        match kept {
            None => dynamic_temperature(self.logits, options),
            Some(kept) => {
                let logits: Vec<f32> =
                    kept.iter().map(|&token| self.logits[token as usize]).collect();
                dynamic_temperature(&logits, options)
            }
        }
    }

    /// Draws one of the `kept` tokens, or of all, with probabilities ∝ exp(logit / `temperature`):
    /// the one at which `uniform`, from [0, 1), lies in their cumulative distribution.
    pub fn draw(&self, kept: Option<&[u32]>, temperature: f32, uniform: f64) -> u32 {
        let gathered: Vec<f32>;
        let (logits, most) = match kept {
            Some(kept) => {
                gathered = kept.iter().map(|&token| self.logits[token as usize]).collect();
                (&gathered[..], gathered.iter().copied().fold(f32::NEG_INFINITY, f32::max))
            }
            None => (self.logits, self.most),
        };
        let factor = temperature.recip();
        let sums = Exponentials::of(logits, most, factor).sums(self.isa);
        let total: f64 = sums.iter().sum();
        let mut rest = uniform * total;
        let mut found = None;
        for (i, (block, sum)) in logits.chunks(BLOCK).zip(&sums).enumerate() {
            // The last block with any mass takes what rounding leaves.
            if *sum > 0.0 {
                found = Some((i, block, rest));
            }
            if rest < *sum {
                break;
            }
            rest -= sum;
        }
        let Some((i, logits, mut rest)) = found.filter(|_| total.is_finite()) else {
            return self.most_likely();
        };
        let mut block = [0.0; BLOCK];
        Exponentials::of(logits, most, factor).write(&mut block, self.isa);
        let mut chosen = 0;
        for (at, mass) in block[..logits.len()].iter().enumerate() {
            if *mass > 0.0 {
                chosen = at;
            }
            rest -= f64::from(*mass);
            if rest < 0.0 {
                break;
            }
        }
        let chosen = i * BLOCK + chosen;
        kept.map_or(chosen as u32, |kept| kept[chosen])
    }
}

/// The logarithm of the sum of the exponentials of logits that are not above `most`.
fn log_sum_exp(logits: &[f32], most: f32, isa: Isa) -> f32 {
    let sum: f64 = Exponentials::of(logits, most, 1.0).sums(isa).iter().sum();
    most + sum.ln() as f32
}

/// The `count` most likely of some tokens, the most likely one first, and of equals the first.
fn best_of(logits: &[f32], tokens: &mut [u32], count: usize) -> Vec<u32> {
    let count = count.min(tokens.len());
    let compare = |a: &u32, b: &u32| -> Ordering {
        logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b))
    };
    if count > 0 && count < tokens.len() {
        tokens.select_nth_unstable_by(count - 1, compare);
    }
    let best = &mut tokens[..count];
    best.sort_unstable_by(compare);
    best.to_vec()
}

/// exp((x − shift) · factor).
#[derive(Clone, Copy)]
struct Exponentials<'a> {
    x: &'a [f32],
    shift: f32,
    factor: f32,
}

impl<'a> Exponentials<'a> {
    fn of(x: &'a [f32], shift: f32, factor: f32) -> Self {
        Self { x, shift, factor }
    }

    /// The sums of each [`BLOCK`].
    fn sums(self, isa: Isa) -> Vec<f64> {
        let mut y = [0.0; BLOCK];
        let blocks = self.x.chunks(BLOCK);
        blocks.map(|x| Self { x, ..self }.write(&mut y, isa)).collect()
    }

    /// Writes those of at most one block, and gives their sum.
    fn write(self, y: &mut [f32; BLOCK], isa: Isa) -> f64 {
        isa.run(WriteExponentials { of: self, y })
    }
}

struct WriteExponentials<'a> {
    of: Exponentials<'a>,
    y: &'a mut [f32; BLOCK],
}

impl Kernel for WriteExponentials<'_> {
    type Output = f64;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f64 {
        let Self { of: Exponentials { x, shift, factor }, y } = self;
        assert!(x.len() <= BLOCK, "{} logits in a block", x.len());
        let whole = x.len() - x.len() % S::LANES;
        let (shift, factor) = (S::splat(shift), S::splat(factor));
        let mut sum = S::splat(0.0);
        for i in (0..whole).step_by(S::LANES) {
            let e = exp::<S>(S::mul(S::sub(S::load(x.as_ptr().add(i)), shift), factor));
            S::store(y.as_mut_ptr().add(i), e);
            sum = S::add(sum, e);
        }
        let mut total = f64::from(S::sum(sum));
        if whole < x.len() {
            let mut last = [f32::NEG_INFINITY; 16];
            last[..x.len() - whole].copy_from_slice(&x[whole..]);
            let e = exp::<S>(S::mul(S::sub(S::load(last.as_ptr()), shift), factor));
            S::store(last.as_mut_ptr(), e);
            for (y, e) in y[whole..x.len()].iter_mut().zip(last) {
                *y = e;
                total += f64::from(e);
            }
        }
        total
    }
}

/// How many steps a logit is below the largest.
#[inline(always)]
fn step(most: f32, logit: f32) -> i32 {
    ((most - logit) * STEPS).min((BUCKETS - 1) as f32) as i32
}

/// [`step`] of each of at most a [`BLOCK`] of logits.
struct Steps<'a> {
    logits: &'a [f32],
    most: f32,
    steps: &'a mut [u16; BLOCK],
}

impl Kernel for Steps<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (to, &logit) in self.steps.iter_mut().zip(self.logits) {
            *to = step(self.most, logit) as u16;
        }
    }
}

/// The largest of each [`CHUNK`].
struct Maxima<'a> {
    logits: &'a [f32],
    maxima: &'a mut [f32],
}

impl Kernel for Maxima<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (logits, most) in self.logits.chunks(CHUNK).zip(self.maxima) {
            if logits.len() == CHUNK {
                let mut max = S::load(logits.as_ptr());
                for i in (S::LANES..CHUNK).step_by(S::LANES) {
                    max = S::max(max, S::load(logits.as_ptr().add(i)));
                }
                *most = S::max_lane(max);
            } else {
                for &logit in logits {
                    *most = most.max(logit);
                }
            }
        }
    }
}

//! A mixture of experts (Shazeer et al. 2017): the choice among them, and what they make of the
//! tokens.

use super::activation::{Activation, gated};
use super::pool::{DisjointSliceMut, parallel_for};
use super::quant::{self, Weights};
use super::scratch::Scratch;
use super::{ExecOptions, Route};
use crate::error::{Error, Result};

/// Elements that one task adds up, about.
const CHUNK: usize = 16 * 1024;

/// How a router's logits become weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// By the soft-max over all experts.
    Softmax,
    /// By the soft-max over those that are chosen.
    SoftmaxOfChosen,
    /// By the logistic function.
    Sigmoid,
}

/// How experts are chosen and weighted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopK {
    /// How many are chosen.
    pub active: usize,
    /// How logits become weights.
    pub scoring: Scoring,
    /// Whether the weights of those chosen are divided by their sum.
    pub normalize: bool,
    /// Multiplies the weights.
    pub scale: f32,
}

impl TopK {
    /// Chooses for each row of `logits`, `[tokens, experts]`, the experts with the largest weights,
    /// the largest first, where `correction`, `[experts]`, is added to the weights for the choice
    /// only; `chosen` and `weights` are `[tokens, active]`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the lengths do not fit.
    pub fn choose(
        &self,
        logits: &[f32],
        experts: usize,
        correction: Option<&[f32]>,
        chosen: &mut [u32],
        weights: &mut [f32],
    ) -> Result<()> {
        let active = self.active;
        let fits = (1..=experts).contains(&active)
            && logits.len().is_multiple_of(experts)
            && chosen.len() == logits.len() / experts * active
            && weights.len() == chosen.len()
            && correction.is_none_or(|correction| correction.len() == experts);
        if !fits {
            let message = format!(
                "{} logits of {experts} experts for {} choices of {active}",
                logits.len(),
                chosen.len()
            );
            return Err(Error::argument("logits", message));
        }
        let mut scores = Scratch::new(experts);
        let scores = scores.floats();
        let mut order: Vec<u32> = Vec::with_capacity(experts);
        let outputs = chosen.chunks_exact_mut(active).zip(weights.chunks_exact_mut(active));
        for (logits, (chosen, weights)) in logits.chunks_exact(experts).zip(outputs) {
            self.score(logits, scores);
            let key = |&expert: &u32| {
                let expert = expert as usize;
                scores[expert] + correction.map_or(0.0, |correction| correction[expert])
            };
            // Of equals the first one, so that the choice does not depend on anything else.
            let compare = |a: &u32, b: &u32| key(b).total_cmp(&key(a)).then(a.cmp(b));
            order.clear();
            order.extend(0..experts as u32);
            if active < experts {
                order.select_nth_unstable_by(active - 1, compare);
            }
            let best = &mut order[..active];
            best.sort_unstable_by(compare);
            chosen.copy_from_slice(best);
            for (weight, &expert) in weights.iter_mut().zip(&*chosen) {
                *weight = scores[expert as usize];
            }
            if self.scoring == Scoring::SoftmaxOfChosen {
                softmax(weights);
            }
            let mut factor = self.scale;
            if self.normalize {
                factor /= weights.iter().sum::<f32>();
            }
            weights.iter_mut().for_each(|weight| *weight *= factor);
        }
        Ok(())
    }

    /// What experts are compared by.
    fn score(&self, logits: &[f32], scores: &mut [f32]) {
        scores.copy_from_slice(logits);
        match self.scoring {
            Scoring::Softmax => softmax(scores),
            Scoring::SoftmaxOfChosen => {}
            Scoring::Sigmoid => {
                scores.iter_mut().for_each(|score| *score = 1.0 / (1.0 + (-*score).exp()));
            }
        }
    }
}

fn softmax(scores: &mut [f32]) {
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in &mut *scores {
        *score = (*score - most).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// MLPs down(activation(gate(x)) · up(x)), as many as the matrices have slabs.
#[derive(Clone, Copy, Debug)]
pub struct Experts<'a> {
    /// `[experts, hidden, dims]`.
    pub gate: Weights<'a>,
    /// `[experts, hidden, dims]`.
    pub up: Weights<'a>,
    /// `[experts, dims, hidden]`.
    pub down: Weights<'a>,
    /// What is done to the gate.
    pub activation: Activation,
}

impl Experts<'_> {
    /// The sum of the outputs of the experts that are `chosen` for a token, times their weights:
    /// `x` and `y` are `[tokens, dims]`, `chosen` and `weights` `[tokens, active]`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the lengths or formats do not fit.
    pub fn run(
        &self,
        x: &[f32],
        chosen: &[u32],
        weights: &[f32],
        y: &mut [f32],
        exec: ExecOptions,
    ) -> Result<()> {
        let Self { gate, up, down, activation } = self;
        let fail = |message: String| Err(Error::argument("experts", message));
        let hidden = gate.rows;
        if up.rows != hidden
            || down.cols != hidden
            || (gate.slabs, up.slabs) != (down.slabs, down.slabs)
        {
            return fail("gate, up and down do not fit together".to_owned());
        }
        let tokens = x.len().checked_div(gate.cols).unwrap_or(0);
        if tokens * down.rows != y.len() || chosen.len() != weights.len() {
            return fail(format!("{} elements for {} outputs", x.len(), y.len()));
        }
        if y.is_empty() {
            return Ok(());
        }
        if !chosen.len().is_multiple_of(tokens) {
            return fail(format!("{} choices for {tokens} tokens", chosen.len()));
        }
        let active = chosen.len() / tokens;
        let slab = |route: usize| chosen[route] as usize;
        let routes: Vec<_> =
            (0..chosen.len()).map(|i| Route { x: i / active.max(1), slab: slab(i) }).collect();
        let mut memory = Scratch::new(chosen.len() * (3 * hidden + down.rows));
        let (gates, rest) = memory.floats().split_at_mut(chosen.len() * hidden);
        let (ups, rest) = rest.split_at_mut(gates.len());
        let (inner, outer) = rest.split_at_mut(gates.len());
        if gate.kind() == up.kind() {
            quant::gather_matmul_each(&[*gate, *up], x, &routes, &mut [gates, ups], exec)?;
        } else {
            quant::gather_matmul(gate, x, &routes, gates, exec)?;
            quant::gather_matmul(up, x, &routes, ups, exec)?;
        }
        gated(*activation, gates, ups, inner, exec.isa)?;
        let routes: Vec<_> = (0..chosen.len()).map(|i| Route { x: i, slab: slab(i) }).collect();
        quant::gather_matmul(down, inner, &routes, outer, exec)?;
        add_up(outer, weights, active, down.rows, y);
        Ok(())
    }
}

/// `y[token] = Σᵢ weights[token][i] · outputs[token][i]`.
fn add_up(outputs: &[f32], weights: &[f32], active: usize, dims: usize, y: &mut [f32]) {
    let tokens = y.len() / dims;
    let y = DisjointSliceMut::new(y);
    let each = (CHUNK / (dims * active.max(1))).max(1);
    parallel_for(tokens.div_ceil(each), |chunk| {
        for token in chunk * each..((chunk + 1) * each).min(tokens) {
            // SAFETY: every token is in one chunk.
            let y = unsafe { y.slice(token * dims, dims) };
            y.fill(0.0);
            for i in token * active..(token + 1) * active {
                let output = &outputs[i * dims..(i + 1) * dims];
                for (y, output) in y.iter_mut().zip(output) {
                    *y += weights[i] * output;
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::quant::{Format, Scales};
    use super::super::testing::{Random, assert_close, execs};
    use super::super::{Floats, Precision};
    use super::*;

    fn choice(scoring: Scoring, normalize: bool) -> TopK {
        TopK { active: 2, scoring, normalize, scale: 1.0 }
    }

    fn chosen(choice: TopK, logits: &[f32], correction: Option<&[f32]>) -> (Vec<u32>, Vec<f64>) {
        let experts = logits.len();
        let (mut chosen, mut weights) = (vec![0; choice.active], vec![0.0; choice.active]);
        choice.choose(logits, experts, correction, &mut chosen, &mut weights).unwrap();
        (chosen, weights.into_iter().map(f64::from).collect())
    }

    #[test]
    fn the_largest_are_chosen_and_weighted() {
        let logits = [0.5, 2.0, -1.0, 2.5];
        let all: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
        let soft = [2.5_f64.exp() / all, 2.0_f64.exp() / all];
        let sum = soft[0] + soft[1];
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        for (scoring, normalize, expected) in [
            (Scoring::Softmax, false, soft),
            (Scoring::Softmax, true, [soft[0] / sum, soft[1] / sum]),
            (Scoring::SoftmaxOfChosen, false, [soft[0] / sum, soft[1] / sum]),
            (Scoring::Sigmoid, false, [sigmoid(2.5), sigmoid(2.0)]),
        ] {
            let (experts, weights) = chosen(choice(scoring, normalize), &logits, None);
            assert_eq!(experts, [3, 1]);
            assert!(weights.iter().zip(expected).all(|(w, e)| (w - e).abs() < 1e-6), "{scoring:?}");
        }
    }

    #[test]
    fn a_correction_changes_the_choice_only() {
        let scale = TopK { scale: 2.0, ..choice(Scoring::Sigmoid, true) };
        let (experts, weights) = chosen(scale, &[0.0, 0.0, 0.0, 3.0], Some(&[0.1, 0.3, 0.2, -5.0]));
        assert_eq!((experts, weights), (vec![1, 2], vec![1.0, 1.0]));
    }

    #[test]
    fn equals_and_numbers_that_are_none_are_chosen_in_order() {
        assert_eq!(chosen(choice(Scoring::Softmax, true), &[1.0; 4], None).0, [0, 1]);
        let all = TopK { active: 3, ..choice(Scoring::Softmax, false) };
        let (experts, weights) = chosen(all, &[1.0, f32::NAN, 2.0], None);
        assert_eq!(experts.len(), 3);
        assert!(weights.iter().all(|weight| weight.is_nan()));
    }

    #[test]
    fn outputs_are_added_up_by_weight() {
        let mut random = Random::new(47);
        let (experts, dims, hidden, active) = (5, 64, 32, 3);
        let mut matrix = |rows: usize, cols: usize| {
            let packed = random.bytes(experts * rows * cols / 2);
            let groups = experts * rows * cols / 32;
            let small = |x: f32| bf16::from_f32(x / 50.0);
            let scales: Vec<_> = random.normals(groups).into_iter().map(small).collect();
            let biases: Vec<_> = random.normals(groups).into_iter().map(small).collect();
            (packed, scales, biases, rows, cols)
        };
        let stored = [matrix(hidden, dims), matrix(hidden, dims), matrix(dims, hidden)];
        let [gate, up, down] = stored.each_ref().map(|(packed, scales, biases, rows, cols)| {
            let format = Format::Affine { bits: 4, group: 32 };
            let (scales, biases) = (Floats::Bf16(scales), Some(Floats::Bf16(biases)));
            let (slabs, rows, cols) = (experts, *rows, *cols);
            Weights { format, packed, scales: Scales::Floats(scales), biases, slabs, rows, cols }
        });
        let all = Experts { gate, up, down, activation: Activation::Silu };
        for tokens in [1, 3, 30] {
            let x = random.normals(tokens * dims);
            let chosen: Vec<_> =
                (0..tokens * active).map(|_| random.below(experts) as u32).collect();
            let weights = random.normals(tokens * active);
            let exact =
                ExecOptions { isa: super::super::Isa::Portable, precision: Precision::Exact };
            // Expert by expert.
            let mut expected = vec![0.0_f64; tokens * dims];
            for (i, (&slab, &weight)) in chosen.iter().zip(&weights).enumerate() {
                let x = &x[i / active * dims..][..dims];
                let product = |w: &Weights, x: &[f32]| {
                    let mut y = vec![0.0; w.rows];
                    let route = Route { x: 0, slab: slab as usize };
                    quant::gather_matmul(w, x, &[route], &mut y, exact).unwrap();
                    y
                };
                let silu = |x: f32| x / (1.0 + (-x).exp());
                let inner: Vec<_> = product(&gate, x)
                    .iter()
                    .zip(product(&up, x))
                    .map(|(gate, up)| silu(*gate) * up)
                    .collect();
                for (k, y) in product(&down, &inner).into_iter().enumerate() {
                    expected[i / active * dims + k] += f64::from(weight) * f64::from(y);
                }
            }
            let size = expected.iter().fold(1.0, |most: f64, y| most.max(y.abs()));
            for exec in execs() {
                let mut y = vec![f32::NAN; tokens * dims];
                all.run(&x, &chosen, &weights, &mut y, exec).unwrap();
                let bound = if exec.precision == Precision::Fastest { 2e-2 } else { 1e-3 };
                assert_close(&y, &expected, size, bound, &(tokens, exec));
            }
        }
        let bad = |all: Experts, chosen: &[u32], y: usize| {
            let (x, mut y) = (vec![0.0; dims], vec![0.0; y]);
            let weights = vec![0.0; chosen.len()];
            let outcome = all.run(&x, chosen, &weights, &mut y, ExecOptions::default());
            assert!(outcome.is_err());
        };
        bad(all, &[0, 5], dims);
        bad(all, &[0, 1], dims - 1);
        bad(Experts { gate: down, ..all }, &[0], dims);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let choose = |active, experts, logits: usize, chosen: usize, correction: usize| {
            let choice = TopK { active, ..choice(Scoring::Softmax, true) };
            let (mut chosen, mut weights) = (vec![0; chosen], vec![0.0; chosen]);
            let (logits, correction) = (vec![0.0; logits], vec![0.0; correction]);
            choice.choose(&logits, experts, Some(&correction), &mut chosen, &mut weights)
        };
        choose(2, 4, 8, 4, 4).unwrap();
        for (active, experts, logits, chosen, correction) in
            [(0, 4, 8, 0, 4), (5, 4, 8, 10, 4), (2, 4, 7, 4, 4), (2, 4, 8, 3, 4), (2, 4, 8, 4, 3)]
        {
            let outcome = choose(active, experts, logits, chosen, correction);
            assert!(outcome.is_err());
        }
    }
}

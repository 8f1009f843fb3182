use super::super::simd::Isa;
use super::super::testing::Random;
use super::*;

/// Sorted by probability, the definitions word by word, in f64.
fn reference(logits: &[f32], options: &SamplingOptions, xtc: bool) -> Vec<u32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|&l| f64::from(l - most).exp()).sum();
    let probability = |token: u32| f64::from(logits[token as usize] - most).exp() / total;
    let mut kept: Vec<u32> = (0..logits.len() as u32).collect();
    kept.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    if options.top_n_sigma > 0.0 {
        let values = || logits.iter().map(|&l| f64::from(l));
        let mean = values().sum::<f64>() / logits.len() as f64;
        let variance = values().map(|l| (l - mean).powi(2)).sum::<f64>() / logits.len() as f64;
        let least = f64::from(most) - f64::from(options.top_n_sigma) * variance.sqrt();
        kept.retain(|&token| f64::from(logits[token as usize]) >= least);
    }
    if options.typical_p < 1.0 {
        let total: f64 = kept.iter().map(|&token| probability(token)).sum();
        let share = |token: u32| probability(token) / total;
        let entropy: f64 = kept.iter().map(|&token| -share(token) * share(token).ln()).sum();
        let distance = |token: u32| (-share(token).ln() - entropy).abs();
        let mut near = kept.clone();
        near.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)));
        let mut sum = 0.0;
        let last = near.iter().position(|&token| {
            sum += share(token);
            sum >= f64::from(options.typical_p)
        });
        near.truncate(last.map_or(near.len(), |last| last + 1));
        kept.retain(|token| near.contains(token));
    }
    // What follows sees only what is left.
    let total: f64 = kept.iter().map(|&token| f64::from(logits[token as usize] - most).exp()).sum();
    let first = most;
    let probability = |token: u32| f64::from(logits[token as usize] - first).exp() / total;
    let most = kept.iter().map(|&token| logits[token as usize]).fold(f32::NEG_INFINITY, f32::max);
    if options.top_p > 0.0 && options.top_p < 1.0 {
        let mut above = 0.0;
        let end = kept.iter().position(|&token| {
            let enough = above >= f64::from(options.top_p);
            above += probability(token);
            enough
        });
        let least = logits[kept[end.unwrap_or(kept.len()) - 1] as usize];
        kept.retain(|&token| logits[token as usize] >= least);
    }
    if options.min_p > 0.0 {
        let least = most + options.min_p.ln();
        let keep = options.min_tokens_to_keep as usize;
        let mut rank = 0;
        kept.retain(|&token| {
            rank += 1;
            logits[token as usize] >= least || rank <= keep
        });
    }
    if xtc {
        let mass: f64 = kept.iter().map(|&token| probability(token)).sum();
        let share = |token: u32| probability(token) / mass;
        let top = kept.iter().map(|&token| share(token));
        let least = top.filter(|&p| p > f64::from(options.xtc_threshold)).fold(2.0, f64::min);
        kept.retain(|&token| share(token) <= least || options.xtc_special_tokens.contains(&token));
    }
    if options.top_k > 0 {
        kept.truncate(options.top_k as usize);
    }
    kept.sort_unstable();
    kept
}

fn kept(logits: &[f32], options: &SamplingOptions, xtc: bool, isa: Isa) -> Vec<u32> {
    let kept = Logits::new(logits, isa).kept(options, xtc);
    let mut kept = kept.unwrap_or_else(|| (0..logits.len() as u32).collect());
    kept.sort_unstable();
    kept
}

/// Filters in every combination.
fn combinations() -> Vec<SamplingOptions> {
    let mut all = Vec::new();
    for top_p in [1.0, 0.95, 0.5, 0.001] {
        for (min_p, min_tokens_to_keep) in [(0.0, 1), (0.1, 1), (0.9, 7)] {
            for top_k in [0, 1, 5, 40, 5000] {
                for xtc_special_tokens in [vec![], vec![0, 3]] {
                    let xtc_threshold = 0.05;
                    all.push(SamplingOptions {
                        top_p,
                        min_p,
                        min_tokens_to_keep,
                        top_k,
                        xtc_threshold,
                        xtc_special_tokens,
                        ..SamplingOptions::default()
                    });
                }
            }
        }
    }
    all
}

#[test]
fn filters_keep_what_their_definitions_say() {
    let mut random = Random::new(90);
    for (len, spread) in [(1, 1.0), (15, 1.0), (64, 3.0), (1000, 0.1), (2083, 2.0), (3000, 12.0)] {
        let logits: Vec<_> = random.normals(len).iter().map(|x| x * spread).collect();
        for options in combinations() {
            for xtc in [false, true] {
                let expected = reference(&logits, &options, xtc);
                for isa in Isa::available() {
                    let kept = kept(&logits, &options, xtc, isa);
                    assert_eq!(kept, expected, "{len} logits, {options:?}, XTC {xtc}, {isa:?}");
                }
            }
        }
    }
}

#[test]
fn filters_by_the_whole_distribution_keep_what_their_definitions_say() {
    let mut random = Random::new(93);
    for (len, spread) in [(1, 1.0), (15, 1.0), (64, 3.0), (1000, 0.3), (2083, 2.0)] {
        let logits: Vec<_> = random.normals(len).iter().map(|x| x * spread).collect();
        for top_n_sigma in [0.0, 0.3, 1.0, 2.5] {
            for typical_p in [1.0, 0.95, 0.5, 0.01] {
                for (top_p, min_p, top_k) in [(1.0, 0.0, 0), (0.8, 0.0, 7), (0.9, 0.1, 0)] {
                    for xtc in [false, true] {
                        let options = SamplingOptions {
                            top_n_sigma,
                            typical_p,
                            top_p,
                            min_p,
                            top_k,
                            xtc_threshold: 0.05,
                            xtc_special_tokens: vec![0, 3],
                            ..SamplingOptions::default()
                        };
                        let expected = reference(&logits, &options, xtc);
                        for isa in Isa::available() {
                            let kept = kept(&logits, &options, xtc, isa);
                            assert_eq!(kept, expected, "{len} logits, {options:?}, {xtc}, {isa:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn logits_of_minus_infinity_are_no_part_of_a_distribution() {
    let logits = [f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY, 3.0, 2.0];
    let all = SamplingOptions::default();
    for isa in Isa::available() {
        // σ of 1, 3 and 2 is 0.816.
        let top_n_sigma = SamplingOptions { top_n_sigma: 1.3, ..all.clone() };
        assert_eq!(kept(&logits, &top_n_sigma, false, isa), [3, 4]);
        let typical_p = SamplingOptions { typical_p: 0.5, ..all.clone() };
        assert_eq!(kept(&logits, &typical_p, false, isa), [3]);
    }
}

#[test]
fn the_temperature_follows_the_entropy() {
    let options = SamplingOptions {
        temperature: 1.0,
        dynamic_temperature_range: 0.5,
        dynamic_temperature_exponent: 2.0,
        ..SamplingOptions::default()
    };
    let close = |a: f32, b: f64| assert!((f64::from(a) - b).abs() < 1e-5, "{a}, expected {b}");
    close(dynamic_temperature(&[2.0; 10], &options), 1.5);
    close(dynamic_temperature(&[40.0, 0.0, 0.0], &options), 0.5);
    close(dynamic_temperature(&[3.0], &options), 1.0);
    let p = [0.5_f64, 0.25, 0.25];
    let logits = [0.5_f32.ln(), 0.25_f32.ln(), f32::NEG_INFINITY, 0.25_f32.ln()];
    let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
    close(dynamic_temperature(&logits, &options), 0.5 + (entropy / 3.0_f64.ln()).powi(2));
    let none = SamplingOptions { dynamic_temperature_range: 0.0, ..options };
    close(dynamic_temperature(&logits, &none), 1.0);
}

#[test]
fn equals_stay_together_in_a_nucleus_and_the_first_win_elsewhere() {
    let mut logits = [0.0; 300];
    logits[200] = 2.0;
    let top_p = SamplingOptions { top_p: 0.1, ..SamplingOptions::default() };
    let top_k = SamplingOptions { top_k: 3, ..SamplingOptions::default() };
    for isa in Isa::available() {
        assert_eq!(kept(&logits, &top_p, false, isa).len(), 300);
        assert_eq!(kept(&logits, &top_k, false, isa), [0, 1, 200]);
        let logits = Logits::new(&logits, isa);
        assert_eq!(logits.most_likely(), 200);
        assert_eq!(logits.best(2), [200, 0]);
        assert_eq!(Logits::new(&[1.0; 70], isa).most_likely(), 0);
    }
}

#[test]
fn draws_follow_the_distribution() {
    let mut random = Random::new(91);
    let logits = random.normals(2500);
    let temperature = 0.6;
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let subset: Vec<u32> = (0..2500).step_by(3).collect();
    for isa in Isa::available() {
        let looked = Logits::new(&logits, isa);
        for kept in [None, Some(&subset[..])] {
            let all: Vec<u32> = kept.map_or_else(|| (0..2500).collect(), <[u32]>::to_vec);
            let mass = |token: u32| {
                (f64::from(logits[token as usize] - most) / f64::from(temperature)).exp()
            };
            let total: f64 = all.iter().map(|&token| mass(token)).sum();
            let mut below = 0.0;
            for &token in &all {
                // Just inside both ends of its part of [0, 1).
                let share = mass(token) / total;
                for at in [below + 0.02 * share, below + 0.98 * share] {
                    let drawn = looked.draw(kept, temperature, at);
                    // Where a share is as small as the error of a sum of f32, a neighbour may be
                    // drawn.
                    assert!(
                        drawn == token || share < 1e-4 && drawn.abs_diff(token) <= 6,
                        "{drawn} instead of {token} with {share:e}, {isa:?}"
                    );
                }
                below += share;
            }
            assert_eq!(looked.draw(kept, temperature, 0.0), all[0]);
            assert!(all.contains(&looked.draw(kept, temperature, 1.0 - f64::EPSILON)));
        }
    }
}

#[test]
fn tokens_without_mass_are_never_drawn() {
    let mut logits = [f32::NEG_INFINITY; 2100];
    logits[1500] = -3.0;
    for isa in Isa::available() {
        let logits = Logits::new(&logits, isa);
        for uniform in [0.0, 0.5, 1.0 - f64::EPSILON] {
            assert_eq!(logits.draw(None, 1.0, uniform), 1500);
        }
    }
}

#[test]
fn a_sum_of_exponentials_is_exact_to_f32() {
    let mut random = Random::new(92);
    for len in [1, 17, 1024, 1025, 5000] {
        let logits: Vec<_> = random.normals(len).iter().map(|x| 5.0 * x + 100.0).collect();
        let sum: f64 = logits.iter().map(|&l| f64::from(l - 100.0).exp()).sum();
        for isa in Isa::available() {
            let found = f64::from(Logits::new(&logits, isa).log_sum_exp());
            assert!((found - 100.0 - sum.ln()).abs() < 2e-5, "{found}, {len}, {isa:?}");
        }
    }
}

#[test]
fn broken_logits_give_some_token() {
    let mut random = Random::new(93);
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for places in [vec![5], vec![0, 99], (0..100).collect()] {
            let mut logits = random.normals(100);
            for place in &places {
                logits[*place] = broken;
            }
            for options in combinations() {
                for isa in Isa::available() {
                    let logits = Logits::new(&logits, isa);
                    let kept = logits.kept(&options, true);
                    let token = logits.draw(kept.as_deref(), 0.7, 0.3);
                    assert!(token < 100);
                    if broken == f32::INFINITY && kept.is_none() {
                        assert_eq!(token, places[0] as u32);
                    }
                }
            }
        }
    }
}

#[test]
fn penalties_are_those_of_each_context() {
    let mut logits = [1.0, -1.0, 2.0, -2.0, 4.0];
    let penalties = Penalties {
        repetition: 2.0,
        repetition_context: 3,
        presence: 0.5,
        presence_context: 2,
        frequency: 0.25,
        frequency_context: 4,
        logit_bias: vec![(0, 3.0), (9, 1.0)],
    };
    // Repetition sees 3, 2, 3; presence 2, 3; frequency 0, 3, 2, 3.
    penalties.apply(&mut logits, &[1, 0, 3, 2, 3]);
    assert_eq!(logits, [3.75, -1.0, 0.25, -5.0, 4.0]);
    let mut same = [1.0, -1.0];
    Penalties::default().apply(&mut same, &[0, 1, 7]);
    assert_eq!(same, [1.0, -1.0]);
}

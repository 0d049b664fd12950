//! Whether promises are kept as often as they say, on laws of which the truth is known, and that the two usual mistakes are noticed.

use super::{binomial, rule};
use crate::bench::schedule::Random;

const TRIALS: u32 = 2000;

/// A number from 0 to 1, never 0.
fn uniform(random: &mut Random) -> f64 {
    (random.next_u64() >> 11).max(1) as f64 / (1_u64 << 53) as f64
}

/// The model law: `P(c > s and bad) = 0.357 (1 − s)^2.1`.
const BAD: f64 = 0.357;
const POWER: f64 = 2.1;

fn risk(eta: f64) -> f64 {
    BAD * (1.0 - eta).clamp(0.0, 1.0).powf(POWER)
}

/// The confidences of the bad ones among `n` independent frames.
fn bad_frames(random: &mut Random, n: u64) -> Vec<f32> {
    let is_bad = |random: &mut Random| uniform(random) < BAD;
    let mut bad = Vec::new();
    for _ in 0..n {
        if is_bad(random) {
            bad.push((1.0 - uniform(random).powf(1.0 / POWER)) as f32);
        }
    }
    bad
}

/// The share of trials in which the risk at the η that `find` picks lies above `epsilon`.
fn violations(mut find: impl FnMut(&mut Random) -> f32, epsilon: f64, seed: u64) -> f64 {
    let mut random = Random(seed);
    // f32 thresholds lie next to each other by less than this.
    let broken = (0..TRIALS).filter(|_| risk(f64::from(find(&mut random))) > epsilon * (1.0 + 1e-6)).count();
    broken as f64 / f64::from(TRIALS)
}

/// Three standard deviations of a share of [`TRIALS`].
fn slack(p: f64) -> f64 {
    3.0 * (p * (1.0 - p) / f64::from(TRIALS)).sqrt()
}

/// The plug-in rule: the smallest η at which the observed share is at most ε.
fn plug_in(bad: &mut [f32], n: u64, epsilon: f64) -> f32 {
    bad.sort_unstable_by(|a, b| b.total_cmp(a));
    bad.get((epsilon * n as f64) as usize).map_or(0.0, |s| s.next_up())
}

#[test]
fn promises_are_broken_as_often_as_delta_allows_and_not_much_less() {
    for (i, (n, epsilon, delta)) in
        [(300, 0.05, 0.05), (1000, 0.02, 0.05), (1000, 0.01, 0.1), (2000, 0.05, 0.2), (149, 0.02, 0.05)]
            .into_iter()
            .enumerate()
    {
        let found = violations(
            |random| rule::floor(&mut bad_frames(random, n), n, epsilon, delta).unwrap().eta,
            epsilon,
            100 + i as u64,
        );
        assert!(
            found <= delta + slack(delta),
            "n = {n}, ε = {epsilon}: broken in {found} of the trials, promised {delta}"
        );
        // The law is continuous, so the exact probability is known: a rule that refines too much would stay below.
        let exact = binomial::cdf(binomial::allowed(n, epsilon, delta).unwrap(), n, epsilon);
        assert!((found - exact).abs() <= slack(exact), "n = {n}, ε = {epsilon}: {found}, expected {exact}");
        assert!(exact >= delta / 4.0, "and delta is used");
        println!("n = {n}, ε = {epsilon}, δ = {delta}: broken in {found:.4} of {TRIALS}, exact {exact:.4}");
    }
}

/// Confidences in steps of 1/16, so that many are equal: the promise holds, and what is given away is no more than a step.
#[test]
fn ties_break_no_promise() {
    let step = |c: f64| (c * 16.0).floor() / 16.0;
    for (i, (n, epsilon, delta)) in [(300, 0.05, 0.05), (1000, 0.02, 0.05), (2000, 0.05, 0.2)].into_iter().enumerate() {
        let mut random = Random(200 + i as u64);
        let (mut broken, mut wasted) = (0, 0);
        for _ in 0..TRIALS {
            let mut bad = bad_frames(&mut random, n);
            bad.iter_mut().for_each(|c| *c = step(f64::from(*c)) as f32);
            let eta = f64::from(rule::floor(&mut bad, n, epsilon, delta).unwrap().eta);
            // A frame on a step stops iff the step is at or above η, so the risk is that of the next step, in the law without steps.
            let next = (eta * 16.0).ceil() / 16.0;
            broken += u32::from(risk(next) > epsilon * (1.0 + 1e-6));
            wasted += u32::from(next >= 1.0);
        }
        let found = f64::from(broken) / f64::from(TRIALS);
        assert!(found <= delta + slack(delta), "n = {n}, ε = {epsilon}: {found}");
        assert_eq!(wasted, 0, "n = {n}, ε = {epsilon}: every frame refined");
    }
}

/// The mirror image: the share of fine, for confidences that are even from 0 to 1, so that η is the true share.
#[test]
fn budgets_are_broken_as_often_as_delta_allows_and_not_much_less() {
    for (i, (n, share, delta)) in [(100, 0.3, 0.05), (1000, 0.3, 0.05), (300, 0.1, 0.04)].into_iter().enumerate() {
        let mut random = Random(300 + i as u64);
        let mut is_broken = |_: &u32| {
            let mut confidences: Vec<f32> = (0..n).map(|_| uniform(&mut random) as f32).collect();
            f64::from(rule::ceiling(&mut confidences, share, delta).unwrap().eta) > share * (1.0 + 1e-6)
        };
        let found = (0..TRIALS).filter(&mut is_broken).count() as f64 / f64::from(TRIALS);
        let exact = binomial::cdf(binomial::allowed(n, share, delta).unwrap(), n, share);
        assert!(found <= delta + slack(delta), "n = {n}, share {share}: broken in {found}, promised {delta}");
        assert!((found - exact).abs() <= slack(exact), "n = {n}, share {share}: {found}, expected {exact}");
        assert!(exact >= delta / 4.0, "and delta is used");
        println!("n = {n}, share {share}, δ = {delta}: broken in {found:.4} of {TRIALS}, exact {exact:.4}");
    }
}

#[test]
fn the_plug_in_rule_fails_the_same_test() {
    let (n, epsilon, delta) = (1000, 0.02, 0.05);
    let found = violations(|random| plug_in(&mut bad_frames(random, n), n, epsilon), epsilon, 1);
    assert!(found > delta + slack(delta) && found > 0.3, "{found}: the plug-in rule should break its promise");
}

/// A stream whose frames resemble the ones before: the hidden state is AR(1) with correlation time `tau`, so its law at any one time is the
/// model law and only the independence is gone.
fn stream(random: &mut Random, frames: usize, tau: f64) -> Vec<Option<f32>> {
    let keep = (-1.0 / tau).exp();
    let normal =
        |random: &mut Random| (-2.0 * uniform(random).ln()).sqrt() * (std::f64::consts::TAU * uniform(random)).cos();
    let mut state = normal(random);
    (0..frames)
        .map(|_| {
            state = keep * state + (1.0 - keep * keep).sqrt() * normal(random);
            // The state decides the risk: u is uniform, and small u are bad frames with a confidence that falls with u.
            let u = normal_cdf(state);
            (u < BAD).then(|| (1.0 - (u / BAD).powf(1.0 / POWER)) as f32)
        })
        .collect()
}

/// Abramowitz and Stegun 26.2.17, to 1e-7.
fn normal_cdf(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let poly =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * poly;
    if x > 0.0 { 1.0 - tail } else { tail }
}

#[test]
fn counting_every_frame_of_a_video_fails_and_thinning_it_does_not() {
    let (epsilon, delta, tau) = (0.02, 0.05, 30.0);
    let broken = |every: usize, frames: usize| {
        let find = |random: &mut Random| {
            let seen: Vec<_> = stream(random, frames, tau).into_iter().step_by(every).collect();
            let mut bad: Vec<f32> = seen.iter().copied().flatten().collect();
            rule::floor(&mut bad, seen.len() as u64, epsilon, delta).unwrap().eta
        };
        violations(find, epsilon, 5)
    };
    let (all, thinned) = (broken(1, 9000), broken(90, 90 * 300));
    assert!(all > delta + slack(delta), "{all}: all frames of a stream should break the promise");
    assert!(thinned <= delta + slack(delta), "one frame in 3 τ: {thinned}");
}

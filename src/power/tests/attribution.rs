//! The regression, on windows whose truth is known.

use super::*;

/// A small generator of uniform numbers in -1..1 (64-bit linear congruential, Knuth's constants).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

const IDLE_MW: f64 = 2400.0;
const COARSE_MJ: f64 = 40.0;
const FINE_MJ: f64 = 95.0;

/// Feeds `seconds` windows of one second, with so many decisions each, and uniform noise of up to `noise_mw` on the power.
fn feed(attribution: &mut Attribution, seconds: u32, noise_mw: f64, decisions: impl FnMut(&mut Noise) -> Decisions) {
    feed_seeded(attribution, seconds, noise_mw, decisions, 7);
}

fn feed_seeded(
    attribution: &mut Attribution,
    seconds: u32,
    noise_mw: f64,
    mut decisions: impl FnMut(&mut Noise) -> Decisions,
    seed: u64,
) {
    let mut noise = Noise(seed);
    for _ in 0..seconds {
        let made = decisions(&mut noise);
        let frames_mj = made.coarse as f64 * COARSE_MJ + made.fine as f64 * FINE_MJ + made.full as f64 * 130.0;
        let energy_mj = IDLE_MW + frames_mj + noise_mw * noise.next();
        attribution.push(Duration::from_secs(1), Some(Energy { mean_mw: energy_mj, energy_mj }), made);
    }
}

fn mixed(noise: &mut Noise) -> Decisions {
    let fine = (10.0 + 9.0 * noise.next()) as u64;
    Decisions { coarse: 25 - fine, fine, full: 0 }
}

fn idle(standard_error_mw: f64) -> Option<Idle> {
    Some(Idle { mean_mw: IDLE_MW, standard_error_mw, seconds: 10.0 })
}

fn covers(estimate: Option<Estimate>, truth: f64) -> bool {
    estimate.is_some_and(|e| e.resolved() && (e.value - truth).abs() <= e.half_width)
}

#[test]
fn kinds_are_told_apart_where_their_mix_changes() {
    let mut attribution = Attribution::new(idle(5.0));
    feed(&mut attribution, 55, 100.0, mixed);
    assert_eq!(attribution.estimate(), None, "eleven windows of 5 s are too few for two unknowns");
    feed(&mut attribution, 300, 100.0, mixed);
    let found = attribution.estimate().unwrap();
    assert!(covers(found.coarse_mj, COARSE_MJ) && covers(found.fine_mj, FINE_MJ), "{found:?}");
    assert_eq!((found.idle_mw, found.static_mj, found.windows), (None, None, 71));
    let text = found.to_string();
    assert!(
        text.starts_with("coarse exit ") && text.contains(" ± ") && text.ends_with("(net of idling, 71 windows)"),
        "{text}"
    );
}

#[test]
fn without_a_baseline_a_steady_rate_resolves_nothing_and_a_changing_one_does() {
    let mut attribution = Attribution::new(None);
    feed(&mut attribution, 300, 100.0, mixed);
    let found = attribution.estimate().unwrap();
    assert!(!covers(found.coarse_mj, COARSE_MJ), "25 frames a second are a multiple of the time: {found:?}");
    assert!(found.to_string().contains("not resolved"));

    let mut attribution = Attribution::new(None);
    let rate = |noise: &mut Noise| {
        let all = (16.0 + 14.0 * noise.next()) as u64;
        let fine = ((0.5 + 0.45 * noise.next()) * all as f64) as u64;
        Decisions { coarse: all - fine, fine, full: 0 }
    };
    feed(&mut attribution, 600, 50.0, rate);
    let found = attribution.estimate().unwrap();
    assert!(
        covers(found.idle_mw, IDLE_MW) && covers(found.coarse_mj, COARSE_MJ) && covers(found.fine_mj, FINE_MJ),
        "{found:?}"
    );
}

#[test]
fn one_kind_alone_and_a_third_one() {
    let mut attribution = Attribution::new(idle(5.0));
    feed(&mut attribution, 100, 100.0, |_| Decisions { coarse: 20, ..Decisions::default() });
    let found = attribution.estimate().unwrap();
    assert!(covers(found.coarse_mj, COARSE_MJ) && found.fine_mj.is_none(), "{found:?}");

    let mut attribution = Attribution::new(idle(5.0));
    feed(&mut attribution, 600, 50.0, three_kinds);
    assert!(attribution.estimate().unwrap().static_mj.unwrap().resolved());
}

fn three_kinds(noise: &mut Noise) -> Decisions {
    Decisions { full: (5.0 + 5.0 * noise.next()) as u64, ..mixed(noise) }
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_claim() {
    let mut covered = [0; 3];
    for seed in 0..200 {
        let mut attribution = Attribution::new(idle(0.1));
        feed_seeded(&mut attribution, 300, 200.0, three_kinds, seed);
        let found = attribution.estimate().unwrap();
        let kinds = [(found.coarse_mj, COARSE_MJ), (found.fine_mj, FINE_MJ), (found.static_mj, 130.0)];
        for (count, (estimate, truth)) in covered.iter_mut().zip(kinds) {
            *count += u32::from(covers(estimate, truth));
        }
    }
    // 190 of 200 with a standard deviation of 3, and a little more because chance likeness of neighbours widens them too.
    assert!(covered.iter().all(|count| (178..200).contains(count)), "{covered:?}");
}

#[test]
fn a_constant_mix_and_noise_are_not_resolved() {
    let mut attribution = Attribution::new(idle(5.0));
    feed(&mut attribution, 300, 10.0, |_| Decisions { coarse: 15, fine: 10, full: 0 });
    let found = attribution.estimate().unwrap();
    assert!(found.coarse_mj.is_none() && found.fine_mj.is_none(), "{found:?}");

    let mut attribution = Attribution::new(idle(5.0));
    feed(&mut attribution, 100, 40_000.0, mixed);
    let found = attribution.estimate().unwrap();
    assert!(!found.coarse_mj.unwrap().resolved(), "{found:?}");
}

#[test]
fn an_uncertain_baseline_makes_uncertain_figures() {
    let width = |standard_error_mw| {
        let mut attribution = Attribution::new(idle(standard_error_mw));
        feed(&mut attribution, 300, 100.0, mixed);
        attribution.estimate().unwrap().coarse_mj.unwrap().half_width
    };
    assert!(width(200.0) > 2.0 * width(1.0));
}

#[test]
fn drift_widens_the_interval() {
    let width = |drift: bool| {
        let mut attribution = Attribution::new(idle(1.0));
        let mut noise = Noise(3);
        for second in 0..600 {
            let made = mixed(&mut noise);
            let slow = if drift { (f64::from(second) / 60.0).sin() } else { 1.2 * noise.next() };
            let energy_mj = IDLE_MW + made.coarse as f64 * COARSE_MJ + made.fine as f64 * FINE_MJ + 200.0 * slow;
            attribution.push(Duration::from_secs(1), Some(Energy { mean_mw: energy_mj, energy_mj }), made);
        }
        attribution.estimate().unwrap().fine_mj.unwrap().half_width
    };
    assert!(width(true) > 2.0 * width(false));
}

#[test]
fn unmeasured_windows_are_left_out_and_old_ones_forgotten() {
    let mut attribution = Attribution::new(idle(5.0));
    for i in 0..3000 {
        let energy = (i % 3 != 0).then_some(Energy { mean_mw: 1.0, energy_mj: 1.0 });
        attribution.push(Duration::from_secs(1), energy, Decisions { coarse: 1, ..Decisions::default() });
    }
    assert_eq!(attribution.estimate(), None, "no 5 s in a row were measured");
    feed(&mut attribution, 4000, 100.0, mixed);
    assert_eq!(attribution.estimate().unwrap().windows, 360);
}

proptest! {
    #[test]
    fn no_windows_make_it_fail(rows in prop::collection::vec((0u64..20_000, any::<f64>(), any::<[u64; 3]>(), any::<bool>()), 0..80), known in any::<bool>()) {
        let mut attribution = Attribution::new(if known { idle(5.0) } else { None });
        for (ms, mj, [coarse, fine, full], measured) in rows {
            let energy = measured.then_some(Energy { mean_mw: mj, energy_mj: mj });
            attribution.push(Duration::from_millis(ms), energy, Decisions { coarse, fine, full });
        }
        if let Some(found) = attribution.estimate() {
            let _ = found.to_string();
        }
    }
}

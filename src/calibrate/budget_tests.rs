use super::*;
use crate::bench::schedule::Random;

/// A camera with a budget: 30 frames/s on a simulated clock, confidences `1 − U^power`, noisy costs.
struct Camera {
    controller: Controller,
    random: Random,
    now: Instant,
    power: f64,
    coarse: f64,
    fine: f64,
    lowest: f32,
    events: Vec<Event>,
}

impl Camera {
    fn new(budget: f64, floor: f32) -> Self {
        Self {
            controller: Controller::new(budget, floor, 0.5, WINDOW),
            random: Random(17),
            now: Instant::now(),
            power: 3.0,
            coarse: 4.0,
            fine: 20.0,
            lowest: f32::INFINITY,
            events: Vec::new(),
        }
    }

    fn uniform(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One window: the mean cost of its frames and the share that was refined.
    fn window(&mut self) -> (f64, f64) {
        let frames = 150;
        let (mut cost, mut refined) = (0.0, 0);
        for _ in 0..frames {
            let eta = self.controller.threshold();
            self.lowest = self.lowest.min(eta);
            let confidence = (1.0 - self.uniform().powf(self.power)) as f32;
            let coarse = self.coarse * (0.95 + 0.1 * self.uniform());
            let fine = (confidence < eta).then(|| self.fine * (0.95 + 0.1 * self.uniform()));
            cost += coarse + fine.unwrap_or(0.0);
            refined += u32::from(fine.is_some());
            self.controller.note(confidence, coarse, fine);
            self.now += Duration::from_micros(33_334);
            self.events.extend(self.controller.step(self.now));
        }
        (cost / f64::from(frames), f64::from(refined) / f64::from(frames))
    }

    /// The mean over windows.
    fn mean(&mut self, windows: u32) -> f64 {
        (0..windows).map(|_| self.window().0).sum::<f64>() / f64::from(windows)
    }
}

#[test]
fn the_mean_is_the_budget_after_three_windows() {
    for budget in [7.0, 10.0, 14.0, 20.0] {
        let mut camera = Camera::new(budget, 0.0);
        camera.mean(3);
        let mean = camera.mean(20);
        assert!((mean / budget - 1.0).abs() < 0.05, "{mean} for {budget}");
        assert_eq!(camera.events, []);
    }
}

#[test]
fn a_doubled_fine_cost_is_made_up_for() {
    let mut camera = Camera::new(12.0, 0.0);
    camera.mean(20);
    camera.fine *= 2.0;
    // 40 % of fine become 20 %: four windows at 5 points each, and some to settle.
    camera.mean(8);
    let mean = camera.mean(20);
    assert!((mean / 12.0 - 1.0).abs() < 0.05, "{mean}");
}

#[test]
fn what_was_missed_before_another_power_mode_does_not_count_after_it() {
    let mut camera = Camera::new(12.0, 0.0);
    camera.mean(10);
    camera.controller.integral = 0.4;
    camera.controller.forget();
    assert_eq!((camera.controller.integral, camera.controller.window.frames), (0.0, 0));
    camera.fine *= 1.5;
    camera.mean(8);
    let mean = camera.mean(20);
    assert!((mean / 12.0 - 1.0).abs() < 0.05, "{mean}");
}

#[test]
fn another_scene_is_made_up_for() {
    let mut camera = Camera::new(12.0, 0.0);
    camera.mean(40);
    // Confidences fall: at the old threshold far more frames would be refined.
    camera.power = 0.7;
    camera.mean(24);
    let mean = camera.mean(30);
    assert!((mean / 12.0 - 1.0).abs() < 0.05, "{mean}");
}

#[test]
fn the_certified_floor_is_never_broken_and_a_budget_below_it_is_an_event() {
    // 1 − U³ < 0.9 iff U > 0.464: 54 % must be refined, 14.7 ms.
    let mut camera = Camera::new(10.0, 0.9);
    let mean = camera.mean(10);
    assert!(camera.lowest >= 0.9, "{}", camera.lowest);
    assert!((mean - 14.7).abs() < 0.7, "{mean}");
    assert!(matches!(camera.events[..], [Event::Infeasible { budget: 10.0, .. }]), "{:?}", camera.events);
    // Released: the stages get faster. The share rises without going over the budget on its way.
    camera.fine = 8.0;
    let means: Vec<f64> = (0..40).map(|_| camera.window().0).collect();
    let settled = means[20..].iter().sum::<f64>() / 20.0;
    assert!((settled / 10.0 - 1.0).abs() < 0.05, "{settled}");
    assert!(means.iter().all(|&mean| mean < 10.0 * 1.08), "{means:?}");
    assert!(camera.lowest >= 0.9);
    assert_eq!(camera.events.last(), Some(&Event::Feasible));
}

#[test]
fn more_budget_than_needed_refines_everything_and_less_than_coarse_refines_nothing() {
    let mut rich = Camera::new(100.0, 0.0);
    rich.mean(3);
    assert_eq!(rich.window().1, 1.0);
    let mut poor = Camera::new(1.0, 0.0);
    poor.mean(8);
    assert_eq!(poor.window().1, 0.0);
    assert!(matches!(poor.events[..], [Event::Infeasible { .. }]), "{:?}", poor.events);
    // From full use back into the range: no long overshoot from what was integrated meanwhile.
    rich.controller.budget = 12.0;
    let means: Vec<f64> = (0..30).map(|_| rich.window().0).collect();
    let settled = means[20..].iter().sum::<f64>() / 10.0;
    assert!((settled / 12.0 - 1.0).abs() < 0.05, "{means:?}");
}

#[test]
fn quantiles_resolve_what_lies_next_to_one_and_shares_are_their_inverse() {
    let mut seen = Histogram::new();
    let confidence = |i: u32| (1.0 - (-f64::from(i) / 100.0).exp()) as f32;
    (0..1000).for_each(|i| seen.add(confidence(i)));
    for u in [0.1, 0.5, 0.9, 0.99] {
        let eta = seen.quantile(u);
        assert!((seen.share_below(eta) - u).abs() < 1e-3, "{u}: {eta}");
        let below = (0..1000).filter(|&i| confidence(i) < eta).count();
        assert!((below as f64 / 1000.0 - u).abs() < 5e-3, "{u}: {eta} has {below} below");
    }
    assert_eq!((seen.quantile(1.0), seen.share_below(2.0)), (ALWAYS_REFINE, 1.0));
    for odd in [f32::NAN, f32::INFINITY, -1.0, 1.0, 2.0] {
        seen.add(odd);
    }
    assert!(seen.quantile(0.5).is_finite());
    assert_eq!(Histogram::new().quantile(0.5), ALWAYS_REFINE);
}

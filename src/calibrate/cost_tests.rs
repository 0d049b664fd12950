use std::sync::Arc;

use super::*;
use crate::calibrate::{Budget, Observation, Prefer, Request, solve};
use crate::clock::{Simulated, Stop};
use crate::machine::fixture::Tree;
use crate::power::{self, Meter, Rail, Reading};

#[test]
fn student_s_quantiles_are_the_published_ones() {
    for (tail, degrees, expected) in
        [(0.025, 1, 12.706), (0.05, 4, 2.132), (0.005, 29, 2.756), (0.005, 59, 2.662), (0.025, 1000, 1.962)]
    {
        assert!((student(tail, degrees) - expected).abs() < 6e-4, "{tail} {degrees}: {}", student(tail, degrees));
    }
}

/// Frames of known mean cost with a little noise, on a simulated clock.
fn simulated(coarse_us: u64, fine_us: u64, seed: u64) -> Blocks {
    let (clock, mut random) = (Simulated::new(), Random(seed));
    let plan = Plan { pairs: 30, block: Duration::from_millis(50), seed };
    let mut frame = |_, refine: bool| {
        let noise = random.below(401) as u64;
        clock.advance(Duration::from_micros(coarse_us - 200 + noise + if refine { fine_us } else { 0 }));
        Ok(())
    };
    measure(&plan, &clock, &mut Time::default(), &mut frame).unwrap().unwrap()
}

#[test]
fn bounds_cover_the_known_means_as_often_as_they_say() {
    let trials = 400;
    let mut missed = [0; 2];
    for seed in 0..trials {
        let blocks = simulated(4000, 9000, seed);
        assert_eq!((blocks.coarse.len(), blocks.both.len()), (30, 30));
        let (means, uppers) = (blocks.means(), blocks.uppers(0.05));
        for (i, truth) in [4.0, 9.0].into_iter().enumerate() {
            assert!((means[i] - truth).abs() < 0.1 && uppers[i] >= means[i], "{means:?}");
            missed[i] += u32::from(uppers[i] < truth);
        }
    }
    // 5 % of 400 are 20, with a standard deviation of 4.4.
    assert!(missed.iter().all(|&missed| (4..=34).contains(&missed)), "{missed:?}");
    assert_eq!(Blocks::default().uppers(0.05), [f64::INFINITY; 2]);
}

#[test]
fn a_block_that_was_not_measured_makes_no_cost() {
    struct Blind;
    impl Account for Blind {
        fn open(&mut self, _: Instant) {}
        fn close(&mut self, _: Instant) -> Option<f64> {
            None
        }
    }
    let clock = Simulated::new();
    let plan = Plan { pairs: 2, block: Duration::from_millis(1), seed: 1 };
    let mut frame = |_, _| {
        clock.advance(Duration::from_millis(1));
        Ok(())
    };
    assert_eq!(measure(&plan, &clock, &mut Blind, &mut frame).unwrap(), None);
}

/// A made-up Orin Nano, whose input draws what [`Bench::draw`] says.
struct Bench {
    tree: Tree,
    meter: Box<dyn Meter>,
    monitor: Monitor,
    clock: Arc<Simulated>,
}

/// A meter that is read until the simulated clock has come to `end`.
struct Until<'a> {
    meter: &'a mut dyn Meter,
    clock: &'a Simulated,
    end: Instant,
    stop: &'a Stop,
}

impl Meter for Until<'_> {
    fn read(&mut self) -> Result<Reading> {
        if self.clock.now() >= self.end {
            self.stop.request();
        }
        self.meter.read()
    }

    fn rails(&self) -> &[Rail] {
        self.meter.rails()
    }

    fn describe(&self) -> String {
        self.meter.describe()
    }
}

impl Bench {
    fn new() -> Self {
        let (tree, clock) = (Tree::board("orin-nano"), Arc::new(Simulated::new()));
        let meter = power::open(&tree.sys()).unwrap();
        Self { tree, meter, monitor: Monitor::new(clock.now()), clock }
    }

    /// The board draws so many watts for a time, which is a multiple of the meter's period; its meter is read meanwhile.
    fn draw(&mut self, watts: f64, time: Duration) {
        let chip = "sys/bus/i2c/devices/1-0040/hwmon/hwmon1";
        let mv: f64 = self.tree.get(&format!("{chip}/in1_input")).parse().unwrap();
        self.tree.line(&format!("{chip}/curr1_input"), (1e6 * watts / mv).round() as i64);
        let (stop, end) = (Stop::new(), self.clock.now() + time);
        let mut until = Until { meter: self.meter.as_mut(), clock: &self.clock, end, stop: &stop };
        self.monitor.sample(&mut until, self.clock.as_ref(), &stop);
    }
}

/// The coarse stage takes 100 ms at about 4 W, the fine one 200 ms at about 9 W: 400 and 1800 mJ.
#[test]
fn energies_are_measured_on_a_board_and_a_budget_in_millijoules_follows_from_them() {
    let (mut bench, mut random) = (Bench::new(), Random(3));
    let (clock, mut energy) = (Arc::clone(&bench.clock), Energy(bench.monitor.clone()));
    let mut frame = |_, refine: bool| {
        let mut watts = |mean: f64| mean * (0.95 + 0.1 * random.below(1001) as f64 / 1000.0);
        bench.draw(watts(4.0), Duration::from_millis(100));
        if refine {
            bench.draw(watts(9.0), Duration::from_millis(200));
        }
        Ok(())
    };
    let plan = Plan { pairs: 30, block: Duration::from_secs(1), seed: 1 };
    let blocks = measure(&plan, clock.as_ref(), &mut energy, &mut frame).unwrap().unwrap();
    let ([coarse, fine], uppers) = (blocks.means(), blocks.uppers(0.005));
    assert!((coarse / 400.0 - 1.0).abs() < 0.01 && (fine / 1800.0 - 1.0).abs() < 0.01, "{coarse} {fine}");
    assert!(uppers[0] > coarse && uppers[0] < 408.0 && uppers[1] > fine && uppers[1] < 1836.0, "{uppers:?}");

    // (1120 − 400) / 1800: two fifths may be refined.
    let limit = 1120.0;
    let observation = |i: u16| Observation { confidence: f32::from(i) / 1000.0, coarse: 0, fine: 0, label: None };
    let observations: Vec<Observation> = (0..1000).map(observation).collect();
    let budget = Some(Budget { unit: Unit::Mj, limit });
    let request = Request { accuracy: None, budget, delta: 0.05, prefer: Prefer::Cheap };
    let solution = solve(&observations, &request, Some(&blocks)).unwrap();
    let ceiling = solution.ceiling.unwrap();
    assert!((ceiling.share - 0.4).abs() < 0.015, "{ceiling:?}");
    assert_eq!(ceiling.budget.unit.target(), Target::Energy);
    // Confidences are uniform: η is the share.
    let spent = 400.0 + 1800.0 * f64::from(solution.eta);
    assert!(spent <= limit && spent > 0.9 * limit, "{spent}");
}

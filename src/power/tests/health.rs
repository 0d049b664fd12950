//! Meters that are stuck, hang or fail, and the idle baseline.

use super::*;

/// Says what `says` gives for the n-th reading (from 0) of so many, then requests the stop.
struct Scripted<F>(u32, u32, F, Stop);

impl<F: FnMut(u32) -> Result<Reading> + Send> Meter for Scripted<F> {
    fn read(&mut self) -> Result<Reading> {
        let n = self.0;
        self.0 += 1;
        if self.0 == self.1 {
            self.3.request();
        }
        (self.2)(n)
    }

    fn describe(&self) -> String {
        "scripted".to_owned()
    }
}

/// Samples `readings` readings on the simulated clock; the monitor and the time at the end.
fn sample(readings: u32, says: impl FnMut(u32) -> Result<Reading> + Send) -> (Monitor, Instant) {
    let (clock, stop) = (Simulated::new(), Stop::new());
    let monitor = Monitor::new(clock.now());
    monitor.sample(&mut Scripted(0, readings, says, stop.clone()), &clock, &stop);
    (monitor, clock.now())
}

#[test]
fn a_constant_meter_counts_and_is_suspicious() {
    let (monitor, now) = sample(500, |_| Ok(Reading::PowerMw(4000.0)));
    assert_eq!(monitor.health(now), Health::Good, "25 s are not enough");
    let (monitor, now) = sample(700, |_| Ok(Reading::PowerMw(4000.0)));
    assert!(matches!(monitor.health(now), Health::Constant(time) if time >= Duration::from_secs(30)));
    assert_eq!(monitor.health(now).to_string(), "suspicious: constant for 34 s");
    assert!((monitor.run(now).unwrap().mean_mw - 4000.0).abs() < 1e-9, "the values are not hidden");
    let (monitor, now) = sample(700, |n| Ok(Reading::PowerMw(f64::from(4000 + n % 2))));
    assert_eq!(monitor.health(now), Health::Good);
}

#[test]
fn a_counter_that_stands_still_measures_nothing() {
    let (monitor, now) = sample(700, |_| Ok(Reading::EnergyMj(5.0)));
    assert_eq!(monitor.run(now), None, "a machine that draws nothing does not run");
    assert!(matches!(monitor.health(now), Health::Constant(_)));
    // One that moves at every second sample only is followed.
    let (monitor, now) = sample(701, |n| Ok(Reading::EnergyMj(f64::from(n / 2) * 400.0)));
    assert!((monitor.run(now).unwrap().mean_mw / 4000.0 - 1.0).abs() < 0.01);
}

#[test]
fn a_failing_meter_is_failing() {
    let (monitor, now) = sample(10, |n| match n {
        9 => Err(Error::new(Kind::Io, "gone")),
        _ => Ok(Reading::PowerMw(1.0)),
    });
    assert_eq!((monitor.health(now), monitor.health(now).to_string().as_str()), (Health::Failing, "failing"));
}

#[test]
fn a_meter_that_hangs_blocks_nobody_and_is_silent() {
    struct Hangs(crossbeam_channel::Receiver<()>);
    impl Meter for Hangs {
        fn read(&mut self) -> Result<Reading> {
            // Until the test lets go.
            let _ = self.0.recv();
            Ok(Reading::PowerMw(1.0))
        }
        fn describe(&self) -> String {
            "hangs".to_owned()
        }
    }
    let (let_go, hangs) = crossbeam_channel::bounded::<()>(0);
    let (stop, start) = (Stop::new(), Instant::now());
    let monitor = Monitor::new(start);
    std::thread::scope(|scope| {
        scope.spawn(|| monitor.sample(&mut Hangs(hangs), &crate::clock::System, &stop));
        let later = start + Duration::from_secs(60);
        let mut account = Account::new(monitor.clone(), None, start);
        let used = account.window(later, Decisions::default());
        assert_eq!((used.energy, used.net_mj, used.health), (None, None, Health::Silent(Duration::from_secs(60))));
        stop.request();
        drop(let_go);
    });
}

fn parts(powers: &[f64]) -> Vec<Option<Energy>> {
    powers.iter().map(|&mean_mw| Some(Energy { mean_mw, energy_mj: mean_mw / 2.0 })).collect()
}

#[test]
fn a_baseline_is_a_mean_with_its_error() {
    let idle = Idle::from_parts(&parts(&[1000.0, 1020.0, 980.0, 1000.0]), 0.5).unwrap();
    assert_eq!((idle.mean_mw, idle.seconds), (1000.0, 2.0));
    // Sample deviation √(800/3) over √4.
    assert!((idle.standard_error_mw - (800.0f64 / 3.0).sqrt() / 2.0).abs() < 1e-9);
    assert_eq!(Idle::from_parts(&parts(&[1000.0, 1000.0]), 0.5), None);
    let mut some = parts(&[1000.0; 8]);
    some.extend([None, None]);
    assert_eq!(Idle::from_parts(&some, 0.5), None, "a fifth was not seen");
    let energy = Energy { mean_mw: 2500.0, energy_mj: 5000.0 };
    assert!((idle.net_mj(energy) - 3000.0).abs() < 1e-9, "2 s, 1.5 W above idling");
    assert!(idle.net_mj(Energy { mean_mw: 500.0, energy_mj: 1000.0 }) < 0.0);
}

/// 2 W for ever.
struct Steady;

impl Meter for Steady {
    fn read(&mut self) -> Result<Reading> {
        Ok(Reading::PowerMw(2000.0))
    }

    fn describe(&self) -> String {
        "steady".to_owned()
    }
}

#[test]
fn the_meter_comes_back_from_measuring_its_idle_power() {
    let (meter, idle) = measure_idle(Box::new(Steady), Duration::from_millis(1500), &Stop::new());
    assert_eq!(meter.map(|meter| meter.describe()).as_deref(), Some("steady"));
    assert!(idle.is_none_or(|idle| (idle.mean_mw - 2000.0).abs() < 1e-6), "{idle:?}");
    let stop = Stop::new();
    stop.request();
    let (meter, idle) = measure_idle(Box::new(Steady), Duration::from_secs(600), &stop);
    assert!(meter.is_some() && idle.is_none());
}

#[test]
fn idling_is_measured_before_frames_flow_and_is_not_part_of_the_run() {
    let (stop, start) = (Stop::new(), Instant::now());
    let monitor = Monitor::new(start);
    std::thread::scope(|scope| {
        scope.spawn(|| monitor.sample(&mut Steady, &crate::clock::System, &stop));
        let idle = monitor.measure_idle(&crate::clock::System, Duration::from_millis(1500), &stop);
        let ended = Instant::now();
        assert_eq!(monitor.measure_idle(&crate::clock::System, Duration::ZERO, &stop), None);
        std::thread::sleep(Duration::from_millis(300));
        let energy = monitor.run(Instant::now());
        let since = ended.elapsed().as_secs_f64();
        stop.request();
        // On a machine that stops this process for longer than the gap nothing is measured, and that is right.
        if let (Some(idle), Some(energy)) = (idle, energy) {
            assert!((idle.mean_mw - 2000.0).abs() < 1e-6 && (idle.seconds - 1.5).abs() < 1e-6);
            assert!(energy.energy_mj <= 2000.0 * since * 1.1, "{energy:?} in {since} s");
        } else {
            println!("skipped: this machine was not regular enough for 20 samples a second");
        }
        assert_eq!(monitor.measure_idle(&crate::clock::System, Duration::from_secs(9), &stop), None, "stopped");
    });
}

//! Replacing the engine in service by a new one, which must prove itself first.

use super::Engine;
use crate::error::{Error, Kind, Result};
use crate::frame::{Choice, CoarseOutput, Inputs};
use crate::gather;

/// Opens an engine beside `current`, tests it with [`check`], and puts it in `current`'s place. Both are in memory for that moment. Whatever
/// fails, `current` stays as it was.
///
/// # Errors
/// What `open` says; [`Kind::Engine`] when the new engine is for another geometry, whose pictures nobody prepares, or fails its test.
pub fn replace(current: &mut Box<dyn Engine>, open: impl FnOnce() -> Result<Box<dyn Engine>>) -> Result<()> {
    let mut new = open().map_err(|e| e.within("the new engine cannot be opened; the old one stays"))?;
    if new.geometry() != current.geometry() {
        let message = format!(
            "the new engine is for `{}`, the one in service for `{}`; the old one stays",
            new.geometry(),
            current.geometry()
        );
        return Err(Error::new(Kind::Engine, message));
    }
    check(new.as_mut()).map_err(|e| e.within("the new engine fails its test; the old one stays"))?;
    *current = new;
    Ok(())
}

/// The test of an engine that just was opened: both stages over two pictures give finite answers, other ones for the other picture, and the
/// same again for the first.
///
/// # Errors
/// [`Kind::Engine`] for an answer that is none; what the engine says.
pub fn check(engine: &mut dyn Engine) -> Result<()> {
    let first = answer(engine, 0)?;
    let second = answer(engine, 1)?;
    let again = answer(engine, 0)?;
    if first == second {
        return Err(Error::new(Kind::Engine, "the engine gives two different pictures the same logits"));
    }
    let largest = first.iter().fold(1.0_f32, |largest, x| largest.max(x.abs()));
    match first.iter().zip(&again).find(|(a, b)| (*a - *b).abs() > 1e-2 * largest) {
        None => Ok(()),
        Some((a, b)) => Err(Error::new(Kind::Engine, format!("the engine gives the same picture {a} and then {b}"))),
    }
}

/// The coarse and fine logits of test picture `number`.
fn answer(engine: &mut dyn Engine, number: usize) -> Result<Vec<f32>> {
    let geometry = *engine.geometry();
    let (coarse, fine) = (geometry.coarse_side(), geometry.fine_side());
    let inputs = Inputs { coarse: waves(coarse, number), fine: waves(fine, number) };
    let (mut output, mut choice, mut fine_logits) = (CoarseOutput::default(), Choice::default(), Vec::new());
    engine.coarse(&inputs.coarse, &mut output)?;
    gather::choose(&output.class_attention, geometry.informative(), &mut choice);
    engine.fine(&inputs.fine, &choice, &mut fine_logits)?;
    let mut all = output.logits;
    all.extend(fine_logits);
    match all.iter().chain(&output.class_attention).find(|x| !x.is_finite()) {
        None => Ok(all),
        Some(x) => Err(Error::new(Kind::Engine, format!("the engine's answer holds {x}"))),
    }
}

/// `[3, side, side]`: smooth waves, whose direction depends on `number`.
fn waves(side: usize, number: usize) -> Vec<f32> {
    let step = std::f32::consts::TAU / side as f32;
    let wave = |c: usize, y: usize, x: usize| {
        let along = if number == 0 { x + c * y } else { 3 * y + c * x };
        2.0 * (along as f32 * step).sin()
    };
    (0..3 * side * side).map(|i| wave(i / (side * side), i / side % side, i % side)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;

    /// An engine whose coarse logits are `value` times the number of the pass, where there is a `value`.
    struct Fake {
        inner: Box<dyn Engine>,
        value: Option<f32>,
        passes: usize,
    }

    impl Engine for Fake {
        fn geometry(&self) -> &crate::model::Geometry {
            self.inner.geometry()
        }
        fn coarse(&mut self, image: &[f32], output: &mut CoarseOutput) -> Result<()> {
            self.inner.coarse(image, output)?;
            self.passes += 1;
            if let Some(value) = self.value {
                output.logits.fill(value * self.passes as f32);
            }
            Ok(())
        }
        fn fine(&mut self, image: &[f32], choice: &Choice, logits: &mut Vec<f32>) -> Result<()> {
            self.inner.fine(image, choice, logits)
        }
        fn full(&mut self, image: &[f32], logits: &mut Vec<f32>) -> Result<()> {
            self.inner.full(image, logits)
        }
        fn describe(&self) -> String {
            "fake".to_owned()
        }
    }

    fn bundled() -> Box<dyn Engine> {
        super::super::open(model::open(None, None).unwrap(), Some(1)).unwrap()
    }

    fn fake(value: Option<f32>) -> Box<dyn Engine> {
        Box::new(Fake { inner: bundled(), value, passes: 0 })
    }

    #[test]
    fn a_good_engine_replaces_the_old_one() {
        let mut current = fake(None);
        replace(&mut current, || Ok(bundled())).unwrap();
        assert_ne!(current.describe(), "fake");
    }

    #[test]
    fn a_bad_engine_never_does() {
        let mut current = fake(None);
        for value in [f32::NAN, f32::INFINITY, 3.0] {
            let error = replace(&mut current, || Ok(fake(Some(value)))).unwrap_err().to_string();
            assert!(error.contains("fails its test; the old one stays"), "{error}");
            assert_eq!(current.describe(), "fake");
        }
        let error = replace(&mut current, || Err(Error::new(Kind::Model, "no plan"))).unwrap_err();
        assert_eq!((error.kind(), current.describe().as_str()), (Kind::Model, "fake"));
    }
}

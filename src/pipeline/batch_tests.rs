//! Frames of several cameras that share a coarse pass: each gets its own answer, and no other camera's.

use std::sync::Mutex;

use super::cameras_tests::{endless, pipeline, run};
use super::tests::Fate;
use super::*;
use crate::engine::{Engine, FineFrame};
use crate::error::Error;
use crate::frame::{Choice, CoarseOutput, Stage};
use crate::model::Geometry;

/// What one camera's fate is: the engine tells a camera by its frames' only value.
const SURE: f32 = Fate::Coarse as u8 as f32;
const UNSURE: f32 = Fate::Fine as u8 as f32;

/// Takes up to three images a pass, slowly enough for others to come meanwhile. The fine stage answers with what the coarse pass saw.
struct Crowd {
    geometry: Geometry,
    sizes: Arc<Mutex<Vec<usize>>>,
    seen: Vec<f32>,
}

impl Engine for Crowd {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn max_batch(&self) -> usize {
        3
    }

    fn coarse(&mut self, image: &[f32], output: &mut CoarseOutput) -> Result<()> {
        self.coarse_batch(&[image], std::slice::from_mut(output))
    }

    fn coarse_batch(&mut self, images: &[&[f32]], outputs: &mut [CoarseOutput]) -> Result<()> {
        std::thread::sleep(Duration::from_millis(5));
        self.sizes.lock().unwrap().push(images.len());
        self.seen = images.iter().map(|image| image[0]).collect();
        for (seen, output) in self.seen.iter().zip(outputs) {
            if ![SURE, UNSURE].contains(seen) {
                return Err(Error::new(Kind::Engine, "out of magic"));
            }
            output.logits = vec![0.0, if *seen == SURE { 9.0 } else { 0.1 }];
            output.class_attention = (0..4).map(|cell| cell as f32).collect();
        }
        Ok(())
    }

    fn fine(&mut self, image: &[f32], choice: &Choice, logits: &mut Vec<f32>) -> Result<()> {
        self.fine_batch(&[FineFrame { slot: 0, image, choice }], std::slice::from_mut(logits))
    }

    fn fine_batch(&mut self, frames: &[FineFrame<'_>], logits: &mut [Vec<f32>]) -> Result<()> {
        for (frame, logits) in frames.iter().zip(logits) {
            *logits = vec![self.seen[frame.slot], 0.0];
        }
        Ok(())
    }

    fn full(&mut self, _: &[f32], _: &mut Vec<f32>) -> Result<()> {
        unreachable!("the pipeline does not ask for it")
    }

    fn describe(&self) -> String {
        "crowd".to_owned()
    }
}

/// Notes each decision's camera and stage, and what one more fine pass over it says.
struct Refine(Arc<Mutex<Vec<(String, Stage, f32)>>>);

impl Observer for Refine {
    fn decided(&mut self, decision: &Decision<'_>, cascade: &mut Cascade) {
        let (stage, choice) = (cascade.verdict().stage, cascade.verdict().choice.clone());
        let mut logits = Vec::new();
        cascade.refine(decision.inputs, &choice, &mut logits).unwrap();
        self.0.lock().unwrap().push((decision.camera_name.to_owned(), stage, logits[0]));
    }
}

fn crowded(fates: &[(&str, Fate)], at_once: usize) -> (Pipeline, Arc<Mutex<Vec<usize>>>) {
    let sizes = Arc::<Mutex<Vec<usize>>>::default();
    let mut pipeline = pipeline(fates.iter().map(|&(name, fate)| endless(name, fate).0).collect());
    let geometry = *pipeline.cascade.engine().geometry();
    let engine = Crowd { geometry, sizes: Arc::clone(&sizes), seen: Vec::new() };
    (pipeline.cascade, pipeline.at_once) = (Cascade::new(Box::new(engine), 0.9), at_once);
    (pipeline, sizes)
}

#[test]
fn frames_that_wait_together_share_a_pass_and_each_gets_its_own_answer() {
    let fates = [("sure", Fate::Coarse), ("unsure", Fate::Fine), ("damaged", Fate::Unfit), ("also", Fate::Coarse)];
    for at_once in [1, 2, 8] {
        let (mut pipeline, sizes) = crowded(&fates, at_once);
        let seen = Arc::<Mutex<Vec<(String, Stage, f32)>>>::default();
        pipeline.observers.push(Box::new(Refine(Arc::clone(&seen))));
        let mut decided = 0;
        let outcome = run(pipeline, |report, _| {
            decided += report.whole.tally.decided;
            decided > 60
        });
        outcome.result.unwrap();
        let (seen, sizes) = (seen.lock().unwrap(), sizes.lock().unwrap());
        assert_eq!(seen.len() as u64, outcome.summary.whole.tally.decided);
        for (camera, stage, refined) in seen.iter() {
            let expected = if camera == "unsure" { (Stage::Fine, UNSURE) } else { (Stage::Coarse, SURE) };
            assert_eq!((*stage, *refined), expected, "{camera}, {at_once} at once");
        }
        let (largest, most) = (sizes.iter().max().copied().unwrap_or(0), at_once.min(3));
        assert_eq!(largest, most, "{at_once} at once: passes over {sizes:?}");
        for camera in ["sure", "unsure", "also"] {
            let turns = seen.iter().filter(|(name, ..)| name == camera).count();
            assert!(turns * 4 > seen.len(), "{camera} had {turns} of {} turns", seen.len());
        }
    }
}

#[test]
fn a_shared_pass_that_fails_is_one_failure_of_the_engine() {
    let (pipeline, sizes) = crowded(&[("a", Fate::EngineError), ("b", Fate::EngineError)], 2);
    let stop = Stop::new();
    let outcome = pipeline.run(&stop, &mut ()).unwrap();
    let error = outcome.result.unwrap_err().to_string();
    assert!(error.contains("failed on 10 frames in a row"), "{error}");
    let (sizes, tally) = (sizes.lock().unwrap(), outcome.summary.whole.tally);
    assert_eq!((sizes.len(), tally.decided), (10, 0), "{sizes:?}");
    assert!(tally.adds_up() && tally.failed as usize == sizes.iter().sum::<usize>(), "{tally:?} {sizes:?}");
}

//! The slots as one thread sees them: whatever is done, in whatever order, the counters add up.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a thread can do to the slots; cameras are named by their place in the test's list.
#[derive(Clone, Copy, Debug)]
enum Act {
    Add,
    Remove(usize),
    Put(usize),
    PutDamaged(usize, Reason),
    GiveBack(usize),
    Take,
    TakeToo,
    Finish(Option<Stage>),
    End(usize),
    Stop,
}

fn act() -> impl Strategy<Value = Act> {
    let camera = || 0usize..4;
    prop_oneof![
        2 => Just(Act::Add),
        1 => camera().prop_map(Act::Remove),
        20 => camera().prop_map(Act::Put),
        2 => (camera(), prop_oneof![Just(Reason::Corrupt), Just(Reason::Short)]).prop_map(|(c, r)| Act::PutDamaged(c, r)),
        2 => camera().prop_map(Act::GiveBack),
        12 => Just(Act::Take),
        6 => Just(Act::TakeToo),
        12 => prop_oneof![Just(None), Just(Some(Stage::Coarse)), Just(Some(Stage::Fine)), Just(Some(Stage::Static))]
            .prop_map(Act::Finish),
        1 => camera().prop_map(Act::End),
        1 => Just(Act::Stop),
    ]
}

fn answer(stage: Stage) -> Answer {
    Answer { stage, label: 1, confidence: 0.5, smooth: Smooth { label: 1, confidence: 0.5 }, degraded: false }
}

/// What one camera should look like.
#[derive(Clone, Debug, Default)]
struct Model {
    waiting: Option<u64>,
    tally: Tally,
    ended: bool,
    frames: usize,
}

proptest! {
    #[test]
    fn the_counters_add_up_after_every_step_and_the_newest_frame_wins(acts in prop::collection::vec(act(), 0..250)) {
        let slots = Slots::new();
        let mut ids: Vec<CameraId> = vec![slots.add(Stop::new())];
        let mut models: BTreeMap<CameraId, Model> = [(ids[0], Model::default())].into();
        let (mut past, mut taken, mut stopped) = (Tally::default(), Vec::<(CameraId, Frame)>::new(), false);
        for act in acts {
            match act {
                Act::Add if ids.len() < 4 => {
                    let id = slots.add(Stop::new());
                    ids.push(id);
                    models.insert(id, Model::default());
                }
                Act::Remove(camera) if camera < ids.len() => {
                    let id = ids.remove(camera);
                    let mut model = models.remove(&id).unwrap();
                    model.tally.dropped += u64::from(model.waiting.is_some());
                    let deciding = taken.iter().any(|(taken, _)| *taken == id);
                    prop_assert_eq!(slots.remove(id), Tally { in_flight: u64::from(deciding), ..model.tally });
                    past += model.tally;
                }
                Act::Put(camera) if camera < ids.len() => {
                    let id = ids[camera];
                    let model = models.get_mut(&id).unwrap();
                    let mut frame = slots.spare(id);
                    model.frames += usize::from(frame.name.is_empty());
                    frame.name = "used".to_owned();
                    slots.put(id, frame);
                    model.tally.dropped += u64::from(model.waiting.is_some());
                    model.waiting = Some(model.tally.captured);
                    model.tally.captured += 1;
                    prop_assert!(model.frames <= 3, "one filled, one waiting, one being decided");
                }
                Act::PutDamaged(camera, reason) if camera < ids.len() => {
                    let id = ids[camera];
                    let model = models.get_mut(&id).unwrap();
                    let mut frame = slots.spare(id);
                    model.frames += usize::from(frame.name.is_empty());
                    frame.name = "used".to_owned();
                    slots.put_damaged(id, frame, reason);
                    model.tally.captured += 1;
                    model.tally.lose(reason);
                }
                Act::GiveBack(camera) if camera < ids.len() => {
                    let id = ids[camera];
                    let mut frame = slots.spare(id);
                    models.get_mut(&id).unwrap().frames += usize::from(frame.name.is_empty());
                    frame.name = "used".to_owned();
                    slots.give_back(id, frame);
                    prop_assert!(slots.look(id).unwrap().idle.is_some());
                }
                // Where the real thread would wait there is nothing to check.
                Act::Take if taken.is_empty() && (stopped || models.values().any(|model| model.waiting.is_some())) => {
                    taken.extend(slots.take());
                    prop_assert_eq!(taken.is_empty(), stopped);
                    if let Some((id, frame)) = taken.first() {
                        let waited = models.get_mut(id).unwrap().waiting.take();
                        prop_assert_eq!(Some(frame.seq), waited);
                    }
                }
                Act::TakeToo if !taken.is_empty() => {
                    let free = |id| taken.iter().all(|(taken, _)| taken != id);
                    let expected = !stopped && models.iter().any(|(id, model)| free(id) && model.waiting.is_some());
                    let more = slots.take_too();
                    prop_assert_eq!(more.is_some(), expected);
                    if let Some((id, frame)) = more {
                        prop_assert!(free(&id), "one frame of a camera at a time");
                        let waited = models.get_mut(&id).unwrap().waiting.take();
                        prop_assert_eq!(Some(frame.seq), waited);
                        taken.push((id, frame));
                    }
                }
                Act::Finish(stage) if !taken.is_empty() => {
                    let (id, frame) = taken.remove(0);
                    slots.finish(id, frame, stage.map_or(Outcome::Failed, |stage| Outcome::Decided(answer(stage))));
                    let tally = models.get_mut(&id).map_or(&mut past, |model| &mut model.tally);
                    match stage {
                        Some(stage) => {
                            tally.decided += 1;
                            tally.fine += u64::from(stage == Stage::Fine);
                            tally.full += u64::from(stage == Stage::Static);
                        }
                        None => tally.failed += 1,
                    }
                }
                Act::End(camera) if camera < ids.len() => {
                    slots.end(ids[camera]);
                    models.get_mut(&ids[camera]).unwrap().ended = true;
                }
                Act::Stop => { slots.stop(); stopped = true; }
                _ => {}
            }
            let mut whole = past;
            for (&id, model) in &models {
                let in_flight = u64::from(model.waiting.is_some()) + u64::from(taken.iter().any(|(taken, _)| *taken == id));
                let look = slots.look(id).unwrap();
                prop_assert_eq!(look.tally, Tally { in_flight, ..model.tally });
                prop_assert!(look.tally.adds_up());
                prop_assert_eq!(look.ended, model.ended);
                whole += model.tally;
                whole.in_flight += u64::from(model.waiting.is_some());
            }
            whole.in_flight += taken.len() as u64;
            prop_assert_eq!(slots.tally(), whole);
            prop_assert!(whole.adds_up());
            prop_assert_eq!(slots.deciding().map(|(id, _)| id), taken.first().map(|(id, _)| *id));
        }
    }

    /// Every camera has a frame waiting at all times: in any run of takes as long as the cameras are many, each has its turn once.
    #[test]
    fn cameras_that_always_have_a_frame_take_turns(cameras in 1usize..6, takes in 1usize..60) {
        let slots = Slots::new();
        let ids: Vec<_> = (0..cameras).map(|_| slots.add(Stop::new())).collect();
        let order: Vec<CameraId> = (0..takes).map(|_| {
            ids.iter().for_each(|&id| { let frame = slots.spare(id); slots.put(id, frame) });
            let (id, frame) = slots.take().unwrap();
            slots.finish(id, frame, Outcome::Failed);
            id
        }).collect();
        for turn in order.windows(cameras) {
            prop_assert!(ids.iter().all(|id| turn.contains(id)), "{:?}", order);
        }
    }
}

#[test]
fn a_camera_that_is_gone_takes_nothing_any_more_and_its_capture_is_told() {
    let (slots, stop) = (Slots::new(), Stop::new());
    let id = slots.add(stop.clone());
    let frame = slots.spare(id);
    slots.put(id, frame);
    let frame = slots.spare(id);
    assert_eq!(slots.remove(id), Tally { captured: 1, dropped: 1, ..Tally::default() });
    slots.put(id, frame);
    assert!(stop.is_requested() && !slots.wait_empty(id) && slots.look(id).is_none());
    assert_eq!(slots.tally(), Tally { captured: 1, dropped: 1, ..Tally::default() });
    assert!(slots.take().is_none(), "no camera, no frame");
}

use super::*;
use crate::frame::CoarseOutput;

fn labels() -> Vec<Label> {
    ["tench", "gas\x1b[31m pump", "church"].map(|name| Label { id: format!("n-{name}"), name: name.into() }).into()
}

/// A verdict on three classes and a 2×2 grid; the coarse stage thought of class 1.
fn verdict(stage: Stage) -> Verdict {
    let coarse_probabilities = vec![0.1, 0.7, 0.2];
    let fine = stage == Stage::Fine;
    Verdict {
        stage,
        label: if fine { 2 } else { 1 },
        confidence: if fine { 0.9 } else { 0.7 },
        probabilities: if fine { vec![0.05, 0.05, 0.9] } else { coarse_probabilities },
        coarse: CoarseOutput { logits: vec![0.1, 2.5, 0.7], class_attention: vec![0.1, 0.4, 0.2, 0.3] },
        coarse_confidence: 0.7,
        choice: if fine { Choice { informative: vec![1, 3], kept: vec![0, 2] } } else { Choice::default() },
        fine_logits: if fine { vec![-1.0, -1.0, 1.8912] } else { vec![9.0; 3] },
        timing: Timing::default(),
    }
}

fn timing() -> Timing {
    Timing { preprocess_ms: 0.5, coarse_ms: 1.25, gate_ms: 0.01, gather_ms: 0.04, fine_ms: 3.0, ..Timing::default() }
}

fn json(stage: Stage, detail: Detail) -> serde_json::Value {
    let (labels, verdict) = (labels(), verdict(stage));
    serde_json::to_value(Answer::new("a/b.png", &verdict, timing(), &labels, detail)).unwrap()
}

fn keys(value: &serde_json::Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_json_object_has_exactly_the_documented_keys() {
    let found = json(Stage::Fine, Detail { top: 2, trace: None });
    assert_eq!(keys(&found), ["confidence", "exit", "image", "label", "name", "timing_ms", "top"]);
    assert_eq!(keys(&found["timing_ms"]), ["coarse", "fine", "preprocess", "total"]);
    assert_eq!(keys(&found["top"][0]), ["label", "name", "probability"]);
    assert_eq!((&found["exit"], &found["label"], &found["name"]), (&"fine".into(), &2.into(), &"church".into()));
    let total = found["timing_ms"]["total"].as_f64().unwrap();
    assert!((total - 4.8).abs() < 1e-12, "{total}");
}

#[test]
fn the_top_list_is_sorted_equals_in_class_order_and_never_longer_than_the_classes() {
    let found = json(Stage::Fine, Detail { top: 9, trace: None });
    let order: Vec<u64> = found["top"].as_array().unwrap().iter().map(|c| c["label"].as_u64().unwrap()).collect();
    assert_eq!(order, [2, 0, 1]);
}

#[test]
fn a_trace_of_a_fine_exit_shows_both_stages() {
    let trace = &json(Stage::Fine, Detail { top: 1, trace: Some(2) })["trace"];
    let expected = ["class_attention", "coarse_confidence", "coarse_logits", "fine_logits", "informative"];
    assert_eq!(keys(trace), expected);
    assert_eq!(trace["informative"], serde_json::json!([1, 3]));
    assert_eq!(trace["fine_logits"].as_array().unwrap().len(), 3);
}

#[test]
fn a_trace_of_a_coarse_exit_has_no_fine_logits_but_the_cells_that_would_have_been_chosen() {
    let trace = &json(Stage::Coarse, Detail { top: 1, trace: Some(2) })["trace"];
    assert!(trace["fine_logits"].is_null());
    assert_eq!(trace["informative"], serde_json::json!([1, 3]), "the two largest of the class attention");
}

#[test]
fn floats_round_trip() {
    let (labels, verdict) = (labels(), verdict(Stage::Fine));
    let answer = Answer::new("x", &verdict, timing(), &labels, Detail { top: 1, trace: Some(2) });
    let found: serde_json::Value = serde_json::from_str(&serde_json::to_string(&answer).unwrap()).unwrap();
    assert_eq!(found["trace"]["fine_logits"][2].as_f64().unwrap() as f32, 1.8912);
    assert_eq!(found["confidence"].as_f64().unwrap() as f32, 0.9);
}

#[test]
fn the_block_for_people_says_which_stage_answered_and_is_safe_for_a_terminal() {
    let (labels, fine, coarse) = (labels(), verdict(Stage::Fine), verdict(Stage::Coarse));
    let detail = Detail { top: 2, trace: None };
    let text = Answer::new("b\x07.png", &fine, timing(), &labels, detail).to_string();
    assert!(text.contains("exit        fine (coarse: gas\u{fffd}[31m pump, 70.0 %)"), "{text}");
    assert!(text.contains("4.8 ms: preprocess 0.5, coarse 1.2, fine 3.0"), "{text}");
    assert!(text.contains("90.0 %  church"), "{text}");
    assert!(!text.contains(['\x1b', '\x07']), "{text:?}");
    let text = Answer::new("b.png", &coarse, timing(), &labels, detail).to_string();
    assert!(text.contains("exit        coarse\n"), "{text}");
}

#[test]
fn the_tally_counts_shares() {
    let mut tally = Tally::default();
    for stage in [Stage::Coarse, Stage::Fine, Stage::Coarse] {
        tally.add(stage, timing());
    }
    assert_eq!(tally.to_string(), "3 images: 1 refined by the fine stage (33.3 %), mean 4.8 ms");
}

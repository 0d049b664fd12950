use super::*;
use proptest::prelude::*;

fn plot(points: Vec<(f64, f64)>) -> Plot {
    let mark = Mark { shape: Shape::Dot, text: "η = 0.5 <here>".into(), at: points[0] };
    let lines = vec![Line { name: "a & b".into(), points: points.clone() }, Line { name: "c".into(), points }];
    let level = Some((70.0, "coarse".into()));
    Plot { title: "t".into(), x_label: "x".into(), y_label: "y".into(), lines, marks: vec![mark], level }
}

#[test]
fn the_same_numbers_make_the_same_bytes_and_texts_are_escaped() {
    let svg = plot(vec![(0.1457, 68.9), (0.35, 74.4), (0.5568, 75.7)]).to_svg();
    assert_eq!(svg, plot(vec![(0.1457, 68.9), (0.35, 74.4), (0.5568, 75.7)]).to_svg());
    for part in ["a &amp; b", "&lt;here&gt;", ">0.1<", ">0.6<", ">68<", ">76<", "stroke-dasharray=\"7 4\""] {
        assert!(svg.contains(part), "{part} in {svg}");
    }
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
}

#[test]
fn texts_of_points_in_the_same_place_do_not_cover_each_other() {
    let mut crowded = plot(vec![(1.0, 70.0), (2.0, 75.0)]);
    crowded.marks = ["coarse only", "η = 0", "other"]
        .map(|text| Mark { shape: Shape::Dot, text: text.into(), at: (1.0, 70.0) })
        .into();
    let svg = crowded.to_svg();
    let height = |text: &str| -> f64 {
        let line = svg.lines().find(|line| line.ends_with(&format!("{text}</text>"))).unwrap();
        line.split('"').nth(3).unwrap().parse().unwrap()
    };
    let [a, b, c] = ["coarse only", "η = 0", "other"].map(height);
    assert!((a - b).abs() >= 14.0 && (b - c).abs() >= 14.0 && (a - c).abs() >= 14.0, "{a} {b} {c}");
}

#[test]
fn steps_are_round() {
    for (step, expected) in [(0.07, 0.1), (0.013, 0.02), (3.0, 5.0), (5.0, 5.0), (70.0, 100.0)] {
        assert!((round_step(step) / expected - 1.0).abs() < 1e-9, "{step}: {}", round_step(step));
    }
}

proptest! {
    #[test]
    fn every_point_lies_inside_the_frame_whatever_the_numbers(
        points in prop::collection::vec((prop::num::f64::NORMAL | prop::num::f64::ZERO, -1e6f64..1e6), 1..20), flat in any::<bool>(),
    ) {
        let points: Vec<_> = points.into_iter().filter(|p| p.0.abs() < 1e100).map(|(x, y)| (x, if flat { 7.0 } else { y })).collect();
        prop_assume!(!points.is_empty());
        let svg = plot(points).to_svg();
        prop_assert!(!svg.contains("NaN") && !svg.contains("inf"));
        let line = svg.lines().find(|line| line.starts_with("<polyline")).unwrap();
        let places = line.split('"').nth(1).unwrap();
        for place in places.split_whitespace() {
            let (x, y) = place.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            prop_assert!((LEFT - 0.1..=RIGHT + 0.1).contains(&x) && (TOP - 0.1..=BOTTOM + 0.1).contains(&y), "{}", place);
        }
    }
}

//! CUDA graphs: one launch instead of the hundred-odd kernels of a stage. A graph is trusted only after it gave what a plain enqueue gives,
//! on a picture that was not there when it was captured.

use super::buffers::Buffers;
use super::device::Device;
use super::stage::Stage;
use crate::error::Result;

/// The largest difference between graph and plain enqueue, as a share of the output's largest magnitude: kernels that add in no fixed order
/// give slightly different sums each time; a graph that reads the wrong memory is off by far more.
const TOLERANCE: f32 = 1e-3;

/// Warms `stage` up, captures it, and verifies the graph once; where it cannot be made or gives another result, the stage goes on
/// without, and a warning says so. `show` puts test picture 0 or 1 into the inputs.
///
/// # Errors
/// When a plain enqueue fails: without it nothing works.
pub fn prepare(
    stage: &mut Stage,
    device: &Device,
    buffers: &mut Buffers,
    show: impl Fn(&mut Buffers, usize),
) -> Result<()> {
    show(buffers, 0);
    // The first enqueue loads kernels and allocates, which must not happen in a capture.
    stage.run(device)?;
    let name = stage.graph().as_str();
    if let Err(error) = stage.capture(device) {
        log::warn!("the {name} stage runs without a CUDA graph, which is slower: {error}");
        return stage.run(device).map(drop);
    }
    show(buffers, 1);
    match verify(stage, device, buffers)? {
        None => Ok(()),
        Some(difference) => {
            log::warn!(
                "the {name} stage runs without its CUDA graph, which is slower: the graph is wrong: {difference}"
            );
            stage.forget_capture();
            // Leaves good outputs behind, and shows that the stage still works.
            stage.run(device).map(drop)
        }
    }
}

/// Compares the captured graph with a plain enqueue; what differs, if anything does.
fn verify(stage: &mut Stage, device: &Device, buffers: &mut Buffers) -> Result<Option<String>> {
    let plain_ms = stage.run_plain(device)?;
    let names: Vec<&str> = stage.outputs().collect();
    let expected = names.iter().map(|name| buffers.read(name)).collect::<Result<Vec<_>>>()?;
    for name in &names {
        buffers.poison(name)?;
    }
    let graph_ms = match stage.run(device) {
        Ok(milliseconds) => milliseconds,
        Err(error) => return Ok(Some(error.to_string())),
    };
    for (name, expected) in names.iter().zip(&expected) {
        if let Some(difference) = difference(&buffers.read(name)?, expected) {
            return Ok(Some(format!("`{name}` {difference}")));
        }
    }
    let stage = stage.graph().as_str();
    log::debug!("the {stage} stage takes {graph_ms:.3} ms as a CUDA graph, {plain_ms:.3} ms as a plain enqueue");
    Ok(None)
}

/// What is too different between `found` and `expected`, of the same length; `None` where they agree. A NaN agrees with nothing.
fn difference(found: &[f32], expected: &[f32]) -> Option<String> {
    let largest = expected.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    // An infinite bound would allow everything.
    let agree = |a: f32, b: f32| (a - b).is_finite() && (a - b).abs() <= TOLERANCE * largest;
    let at = found.iter().zip(expected).position(|(&a, &b)| !agree(a, b))?;
    Some(format!("[{at}] is {} instead of {}", found[at], expected[at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rounding_is_forgiven() {
        assert_eq!(difference(&[1.0, -8.0], &[1.001, -8.001]), None);
        assert_eq!(difference(&[0.0; 3], &[0.0; 3]), None);
        assert!(difference(&[1.0, 2.0], &[1.0, 2.01]).is_some_and(|text| text.contains("[1] is 2")));
        assert!(difference(&[f32::NAN], &[f32::NAN]).is_some(), "what was never written must not look right");
        assert!(difference(&[0.0], &[f32::INFINITY]).is_some());
    }
}

//! Did attention fuse? TensorRT runs a block's whole attention as one kernel where it recognises it, and much slower where it does not.
//! Its name holds `mha` (multi-head attention), on every version.

/// What a line about a launch begins with in the program text that TensorRT-RTX keeps in its plans.
const LAUNCH: &[u8] = b"name=_gemm_mha_v2 ";

/// Fused attention kernels that the TensorRT-RTX plan `plan` launches. Other plans hold no such text: 0.
pub fn in_rtx_plan(plan: &[u8]) -> usize {
    plan.windows(LAUNCH.len()).filter(|window| *window == LAUNCH).count()
}

/// Fused attention kernels among the layers that TensorRT's engine inspector tells as JSON; `None` where it tells of none.
pub fn in_inspection(json: &str) -> Option<usize> {
    let told: serde_json::Value = serde_json::from_str(json).ok()?;
    let layers = told.get("Layers")?.as_array().filter(|layers| !layers.is_empty())?;
    Some(layers.iter().filter(|layer| layer.to_string().to_ascii_lowercase().contains("mha")).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_are_counted_and_definitions_are_not() {
        let text = b"\0\x01kernel _gemm_mha_v2 { }\nlaunch name=_gemm_mha_v2 grid=6\nlaunch name=_gemm_mha_v2 grid=6\n";
        assert_eq!((in_rtx_plan(text), in_rtx_plan(b""), in_rtx_plan(b"name=_gemm ")), (2, 0, 0));
    }

    #[test]
    fn layers_are_counted_by_their_kernels_names() {
        let layers = r#"{"Layers": [{"Name": "a", "TacticName": "_gemm_mha_v2_0x6bb0"}, "b_fmha_v2", {"Name": "c", "TacticName": "sm80_gemm"}]}"#;
        assert_eq!(in_inspection(layers), Some(2));
        for nothing in [r#"{"Layers": []}"#, r#"{"Layers": 3}"#, "{}", "not JSON", ""] {
            assert_eq!(in_inspection(nothing), None, "{nothing}");
        }
    }
}

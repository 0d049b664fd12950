//! Which TensorRT: majors that differ in their binary interface, and version numbers.

use std::fmt;

/// Libraries of one flavour share a binary interface; a shim drives just its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// TensorRT 8.5 and 8.6: JetPack 5.1 and 6.0.
    V8,
    /// TensorRT 10: JetPack 6.1 to 7.2.
    V10,
    /// TensorRT 11.
    V11,
    /// TensorRT-RTX 1: PCs. It builds plans for another machine's GPU without having one.
    Rtx,
}

impl Flavour {
    /// The newest first, TensorRT-RTX last.
    pub const ALL: [Flavour; 4] = [Flavour::V11, Flavour::V10, Flavour::V8, Flavour::Rtx];

    /// What the shim's table says.
    pub(super) fn from_code(code: i32) -> Option<Self> {
        match code {
            8 => Some(Flavour::V8),
            10 => Some(Flavour::V10),
            11 => Some(Flavour::V11),
            1 => Some(Flavour::Rtx),
            _ => None,
        }
    }

    /// The library's file name; newer releases of the same interface have more digits behind it.
    pub(super) fn library(self) -> &'static str {
        match self {
            Flavour::V8 => "libnvinfer.so.8",
            Flavour::V10 => "libnvinfer.so.10",
            Flavour::V11 => "libnvinfer.so.11",
            Flavour::Rtx => "libtensorrt_rtx.so.1",
        }
    }

    /// The ONNX parser's file name.
    pub(super) fn parser(self) -> &'static str {
        match self {
            Flavour::V8 => "libnvonnxparser.so.8",
            Flavour::V10 => "libnvonnxparser.so.10",
            Flavour::V11 => "libnvonnxparser.so.11",
            Flavour::Rtx => "libtensorrt_onnxparser_rtx.so.1",
        }
    }

    fn major(self) -> i32 {
        match self {
            Flavour::V8 => 8,
            Flavour::V10 => 10,
            Flavour::V11 => 11,
            Flavour::Rtx => 1,
        }
    }
}

/// `TensorRT 10` and so on.
impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flavour::Rtx => f.write_str("TensorRT-RTX 1"),
            other => write!(f, "TensorRT {}", other.major()),
        }
    }
}

/// A library's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Whose interface it has.
    pub flavour: Flavour,
    /// As in 10.3.0.30.
    pub major: i32,
    /// As in 10.3.0.30.
    pub minor: i32,
    /// As in 10.3.0.30.
    pub patch: i32,
    /// As in 10.3.0.30; TensorRT 8 does not tell.
    pub build: Option<i32>,
}

impl Version {
    /// From what `getInferLibVersion` gives: 8502 is 8.5.2, 100300 is 10.3.0, RTX's 10701 is 1.7.1.
    pub(super) fn decode(flavour: Flavour, number: i32, build: Option<i32>) -> Self {
        let (major, minor) = match number {
            10_000.. => (number / 10_000, number / 100 % 100),
            _ => (number / 1_000, number / 100 % 10),
        };
        Self { flavour, major, minor, patch: number % 100, build }
    }

    /// Whether a shim with headers of version `headers` (major, minor, …) may drive this library; if not, why.
    ///
    /// Virtual tables only grow within a major, and the shim calls nothing that was added later, so only their order matters. TensorRT-RTX
    /// reordered them in 1.5.
    pub(super) fn check_skew(&self, headers: &[i32; 4]) -> Result<(), String> {
        let [major, minor, ..] = *headers;
        let same = match self.flavour {
            Flavour::Rtx => self.major == 1 && (self.minor < 5) == (minor < 5),
            flavour => self.major == flavour.major(),
        };
        if !same || self.major != major {
            return Err(format!("it is {self}, this program was built with headers of {major}.{minor}"));
        }
        if self.flavour == Flavour::V8 && self.minor < 5 {
            return Err(format!("it is {self}, the oldest that can be driven is 8.5 (JetPack 5.1)"));
        }
        Ok(())
    }
}

/// `TensorRT 10.3.0.30`, `TensorRT-RTX 1.7.1.116`, `TensorRT 8.5.2`.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.flavour == Flavour::Rtx { "TensorRT-RTX" } else { "TensorRT" };
        write!(f, "{name} {}.{}.{}", self.major, self.minor, self.patch)?;
        self.build.map_or(Ok(()), |build| write!(f, ".{build}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_both_styles_are_decoded() {
        for (flavour, number, build, shown) in [
            (Flavour::V8, 8502, None, "TensorRT 8.5.2"),
            (Flavour::V8, 8602, None, "TensorRT 8.6.2"),
            (Flavour::V10, 100_300, Some(30), "TensorRT 10.3.0.30"),
            (Flavour::V10, 101_303, Some(9), "TensorRT 10.13.3.9"),
            (Flavour::V11, 110_400, Some(106), "TensorRT 11.4.0.106"),
            (Flavour::Rtx, 10_701, Some(116), "TensorRT-RTX 1.7.1.116"),
        ] {
            assert_eq!(Version::decode(flavour, number, build).to_string(), shown);
        }
    }

    #[test]
    fn a_shim_drives_only_libraries_of_its_own_interface() {
        let check = |flavour, number, headers| Version::decode(flavour, number, None).check_skew(&headers);
        assert_eq!(check(Flavour::V8, 8502, [8, 6, 1, 6]), Ok(()));
        assert_eq!(check(Flavour::V10, 100_300, [10, 16, 2, 10]), Ok(()));
        assert_eq!(check(Flavour::Rtx, 10_701, [1, 5, 0, 1]), Ok(()));
        for (flavour, number, headers, says) in [
            (Flavour::V8, 8401, [8, 6, 1, 6], "the oldest that can be driven is 8.5"),
            (Flavour::V10, 110_400, [10, 3, 0, 30], "built with headers of 10.3"),
            (Flavour::V10, 8502, [10, 3, 0, 30], "it is TensorRT 8.5.2"),
            (Flavour::Rtx, 10_701, [1, 3, 0, 1], "built with headers of 1.3"),
            (Flavour::Rtx, 10_300, [1, 7, 1, 1], "it is TensorRT-RTX 1.3.0"),
            (Flavour::Rtx, 20_000, [1, 7, 1, 1], "it is TensorRT-RTX 2.0.0"),
        ] {
            let message = check(flavour, number, headers).unwrap_err();
            assert!(message.contains(says), "{message}");
        }
    }
}

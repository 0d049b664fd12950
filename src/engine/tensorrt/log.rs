//! TensorRT's messages become this program's log lines, with their levels, under the target `tensorrt`.

use std::ffi::{CStr, c_char};

/// The target of the log lines: `RUST_LOG=tensorrt=debug` shows what TensorRT does.
pub const TARGET: &str = "tensorrt";

/// TensorRT's severities: internal error, error, warning, info, verbose.
fn level(severity: i32) -> log::Level {
    match severity {
        ..=1 => log::Level::Error,
        2 => log::Level::Warn,
        3 => log::Level::Info,
        _ => log::Level::Debug,
    }
}

/// Takes one message from any thread.
pub(super) extern "C" fn sink(severity: i32, message: *const c_char) {
    let level = level(severity);
    if message.is_null() || !log::log_enabled!(target: TARGET, level) {
        return;
    }
    // SAFETY: not null, and TensorRT passes text that ends with a zero and lives during the call.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    // A logger that panics must not unwind into C++.
    let _ = std::panic::catch_unwind(|| log::log!(target: TARGET, level, "{}", text.trim_end()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_keep_their_order() {
        let levels: Vec<_> = (0..=5).map(level).collect();
        use log::Level::{Debug, Error, Info, Warn};
        assert_eq!(levels, [Error, Error, Warn, Info, Debug, Debug]);
    }

    #[test]
    fn a_message_that_is_no_text_does_no_harm() {
        sink(1, std::ptr::null());
        sink(1, c"\xff\xfe".as_ptr());
    }
}

//! One video node: what it is, what it offers, and setting it up.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::mode::{Interval, Mode, Offer, Rates, Wish, sizes_between};
use super::sys::{self, Argument, capability};
use super::trouble::{Cause, Outcome, Trouble};
use crate::capture::formats::{Colours, Layout, PixelFormat};
use crate::error::{Error, Kind};

/// No driver has more of anything; one that never ends its list must not hold us.
const MAX_LISTED: u32 = 256;

/// An open video node that can capture.
#[derive(Debug)]
pub struct Device {
    pub(super) fd: OwnedFd,
    node: PathBuf,
    card: String,
    driver: String,
}

/// What a node gives, by V4L2's code and by its driver's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Four characters, the first in the lowest byte.
    pub fourcc: u32,
    /// The driver's name for it.
    pub description: String,
}

/// What the driver made of a [`Mode`].
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// How frames lie in memory.
    pub layout: Layout,
    /// The time between frames, if it tells.
    pub interval: Option<Interval>,
}

impl Device {
    /// Opens `node` and makes sure that pictures can be streamed from it.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn open(node: &Path) -> Outcome<Self> {
        let fd = sys::open(node).map_err(|e| open_trouble(node, e))?;
        let shown = node.display();
        match sys::is_character_device(fd.as_fd()) {
            Ok(true) => {}
            Ok(false) => {
                return Err(Trouble::unsuitable(format!("{shown} is no device: expected one like /dev/video0")));
            }
            Err(e) => return Err(Trouble::kernel(node, "its kind cannot be told", e)),
        }
        let mut found = sys::Capability::zeroed();
        sys::call(fd.as_fd(), &sys::QUERY_CAPABILITY, &mut found).map_err(|e| match e.raw_os_error() {
            // ENOSYS: a kernel, or an emulator of one, that knows no V4L2 at all.
            Some(libc::ENOTTY | libc::EINVAL | libc::ENOSYS) => {
                Trouble::unsuitable(format!("{shown} is no video device: expected one like /dev/video0"))
            }
            _ => Trouble::kernel(node, "it does not say what it is", e),
        })?;
        let (card, driver) = (text(&found.card), text(&found.driver));
        let has = if found.device & capability::DEVICE_CAPS != 0 { found.node } else { found.device };
        check_capabilities(node, &card, &driver, has)?;
        Ok(Self { fd, node: node.to_owned(), card, driver })
    }

    /// The camera's name, as its driver says it.
    pub fn card(&self) -> &str {
        &self.card
    }

    /// The driver's name.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// All pixel formats of the node, also those that this program cannot read.
    pub fn described(&self) -> Vec<Described> {
        let mut found = Vec::new();
        for index in 0..MAX_LISTED {
            let mut format = sys::FormatDescription::zeroed();
            (format.index, format.kind) = (index, sys::VIDEO_CAPTURE);
            if sys::call(self.fd.as_fd(), &sys::ENUM_FORMAT, &mut format).is_err() {
                break;
            }
            found.push(Described { fourcc: format.fourcc, description: text(&format.description) });
        }
        found
    }

    /// The modes that this program can read, as far as they matter for `wish`.
    ///
    /// # Errors
    /// When there are none, with what there is and what can be done about it.
    pub fn offers(&self, wish: &Wish) -> Outcome<Vec<Offer>> {
        let described = self.described();
        let formats = described.iter().filter_map(|format| PixelFormat::of_fourcc(format.fourcc));
        let mut offers = Vec::new();
        for format in formats {
            for size in self.sizes(format, wish) {
                offers.push(Offer { format, size, rates: self.rates(format, size) });
            }
        }
        if offers.is_empty() { Err(self.no_format(&described)) } else { Ok(offers) }
    }

    /// The sizes of `format`.
    fn sizes(&self, format: PixelFormat, wish: &Wish) -> Vec<(usize, usize)> {
        let wide = |a: u32, b: u32| (a as usize, b as usize);
        let mut sizes = Vec::new();
        for index in 0..MAX_LISTED {
            let mut found = sys::FrameSize::zeroed();
            (found.index, found.fourcc) = (index, format.fourcc());
            if sys::call(self.fd.as_fd(), &sys::ENUM_FRAME_SIZES, &mut found).is_err() {
                break;
            }
            let [a, b, c, d, e, f] = found.range;
            if found.kind != sys::DISCRETE {
                return sizes_between(wide(a, d), wide(b.max(a), e.max(d)), wide(c, f), wish);
            }
            sizes.push(wide(a, b));
        }
        if sizes.is_empty() {
            // Old drivers do not list sizes; they have one.
            let mut current = sys::Format::zeroed();
            current.kind = sys::VIDEO_CAPTURE;
            if sys::call(self.fd.as_fd(), &sys::GET_FORMAT, &mut current).is_ok() {
                sizes.push(wide(current.pixels.width, current.pixels.height));
            }
        }
        sizes.retain(|&(width, height)| width > 0 && height > 0);
        sizes
    }

    /// The rates of `format` at `size`.
    fn rates(&self, format: PixelFormat, size: (usize, usize)) -> Rates {
        let mut intervals = Vec::new();
        for index in 0..MAX_LISTED {
            let mut found = sys::FrameInterval::zeroed();
            (found.index, found.fourcc) = (index, format.fourcc());
            (found.width, found.height) = (side(size.0), side(size.1));
            if sys::call(self.fd.as_fd(), &sys::ENUM_FRAME_INTERVALS, &mut found).is_err() {
                break;
            }
            let [first, second, _] = found.range.map(Interval::new);
            match (found.kind, first, second) {
                (sys::DISCRETE, Some(interval), _) => intervals.push(interval),
                (sys::DISCRETE, ..) => {}
                (_, Some(shortest), Some(longest)) => return Rates::Between(shortest, longest),
                _ => break,
            }
        }
        if intervals.is_empty() { Rates::Unknown } else { Rates::These(intervals) }
    }

    /// Sets the node to `mode`.
    ///
    /// # Errors
    /// When another program streams from it, or the driver gives something that cannot be read.
    pub fn set(&self, mode: &Mode) -> Outcome<Setup> {
        let mut format = sys::Format::zeroed();
        format.kind = sys::VIDEO_CAPTURE;
        (format.pixels.width, format.pixels.height) = (side(mode.size.0), side(mode.size.1));
        format.pixels.fourcc = mode.format.fourcc();
        format.pixels.field = sys::FIELD_NONE;
        format.pixels.private = sys::PRIVATE_MAGIC;
        sys::call(self.fd.as_fd(), &sys::SET_FORMAT, &mut format)
            .map_err(|e| Trouble::kernel(&self.node, &format!("it cannot be set to {mode}"), e))?;
        let pixels = &format.pixels;
        if pixels.fourcc != mode.format.fourcc() {
            let found = fourcc_text(pixels.fourcc);
            return Err(Trouble::unsuitable(format!("{} gives {found} when asked for {mode}", self.node.display())));
        }
        let is_rgb = matches!(mode.format, PixelFormat::Rgb24 | PixelFormat::Bgr24);
        let colours = Colours::of_v4l2(is_rgb, pixels.colorspace, pixels.ycbcr_encoding, pixels.quantization);
        let size = (pixels.width as usize, pixels.height as usize);
        let layout = Layout::new(mode.format, size, pixels.bytes_per_line as usize, colours).map_err(|error| {
            Trouble { cause: Cause::Unsuitable, error: error.within(self.node.display().to_string()) }
        })?;
        Ok(Setup { layout, interval: self.set_interval(mode.interval) })
    }

    /// Asks for the time between frames; tells the one that is in force. A driver that knows no rates is no failure.
    fn set_interval(&self, wanted: Option<Interval>) -> Option<Interval> {
        let wanted = wanted?;
        let mut parameters = sys::StreamParameters::zeroed();
        parameters.kind = sys::VIDEO_CAPTURE;
        parameters.time_per_frame = [wanted.numerator, wanted.denominator];
        sys::call(self.fd.as_fd(), &sys::SET_PARAMETERS, &mut parameters).ok()?;
        let keeps = parameters.capability & capability::TIME_PER_FRAME != 0;
        Interval::new(parameters.time_per_frame).filter(|_| keeps)
    }

    /// Explains a node without a format that can be read.
    fn no_format(&self, described: &[Described]) -> Trouble {
        let node = self.node.display();
        let found: Vec<String> = described.iter().map(|format| fourcc_text(format.fourcc)).collect();
        if found.is_empty() && self.driver == LOOPBACK {
            let message = format!("{node} ({}) is a loopback that no program feeds yet", self.card);
            return Trouble { cause: Cause::Missing, error: Error::new(Kind::Source, message) };
        }
        let list = if found.is_empty() { "no format at all".to_owned() } else { found.join(", ") };
        if !found.is_empty() && described.iter().all(is_bayer) {
            return Trouble::unsuitable(bayer_advice(&node.to_string(), &self.card, &list));
        }
        let known = PixelFormat::ALL.map(PixelFormat::name).join(", ");
        Trouble::unsuitable(format!("{node} ({}) gives {list}: expected one of {known}", self.card))
    }
}

/// What v4l2loopback calls itself.
const LOOPBACK: &str = "v4l2 loopback";

fn open_trouble(node: &Path, cause: io::Error) -> Trouble {
    match cause.raw_os_error() {
        Some(libc::EISDIR) => {
            let message = format!("{} is a folder: expected a device like /dev/video0", node.display());
            Trouble::unsuitable(message)
        }
        _ => Trouble::kernel(node, "it cannot be opened", cause),
    }
}

/// Refuses a node that gives no pictures, or not in a way that this program takes.
fn check_capabilities(node: &Path, card: &str, driver: &str, has: u32) -> Outcome<()> {
    let node = node.display();
    if has & capability::VIDEO_CAPTURE == 0 {
        let message = if has & capability::META_CAPTURE != 0 {
            format!(
                "{node} ({card}) carries the camera's metadata, not its pictures: USB cameras have such a second node, the pictures \
                 come from the one before (…-video-index0 in /dev/v4l/by-id)"
            )
        } else if has & capability::VIDEO_M2M != 0 {
            format!("{node} ({card}) converts pictures and takes none: expected a camera")
        } else if has & capability::VIDEO_CAPTURE_MPLANE != 0 {
            format!(
                "{node} ({card}) is multi-planar, which this program does not read: feed it through v4l2loopback, as in `gst-launch-1.0 \
                 v4l2src device={node} ! videoconvert ! video/x-raw,format=YUY2 ! v4l2sink device=/dev/video10`"
            )
        } else if driver == LOOPBACK {
            // With exclusive_caps=1 it turns into a camera when somebody feeds it.
            let message = format!("{node} ({card}) is a loopback that no program feeds yet");
            return Err(Trouble { cause: Cause::Missing, error: Error::new(Kind::Source, message) });
        } else if has & capability::VIDEO_OUTPUT != 0 {
            format!("{node} ({card}) shows pictures and takes none: expected a camera")
        } else {
            format!("{node} ({card}) takes no pictures: expected a camera")
        };
        return Err(Trouble::unsuitable(message));
    }
    if has & capability::STREAMING == 0 {
        return Err(Trouble::unsuitable(format!(
            "{node} ({card}) cannot stream into mapped memory, which this program needs"
        )));
    }
    Ok(())
}

/// Whether a format is a sensor's raw one: a red, two green and a blue pixel in a square, each of one colour only.
fn is_bayer(format: &Described) -> bool {
    const BAYER: [&[u8; 4]; 22] = [
        b"BA81", b"GBRG", b"GRBG", b"RGGB", b"BG10", b"GB10", b"BA10", b"RG10", b"BG12", b"GB12", b"BA12", b"RG12",
        b"BG14", b"GB14", b"GR14", b"RG14", b"BYR2", b"GB16", b"GR16", b"RG16", b"pRAA", b"pBAA",
    ];
    BAYER.iter().any(|code| u32::from_le_bytes(**code) == format.fourcc)
        || format.description.to_ascii_lowercase().contains("bayer")
}

/// How a raw sensor's pictures reach this program.
fn bayer_advice(node: &str, card: &str, found: &str) -> String {
    format!(
        "{node} ({card}) gives a sensor's raw Bayer pixels only ({found}). They become pictures in the image signal processor, which on a \
         Jetson only NVIDIA's Argus drives. Let GStreamer do that and feed a loopback device:\n  \
         sudo modprobe v4l2loopback video_nr=10 card_label=csi\n  \
         gst-launch-1.0 nvarguscamerasrc sensor-id=0 ! 'video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1' ! nvvidconv ! \
         'video/x-raw,width=640,height=360,format=YUY2' ! identity drop-allocation=true ! v4l2sink device=/dev/video10\n  \
         cfvit run --source /dev/video10"
    )
}

/// A driver's text: up to its first zero byte, without anything that could disturb a terminal.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned()
}

/// The four characters of a format's code.
pub fn fourcc_text(fourcc: u32) -> String {
    let printable = |byte: u8| if byte.is_ascii_graphic() || byte == b' ' { byte as char } else { '?' };
    let text: String = fourcc.to_le_bytes().map(printable).iter().collect();
    text.trim_end().to_owned()
}

fn side(pixels: usize) -> u32 {
    u32::try_from(pixels).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(has: u32, driver: &str) -> Trouble {
        check_capabilities(Path::new("/dev/video1"), "Cam", driver, has).unwrap_err()
    }

    #[test]
    fn nodes_that_are_no_cameras_are_told_apart() {
        for (has, says) in [
            (capability::META_CAPTURE, "metadata"),
            (capability::VIDEO_M2M, "converts"),
            (capability::VIDEO_CAPTURE_MPLANE, "multi-planar"),
            (capability::VIDEO_OUTPUT, "shows pictures"),
            (0, "takes no pictures"),
            (capability::VIDEO_CAPTURE, "cannot stream"),
        ] {
            let trouble = refused(has, "x");
            assert!(trouble.is_lasting() && trouble.error.kind() == Kind::Usage, "{trouble}");
            assert!(trouble.to_string().contains(says) && trouble.to_string().contains("/dev/video1"), "{trouble}");
        }
        let trouble = refused(capability::VIDEO_OUTPUT, LOOPBACK);
        assert!(trouble.cause == Cause::Missing && !trouble.is_lasting());
        let fine = capability::VIDEO_CAPTURE | capability::STREAMING | capability::META_CAPTURE;
        assert!(check_capabilities(Path::new("/dev/video0"), "Cam", "x", fine).is_ok());
    }

    #[test]
    fn raw_sensors_are_recognised_by_code_or_by_word() {
        let of = |code: &[u8; 4], description: &str| {
            is_bayer(&Described { fourcc: u32::from_le_bytes(*code), description: description.to_owned() })
        };
        assert!(of(b"RG10", "") && of(b"????", "10-bit Bayer RGRG/GBGB") && !of(b"YUYV", "YUYV 4:2:2"));
        let advice = bayer_advice("/dev/video0", "imx219", "RG10");
        assert!(advice.contains("nvarguscamerasrc") && advice.contains("v4l2loopback"), "{advice}");
    }

    #[test]
    fn what_drivers_write_is_harmless() {
        assert_eq!(text(b"UVC\x1b[2J Cam\0garbage"), "UVC[2J Cam");
        assert_eq!(text(b"  \xff\xfe"), "\u{fffd}\u{fffd}");
        assert_eq!((fourcc_text(u32::from_le_bytes(*b"Y16 ")), fourcc_text(0)), ("Y16".to_owned(), "????".to_owned()));
    }

    #[test]
    fn errors_of_opening_say_whether_waiting_helps() {
        let node = Path::new("/dev/video0");
        for (code, cause, lasting) in [
            (libc::ENOENT, Cause::Missing, false),
            (libc::EACCES, Cause::Denied, true),
            (libc::EBUSY, Cause::Busy, false),
            (libc::EIO, Cause::Failed, false),
            (libc::EISDIR, Cause::Unsuitable, true),
        ] {
            let trouble = open_trouble(node, io::Error::from_raw_os_error(code));
            assert_eq!((trouble.cause, trouble.is_lasting()), (cause, lasting), "{trouble}");
        }
        assert!(Device::open(Path::new("/dev/null")).unwrap_err().to_string().contains("no video device"));
        assert_eq!(Device::open(Path::new("/dev/no-such")).unwrap_err().cause, Cause::Missing);
        assert_eq!(Device::open(Path::new("/dev")).unwrap_err().cause, Cause::Unsuitable);
    }
}

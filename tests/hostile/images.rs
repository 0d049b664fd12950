//! Hostile pictures: truncated, bit-flipped, lying, too large.

use std::collections::BTreeSet;
use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

use super::{Case, MAY_BE_VALID, Random};

/// A photograph of everyday size.
const PHOTOGRAPH: &[u8] = include_bytes!("../data/pictures/n02102040/n02102040_6060.JPEG");
const PROGRESSIVE: &[u8] = include_bytes!("../data/pillow/progressive-4-2-2.jpg");
const CMYK: &[u8] = include_bytes!("../data/pillow/cmyk.jpg");
const GREY: &[u8] = include_bytes!("../data/pillow/grey.jpg");
const PALETTE: &[u8] = include_bytes!("../data/pillow/palette.png");

/// Every hostile picture.
pub fn corpus() -> Vec<Case> {
    let mut corpus = Corpus::default();
    corpus.not_pictures();
    corpus.truncated();
    corpus.damaged_jpeg();
    corpus.odd_samplings();
    corpus.damaged_png();
    corpus.too_large();
    corpus.lying_headers();
    corpus.bit_flips();
    corpus.0
}

/// A small picture with all sorts of content.
pub fn sample() -> DynamicImage {
    RgbImage::from_fn(61, 47, |x, y| Rgb([(x * 4) as u8, (y * 5) as u8, (x * y) as u8])).into()
}

/// `image` in `format`.
pub fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The formats that can be written here, with their extensions.
const WRITABLE: [(ImageFormat, &str); 6] = [
    (ImageFormat::Png, "png"),
    (ImageFormat::Gif, "gif"),
    (ImageFormat::WebP, "webp"),
    (ImageFormat::Tiff, "tif"),
    (ImageFormat::Bmp, "bmp"),
    (ImageFormat::Pnm, "ppm"),
];

/// A PNG chunk with a right checksum.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let content = [kind, data].concat();
    [&(data.len() as u32).to_be_bytes()[..], &content, &crc32(&content).to_be_bytes()].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}

/// A PNG of 8-bit grey with this header and these bytes as compressed pixels.
fn png(width: u32, height: u32, compressed: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n", &chunk(b"IHDR", &header)[..], &chunk(b"IDAT", compressed), &chunk(b"IEND", b"")].concat()
}

/// `bytes` with a frame header (`SOF0`, `SOF2`) that says another size.
fn resized_jpeg(bytes: &[u8], width: u16, height: u16) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0] || pair == [0xFF, 0xC2]).unwrap();
    bytes[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    bytes[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// `bytes` with `new` written over what is at `at`.
fn patched(bytes: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

#[derive(Default)]
struct Corpus(Vec<Case>);

impl Corpus {
    fn add(&mut self, name: impl Into<String>, extension: &str, bytes: Vec<u8>, expect: &'static str) {
        let name = format!("image: {}", name.into());
        let file = format!("image-{:03}.{extension}", self.0.len());
        self.0.push(Case { name, file, bytes, expect });
    }

    fn not_pictures(&mut self) {
        self.add("empty", "jpg", Vec::new(), "empty");
        self.add("text", "jpg", b"this is no picture\n".to_vec(), "not a picture");
        self.add("zeros", "png", vec![0; 4096], "not a picture");
        self.add("half a magic number", "png", b"\x89PN".to_vec(), "not a picture");
        self.add("only a magic number", "png", b"\x89PNG\r\n\x1a\n".to_vec(), "truncated");
        self.add("only a start mark", "jpg", vec![0xFF, 0xD8], "");
        self.add("start and end mark", "jpg", vec![0xFF, 0xD8, 0xFF, 0xD9], "");
        self.add("a wrong magic number", "jpg", [&[0xFF, 0xD9], &PHOTOGRAPH[2..]].concat(), "not a picture");
        self.add(
            "SVG",
            "svg",
            b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>".to_vec(),
            "not a picture",
        );
        self.add(
            "AVIF, which is not built in",
            "avif",
            b"\0\0\0\x20ftypavif\0\0\0\0avifmif1".to_vec(),
            "not a picture",
        );
        self.add("text called TGA", "tga", b"this is no picture\n".to_vec(), "");
    }

    fn truncated(&mut self) {
        for (kind, bytes) in [("baseline", PHOTOGRAPH), ("progressive", PROGRESSIVE), ("CMYK", CMYK)] {
            let length = bytes.len();
            let ends = [3, 20, 100, 400, length / 3, length / 2, length * 9 / 10, length - 3, length - 2, length - 1];
            for end in ends {
                self.add(format!("{kind} JPEG, first {end} bytes"), "jpg", bytes[..end].to_vec(), "truncated");
            }
        }
        let half = [&PHOTOGRAPH[..PHOTOGRAPH.len() / 2], &[0xFF, 0xD9]].concat();
        self.add("JPEG cut in the middle with an end mark", "jpg", half, MAY_BE_VALID);
        let half = [&PROGRESSIVE[..PROGRESSIVE.len() / 2], &[0xFF, 0xD9]].concat();
        self.add("progressive JPEG cut in the middle with an end mark", "jpg", half, MAY_BE_VALID);
        let deep = encode(&DynamicImage::from(sample().to_rgb16()), ImageFormat::Png);
        for (kind, bytes) in [("palette", PALETTE), ("16-bit", &deep)] {
            let length = bytes.len();
            for end in [9, 20, 33, 60, length / 2, length - 13, length - 12, length - 5, length - 1] {
                self.add(format!("{kind} PNG, first {end} bytes"), "png", bytes[..end].to_vec(), "truncated");
            }
        }
        for (format, extension) in &WRITABLE[1..] {
            let bytes = encode(&sample(), *format);
            for percent in [5, 50, 90] {
                let end = bytes.len() * percent / 100;
                self.add(format!("{format:?}, first {percent} %"), extension, bytes[..end].to_vec(), "");
            }
        }
        let bytes = encode(&sample(), ImageFormat::Tga);
        self.add("TGA, first half", "tga", bytes[..bytes.len() / 2].to_vec(), "");
    }

    fn damaged_jpeg(&mut self) {
        let find = |marker: u8| PHOTOGRAPH.windows(2).position(|pair| pair == [0xFF, marker]).unwrap();
        let (tables, quantisation, frame, scan) = (find(0xC4), find(0xDB), find(0xC0), find(0xDA));
        let mut add = |name: &str, at: usize, new: &[u8], expect| {
            self.add(format!("JPEG, {name}"), "jpg", patched(PHOTOGRAPH, at, new), expect);
        };
        add("Huffman table with too many codes", tables + 5, &[255; 16], "");
        add("Huffman table with 255 codes of one bit", tables + 5, &[255, 0, 0, 0, 0, 0, 0, 0], "");
        add("empty Huffman table", tables + 5, &[0; 16], "");
        add("Huffman table of an unknown class", tables + 4, &[0x55], "");
        add("Huffman table shorter than its header", tables + 2, &[0, 3], "");
        add("quantisation table of an unknown number", quantisation + 4, &[0x0F], "");
        add("quantisation tables shorter than their header", quantisation + 2, &[0, 2], MAY_BE_VALID);
        add("frame of no components", frame + 9, &[0], "");
        add("frame of 255 components", frame + 9, &[255], "");
        add("frame of 12 bits", frame + 4, &[12], "");
        add("frame of 0 bits", frame + 4, &[0], "");
        add("sampling factors of 0", frame + 11, &[0x00], "");
        add("sampling factors of 15", frame + 11, &[0xFF], "");
        add("component with a missing quantisation table", frame + 12, &[3], "");
        add("scan of no components", scan + 4, &[0], "");
        add("scan of unknown components", scan + 5, &[77], "");
        add("scan with a missing Huffman table", scan + 6, &[0x33], "");
        add("arithmetic coding", frame + 1, &[0xC9], MAY_BE_VALID);
        add("lossless", frame + 1, &[0xC3], "");
        add("hierarchical", frame + 1, &[0xC5], "");
        let length = PHOTOGRAPH.len();
        let noise: Vec<u8> = (0..2000).map(|i| (i * 37 % 251) as u8).collect();
        add("noise in its middle", length / 2, &noise[..1500], MAY_BE_VALID);
        let no_tables = [&PHOTOGRAPH[..tables], &PHOTOGRAPH[scan..]].concat();
        self.add("JPEG without tables", "jpg", no_tables, MAY_BE_VALID);
        let scanless = [&PHOTOGRAPH[..scan], &[0xFF, 0xD9]].concat();
        self.add("JPEG without a scan", "jpg", scanless, "");
        let bomb =
            [&PROGRESSIVE[..PROGRESSIVE.len() - 2], &last_scan(PROGRESSIVE).repeat(2000), &[0xFF, 0xD9]].concat();
        self.add("progressive JPEG with 2000 scans", "jpg", bomb, "");
    }

    /// Sampling factors other than what the pixels were written with: whoever trusts them reads or writes beyond a plane's end.
    fn odd_samplings(&mut self) {
        for (kind, bytes) in [("baseline", PHOTOGRAPH), ("progressive", PROGRESSIVE), ("CMYK", CMYK), ("grey", GREY)] {
            let at = bytes.windows(2).position(|pair| pair == [0xFF, 0xC0] || pair == [0xFF, 0xC2]).unwrap();
            let components = usize::from(bytes[at + 9]);
            for luma in [0x11, 0x12, 0x21, 0x22, 0x41, 0x14, 0x44, 0x13] {
                let others = BTreeSet::from([(0x11, luma), (0x11, 0x11), (luma, 0x11), (0x22, 0x22), (0x12, 0x21)]);
                for (chroma, black) in others {
                    let factors = [luma, chroma, chroma, black];
                    let mut bytes = bytes.to_vec();
                    for (i, factor) in factors.iter().take(components).enumerate() {
                        bytes[at + 11 + 3 * i] = *factor;
                    }
                    self.add(format!("{kind} JPEG sampled {factors:02x?}"), "jpg", bytes, MAY_BE_VALID);
                }
            }
        }
        let patched = patched(CMYK, CMYK.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap() + 11, &[0x14]);
        self.add("CMYK JPEG whose cyan alone is sampled finer", "jpg", patched, "no camera writes");
    }

    fn damaged_png(&mut self) {
        let good = encode(&sample(), ImageFormat::Png);
        self.add("PNG, wrong header checksum", "png", patched(&good, 29, &[1, 2, 3, 4]), "");
        let data = good.windows(4).position(|word| word == b"IDAT").unwrap();
        for offset in [4, 6, 40, 200] {
            let flipped = good[data + offset] ^ 0x10;
            self.add(
                format!("PNG, bit flipped at pixel byte {offset}"),
                "png",
                patched(&good, data + offset, &[flipped]),
                "",
            );
        }
        self.add("PNG, pixels are no zlib stream", "png", png(8, 8, b"garbage, not zlib"), "");
        self.add("PNG without pixels", "png", png(8, 8, b""), "");
        let zlib_of_nine_zeros = [0x78, 0x9C, 0x63, 0x80, 0x01, 0x00, 0x00, 0x09, 0x00, 0x01];
        self.add("PNG with fewer pixels than it says", "png", png(4000, 4000, &zlib_of_nine_zeros), "");
        let header = |depth, colour, rest: [u8; 3]| {
            let sizes = [&8u32.to_be_bytes()[..], &8u32.to_be_bytes(), &[depth, colour], &rest].concat();
            [b"\x89PNG\r\n\x1a\n", &chunk(b"IHDR", &sizes)[..], &chunk(b"IDAT", b"x"), &chunk(b"IEND", b"")].concat()
        };
        self.add("PNG of 3 bits", "png", header(3, 0, [0; 3]), "");
        self.add("PNG of an unknown colour model", "png", header(8, 5, [0; 3]), "");
        self.add("PNG with an unknown compression", "png", header(8, 0, [9, 0, 0]), "");
        self.add("PNG with an unknown interlacing", "png", header(8, 0, [0, 0, 9]), "");
        self.add("PNG with a palette but no palette", "png", header(8, 3, [0; 3]), "");
        self.add("PNG, chunk of 4 GB", "png", patched(&good, data - 4, &[0xFF; 4]), "truncated");
        let no_header = [&good[..8], &good[33..]].concat();
        self.add("PNG without a header", "png", no_header, "");
    }

    fn too_large(&mut self) {
        let sizes = [(20_000, 20_000), (16_385, 1), (1, 16_385), (65_535, 65_535), (16_384, 16_384), (8_193, 8_193)];
        for (width, height) in sizes {
            let expect = if (width, height) == (20_000, 20_000) {
                "20000×20000 pixels, at most 16384"
            } else {
                "at most 16384"
            };
            self.add(format!("{width}×{height} PNG"), "png", png(width, height, &[0x78, 0x9C]), expect);
            for (kind, bytes) in [("baseline", PHOTOGRAPH), ("progressive", PROGRESSIVE), ("CMYK", CMYK)] {
                let bytes = resized_jpeg(bytes, width as u16, height as u16);
                self.add(format!("{width}×{height} {kind} JPEG"), "jpg", bytes, expect);
            }
        }
        self.add("2³¹ × 2³¹ PNG", "png", png(1 << 31, 1 << 31, &[0x78, 0x9C]), "");
        self.add("0×0 PNG", "png", png(0, 0, &[0x78, 0x9C]), "");
        self.add("0×9 PNG", "png", png(0, 9, &[0x78, 0x9C]), "");
        self.add("0×0 JPEG", "jpg", resized_jpeg(PHOTOGRAPH, 0, 0), "");
        self.add("9×0 JPEG", "jpg", resized_jpeg(PHOTOGRAPH, 9, 0), "");
        self.add("0×9 JPEG", "jpg", resized_jpeg(PHOTOGRAPH, 0, 9), "");
        let bomb = png(20_000, 20_000, &zlib_zeros(20_000 * 20_001));
        assert!(bomb.len() < 3_000_000, "{} bytes", bomb.len());
        self.add("PNG bomb: 400 megapixels, all there", "png", bomb, "20000×20000 pixels, at most 16384");
        self.add("PNG bomb: 100 MB for 64 pixels", "png", png(8, 8, &zlib_zeros(100_000_000)), MAY_BE_VALID);
        for (kind, bytes) in [("baseline", PHOTOGRAPH), ("progressive", PROGRESSIVE), ("CMYK", CMYK)] {
            let name = format!("{kind} JPEG that says 8192×8192, which is just allowed");
            self.add(name, "jpg", resized_jpeg(bytes, 8192, 8192), "truncated");
        }
        // Few enough pixels, but 16 bits and alpha: eight bytes each.
        let header = [&8192u32.to_be_bytes()[..], &8192u32.to_be_bytes(), &[16, 6, 0, 0, 0]].concat();
        let signature = b"\x89PNG\r\n\x1a\n";
        let deep =
            [signature, &chunk(b"IHDR", &header)[..], &chunk(b"IDAT", &[0x78, 0x9C]), &chunk(b"IEND", b"")].concat();
        self.add("8192×8192 PNG of 16-bit RGBA without pixels", "png", deep, "MiB are accepted");
    }

    fn lying_headers(&mut self) {
        let text = |header: &str| [header.as_bytes(), &[7; 300]].concat();
        self.add("PNM says 20000×20000", "ppm", text("P6 20000 20000 255\n"), "");
        self.add("PNM says 10000×5000", "ppm", text("P6 10000 5000 255\n"), "");
        self.add("PNM says 0×0", "ppm", text("P6 0 0 255\n"), "");
        self.add("PNM with a maximum of 0", "ppm", text("P6 8 8 0\n"), "");
        self.add("PNM with a size beyond 64 bits", "pgm", text("P5 99999999999999999999 1 255\n"), "");
        self.add("PNM with a negative size", "pgm", text("P5 -1 -1 255\n"), "");
        self.add("PAM without a depth", "pam", text("P7\nWIDTH 9\nHEIGHT 9\nMAXVAL 255\nENDHDR\n"), "");
        let bmp = encode(&sample(), ImageFormat::Bmp);
        for (name, at, new) in [
            ("width 20000", 18, 20_000i32.to_le_bytes()),
            ("height 2³¹ − 1", 22, i32::MAX.to_le_bytes()),
            ("height −2³¹", 22, i32::MIN.to_le_bytes()),
            ("width −1", 18, (-1i32).to_le_bytes()),
            ("width 0", 18, [0; 4]),
            ("pixels beyond the end", 10, [0xFF, 0xFF, 0xFF, 0x7F]),
            ("77 bits", 28, [77, 0, 0, 0]),
            ("header of 4 GB", 14, [0xFF; 4]),
        ] {
            self.add(format!("BMP, {name}"), "bmp", patched(&bmp, at, &new), "");
        }
        let gif = encode(&sample(), ImageFormat::Gif);
        self.add("GIF, screen of 65535×65535", "gif", patched(&gif, 6, &[0xFF; 4]), "at most 16384");
        self.add("GIF, screen of 0×0", "gif", patched(&gif, 6, &[0; 4]), "");
        self.add("GIF without frames", "gif", [&gif[..13], b";"].concat(), "");
        let tiff = encode(&sample(), ImageFormat::Tiff);
        self.add("TIFF, directory beyond the end", "tif", patched(&tiff, 4, &[0xFF, 0xFF, 0xFF, 0x7F]), "");
        self.add("TIFF, directory at the header", "tif", patched(&tiff, 4, &[0, 0, 0, 0]), "");
        let webp = encode(&sample(), ImageFormat::WebP);
        self.add("WebP, chunk of 4 GB", "webp", patched(&webp, 16, &[0xFF, 0xFF, 0xFF, 0xFF]), MAY_BE_VALID);
        self.add("WebP, no picture inside", "webp", b"RIFF\x04\0\0\0WEBP".to_vec(), "");
        self.add("WebP, wrong signature inside", "webp", patched(&webp, 20, &[0]), "");
        let tga = encode(&sample(), ImageFormat::Tga);
        self.add("TGA, 65535×65535", "tga", patched(&tga, 12, &[0xFF; 4]), "at most 16384");
        self.add("TGA, 0×0", "tga", patched(&tga, 12, &[0; 4]), "");
        self.add("TGA of an unknown kind", "tga", patched(&tga, 2, &[77]), "");
        self.add("TGA of 77 bits", "tga", patched(&tga, 16, &[77]), "");
    }

    /// A flipped bit here and there; some of it leaves a picture.
    fn bit_flips(&mut self) {
        let mut random = Random(11);
        let mut seeds = vec![("jpg", PHOTOGRAPH.to_vec()), ("jpg", PROGRESSIVE.to_vec()), ("jpg", CMYK.to_vec())];
        seeds.extend(WRITABLE.map(|(format, extension)| (extension, encode(&sample(), format))));
        for (extension, seed) in seeds {
            for i in 0..4 {
                let mut bytes = seed.clone();
                for _ in 0..1 + i {
                    // Most damage is done in headers.
                    let at = random.below(if i % 2 == 0 { bytes.len() } else { bytes.len().min(200) });
                    bytes[at] ^= 1 << random.below(8);
                }
                self.add(
                    format!("bit flips {i} in {extension} of {} bytes", seed.len()),
                    extension,
                    bytes,
                    MAY_BE_VALID,
                );
            }
        }
    }
}

/// The last scan of a progressive JPEG, from its marker to the end mark.
fn last_scan(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.windows(2).rposition(|pair| pair == [0xFF, 0xDA]).unwrap();
    bytes[start..bytes.len() - 2].to_vec()
}

/// `length` zeros as a zlib stream: one deflate block of fixed codes that says "again, 258 times" over and over.
fn zlib_zeros(length: usize) -> Vec<u8> {
    let repeats = (length - 1) / 258;
    let mut bits = Bits::default();
    // Last block (1), fixed codes (01, its lower bit first), one literal zero.
    bits.push(0b110, 3);
    bits.push(0b0011_0000, 8);
    for _ in 0..repeats {
        // Length 258, distance 1.
        bits.push(0b1100_0101, 8);
        bits.push(0, 5);
    }
    for _ in 1 + repeats * 258..length {
        bits.push(0b0011_0000, 8);
    }
    bits.push(0, 7);
    let checksum = ((length % 65_521) as u32) << 16 | 1;
    [&[0x78, 0x9C], &bits.0[..], &checksum.to_be_bytes()].concat()
}

/// Huffman codes, first bit first, packed from the lowest bit up.
#[derive(Default)]
struct Bits(Vec<u8>, usize);

impl Bits {
    fn push(&mut self, code: u32, length: usize) {
        for i in (0..length).rev() {
            if self.1.is_multiple_of(8) {
                self.0.push(0);
            }
            *self.0.last_mut().unwrap() |= ((code >> i & 1) as u8) << (self.1 % 8);
            self.1 += 1;
        }
    }
}

//! Is this file a picture that a screen may show?
//!
//! PNG alone: it holds no script, no link and no text that is drawn. Its size is bounded in the file and
//! on the screen, so that a small file does not become a large picture.

use std::io::Read;
use std::path::Path;

/// Largest file, in bytes.
pub const LOGO_MAX: u64 = 262_144;
/// Longest side, in pixels: a logo is drawn a tenth of a screen high.
pub const SIDE_MAX: u32 = 2_048;

const MAGIC: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Magic bytes, length and name of the first chunk, width, height.
const HEAD: usize = 24;

/// The bytes, or what is wrong with them.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let read = file.by_ref().take(LOGO_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    check(&bytes)?;
    Ok(bytes)
}

fn check(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() as u64 > LOGO_MAX {
        return Err(format!("larger than {LOGO_MAX} bytes"));
    }
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        return Err("not a PNG picture".into());
    };
    if head[..8] != MAGIC || head[12..16] != *b"IHDR" {
        return Err("not a PNG picture".into());
    }
    let side = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (width, height) = (side(16), side(20));
    if [width, height]
        .iter()
        .any(|side| !(1..=SIDE_MAX).contains(side))
    {
        return Err(format!(
            "{width} by {height} pixels; at most {SIDE_MAX} a side"
        ));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The beginning of a PNG of this size.
    pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(13u32.to_be_bytes());
        bytes.extend(b"IHDR");
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes
    }

    /// A whole PNG of two stripes.
    pub(crate) fn picture() -> Vec<u8> {
        let (width, height) = (240, 80);
        let row = |y: u32| {
            let colour = if y < height / 2 {
                [138, 52, 16]
            } else {
                [45, 26, 14]
            };
            std::iter::once(0).chain(colour.into_iter().cycle().take(width as usize * 3))
        };
        let rows: Vec<u8> = (0..height).flat_map(row).collect();
        let length = rows.len() as u16;
        let mut data = vec![0x78, 0x01, 1];
        data.extend(length.to_le_bytes());
        data.extend((!length).to_le_bytes());
        data.extend(&rows);
        data.extend(adler(&rows).to_be_bytes());
        let mut bytes = png(width, height);
        bytes.extend([8, 2, 0, 0, 0]);
        bytes.extend(crc(&bytes[12..29]).to_be_bytes());
        for (name, data) in [(b"IDAT", data), (b"IEND", Vec::new())] {
            let start = bytes.len() + 4;
            bytes.extend((data.len() as u32).to_be_bytes());
            bytes.extend(name);
            bytes.extend(data);
            bytes.extend(crc(&bytes[start..]).to_be_bytes());
        }
        bytes
    }

    fn crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
            })
        })
    }

    fn adler(bytes: &[u8]) -> u32 {
        let (a, b) = bytes.iter().fold((1, 0), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65_521;
            (a, (b + a) % 65_521)
        });
        b << 16 | a
    }

    #[test]
    fn a_png_of_a_sane_size_is_a_logo_and_nothing_else_is() {
        assert_eq!(check(&png(640, 200)), Ok(()));
        let svg = b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>x</script></svg>".to_vec();
        let mut long = png(640, 200);
        long.resize(LOGO_MAX as usize + 1, 0);
        for (bytes, word) in [
            (svg, "not a PNG"),
            (b"GIF89a".to_vec(), "not a PNG"),
            (png(1, 1)[..23].to_vec(), "not a PNG"),
            (Vec::new(), "not a PNG"),
            (png(0, 10), "0 by 10"),
            (png(10, SIDE_MAX + 1), "10 by 2049"),
            (long, "larger"),
        ] {
            let refused = check(&bytes);
            assert!(
                refused.as_ref().is_err_and(|why| why.contains(word)),
                "{refused:?}"
            );
        }
    }
}

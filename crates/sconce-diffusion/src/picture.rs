//! Pictures in and out: files to numbers and back, sizes, masks; as PIL and diffusers' image processors do it.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageReader, Limits, RgbImage};
use sconce_core::{PictureFormat, ServeError};

/// Pixels along a side of a picture that is read, at most.
const LONGEST: u32 = 8192;

/// Bytes that decoding may take: a bomb of few bytes could ask for many gigabytes.
const DECODED: u64 = 256 << 20;

/// The quality of JPEG files, PIL's default.
const QUALITY: u8 = 75;

/// Reads a file; `key` names it in errors.
pub(crate) fn read(key: &str, bytes: &[u8]) -> Result<RgbImage, ServeError> {
    let wrong = |problem: String| {
        let value = format!("{} bytes", bytes.len());
        ServeError::parameter(key, value, problem)
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST);
    limits.max_image_height = Some(LONGEST);
    limits.max_alloc = Some(DECODED);
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if reader.format().is_none() {
        return Err(wrong(
            "is no picture; send a PNG, JPEG or WebP file, in JSON as base64".into(),
        ));
    }
    reader.limits(limits);
    match reader.decode() {
        Ok(found) if found.width() > 0 && found.height() > 0 => Ok(found.into_rgb8()),
        Ok(_) => Err(wrong("has no pixels".into())),
        Err(image::ImageError::Limits(error)) => Err(wrong(format!(
            "is too large: {error}; send at most {LONGEST} pixels along each side and {} MiB when decoded",
            DECODED >> 20
        ))),
        Err(error) => Err(wrong(format!(
            "cannot be decoded: {error}; send a whole PNG, JPEG or WebP file"
        ))),
    }
}

/// Numbers from -1 to 1, `[height, width, 3]`.
pub(crate) fn normalised(picture: &RgbImage) -> Vec<f32> {
    let bytes = picture.as_raw().iter();
    bytes
        .map(|byte| f32::from(*byte) / 255.0 * 2.0 - 1.0)
        .collect()
}

/// 1 where a picture is bright, else 0, `[height, width]`.
pub(crate) fn binary(picture: &RgbImage) -> Vec<f32> {
    let bright = |[red, green, blue]: [u8; 3]| {
        // PIL's conversion to grey.
        let sum = u32::from(red) * 19595 + u32::from(green) * 38470 + u32::from(blue) * 7471;
        let grey = (sum + 0x8000) >> 16;
        if grey as f32 / 255.0 < 0.5 { 0.0 } else { 1.0 }
    };
    picture.pixels().map(|pixel| bright(pixel.0)).collect()
}

/// Numbers `[height, width, 3]` from about -1 to 1 as a picture.
pub(crate) fn of_numbers(numbers: &[f32], [height, width]: [usize; 2]) -> RgbImage {
    let byte = |x: &f32| ((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    let bytes = numbers.iter().map(byte).collect();
    let made = RgbImage::from_raw(width as u32, height as u32, bytes);
    made.unwrap_or_else(|| RgbImage::new(width as u32, height as u32))
}

/// A file.
pub(crate) fn encoded(picture: &RgbImage, format: PictureFormat) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let (width, height) = picture.dimensions();
    let raw = picture.as_raw();
    let color = ExtendedColorType::Rgb8;
    let written = match format {
        PictureFormat::Png => PngEncoder::new(&mut bytes).write_image(raw, width, height, color),
        PictureFormat::Jpeg => {
            JpegEncoder::new_with_quality(&mut bytes, QUALITY).encode(raw, width, height, color)
        }
        PictureFormat::Webp => {
            WebPEncoder::new_lossless(&mut bytes).write_image(raw, width, height, color)
        }
    };
    written.map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// A picture of one colour, as its file's pixels would be.
#[cfg(test)]
pub(crate) fn plain(width: u32, height: u32) -> Vec<u8> {
    let picture = RgbImage::new(width, height);
    encoded(&picture, PictureFormat::Png).expect("a picture is encoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        read("image", bytes).unwrap_err().to_string()
    }

    #[test]
    fn files_that_are_no_pictures_or_bombs_are_refused_with_the_limit() {
        assert!(refused(b"hello").contains("is no picture"));
        let whole = plain(20, 20);
        assert!(refused(&whole[..whole.len() / 2]).contains("cannot be decoded"));
        // The header alone says how large a picture is.
        let mut bomb = whole.clone();
        bomb[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
        assert!(!refused(&bomb).is_empty());
        let wide = plain(LONGEST + 1, 1);
        assert!(refused(&wide).contains("8192"), "{}", refused(&wide));
    }

    #[test]
    fn every_format_is_written_and_read_again() {
        let numbers: Vec<f32> = (0..8 * 6 * 3)
            .map(|x| (x % 50) as f32 / 25.0 - 1.0)
            .collect();
        let picture = of_numbers(&numbers, [8, 6]);
        for format in PictureFormat::ALL {
            let bytes = encoded(&picture, format).unwrap();
            let again = read("image", &bytes).unwrap();
            assert_eq!(again.dimensions(), (6, 8));
            assert!(format == PictureFormat::Jpeg || again == picture);
        }
    }
}

//! `CLIPImageProcessor` of transformers: how pictures are prepared for the safety checker.

use std::path::Path;

use candle_core::{Result, Tensor};
use image::RgbImage;
use image::imageops::crop_imm;
use sconce_models::{ConfigError, HfConfig};

use crate::resample::{Filter, resized};
use crate::tensors;

/// What `preprocessor_config.json` says.
pub(crate) struct Extractor {
    /// The shorter side after resizing.
    shortest: u32,
    /// Height and width that are cut out of the middle.
    crop: [u32; 2],
    mean: [f32; 3],
    spread: [f32; 3],
}

const MEAN: [f64; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const SPREAD: [f64; 3] = [0.268_629_54, 0.261_302_58, 0.275_777_11];

impl Extractor {
    pub(crate) fn read(dir: &Path) -> std::result::Result<Self, ConfigError> {
        let file = dir.join("preprocessor_config.json");
        let bytes = std::fs::read(&file).map_err(|cause| ConfigError::Read {
            file: file.clone(),
            cause,
        })?;
        let keys = HfConfig::parse(file, &bytes)?;
        for key in ["do_resize", "do_center_crop", "do_normalize", "do_rescale"] {
            keys.refuse_false(key, "true")?;
        }
        // Older files have a number where newer ones have an object.
        let side = |key: &str, part: &str| match keys.find_number(key) {
            Some(_) => keys.size(key),
            None => keys.object(key)?.size_or(part, 224),
        };
        let three = |key: &str, default: [f64; 3]| {
            let found = keys.list(key).unwrap_or_default().iter();
            let found: Vec<f64> = found.filter_map(serde_json::Value::as_f64).collect();
            let all: [f64; 3] = found.try_into().unwrap_or(default);
            all.map(|x| x as f32)
        };
        Ok(Self {
            shortest: side("size", "shortest_edge")? as u32,
            crop: [
                side("crop_size", "height")? as u32,
                side("crop_size", "width")? as u32,
            ],
            mean: three("image_mean", MEAN),
            spread: three("image_std", SPREAD),
        })
    }

    /// Height and width of what [`Self::prepare`] makes.
    pub(crate) fn size(&self) -> [usize; 2] {
        self.crop.map(|side| side as usize)
    }

    /// A tensor `[1, height, width, 3]`.
    pub(crate) fn prepare(&self, picture: &RgbImage) -> Result<Tensor> {
        let (width, height) = picture.dimensions();
        let shorter = width.min(height).max(1);
        let scaled =
            |side: u32| (u64::from(side) * u64::from(self.shortest) / u64::from(shorter)) as u32;
        let (wide, high) = (
            scaled(width).max(self.crop[1]),
            scaled(height).max(self.crop[0]),
        );
        let larger = resized(
            picture.clone(),
            [high as usize, wide as usize],
            Filter::Bicubic,
        );
        let (left, top) = ((wide - self.crop[1]) / 2, (high - self.crop[0]) / 2);
        let cut = crop_imm(&larger, left, top, self.crop[1], self.crop[0]).to_image();
        let numbers = cut.pixels().flat_map(|pixel| {
            let channel =
                |at: usize| (f32::from(pixel.0[at]) / 255.0 - self.mean[at]) / self.spread[at];
            [channel(0), channel(1), channel(2)]
        });
        tensors::images(numbers.collect(), self.size(), 3)
    }
}

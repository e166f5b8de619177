//! What pictures take in memory, bounded from the configurations before a weight is read: how many are denoised together,
//! and how large one may be.

use sconce_engine::Room;
use sconce_models::diffusion::{Tiling, UnetSpec, VaeSpec};
use sconce_nn::CONV_SCRATCH;

use crate::description::DiffusionDescription;
use crate::error::DiffusionError;
use crate::settings::DiffusionSettings;

/// Bytes of an f32, the type of all that is computed.
const F32: u64 = 4;

/// Tensors of a block that are there at a time, in widths of the block: a transformer's input, norm, gate, up and their
/// product with the residual; a resnet has fewer.
const OF_BLOCK: u64 = 18;

/// The same of an autoencoder: input, norm, result and residual, twice as wide where channels are halved.
const OF_VAE: u64 = 5;

/// How often the tile that the autoencoder was trained with is halved where it does not fit.
const HALVINGS: u32 = 2;

/// The plan.
#[derive(Clone, Debug)]
pub(crate) struct MemoryPlan {
    /// Bytes of the weights.
    pub(crate) weights: u64,
    /// Bytes that are taken whatever the picture.
    beside: u64,
    /// Bytes for pictures; `None`: the system does not tell.
    room: Option<u64>,
    unet: UnetSpec,
    vae: VaeSpec,
    most_images: usize,
    /// Whether the autoencoder works in tiles; `None`: where it must.
    pub(crate) tiles: Option<bool>,
}

impl MemoryPlan {
    /// Fails when not even one picture of the pipeline's own size has room.
    pub(crate) fn new(
        description: &DiffusionDescription,
        settings: &DiffusionSettings,
    ) -> Result<Self, DiffusionError> {
        let weights = description.survey(settings)?.weights;
        let room = Room::of_this_machine(1, sconce_nn::pool::threads()).at_most(settings.room, 1);
        let beside = room.overhead + room.scratch + CONV_SCRATCH as u64;
        let plan = Self {
            weights,
            beside,
            room: room
                .bytes
                .map(|bytes| bytes.saturating_sub(weights + beside)),
            unet: description.unet.spec.clone(),
            vae: description.vae.spec.clone(),
            most_images: settings.max_images.max(1),
            tiles: settings.tiles,
        };
        let [height, width] = description.size();
        if plan.images([height, width]) == 0 {
            let mib = |bytes: u64| bytes >> 20;
            return Err(DiffusionError::Memory {
                weights: mib(weights),
                picture: mib(plan.picture([height, width])),
                height,
                width,
                bytes: mib(room.bytes.unwrap_or(0)),
            });
        }
        Ok(plan)
    }

    /// Bytes of all that is there while as many pictures of that size are made as may be.
    pub(crate) fn usual(&self, size: [usize; 2]) -> u64 {
        let steps = self.images(size) as u64 * self.step(size);
        self.weights + self.beside + steps + self.decoding(size)
    }

    /// Bytes of one picture: a guided step of the UNet, or the autoencoder, whichever takes more.
    pub(crate) fn picture(&self, size: [usize; 2]) -> u64 {
        self.step(size).max(self.decoding(size))
    }

    /// Bytes of a guided step for one picture.
    fn step(&self, [height, width]: [usize; 2]) -> u64 {
        let factor = self.vae.factor() as u64;
        let pixels = (height as u64 / factor).max(1) * (width as u64 / factor).max(1);
        let of_level = |at: usize| pixels.div_ceil(1 << (2 * at));
        let blocks = self.unet.blocks.iter().enumerate();
        let kept: u64 = blocks
            .clone()
            .map(|(at, block)| of_level(at) * (block.channels * (block.layers + 1)) as u64)
            .sum();
        let working = blocks.map(|(at, block)| of_level(at) * block.channels as u64 * OF_BLOCK);
        2 * F32 * (kept + working.max().unwrap_or(0))
    }

    /// The tiles in which pictures of that size pass the autoencoder; `None`: in one piece.
    pub(crate) fn tiling(&self, size: [usize; 2]) -> Option<Tiling> {
        let room = self.room.unwrap_or(u64::MAX);
        let trained = self.vae.tiling(self.vae.sample);
        let is_larger = |tiling: &Tiling| size.iter().any(|side| *side > tiling.pixels);
        match self.tiles {
            Some(false) => None,
            Some(true) => Some(trained).filter(is_larger),
            None if self.in_one_piece(size) <= room => None,
            None => (0..=HALVINGS)
                .map(|halved| self.vae.tiling(trained.pixels >> halved))
                .filter(is_larger)
                .find(|tiling| self.in_tiles(size, *tiling) <= room),
        }
    }

    /// Bytes of the autoencoder for one picture.
    fn decoding(&self, size: [usize; 2]) -> u64 {
        match self.tiling(size) {
            Some(tiling) => self.in_tiles(size, tiling),
            None => self.in_one_piece(size),
        }
    }

    /// A tile, two rows of computed ones, and the picture, which is made twice as large while it grows.
    fn in_tiles(&self, [height, width]: [usize; 2], Tiling { pixels, .. }: Tiling) -> u64 {
        let across = width.div_ceil(pixels * 3 / 4) * pixels;
        let kept = 2 * across * pixels + 3 * height * width;
        self.in_one_piece([pixels; 2]) + F32 * (kept * self.vae.out_channels) as u64
    }

    fn in_one_piece(&self, [height, width]: [usize; 2]) -> u64 {
        let pixels = height as u64 * width as u64;
        let of_level = |at: usize| pixels.div_ceil(1 << (2 * at));
        let channels = &self.vae.channels;
        // What comes from the smaller level has its channels.
        let wide = |at: usize| channels[(at + 1).min(channels.len() - 1)] as u64;
        let levels = (0..channels.len()).map(|at| of_level(at) * wide(at) * OF_VAE);
        F32 * levels.max().unwrap_or(0)
    }

    /// Pictures of that size that are denoised together; 0: not even one has room.
    pub(crate) fn images(&self, size: [usize; 2]) -> usize {
        let Some(room) = self.room else {
            return self.most_images;
        };
        // One is decoded while the others wait.
        let left = room.saturating_sub(self.decoding(size));
        if self.picture(size) > room {
            return 0;
        }
        let fit = (left / self.step(size).max(1)).max(1);
        self.most_images
            .min(usize::try_from(fit).unwrap_or(usize::MAX))
    }

    /// Pixels of the largest square picture that has room.
    pub(crate) fn most_pixels(&self) -> Option<u64> {
        self.room?;
        let step = self.vae.factor() << self.unet.halvings();
        let (mut fits, mut over) = (1_usize, 1_usize << 12);
        while over - fits > 1 {
            let middle = (fits + over) / 2;
            match self.images([middle * step; 2]) {
                0 => over = middle,
                _ => fits = middle,
            }
        }
        let side = (fits * step) as u64;
        Some(side * side)
    }
}

#[cfg(test)]
mod tests {
    use sconce_core::Draw;

    use super::*;
    use crate::door;
    use crate::goldens::settings;

    #[test]
    fn what_memory_does_not_hold_is_refused_at_the_door() {
        let settings = settings("sd1");
        let description = DiffusionDescription::read(&settings).expect("the pipeline");
        let mut plan = MemoryPlan::new(&description, &settings).expect("room");
        plan.tiles = Some(false);
        let (small, large) = (plan.picture([64, 64]), plan.picture([512, 512]));
        assert!(large > 32 * small);
        plan.room = Some(large - 1);
        assert_eq!(plan.images([512, 512]), 0);
        let held = plan.images([64, 64]);
        assert!((1..=settings.max_images).contains(&held), "{held}");
        let most = plan.most_pixels().expect("known");
        assert!((64 * 64..512 * 512).contains(&most), "{most}");
        let ask = |side: usize, images: usize| {
            let asked = Draw {
                prompts: vec!["x".into()],
                images_per_prompt: images,
                height: Some(side),
                width: Some(side),
                ..Draw::default()
            };
            door::admit(&description, &plan, 8, asked).map(|_| ())
        };
        assert_eq!(ask(64, 1), Ok(()));
        let text = ask(512, 1).expect_err("too large").to_string();
        assert!(text.contains("512") && text.contains("memory"), "{text}");
        plan.room = Some(2 * small);
        let text = door::admit(
            &description,
            &plan,
            8,
            Draw {
                prompts: vec!["x".into()],
                images_per_prompt: 8,
                ..Draw::default()
            },
        );
        let text = text.err().expect("too many").to_string();
        assert!(
            text.contains("num_images_per_prompt") && text.contains("memory"),
            "{text}"
        );
    }

    #[test]
    fn what_does_not_fit_in_one_piece_passes_the_autoencoder_in_tiles() {
        let settings = settings("sd1");
        let description = DiffusionDescription::read(&settings).expect("the pipeline");
        let mut plan = MemoryPlan::new(&description, &settings).expect("room");
        let (size, trained) = ([512, 512], plan.vae.tiling(64));
        let whole = plan.in_one_piece(size);
        assert_eq!((trained.pixels, trained.latents), (64, 8));
        assert!(plan.in_tiles(size, trained) < whole / 2);
        plan.room = Some(whole);
        assert_eq!(plan.tiling(size), None);
        plan.room = Some(whole - 1);
        assert_eq!(plan.tiling(size), Some(trained));
        assert!(plan.images(size) > 0);
        // A smaller tile where that does not fit, in the end none.
        plan.room = Some(plan.in_tiles(size, trained) - 1);
        assert_eq!(plan.tiling(size), Some(plan.vae.tiling(32)));
        plan.room = Some(1);
        assert_eq!(plan.tiling(size), None);
        assert_eq!(plan.images(size), 0);
        // When it is asked for, what is larger than a tile.
        (plan.room, plan.tiles) = (None, Some(true));
        assert_eq!(plan.tiling([64, 72]), Some(trained));
        assert_eq!(plan.tiling([64, 64]), None);
    }
}

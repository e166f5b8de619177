//! What pictures take in memory, bounded from the configurations before a weight is read: how many are denoised together,
//! and how large one may be.

use sconce_engine::Room;
use sconce_models::diffusion::{Tiling, UnetSpec, VaeSpec};
use sconce_nn::CONV_SCRATCH;

use crate::description::DiffusionDescription;
use crate::error::DiffusionError;
use crate::settings::{DiffusionSettings, Spare};

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
    /// Bytes that there were for pictures when the plan was made; `None`: the system does not tell.
    room: Option<u64>,
    /// Bytes of these that stay whatever models come.
    promised: u64,
    /// What can be had beside them.
    spare: Option<Spare>,
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
        let mut plan = Self {
            weights,
            beside,
            promised: 0,
            spare: None,
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
            return Err(DiffusionError::Memory {
                weights,
                beside,
                picture: plan.picture([height, width]),
                height,
                width,
                bytes: room.bytes.unwrap_or(0),
            });
        }
        plan.promised = plan.of_pictures([height, width]);
        plan.spare.clone_from(&settings.spare);
        Ok(plan)
    }

    /// Bytes of all that is there while as many pictures of that size are made as may be.
    pub(crate) fn usual(&self, size: [usize; 2]) -> u64 {
        self.weights + self.beside + self.of_pictures(size)
    }

    fn of_pictures(&self, size: [usize; 2]) -> u64 {
        self.images(size) as u64 * self.step(size) + self.decoding(size)
    }

    /// Bytes that pictures may take now: what was promised, and what nobody else was since, up to what there was.
    fn now(&self) -> Option<u64> {
        let room = self.room?;
        let left = self.spare.as_ref().and_then(Spare::left);
        Some(left.map_or(room, |left| room.min(self.promised + left)))
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

    /// The tiles in which pictures of that size pass the autoencoder; `None`: in one piece. They change a picture a little,
    /// so they do not depend on what comes and goes beside it.
    pub(crate) fn tiling(&self, size: [usize; 2]) -> Option<Tiling> {
        let candidates = self.candidates(size);
        let bytes = |tiling: &Option<Tiling>| self.decoded(size, *tiling);
        let room = self.room.unwrap_or(u64::MAX);
        let fits = candidates.iter().find(|tiling| bytes(tiling) <= room);
        // Where nothing fits the least is what is said to be missing.
        let least = || candidates.iter().min_by_key(|tiling| bytes(tiling));
        fits.or_else(least).copied().flatten()
    }

    /// The ways through the autoencoder, best first: in one piece, then in ever smaller tiles.
    fn candidates(&self, size: [usize; 2]) -> Vec<Option<Tiling>> {
        let trained = self.vae.tiling(self.vae.sample);
        let is_larger = |tiling: &Tiling| size.iter().any(|side| *side > tiling.pixels);
        let whole = self.tiles != Some(true) || !is_larger(&trained);
        let tiles = (0..=HALVINGS)
            .map(|halved| self.vae.tiling(trained.pixels >> halved))
            .filter(|tiling| self.tiles != Some(false) && is_larger(tiling));
        let whole = whole.then_some(None);
        whole.into_iter().chain(tiles.map(Some)).collect()
    }

    /// Bytes of the autoencoder for one picture.
    fn decoding(&self, size: [usize; 2]) -> u64 {
        self.decoded(size, self.tiling(size))
    }

    fn decoded(&self, size: [usize; 2], tiling: Option<Tiling>) -> u64 {
        match tiling {
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

    /// Pictures of that size that may be denoised together now; 0: not even one has room.
    pub(crate) fn images(&self, size: [usize; 2]) -> usize {
        self.images_within(self.now(), size)
    }

    /// The same while no other model has more than when the plan was made.
    pub(crate) fn images_alone(&self, size: [usize; 2]) -> usize {
        self.images_within(self.room, size)
    }

    fn images_within(&self, room: Option<u64>, size: [usize; 2]) -> usize {
        let Some(room) = room else {
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

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
        // A smaller tile where that does not fit, in the end the one that takes least.
        let least = plan.vae.tiling(16);
        plan.room = Some(plan.in_tiles(size, trained) - 1);
        assert_eq!(plan.tiling(size), Some(plan.vae.tiling(32)));
        plan.room = Some(1);
        assert_eq!(plan.tiling(size), Some(least));
        assert_eq!(
            plan.picture(size),
            plan.step(size).max(plan.in_tiles(size, least))
        );
        assert_eq!(plan.images(size), 0);
        // When it is asked for, what is larger than a tile, and smaller ones where that does not fit either.
        (plan.room, plan.tiles) = (None, Some(true));
        assert_eq!(plan.tiling([64, 72]), Some(trained));
        assert_eq!(plan.tiling([64, 64]), None);
        plan.room = Some(whole);
        assert_eq!(plan.tiling(size), Some(trained));
        plan.room = Some(plan.in_tiles(size, trained) - 1);
        assert_eq!(plan.tiling(size), Some(plan.vae.tiling(32)));
        // When it is forbidden, never.
        plan.tiles = Some(false);
        assert_eq!(plan.tiling(size), None);
    }

    #[test]
    fn what_other_models_were_promised_is_not_there_for_pictures() {
        let left = Arc::new(AtomicU64::new(u64::MAX >> 1));
        let told = Arc::clone(&left);
        let settings = DiffusionSettings {
            spare: Some(Spare::new(move || Some(told.load(Ordering::SeqCst)))),
            ..settings("sd1")
        };
        let description = DiffusionDescription::read(&settings).expect("the pipeline");
        let mut plan = MemoryPlan::new(&description, &settings).expect("room");
        let (own, large) = (description.size(), [256, 256]);
        plan.room = Some(plan.of_pictures(large));
        let ask = |plan: &MemoryPlan, [height, width]: [usize; 2]| {
            let asked = Draw {
                prompts: vec!["x".into()],
                height: Some(height),
                width: Some(width),
                images_per_prompt: 1,
                ..Draw::default()
            };
            door::admit(&description, plan, 8, asked).map(|_| ())
        };
        let tiling = plan.tiling(large);
        assert_eq!((ask(&plan, own), ask(&plan, large)), (Ok(()), Ok(())));
        // Another model came: what was promised is still there.
        left.store(0, Ordering::SeqCst);
        assert_eq!(ask(&plan, own), Ok(()));
        let refused = ask(&plan, large).expect_err("it takes more");
        assert!(refused.retry(), "{refused}");
        assert!(refused.to_string().contains("other models"), "{refused}");
        assert_eq!(plan.tiling(large), tiling);
        // It went again.
        left.store(u64::MAX >> 1, Ordering::SeqCst);
        assert_eq!(ask(&plan, large), Ok(()));
    }

    #[test]
    fn what_is_missing_counts_all_that_is_taken() {
        let mut settings = settings("sd1");
        settings.room = Some(1 << 20);
        let description = DiffusionDescription::read(&settings).expect("the pipeline");
        let error = MemoryPlan::new(&description, &settings).err();
        let error = error.expect("no room for anything");
        let missing = error.missing_memory().expect("nothing but memory");
        // With so much more it starts, with a byte less it does not.
        settings.room = Some((1 << 20) + missing);
        assert!(MemoryPlan::new(&description, &settings).is_ok());
        settings.room = Some((1 << 20) + missing - 1);
        assert!(MemoryPlan::new(&description, &settings).is_err());
    }
}

//! A request that is being drawn: its latents, noise and scheduler, from the first noise to the picture.

use std::time::Instant;

use candle_core::{Result, Tensor};
use image::RgbImage;
use sconce_core::{Permit, Picture, PictureFormat, Preview, Reply};

use crate::conditions::{self, RowConditions};
use crate::description::DiffusionDescription;
use crate::drawing::{Begun, Drawing};
use crate::guidance::guided;
use crate::memory::MemoryPlan;
use crate::models::Models;
use crate::picture;
use crate::random::Generator;
use crate::schedulers::{Moment, Scheduler};
use crate::tensors::{channels_first, channels_last, images, numbers};

/// What remains of a picture within a mask.
struct Kept {
    /// `[height, width]` of latents, 1 where they are replaced.
    mask: Vec<f32>,
    how: Keeping,
}

enum Keeping {
    /// The UNet is given the mask and the latents around it, `[channels, height, width]`.
    Told(Vec<f32>),
    /// What is around the mask is put back after every step: the picture's latents and the noise, of all images.
    PutBack { picture: Vec<f32>, noise: Vec<f32> },
}

/// A request.
pub(crate) struct Running {
    pub(crate) reply: Box<dyn Reply>,
    pub(crate) deadline: Instant,
    pub(crate) permit: Permit,
    pub(crate) started: Instant,
    pub(crate) conditions: RowConditions,
    pub(crate) images: usize,
    pub(crate) tokens: usize,
    pub(crate) format: PictureFormat,
    pub(crate) seed: u64,
    /// Height and width of latents.
    pub(crate) size: [usize; 2],
    tells: Option<Preview>,
    is_guided: bool,
    guidance: f32,
    rescale: f32,
    scheduler: Scheduler,
    generator: Generator,
    /// `[images, channels, height, width]`.
    latents: Vec<f32>,
    channels: usize,
    kept: Option<Kept>,
    begin: usize,
    at: usize,
}

/// What makes pictures of latents, and latents of pictures.
pub(crate) struct Parts<'a> {
    pub(crate) models: &'a Models,
    pub(crate) description: &'a DiffusionDescription,
    pub(crate) plan: &'a MemoryPlan,
}

impl Parts<'_> {
    /// Means and logarithms of variances of the latents of a picture.
    fn encode(&self, picture: &Tensor, size: [usize; 2]) -> Result<Tensor> {
        match self.plan.tiling(size) {
            Some(tiling) => self.models.vae.encode_tiles(picture, tiling),
            None => self.models.vae.encode(picture),
        }
    }

    /// The picture of that size of latents.
    fn decode(&self, latents: &Tensor, size: [usize; 2]) -> Result<Tensor> {
        match self.plan.tiling(size) {
            Some(tiling) => self.models.vae.decode_tiles(latents, tiling),
            None => self.models.vae.decode(latents),
        }
    }
}

/// Who asked.
pub(crate) struct Client {
    pub(crate) reply: Box<dyn Reply>,
    pub(crate) deadline: Instant,
    pub(crate) permit: Permit,
}

impl Running {
    /// Reads the texts and draws the first noise, in the order in which diffusers' pipelines do. The client is told of a
    /// failure by who has it.
    pub(crate) fn prepared(
        parts: &Parts<'_>,
        drawing: Drawing,
    ) -> Result<impl FnOnce(Client) -> Self + use<>> {
        let Parts {
            models,
            description,
            ..
        } = *parts;
        let conditions = conditions::read(models, description, &drawing)?;
        let (images, factor) = (drawing.images(), description.factor());
        let size = drawing.size.map(|side| side / factor);
        let channels = description.vae.spec.latent_channels;
        let mut state = Noise {
            generator: Generator::new(drawing.seed),
            len: channels * size[0] * size[1],
            images,
        };
        let is_guided = drawing.is_guided();
        let scheduler = drawing.scheduler;
        let (latents, kept, begin) = match &drawing.begun {
            None => {
                let sigma = scheduler.noise_sigma();
                (
                    state.all().into_iter().map(|x| x * sigma).collect(),
                    None,
                    0,
                )
            }
            Some(begun) => {
                let begin = scheduler.begin(drawing.steps, begun.strength);
                let (latents, kept) =
                    state.begun(parts, begun, drawing.size, (&scheduler, begin))?;
                (latents, kept, begin)
            }
        };
        Ok(move |client: Client| Self {
            reply: client.reply,
            deadline: client.deadline,
            permit: client.permit,
            started: Instant::now(),
            conditions,
            images,
            tokens: drawing.tokens,
            format: drawing.format,
            seed: drawing.seed,
            size,
            tells: drawing.tells,
            is_guided,
            guidance: drawing.guidance as f32,
            rescale: drawing.guidance_rescale as f32,
            scheduler,
            generator: state.generator,
            latents,
            channels,
            kept,
            begin,
            at: begin,
        })
    }

    /// Rows of the UNet in each step.
    pub(crate) fn rows(&self) -> usize {
        self.images * if self.is_guided { 2 } else { 1 }
    }

    /// Whether all steps are made.
    pub(crate) fn is_done(&self) -> bool {
        self.at >= self.scheduler.timesteps().len()
    }

    /// Steps that are made, and all.
    pub(crate) fn progress(&self) -> (usize, usize) {
        (
            self.at - self.begin,
            self.scheduler.timesteps().len() - self.begin,
        )
    }

    /// Whether the client wants to know of the last step, and see what there is.
    pub(crate) fn tells(&self) -> Option<bool> {
        let (made, all) = self.progress();
        Some(match self.tells? {
            Preview::None => false,
            Preview::Every(each) => made % each.max(1) == 0 && made < all,
        })
    }

    /// Time steps of its rows.
    pub(crate) fn times(&self) -> Vec<f32> {
        vec![self.scheduler.timesteps()[self.at]; self.rows()]
    }

    /// What the UNet sees, `[rows, height, width, channels]`.
    pub(crate) fn inputs(&self) -> Vec<f32> {
        let (pixels, scale) = (self.size[0] * self.size[1], self.scheduler.scale(self.at));
        let scaled: Vec<f32> = self.latents.iter().map(|x| x * scale).collect();
        let (all, channels) = match &self.kept {
            Some(Kept {
                mask,
                how: Keeping::Told(around),
            }) => {
                let of_image = scaled.chunks_exact(self.channels * pixels);
                let all = of_image
                    .flat_map(|own| [own, mask, around].concat())
                    .collect();
                (all, 2 * self.channels + 1)
            }
            _ => (scaled, self.channels),
        };
        let own = channels_last(&all, channels, pixels);
        match self.is_guided {
            true => own.repeat(2),
            false => own,
        }
    }

    /// Makes a step of a prediction `[rows, height, width, channels]`.
    pub(crate) fn step(&mut self, prediction: &[f32]) -> std::result::Result<(), String> {
        let pixels = self.size[0] * self.size[1];
        let turned = channels_first(prediction, self.channels, pixels);
        let output = match self.is_guided {
            true => {
                let (other, text) = turned.split_at(turned.len() / 2);
                guided(text, other, self.guidance, self.rescale, self.images)
            }
            false => turned,
        };
        let (len, generator) = (self.latents.len(), &mut self.generator);
        let after = self.scheduler.step(
            self.at,
            Moment {
                output: &output,
                sample: &self.latents,
                images: self.images,
                noise: &mut || generator.normal(len),
            },
        );
        if let Some(at) = after.iter().position(|x| !x.is_finite()) {
            let (made, all) = self.progress();
            return Err(format!(
                "number {at} of the latents is {} after step {} of {all}; with option.dtype=bf16 try float32, else the \
                 weights are damaged",
                after[at],
                made + 1
            ));
        }
        self.latents = after;
        self.at += 1;
        self.put_back();
        Ok(())
    }

    /// Puts back what is around a mask, as noisy as the next step has it.
    fn put_back(&mut self) {
        let Some(Kept {
            mask,
            how: Keeping::PutBack { picture, noise },
        }) = &self.kept
        else {
            return;
        };
        let around = match self.at < self.scheduler.timesteps().len() {
            true => self.scheduler.noised(self.at, picture, noise),
            false => picture.clone(),
        };
        let masks = mask.iter().cycle();
        for ((own, around), mask) in self.latents.iter_mut().zip(around).zip(masks) {
            *own = (1.0 - mask) * around + mask * *own;
        }
    }

    /// The picture of one of the images, as it is.
    pub(crate) fn picture(&self, parts: &Parts<'_>, image: usize) -> Result<RgbImage> {
        let len = self.latents.len() / self.images;
        let scale = 1.0 / parts.description.vae.spec.scaling as f32;
        let own = self.latents[image * len..][..len].iter().map(|x| x * scale);
        let turned = channels_last(
            &own.collect::<Vec<_>>(),
            self.channels,
            self.size[0] * self.size[1],
        );
        let latents = images(turned, self.size, self.channels)?;
        let size = self.size.map(|side| side * parts.description.factor());
        let decoded = parts.decode(&latents, size)?;
        let (_, height, width, _) = decoded.dims4()?;
        let found = numbers(&decoded)?;
        if found.iter().any(|x| !x.is_finite()) {
            candle_core::bail!("the autoencoder gave pixels that are no numbers");
        }
        Ok(picture::of_numbers(&found, [height, width]))
    }

    /// The finished file of one of the images.
    pub(crate) fn finished(&self, parts: &Parts<'_>, image: usize) -> Result<Picture> {
        let mut drawn = self.picture(parts, image)?;
        let flagged = match (&parts.models.safety, &parts.description.safety) {
            (Some(checker), Some((_, extractor))) => {
                Some(checker.flags(&extractor.prepare(&drawn)?)?)
            }
            _ => None,
        };
        if flagged == Some(true) {
            drawn = RgbImage::new(drawn.width(), drawn.height());
        }
        self.file(&drawn, flagged)
    }

    /// A file of what there is of the first image.
    pub(crate) fn preview(&self, parts: &Parts<'_>) -> Result<Picture> {
        self.file(&self.picture(parts, 0)?, None)
    }

    fn file(&self, drawn: &RgbImage, flagged: Option<bool>) -> Result<Picture> {
        Ok(Picture {
            bytes: picture::encoded(drawn, self.format).map_err(candle_core::Error::msg)?,
            format: self.format,
            seed: self.seed,
            flagged,
        })
    }

    /// Latents, to compare and to damage.
    #[cfg(test)]
    pub(crate) fn latents(&mut self) -> &mut [f32] {
        &mut self.latents
    }
}

/// Draws the noise of a request.
struct Noise {
    generator: Generator,
    /// Numbers of one image.
    len: usize,
    images: usize,
}

impl Noise {
    /// For all images at once.
    fn all(&mut self) -> Vec<f32> {
        self.generator.normal(self.len * self.images)
    }

    /// The latents that a request begins with, and what it keeps of its picture.
    fn begun(
        &mut self,
        parts: &Parts<'_>,
        begun: &Begun,
        size: [usize; 2],
        (scheduler, begin): (&Scheduler, usize),
    ) -> Result<(Vec<f32>, Option<Kept>)> {
        let is_told = parts.description.takes_masks();
        // Pictures that are replaced wholly are not looked at where only the mask's surroundings count.
        let is_whole = begun.mask.is_some() && begun.strength == 1.0;
        let own = match is_told && is_whole {
            true => None,
            false => Some(
                self.encoded(parts, &begun.picture, size)?
                    .repeat(self.images),
            ),
        };
        let noise = self.all();
        let latents = match (&own, is_whole) {
            (Some(own), false) => scheduler.noised(begin, own, &noise),
            _ => {
                let sigma = scheduler.noise_sigma();
                noise.iter().map(|x| x * sigma).collect()
            }
        };
        let Some(mask) = &begun.mask else {
            return Ok((latents, None));
        };
        let how = if is_told {
            let pixels = begun.picture.chunks_exact(3).zip(mask);
            let around = pixels.flat_map(|(pixel, mask)| {
                let keeps = if *mask < 0.5 { 1.0 } else { 0.0 };
                pixel.iter().map(move |x| x * keeps)
            });
            Keeping::Told(self.encoded(parts, &around.collect::<Vec<_>>(), size)?)
        } else {
            // Drawn for the surroundings all the same.
            self.generator.normal(self.len);
            Keeping::PutBack {
                picture: own.unwrap_or_default(),
                noise,
            }
        };
        let mask = nearest(mask, size, parts.description.factor());
        Ok((latents, Some(Kept { mask, how })))
    }

    /// A sample of the latents of a picture, `[channels, height, width]`.
    fn encoded(
        &mut self,
        parts: &Parts<'_>,
        picture: &[f32],
        size: [usize; 2],
    ) -> Result<Vec<f32>> {
        let spec = &parts.description.vae.spec;
        let moments = parts.encode(&images(picture.to_vec(), size, 3)?, size)?;
        let channels = 2 * spec.latent_channels;
        let turned = channels_first(
            &numbers(&moments)?,
            channels,
            self.len / spec.latent_channels,
        );
        let (means, variances) = turned.split_at(self.len);
        let noise = self.generator.normal(self.len);
        let scaling = spec.scaling as f32;
        let all = means.iter().zip(variances).zip(noise);
        Ok(all
            .map(|((mean, variance), noise)| {
                let spread = (0.5 * variance.clamp(-30.0, 20.0)).exp();
                scaling * (mean + spread * noise)
            })
            .collect())
    }
}

/// Every `factor`th number of a mask.
fn nearest(mask: &[f32], [height, width]: [usize; 2], factor: usize) -> Vec<f32> {
    let rows = (0..height).step_by(factor);
    rows.flat_map(|y| (0..width).step_by(factor).map(move |x| mask[y * width + x]))
        .collect()
}

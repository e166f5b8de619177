//! What can be said of a pipeline's folder from headers alone: its parts, whether they fit, what they take in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sconce_models::diffusion::{
    ClipText, ClipTextSpec, Component, SafetyChecker, SafetySpec, Unet, UnetSpec, Vae, VaeSpec,
};
use sconce_models::{ConfigError, Footprint, HfConfig, LoadError};
use sconce_nn::weights::{WeightSource, open_part};
use sconce_text::Tokenizer;
use serde_json::{Value, json};

use crate::error::DiffusionError;
use crate::extractor::Extractor;
use crate::memory::MemoryPlan;
use crate::schedulers::Scheduler;
use crate::settings::DiffusionSettings;

/// The classes of pipelines, and whether they are SDXL's.
const PIPELINES: [(&str, bool); 6] = [
    ("StableDiffusionPipeline", false),
    ("StableDiffusionImg2ImgPipeline", false),
    ("StableDiffusionInpaintPipeline", false),
    ("StableDiffusionXLPipeline", true),
    ("StableDiffusionXLImg2ImgPipeline", true),
    ("StableDiffusionXLInpaintPipeline", true),
];

/// A part with its weights; none has been read.
pub(crate) struct Part<S> {
    pub(crate) dir: PathBuf,
    pub(crate) spec: S,
    pub(crate) weights: Arc<dyn WeightSource>,
}

/// A text encoder and its tokenizer.
pub(crate) struct TextPart {
    pub(crate) part: Part<ClipTextSpec>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Fills up short texts.
    pub(crate) padding: u32,
}

/// A pipeline; no weight has been read.
pub struct DiffusionDescription {
    pub(crate) class: &'static str,
    pub(crate) is_xl: bool,
    /// Text encoders, one or two.
    pub(crate) texts: Vec<TextPart>,
    pub(crate) unet: Part<UnetSpec>,
    pub(crate) vae: Part<VaeSpec>,
    pub(crate) safety: Option<(Part<SafetySpec>, Extractor)>,
    /// `scheduler_config.json`, with what the pipeline's class changes in it.
    pub(crate) scheduler: HfConfig,
    /// Whether a refiner is told how beautiful pictures are.
    pub(crate) wants_scores: bool,
    /// Whether no negative prompt means nothing at all, rather than an empty text.
    pub(crate) zeros_for_empty: bool,
}

/// A pipeline in some numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffusionOverview {
    /// The class of diffusers.
    pub class: &'static str,
    /// The class of the scheduler.
    pub scheduler: String,
    /// Blocks of the UNet, on each way.
    pub blocks: usize,
    /// Height and width of a picture where a request names none.
    pub size: [usize; 2],
    /// Pixels of the largest picture that memory holds; `None`: the system does not tell.
    pub most_pixels: Option<u64>,
    /// Pictures of that size that are denoised together.
    pub images: usize,
    /// Whether a safety checker looks at pictures.
    pub is_checked: bool,
    /// Bytes of all tensors in the files.
    pub stored_bytes: u64,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// Bytes of the weights that are kept.
    pub weights_bytes: u64,
    /// Bytes that a picture of that size takes beside them.
    pub picture_bytes: u64,
}

impl DiffusionDescription {
    /// Reads configurations, tokenizers and the headers of the weights.
    pub fn read(settings: &DiffusionSettings) -> Result<Self, DiffusionError> {
        let index = Index::read(&settings.dir)?;
        let texts = index.texts()?;
        let unet = index.part("unet", UnetSpec::read)?;
        let vae = index.part("vae", VaeSpec::read)?;
        let safety = match settings.skips_safety_checker || !index.names("safety_checker") {
            true => None,
            false => Some((
                index.part("safety_checker", SafetySpec::read)?,
                Extractor::read(&index.folder("feature_extractor")?)?,
            )),
        };
        let scheduler = index.scheduler()?;
        // What is not implemented is refused before a weight is read; the number of steps does not matter.
        Scheduler::new(&scheduler, 10, 0.0)?;
        let found = Self {
            is_xl: index.is_xl,
            wants_scores: index.keys.flag("requires_aesthetics_score", false)?,
            zeros_for_empty: index
                .keys
                .flag("force_zeros_for_empty_prompt", index.is_xl)?,
            class: index.class,
            texts,
            unet,
            vae,
            safety,
            scheduler,
        };
        found.require_fit(&settings.dir)?;
        Ok(found)
    }

    /// Fails on parts that do not go together.
    fn require_fit(&self, dir: &Path) -> Result<(), DiffusionError> {
        let unet = &self.unet.spec;
        let problem = |problem: String| DiffusionError::Contradiction {
            file: self.unet.dir.join("config.json"),
            problem,
        };
        let width: usize = self
            .texts
            .iter()
            .map(|text| text.part.spec.dims.width)
            .sum();
        if width != unet.cross() {
            return Err(problem(format!(
                "`cross_attention_dim` = {}, and the text encoders make vectors of {width}",
                unet.cross()
            )));
        }
        let latent = self.vae.spec.latent_channels;
        let inputs = [latent, 2 * latent + 1];
        if !inputs.contains(&unet.in_channels) || unet.out_channels != latent {
            return Err(problem(format!(
                "`in_channels` = {} and `out_channels` = {}, and the autoencoder has latents of {latent}: a UNet takes \
                 {latent}, or {} with mask and masked picture, and gives {latent}",
                unet.in_channels, unet.out_channels, inputs[1]
            )));
        }
        if let Some(added) = unet.added {
            let projection = self.texts.last().and_then(|text| text.part.spec.projection);
            let numbers = if self.wants_scores { 5 } else { 6 };
            let made = projection.unwrap_or(0) + numbers * added.each;
            if made != added.inputs {
                return Err(problem(format!(
                    "`projection_class_embeddings_input_dim` = {}, and the text's vector with {numbers} numbers of {} \
                     has {made}; requires_aesthetics_score in {} decides between 5 and 6",
                    added.inputs,
                    added.each,
                    dir.join("model_index.json").display()
                )));
            }
        }
        if self.is_xl != unet.added.is_some() {
            let wanted = if self.is_xl { "text_time" } else { "null" };
            return Err(problem(format!(
                "`addition_embed_type` must be {wanted} for a {}",
                self.class
            )));
        }
        Ok(())
    }

    /// Whether the UNet is given the mask and what is around it.
    pub(crate) fn takes_masks(&self) -> bool {
        self.unet.spec.in_channels != self.vae.spec.latent_channels
    }

    /// Pixels along a side of a latent.
    pub(crate) fn factor(&self) -> usize {
        self.vae.spec.factor()
    }

    /// Height and width of a picture where a request names none.
    pub(crate) fn size(&self) -> [usize; 2] {
        self.unet.spec.sample.map(|side| side * self.factor())
    }

    /// What loading would keep in memory; fails as loading would.
    pub fn survey(&self, settings: &DiffusionSettings) -> Result<Footprint, DiffusionError> {
        let options = settings.load_options();
        let mut all = Footprint::default();
        let mut count = |dir: &Path, found: Result<Footprint, LoadError>| match found {
            Ok(found) => {
                all.weights += found.weights;
                all.owned += found.owned;
                Ok(())
            }
            Err(cause) => Err(DiffusionError::Load {
                dir: dir.to_owned(),
                cause: Box::new(cause),
            }),
        };
        for text in &self.texts {
            let part = &text.part;
            count(
                &part.dir,
                ClipText::survey(&part.spec, &*part.weights, &options),
            )?;
        }
        let unet = &self.unet;
        count(
            &unet.dir,
            Unet::survey(&unet.spec, &*unet.weights, &options),
        )?;
        let (vae, exact) = (&self.vae, self.vae_options(settings));
        count(&vae.dir, Vae::survey(&vae.spec, &*vae.weights, &exact))?;
        if let Some((part, _)) = &self.safety {
            let found = SafetyChecker::survey(&part.spec, &*part.weights, &options);
            count(&part.dir, found)?;
        }
        Ok(all)
    }

    /// How the autoencoder is loaded.
    pub(crate) fn vae_options(&self, settings: &DiffusionSettings) -> sconce_models::LoadOptions {
        match self.vae.spec.in_f32 {
            true => settings.exact_options(),
            false => settings.load_options(),
        }
    }

    /// The pipeline in some numbers.
    pub fn overview(
        &self,
        settings: &DiffusionSettings,
    ) -> Result<DiffusionOverview, DiffusionError> {
        let plan = MemoryPlan::new(self, settings)?;
        let sources = self.sources();
        let of_source = |source: &Arc<dyn WeightSource>| -> u64 {
            let names = source.names();
            let outlines = names.iter().filter_map(|name| source.outline(name).ok());
            outlines.map(|tensor| tensor.elements() as u64).sum()
        };
        Ok(DiffusionOverview {
            class: self.class,
            scheduler: self.scheduler.text("_class_name").unwrap_or_default(),
            blocks: self.unet.spec.blocks.len(),
            size: self.size(),
            most_pixels: plan.most_pixels(),
            images: plan.images(self.size()),
            is_checked: self.safety.is_some(),
            stored_bytes: self.stored(),
            parameters: sources.iter().map(of_source).sum(),
            weights_bytes: plan.weights,
            picture_bytes: plan.picture(self.size()),
        })
    }

    /// Bytes of all tensors in the files.
    pub(crate) fn stored(&self) -> u64 {
        self.sources()
            .iter()
            .map(|source| source.total_bytes())
            .sum()
    }

    fn sources(&self) -> Vec<Arc<dyn WeightSource>> {
        let mut all: Vec<_> = self
            .texts
            .iter()
            .map(|text| Arc::clone(&text.part.weights))
            .collect();
        all.push(Arc::clone(&self.unet.weights));
        all.push(Arc::clone(&self.vae.weights));
        all.extend(
            self.safety
                .iter()
                .map(|(part, _)| Arc::clone(&part.weights)),
        );
        all
    }
}

/// `model_index.json`.
struct Index {
    dir: PathBuf,
    keys: HfConfig,
    class: &'static str,
    is_xl: bool,
}

impl Index {
    fn read(dir: &Path) -> Result<Self, DiffusionError> {
        let keys = read_json(&dir.join("model_index.json"))?;
        let names: Vec<&str> = PIPELINES.iter().map(|(name, _)| *name).collect();
        keys.refuse_unless("_class_name", &names)?;
        let named = keys.text("_class_name").unwrap_or_default();
        let Some(&(class, is_xl)) = PIPELINES.iter().find(|(name, _)| *name == named) else {
            return Err(keys.absent("_class_name", "the class of a pipeline").into());
        };
        Ok(Self {
            dir: dir.to_owned(),
            keys,
            is_xl,
            class,
        })
    }

    /// Whether the pipeline has that part: `["library", "Class"]`, not `[null, null]`.
    fn names(&self, part: &str) -> bool {
        self.keys
            .list(part)
            .is_some_and(|list| list.iter().any(|entry| !entry.is_null()))
    }

    /// The folder of a part that is needed.
    fn folder(&self, part: &'static str) -> Result<PathBuf, DiffusionError> {
        let dir = self.dir.join(part);
        let problem = match (self.names(part), dir.is_dir()) {
            (true, true) => return Ok(dir),
            (true, false) => format!("and there is no folder {}", dir.display()),
            (false, _) => "which it does not name".into(),
        };
        Err(DiffusionError::Missing {
            file: self.dir.join("model_index.json"),
            part,
            problem,
        })
    }

    fn part<S>(
        &self,
        name: &'static str,
        read: fn(&Path) -> Result<S, ConfigError>,
    ) -> Result<Part<S>, DiffusionError> {
        let dir = self.folder(name)?;
        Ok(Part {
            spec: read(&dir)?,
            weights: Arc::from(open_part(&dir)?),
            dir,
        })
    }

    /// The text encoders: refiners have only the second.
    fn texts(&self) -> Result<Vec<TextPart>, DiffusionError> {
        let mut names = vec![("text_encoder", "tokenizer")];
        if self.is_xl {
            names.push(("text_encoder_2", "tokenizer_2"));
            names.retain(|(encoder, _)| *encoder == "text_encoder_2" || self.names(encoder));
        }
        let read = |(encoder, tokenizer): (&'static str, &'static str)| {
            let part = self.part(encoder, ClipTextSpec::read)?;
            let dir = self.folder(tokenizer)?;
            let tokenizer = Tokenizer::open(&dir)?;
            let (entries, vocab) = (tokenizer.vocab_size(), part.spec.vocab);
            if entries > vocab {
                return Err(DiffusionError::Contradiction {
                    file: part.dir.join("config.json"),
                    problem: format!(
                        "`vocab_size` = {vocab}, and the tokenizer in {} has {entries} entries: it belongs to another model",
                        dir.display()
                    ),
                });
            }
            let padding = tokenizer
                .role(sconce_text::Role::Padding)
                .or_else(|| tokenizer.id_of("<|endoftext|>"))
                .unwrap_or(0);
            Ok(TextPart {
                part,
                tokenizer: Arc::new(tokenizer),
                padding,
            })
        };
        names.into_iter().map(read).collect()
    }

    /// The scheduler's configuration as the pipeline's class has it: those of Stable Diffusion 1 and 2 mend old files.
    fn scheduler(&self) -> Result<HfConfig, DiffusionError> {
        let file = self.folder("scheduler")?.join("scheduler_config.json");
        let keys = read_json(&file)?;
        if self.is_xl {
            return Ok(keys);
        }
        let class = keys.text("_class_name").unwrap_or_default();
        let mut keys = keys.with("steps_offset", json!(1));
        // Only classes that clip by default are told not to: from_config of another class keeps what is said.
        if keys.has("clip_sample") || CLIPPING.contains(&class.as_str()) {
            keys = keys.with("clip_sample", Value::Bool(false));
        }
        if self.class.contains("Inpaint") && class == "PNDMScheduler" {
            keys = keys.with("skip_prk_steps", Value::Bool(true));
        }
        Ok(keys)
    }
}

/// Schedulers that clip predicted images unless told otherwise.
const CLIPPING: [&str; 2] = ["DDIMScheduler", "DDPMScheduler"];

/// JSON as Python writes it, in which numbers may be infinite: those say that there is no limit, as null does.
fn read_json(file: &Path) -> Result<HfConfig, ConfigError> {
    let bytes = std::fs::read(file).map_err(|cause| ConfigError::Read {
        file: file.to_owned(),
        cause,
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let finite = text
        .replace(": -Infinity", ": null")
        .replace(": Infinity", ": null");
    HfConfig::parse(file.to_owned(), finite.as_bytes())
}

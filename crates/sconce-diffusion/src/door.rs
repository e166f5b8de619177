//! The door: requests become [`Drawing`]s, or are refused with the parameter, its value, the limit and the cure. All that
//! can be known without computing is decided here.

use sconce_core::{Draw, ServeError};
use sconce_models::HfConfig;

use crate::description::DiffusionDescription;
use crate::drawing::{Begun, Drawing, Opposite, Words};
use crate::memory::MemoryPlan;
use crate::picture;
use crate::resample::{Filter, resized};
use crate::schedulers::{self, Scheduler};

/// Steps where nobody says, as in every pipeline's class.
const STEPS: usize = 50;

/// Sizes of pictures are multiples of so many pixels, as diffusers demands whatever the autoencoder.
const MULTIPLE: usize = 8;

/// How beautiful refiners are told pictures are, and what they are not.
const SCORES: [f64; 2] = [6.0, 2.5];

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Text,
    Image,
    Inpaint,
}

/// Understands a request.
pub(crate) fn admit(
    description: &DiffusionDescription,
    plan: &MemoryPlan,
    most_images: usize,
    asked: Draw,
) -> Result<Drawing, ServeError> {
    admit_with(
        description,
        plan,
        most_images,
        asked,
        &description.scheduler,
    )
}

/// The same with another configuration of the scheduler.
pub(crate) fn admit_with(
    description: &DiffusionDescription,
    plan: &MemoryPlan,
    most_images: usize,
    asked: Draw,
    scheduler: &HfConfig,
) -> Result<Drawing, ServeError> {
    let door = Door {
        description,
        plan,
        most_images,
        scheduler,
    };
    door.admit(asked)
}

struct Door<'a> {
    description: &'a DiffusionDescription,
    plan: &'a MemoryPlan,
    most_images: usize,
    /// The scheduler that the pipeline comes with.
    scheduler: &'a HfConfig,
}

impl Door<'_> {
    fn admit(&self, asked: Draw) -> Result<Drawing, ServeError> {
        let mode = self.mode(&asked)?;
        self.refuse_misplaced(&asked)?;
        self.require_few(&asked)?;
        let steps = asked.steps.unwrap_or(STEPS);
        let scheduler = self.scheduler(&asked, steps)?;
        let begun = self.begun(&asked, mode, steps)?;
        let size = match &begun {
            Some((_, size)) => *size,
            None => self.size(&asked, self.description.size())?,
        };
        self.require_room(size, &asked)?;
        let guidance = asked.guidance.unwrap_or(self.default_guidance(mode));
        let opposite = self.opposite(&asked, guidance)?;
        let prompts = self.words(&asked.prompts, &asked.prompts_2)?;
        let numbers = self.numbers(&asked, size);
        let tokens = prompts
            .iter()
            .flat_map(|words| &words.ids)
            .map(Vec::len)
            .sum();
        Ok(Drawing {
            prompts,
            opposite,
            images_per_prompt: asked.images_per_prompt,
            size,
            scheduler,
            steps,
            guidance,
            guidance_rescale: asked.guidance_rescale,
            clip_skip: self.clip_skip(&asked)?,
            numbers,
            seed: asked.seed.unwrap_or_else(|| fastrand::u64(..1 << 32)),
            begun: begun.map(|(begun, _)| begun),
            format: asked.format,
            tells: asked.tells,
            tokens,
        })
    }

    fn mode(&self, asked: &Draw) -> Result<Mode, ServeError> {
        let fills = self.description.takes_masks();
        match (asked.image.is_some(), asked.mask.is_some()) {
            (true, true) => Ok(Mode::Inpaint),
            (false, true) => {
                let problem = "marks what is replaced of a picture; send that too, as `image`";
                Err(ServeError::parameter("mask_image", "given", problem))
            }
            _ if fills => Err(ServeError::Malformed(
                "this model fills masks: send a picture as `image` and, as `mask_image`, one of its size that is white \
                 where it is replaced"
                    .into(),
            )),
            (true, false) => Ok(Mode::Image),
            (false, false) if self.description.wants_scores => Err(ServeError::Malformed(
                "this model refines pictures: send one as `image`".into(),
            )),
            (false, false) => Ok(Mode::Text),
        }
    }

    /// Parameters that mean nothing to this pipeline.
    fn refuse_misplaced(&self, asked: &Draw) -> Result<(), ServeError> {
        let xl = [
            ("prompt_2", !asked.prompts_2.is_empty()),
            ("negative_prompt_2", !asked.negative_2.is_empty()),
            ("original_size", asked.original_size.is_some()),
            ("target_size", asked.target_size.is_some()),
            ("crops_coords_top_left", asked.crop != [0, 0]),
        ];
        for (key, given) in xl {
            if given && !self.description.is_xl {
                let problem = format!(
                    "is for SDXL, and this is a {}; remove it",
                    self.description.class
                );
                return Err(ServeError::parameter(key, "given", problem));
            }
        }
        let [score, negative] = asked.aesthetic_scores;
        for (key, given) in [
            ("aesthetic_score", score),
            ("negative_aesthetic_score", negative),
        ] {
            if let (Some(value), false) = (given, self.description.wants_scores) {
                let problem = "is for SDXL's refiner, which this is not; remove it";
                return Err(ServeError::parameter(key, value, problem));
            }
        }
        if let (None, Some(strength)) = (&asked.image, asked.strength) {
            let problem = "says how much of a picture is replaced, and there is none; send `image`, or remove it";
            return Err(ServeError::parameter("strength", strength, problem));
        }
        Ok(())
    }

    fn require_few(&self, asked: &Draw) -> Result<(), ServeError> {
        let wanted = asked.prompts.len() * asked.images_per_prompt;
        if (1..=self.most_images).contains(&wanted) {
            return Ok(());
        }
        let problem = format!(
            "{} texts with so many pictures each are {wanted}, and one request makes at most {} (option.max_rolling_batch_size); \
             send several requests",
            asked.prompts.len(),
            self.most_images
        );
        Err(ServeError::parameter(
            "num_images_per_prompt",
            asked.images_per_prompt,
            problem,
        ))
    }

    fn scheduler(&self, asked: &Draw, steps: usize) -> Result<Scheduler, ServeError> {
        let own = self.scheduler;
        let config = match &asked.scheduler {
            None => own.clone(),
            Some(name) if schedulers::is_known(name) => {
                own.clone().with("_class_name", name.as_str().into())
            }
            Some(name) => {
                let all: Vec<&str> = schedulers::names().collect();
                let problem = format!("is not one of {}", all.join(", "));
                return Err(ServeError::parameter("scheduler", name, problem));
            }
        };
        let class = config.text("_class_name").unwrap_or_default();
        if asked.eta > 0.0 && class != "DDIMScheduler" {
            let problem = format!(
                "is new noise of DDIMScheduler's steps, and the scheduler is {class}; remove it"
            );
            return Err(ServeError::parameter("eta", asked.eta, problem));
        }
        Scheduler::new(&config, steps, asked.eta).map_err(|error| match error {
            sconce_models::ConfigError::Value {
                key, value, wanted, ..
            } if key == "num_inference_steps" => {
                ServeError::parameter(key, value, format!("must be {wanted}, with {class}"))
            }
            // The file is as it is; another class may not like what it says.
            other => ServeError::parameter("scheduler", class.clone(), other.to_string()),
        })
    }

    fn default_guidance(&self, mode: Mode) -> f64 {
        match (self.description.is_xl, mode) {
            (true, Mode::Text | Mode::Image) => 5.0,
            _ => 7.5,
        }
    }

    /// The picture that a request begins with, and the size of those that it gets.
    fn begun(
        &self,
        asked: &Draw,
        mode: Mode,
        steps: usize,
    ) -> Result<Option<(Begun, [usize; 2])>, ServeError> {
        let Some(bytes) = &asked.image else {
            return Ok(None);
        };
        let strength = asked
            .strength
            .unwrap_or(match (self.description.is_xl, mode) {
                (true, Mode::Image) => 0.3,
                (true, _) => 0.9999,
                (false, Mode::Image) => 0.8,
                (false, _) => 1.0,
            });
        if ((steps as f64 * strength) as usize) < 1 {
            let problem = format!(
                "leaves no step of num_inference_steps = {steps}; raise either, so that their product is at least 1"
            );
            return Err(ServeError::parameter("strength", strength, problem));
        }
        let found = picture::read("image", bytes)?;
        // A picture keeps its size, rounded down; masks are filled at the pipeline's.
        let size = match mode {
            Mode::Inpaint => self.description.size(),
            _ => [found.height(), found.width()].map(|side| {
                let factor = self.description.factor();
                side as usize / factor * factor
            }),
        };
        if size.contains(&0) {
            let value = format!("{} × {} pixels", found.height(), found.width());
            let problem = format!(
                "is too small; send at least {} pixels each way",
                self.description.factor()
            );
            return Err(ServeError::parameter("image", value, problem));
        }
        let size = self.size(asked, size)?;
        // Before a large picture is made larger.
        self.require_room(size, asked)?;
        let mask = match &asked.mask {
            None => None,
            Some(bytes) => {
                let mask = picture::read("mask_image", bytes)?;
                Some(picture::binary(&resized(mask, size, Filter::Lanczos)))
            }
        };
        let begun = Begun {
            picture: picture::normalised(&resized(found, size, Filter::Lanczos)),
            mask,
            strength,
        };
        Ok(Some((begun, size)))
    }

    fn size(&self, asked: &Draw, default: [usize; 2]) -> Result<[usize; 2], ServeError> {
        let multiple = MULTIPLE.max(self.description.factor());
        let check = |key: &str, value: Option<usize>, default: usize| {
            let side = value.unwrap_or(default);
            if value.is_none() || (side > 0 && side.is_multiple_of(multiple)) {
                return Ok(side);
            }
            let near = (side / multiple).max(1) * multiple;
            let problem = format!(
                "must be a multiple of {multiple}; {near} or {} are",
                near + multiple
            );
            Err(ServeError::parameter(key, side, problem))
        };
        Ok([
            check("height", asked.height, default[0])?,
            check("width", asked.width, default[1])?,
        ])
    }

    fn require_room(&self, [height, width]: [usize; 2], asked: &Draw) -> Result<(), ServeError> {
        let images = self.plan.images([height, width]);
        let wanted = asked.prompts.len() * asked.images_per_prompt;
        if images >= wanted {
            return Ok(());
        }
        if self.plan.images_alone([height, width]) >= wanted {
            return Err(ServeError::NoMemory {
                wanted: format!("{wanted} pictures of {height} × {width} pixels"),
            });
        }
        let most = self.plan.most_pixels().unwrap_or(0);
        let (key, value, problem) = match images {
            0 => (
                "height",
                height.to_string(),
                format!(
                    "{height} × {width} pixels take {} MiB, more than memory has; ask for at most {most} pixels",
                    self.plan.picture([height, width]) >> 20
                ),
            ),
            fit => (
                "num_images_per_prompt",
                asked.images_per_prompt.to_string(),
                format!(
                    "{wanted} pictures of {height} × {width} pixels are more than the {fit} that memory has room for; ask for fewer or smaller ones"
                ),
            ),
        };
        Err(ServeError::parameter(key, value, problem))
    }

    fn opposite(&self, asked: &Draw, guidance: f64) -> Result<Opposite, ServeError> {
        let prompts = asked.prompts.len();
        for (key, texts) in [
            ("negative_prompt", &asked.negative),
            ("negative_prompt_2", &asked.negative_2),
        ] {
            if texts.len() > 1 && texts.len() != prompts {
                let problem = format!("must be one text, or one for each of the {prompts} prompts");
                let value = format!("a list of {}", texts.len());
                return Err(ServeError::parameter(key, value, problem));
            }
        }
        // A UNet that is told the guidance needs no second prediction.
        if guidance <= 1.0 || self.description.unet.spec.guidance.is_some() {
            return Ok(Opposite::Unguided);
        }
        if asked.negative.is_empty() && self.description.zeros_for_empty {
            return Ok(Opposite::Zeros);
        }
        let each = |texts: &[String]| -> Vec<String> {
            match texts {
                [] => vec![String::new(); prompts],
                [one] => vec![one.clone(); prompts],
                all => all.to_vec(),
            }
        };
        let second = match asked.negative_2.is_empty() {
            true => Vec::new(),
            false => each(&asked.negative_2),
        };
        Ok(Opposite::Words(
            self.words(&each(&asked.negative), &second)?,
        ))
    }

    /// Texts as ids of every encoder; the second encoder may have texts of its own.
    fn words(&self, texts: &[String], others: &[String]) -> Result<Vec<Words>, ServeError> {
        if !others.is_empty() && others.len() != texts.len() {
            let problem = format!("must be as many as the {} of prompt", texts.len());
            let value = format!("a list of {}", others.len());
            return Err(ServeError::parameter("prompt_2", value, problem));
        }
        let of_text = |at: usize| {
            let encoders = self.description.texts.iter().enumerate();
            let ids = encoders.map(|(encoder, part)| {
                let text = match encoder {
                    0 => &texts[at],
                    _ => others.get(at).unwrap_or(&texts[at]),
                };
                let mut ids = part.tokenizer.encode(text).map_err(|error| {
                    ServeError::parameter("prompt", text, format!("cannot be tokenised: {error}"))
                })?;
                let context = part.part.spec.context;
                // What is too long is cut, but for its last token, as CLIP's tokenizer does.
                if let (true, Some(last)) = (ids.len() > context, ids.last().copied()) {
                    ids.truncate(context - 1);
                    ids.push(last);
                }
                ids.resize(context, part.padding);
                Ok(ids)
            });
            let ids = ids.collect::<Result<_, ServeError>>()?;
            Ok(Words { ids })
        };
        (0..texts.len()).map(of_text).collect()
    }

    fn clip_skip(&self, asked: &Draw) -> Result<Option<usize>, ServeError> {
        let Some(skip) = asked.clip_skip else {
            return Ok(None);
        };
        let layers = self
            .description
            .texts
            .iter()
            .map(|text| text.part.spec.dims.layers);
        // SDXL takes the states before the last layer already.
        let most = layers.min().unwrap_or(0) - usize::from(self.description.is_xl);
        if skip <= most {
            return Ok(Some(skip));
        }
        let problem = format!("must be at most {most}, for the text encoder has no more layers");
        Err(ServeError::parameter("clip_skip", skip, problem))
    }

    /// What SDXL is told with the text and with the opposite.
    fn numbers(&self, asked: &Draw, size: [usize; 2]) -> Option<[Vec<f32>; 2]> {
        self.description.unet.spec.added?;
        let original = asked.original_size.unwrap_or(size);
        let target = asked.target_size.unwrap_or(size);
        let floats = |sides: [usize; 2]| sides.map(|side| side as f32);
        let [score, negative] = asked.aesthetic_scores;
        let with = |crop: [usize; 2], score: f64| {
            let mut all = [floats(original), floats(crop)].concat();
            match self.description.wants_scores {
                true => all.push(score as f32),
                false => all.extend(floats(target)),
            }
            all
        };
        let [usual, unusual] = SCORES;
        let of_opposite = if self.description.wants_scores {
            [0, 0]
        } else {
            asked.crop
        };
        Some([
            with(asked.crop, score.unwrap_or(usual)),
            with(of_opposite, negative.unwrap_or(unusual)),
        ])
    }
}

//! What a model that makes pictures is asked, with the names of diffusers' pipelines, and what it answers.

/// How a picture is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PictureFormat {
    /// Lossless, what DJL Serving answers with.
    #[default]
    Png,
    /// Lossy.
    Jpeg,
    /// Lossless.
    Webp,
}

impl PictureFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Png, Self::Jpeg, Self::Webp];

    /// The name that requests have for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
        }
    }

    /// The value of Content-Type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }
}

/// Pictures that are wanted. What is `None` is as the pipeline's class and the checkpoint say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draw {
    /// What they show, a text for each.
    pub prompts: Vec<String>,
    /// What the second text encoder is told; empty: the same.
    pub prompts_2: Vec<String>,
    /// What they do not show: none, one for all, or one for each.
    pub negative: Vec<String>,
    /// The same for the second text encoder.
    pub negative_2: Vec<String>,
    /// Pictures of each text.
    pub images_per_prompt: usize,
    /// Steps of denoising.
    pub steps: Option<usize>,
    /// How much the text counts.
    pub guidance: Option<f64>,
    /// How much of the guided prediction gets the spread of the unguided one.
    pub guidance_rescale: f64,
    /// Pixels.
    pub height: Option<usize>,
    /// Pixels.
    pub width: Option<usize>,
    /// Of the noise; `None`: a new one.
    pub seed: Option<u64>,
    /// How much of the image is replaced.
    pub strength: Option<f64>,
    /// New noise of DDIM's steps.
    pub eta: f64,
    /// Layers of the text encoder that are left out at the end.
    pub clip_skip: Option<usize>,
    /// The class of another scheduler.
    pub scheduler: Option<String>,
    /// The file of a picture to begin with.
    pub image: Option<Vec<u8>>,
    /// The file of a picture that is white where the other is to be replaced.
    pub mask: Option<Vec<u8>>,
    /// Height and width that SDXL is told the picture had.
    pub original_size: Option<[usize; 2]>,
    /// Height and width that SDXL is told it is to have.
    pub target_size: Option<[usize; 2]>,
    /// Top and left that SDXL is told were cut off.
    pub crop: [usize; 2],
    /// How beautiful a refiner is told the picture is, and how beautiful what it is not.
    pub aesthetic_scores: [Option<f64>; 2],
    /// How pictures are written.
    pub format: PictureFormat,
    /// Whether to tell of every step; and whether with a picture of what there is.
    pub tells: Option<Preview>,
}

/// Whether a report of progress has a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preview {
    /// Only the number of the step.
    None,
    /// Every so many steps.
    Every(usize),
}

/// A picture that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// The file.
    pub bytes: Vec<u8>,
    /// How it is written.
    pub format: PictureFormat,
    /// The seed that it was made from, with those beside it.
    pub seed: u64,
    /// Whether the safety checker replaced it by black; `None`: there is none.
    pub flagged: Option<bool>,
}

/// A step that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Progressed {
    /// Steps that are made.
    pub step: usize,
    /// All of them.
    pub steps: usize,
    /// The first picture as it is.
    pub preview: Option<Picture>,
}

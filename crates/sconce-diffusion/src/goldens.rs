//! Every tiny pipeline against diffusers: embeddings, one pass through the UNet, the autoencoder, whole requests, with
//! every scheduler. `models/diffusion/make.py` made them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use sconce_core::{Draw, Gauges, PictureFormat};
use sconce_models::diffusion::Conditions;
use serde::Deserialize;

use crate::clients::Told;
use crate::description::DiffusionDescription;
use crate::door;
use crate::memory::MemoryPlan;
use crate::models::Models;
use crate::picture;
use crate::running::Client;
use crate::settings::DiffusionSettings;
use crate::tensors::{channels_first, channels_last, images, numbers};
use crate::worker::{DiffusionWorker, Waiting};

#[derive(Deserialize)]
struct Golden {
    #[serde(default)]
    texts: Vec<Text>,
    unet: Vec<Pass>,
    images: Vec<Request>,
}

#[derive(Deserialize)]
struct Text {
    prompt: String,
    ids: Vec<u32>,
    ids_2: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Pass {
    times: Vec<f32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::More(all) => all,
        }
    }
}

#[derive(Deserialize)]
struct Request {
    name: String,
    prompt: OneOrMore,
    parameters: Parameters,
    scheduler: Option<String>,
    #[serde(default)]
    scheduler_options: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    tiled: bool,
    #[serde(default)]
    flagged: Option<Vec<bool>>,
}

#[derive(Deserialize)]
struct Parameters {
    seed: u64,
    num_inference_steps: usize,
    guidance_scale: Option<f64>,
    guidance_rescale: Option<f64>,
    height: Option<usize>,
    width: Option<usize>,
    strength: Option<f64>,
    eta: Option<f64>,
    clip_skip: Option<usize>,
    num_images_per_prompt: Option<usize>,
    negative_prompt: Option<OneOrMore>,
    negative_prompt_2: Option<OneOrMore>,
    prompt_2: Option<OneOrMore>,
    original_size: Option<[usize; 2]>,
    target_size: Option<[usize; 2]>,
    crops_coords_top_left: Option<[usize; 2]>,
    aesthetic_score: Option<f64>,
    negative_aesthetic_score: Option<f64>,
}

/// The golden tensors of a folder.
struct Tensors(Vec<u8>);

impl Tensors {
    fn read(dir: &Path) -> Self {
        Self(std::fs::read(dir.join("golden.safetensors")).unwrap())
    }

    fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.0)
            .unwrap()
            .tensor(name)
            .is_ok()
    }

    fn floats(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let found = file.tensor(name).unwrap();
        assert_eq!(found.dtype(), Dtype::F32, "{name}");
        let words = found.data().as_chunks::<4>().0.iter();
        let numbers = words.map(|word| f32::from_le_bytes(*word)).collect();
        (numbers, found.shape().to_vec())
    }

    fn bytes(&self, name: &str) -> (Vec<u8>, Vec<usize>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let found = file.tensor(name).unwrap();
        (found.data().to_vec(), found.shape().to_vec())
    }

    /// `[images, channels, height, width]` as a tensor with channels last.
    fn images(&self, name: &str) -> Tensor {
        let (numbers, shape) = self.floats(name);
        let turned = channels_last(&numbers, shape[1], shape[2] * shape[3]);
        images(turned, [shape[2], shape[3]], shape[1]).unwrap()
    }

    fn matrix(&self, name: &str) -> Tensor {
        let (numbers, shape) = self.floats(name);
        let width = shape[shape.len() - 1];
        Tensor::from_vec(
            numbers.clone(),
            (numbers.len() / width, width),
            &Device::Cpu,
        )
        .unwrap()
    }

    /// Bytes `[height, width, 3]` or `[height, width]` as a PNG file.
    fn file(&self, name: &str) -> Option<Vec<u8>> {
        if !self.has(name) {
            return None;
        }
        let (bytes, shape) = self.bytes(name);
        let bytes = if shape.len() == 3 {
            bytes
        } else {
            bytes.iter().flat_map(|x| [*x; 3]).collect()
        };
        let made = image::RgbImage::from_raw(shape[1] as u32, shape[0] as u32, bytes).unwrap();
        Some(picture::encoded(&made, PictureFormat::Png).unwrap())
    }
}

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../models/diffusion")
        .join(name)
}

pub(crate) fn settings(name: &str) -> DiffusionSettings {
    DiffusionSettings {
        name: name.into(),
        dir: folder(name),
        dtype: None,
        threads: None,
        max_images: 8,
        room: None,
        spare: None,
        queue: 64,
        skips_safety_checker: false,
        tiles: None,
        predict_timeout: 600,
    }
}

fn golden(name: &str) -> Golden {
    serde_json::from_slice(&std::fs::read(folder(name).join("golden.json")).unwrap()).unwrap()
}

fn assert_close(what: &str, got: &[f32], wanted: &[f32], tolerance: f32) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let largest = wanted.iter().fold(1f32, |most, x| most.max(x.abs()));
    let worst = got
        .iter()
        .zip(wanted)
        .map(|(got, wanted)| (got - wanted).abs());
    let worst = worst.fold(0.0, f32::max) / largest;
    assert!(worst <= tolerance, "{what}: {worst} apart");
}

/// The worst difference, relative to the largest number.
fn apart(got: &[f32], wanted: &[f32]) -> f32 {
    let largest = wanted.iter().fold(1f32, |most, x| most.max(x.abs()));
    let worst = got
        .iter()
        .zip(wanted)
        .map(|(got, wanted)| (got - wanted).abs());
    worst.fold(0.0, f32::max) / largest
}

/// Peak signal to noise of bytes, in dB.
fn psnr(got: &[u8], wanted: &[u8]) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let squares = got
        .iter()
        .zip(wanted)
        .map(|(got, wanted)| (f64::from(*got) - f64::from(*wanted)).powi(2));
    let mean = squares.sum::<f64>() / got.len() as f64;
    10.0 * (255.0 * 255.0 / mean.max(1e-12)).log10()
}

fn loaded(settings: &DiffusionSettings) -> (DiffusionDescription, Models) {
    let description = DiffusionDescription::read(settings).unwrap();
    let models = Models::load(&description, settings, &mut |_, _| {}).unwrap();
    (description, models)
}

fn check_parts(name: &str) {
    let (description, models) = loaded(&settings(name));
    let (golden, tensors) = (golden(name), Tensors::read(&folder(name)));
    for (at, text) in golden.texts.iter().enumerate() {
        let ids = |which: usize| {
            let part = &description.texts[which];
            let mut ids = part.tokenizer.encode(&text.prompt).unwrap();
            if ids.len() > 77 {
                let last = *ids.last().unwrap();
                ids.truncate(76);
                ids.push(last);
            }
            ids.resize(77, part.padding);
            ids
        };
        assert_eq!(ids(0), text.ids, "{name}: {}", text.prompt);
        let (wanted, _) = tensors.floats(&format!("texts.{at}"));
        let first = models.texts[0].forward(&text.ids, 1).unwrap();
        let Some(second) = &text.ids_2 else {
            assert_close("states", &numbers(&first.last).unwrap(), &wanted, 1e-4);
            continue;
        };
        assert_eq!(&ids(1), second, "{name}: {}", text.prompt);
        let both = models.texts[1].forward(second, 1).unwrap();
        let before_last = |states: &[Tensor]| states[states.len() - 2].clone();
        let joined =
            sconce_nn::join_channels(&before_last(&first.hidden), &before_last(&both.hidden))
                .unwrap();
        assert_close("states", &numbers(&joined).unwrap(), &wanted, 1e-4);
        let (pooled, _) = tensors.floats(&format!("texts.{at}.pooled"));
        assert_close(
            "vector",
            &numbers(&both.pooled.unwrap()).unwrap(),
            &pooled,
            1e-4,
        );
    }
    for (at, pass) in golden.unet.iter().enumerate() {
        let part = |part: &str| format!("unet.{at}.{part}");
        let added = tensors.has(&part("text_embeds")).then(|| {
            let (numbers, _) = tensors.floats(&part("time_ids"));
            (tensors.matrix(&part("text_embeds")), numbers)
        });
        let guidance =
            description.unet.spec.guidance.map(|width| {
                Tensor::zeros((2, width), candle_core::DType::F32, &Device::Cpu).unwrap()
            });
        let conditions = Conditions {
            times: pass.times.clone(),
            states: tensors.matrix(&part("states")),
            added,
            guidance,
        };
        let out = models
            .unet
            .forward(&tensors.images(&part("in")), &conditions)
            .unwrap();
        let (wanted, shape) = tensors.floats(&part("out"));
        let got = channels_first(&numbers(&out).unwrap(), shape[1], shape[2] * shape[3]);
        assert_close(&format!("{name}: pass {at}"), &got, &wanted, 1e-4);
    }
    let turned = |tensor: Tensor, shape: &[usize]| {
        channels_first(&numbers(&tensor).unwrap(), shape[1], shape[2] * shape[3])
    };
    if tensors.has("vae.image") {
        let (wanted, shape) = tensors.floats("vae.moments");
        let got = models.vae.encode(&tensors.images("vae.image")).unwrap();
        assert_close("moments", &turned(got, &shape), &wanted, 1e-4);
        let (wanted, shape) = tensors.floats("vae.decoded");
        let got = models.vae.decode(&tensors.images("vae.latents")).unwrap();
        assert_close("decoded", &turned(got, &shape), &wanted, 1e-4);
    }
    if tensors.has("vae.tiled.image") {
        let tiling = description.vae.spec.tiling(description.vae.spec.sample);
        let (wanted, shape) = tensors.floats("vae.tiled.moments");
        let picture = tensors.images("vae.tiled.image");
        let got = models.vae.encode_tiles(&picture, tiling).unwrap();
        assert_close("moments of tiles", &turned(got, &shape), &wanted, 1e-4);
        let (wanted, shape) = tensors.floats("vae.tiled.decoded");
        let latents = tensors.images("vae.tiled.latents");
        let got = models.vae.decode_tiles(&latents, tiling).unwrap();
        assert_close("decoded tiles", &turned(got, &shape), &wanted, 1e-4);
    }
}

fn draw(request: Request, tensors: &Tensors) -> Draw {
    let texts = |texts: Option<OneOrMore>| texts.map(OneOrMore::all).unwrap_or_default();
    let p = request.parameters;
    Draw {
        prompts: request.prompt.all(),
        prompts_2: texts(p.prompt_2),
        negative: texts(p.negative_prompt),
        negative_2: texts(p.negative_prompt_2),
        images_per_prompt: p.num_images_per_prompt.unwrap_or(1),
        steps: Some(p.num_inference_steps),
        guidance: p.guidance_scale,
        guidance_rescale: p.guidance_rescale.unwrap_or(0.0),
        height: p.height,
        width: p.width,
        seed: Some(p.seed),
        strength: p.strength,
        eta: p.eta.unwrap_or(0.0),
        clip_skip: p.clip_skip,
        scheduler: request.scheduler,
        image: tensors.file(&format!("{}.image", request.name)),
        mask: tensors.file(&format!("{}.mask", request.name)),
        original_size: p.original_size,
        target_size: p.target_size,
        crop: p.crops_coords_top_left.unwrap_or_default(),
        aesthetic_scores: [p.aesthetic_score, p.negative_aesthetic_score],
        format: PictureFormat::Png,
        tells: None,
    }
}

/// What the engine's thread has, without the thread.
pub(crate) fn worker(settings: DiffusionSettings) -> DiffusionWorker {
    let (description, models) = loaded(&settings);
    let plan = MemoryPlan::new(&description, &settings).unwrap();
    DiffusionWorker {
        name: settings.name,
        description: Arc::new(description),
        models,
        plan: Arc::new(plan),
        predict_timeout: 600,
        waiting: Default::default(),
        running: Default::default(),
        gauges: Default::default(),
        _pulse: sconce_nn::Pulse::default().attach(),
    }
}

fn check_images(name: &str) {
    check_images_of(worker(settings(name)), name);
}

/// Compares all images of a golden folder with those that a worker makes.
pub(crate) fn check_images_of(mut worker: DiffusionWorker, name: &str) {
    let tensors = Tensors::read(&folder(name));
    let mut wrong = Vec::new();
    for request in golden(name).images {
        let (label, flagged) = (request.name.clone(), request.flagged.clone());
        let own = Arc::clone(&worker.description);
        // Options of a scheduler are its folder's.
        let options = request.scheduler_options.iter();
        let scheduler = options.fold(own.scheduler.clone(), |all, (key, value)| {
            all.with(key, value.clone())
        });
        Arc::make_mut(&mut worker.plan).tiles = request.tiled.then_some(true);
        let drawing = door::admit_with(&own, &worker.plan, 8, draw(request, &tensors), &scheduler);
        let (sender, _events) = channel();
        let client = Client {
            reply: Box::new(Told(sender)),
            deadline: Instant::now() + Duration::from_secs(600),
            permit: Arc::new(Gauges::default()).enter(1).unwrap(),
        };
        worker.waiting.push_back(Waiting {
            drawing: drawing.unwrap(),
            client,
        });
        worker.join();
        while !worker.running[0].is_done() {
            worker.step();
        }
        let mut running = worker.running.pop_front().unwrap();
        let (latents, _) = tensors.floats(&format!("{label}.latents"));
        let apart = apart(running.latents(), &latents);
        if apart > 5e-3 {
            wrong.push(format!("{label}: latents {apart} apart"));
        }
        let key = format!("{label}.pictures");
        if !tensors.has(&key) {
            continue;
        }
        let (wanted, shape) = tensors.bytes(&key);
        let size: usize = shape[1..].iter().product();
        assert_eq!(running.images, shape[0], "{name}/{label}");
        for (at, wanted) in wanted.chunks_exact(size).enumerate() {
            let made = running.finished(&worker.parts(), at).unwrap();
            if let (Some(flagged), Some(own)) = (&flagged, made.flagged) {
                assert_eq!(own, flagged[at], "{name}/{label}");
            }
            let own = picture::read("image", &made.bytes).unwrap();
            assert_eq!([own.height() as usize, own.width() as usize], shape[1..3]);
            let ratio = psnr(own.as_raw(), wanted);
            if ratio < 40.0 {
                wrong.push(format!("{label}: {ratio:.1} dB"));
            }
        }
    }
    assert!(wrong.is_empty(), "{name}: {}", wrong.join(", "));
}

const PIPELINES: [&str; 7] = [
    "sd1",
    "sd2",
    "sdxl",
    "sdxl-refiner",
    "inpaint",
    "lcm",
    "shards",
];

#[test]
fn texts_passes_and_pictures_of_the_parts_are_those_of_diffusers() {
    PIPELINES.into_iter().for_each(check_parts);
}

#[test]
fn requests_to_stable_diffusion_1_are_answered_as_by_diffusers() {
    check_images("sd1");
}

#[test]
fn requests_to_stable_diffusion_2_are_answered_as_by_diffusers() {
    check_images("sd2");
}

#[test]
fn requests_to_weights_in_bfloat16_and_in_shards_are_answered_as_by_diffusers() {
    let unet = folder("shards/unet");
    assert!(
        unet.join("diffusion_pytorch_model.safetensors.index.json")
            .exists()
    );
    check_images("shards");
}

#[test]
fn requests_to_sdxl_and_its_refiner_are_answered_as_by_diffusers() {
    check_images("sdxl");
    check_images("sdxl-refiner");
}

#[test]
fn requests_to_inpainting_and_distilled_models_are_answered_as_by_diffusers() {
    check_images("inpaint");
    check_images("lcm");
}

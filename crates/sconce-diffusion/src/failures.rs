//! What goes wrong while computing: it is told with its reason, is one request's own, and is no black picture.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sconce_core::{Backend, Draw, Event, Gauges, ServeError};
use sconce_nn::weights::StoredDtype;
use tempfile::TempDir;

use crate::clients::{Told, ask, engine, job, pictures};
use crate::description::DiffusionDescription;
use crate::engine::DiffusionEngine;
use crate::error::DiffusionError;
use crate::goldens::{check_images_of, folder, settings, worker};
use crate::picture;
use crate::running::Client;
use crate::settings::DiffusionSettings;
use crate::worker::Waiting;
use crate::{door, drawing::Drawing};

/// The type, the shape and the bytes of a tensor.
type Stored = (Dtype, Vec<usize>, Vec<u8>);

/// A copy of a pipeline that is served with these settings.
struct Copy {
    _dir: TempDir,
    settings: DiffusionSettings,
}

impl Copy {
    fn of(name: &str) -> Self {
        let dir = TempDir::new().unwrap();
        copy(&folder(name), dir.path());
        let settings = DiffusionSettings {
            dir: dir.path().to_owned(),
            ..settings(name)
        };
        Self {
            _dir: dir,
            settings,
        }
    }

    /// Changes tensors of one of its files.
    fn change(&self, file: &str, change: impl Fn(&mut BTreeMap<String, Stored>)) {
        let file = self.settings.dir.join(file);
        let bytes = fs::read(&file).unwrap();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let entry = |(name, view): (String, TensorView<'_>)| {
            let stored = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            (name, stored)
        };
        let mut all = read.tensors().into_iter().map(entry).collect();
        change(&mut all);
        let views = all.iter().map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn failure(event: Option<Event>) -> String {
    match event {
        Some(Event::Failed(ServeError::Engine { cause, .. })) => cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn latents_that_are_no_numbers_fail_the_request_that_has_them_and_no_other() {
    let copy = Copy::of("sd1");
    let text = &DiffusionDescription::read(&copy.settings).unwrap().texts[0];
    let ids = |words: &str| text.tokenizer.encode(words).unwrap();
    let (good, bad) = (ids("a candle"), ids("a tiger"));
    let damaged = *bad.iter().find(|id| !good.contains(id)).unwrap() as usize;
    let undamaged = engine(copy.settings.clone());
    let (alone, wanted) = job(ask(6, 3));
    undamaged.submit(alone).unwrap();
    let wanted = pictures(&wanted);
    copy.change("text_encoder/model.safetensors", |all| {
        let name = "text_model.embeddings.token_embedding.weight";
        let (dtype, shape, bytes) = all.get_mut(name).unwrap();
        assert_eq!(*dtype, Dtype::F16);
        let row = 2 * shape[1];
        let infinite = f16::INFINITY.to_le_bytes().repeat(shape[1]);
        bytes[damaged * row..][..row].copy_from_slice(&infinite);
    });
    let engine = engine(copy.settings.clone());
    let (good, own) = job(ask(6, 3));
    let (bad, other) = job(Draw {
        prompts: vec!["a tiger".into()],
        ..ask(6, 3)
    });
    engine.submit(good).unwrap();
    engine.submit(bad).unwrap();
    let cause = failure(other.recv().ok());
    for part in ["of the latents is NaN", "after step 1 of", "weights"] {
        assert!(cause.contains(part), "{cause}");
    }
    assert!(pictures(&own) == wanted);
}

#[test]
fn a_pipeline_that_gives_no_numbers_does_not_start() {
    let copy = Copy::of("sd1");
    copy.change("unet/diffusion_pytorch_model.safetensors", |all| {
        let (_, _, bytes) = all.get_mut("conv_in.weight").unwrap();
        bytes[..2].copy_from_slice(&f16::NAN.to_le_bytes());
    });
    let error = DiffusionEngine::start(copy.settings.clone(), Arc::new(|_, _| {})).err();
    assert!(
        matches!(error, Some(DiffusionError::Canary(_))),
        "{error:?}"
    );
}

#[test]
fn weights_that_float16_does_not_hold_stay_as_they_are() {
    let copy = Copy::of("sd1");
    // What a norm follows may be as large as it likes: the picture is the same.
    copy.change("vae/diffusion_pytorch_model.safetensors", |all| {
        for part in ["weight", "bias"] {
            let name = format!("decoder.mid_block.resnets.0.conv1.{part}");
            let (dtype, _, bytes) = all.get_mut(&name).unwrap();
            let numbers = bytes.as_chunks::<2>().0.iter();
            let large = numbers.map(|pair| f16::from_le_bytes(*pair).to_f32() * f32::powi(2.0, 20));
            (*dtype, *bytes) = (Dtype::F32, large.flat_map(f32::to_le_bytes).collect());
        }
    });
    let settings = DiffusionSettings {
        dtype: Some(StoredDtype::F16),
        ..copy.settings.clone()
    };
    check_images_of(worker(settings), "sd1");
}

/// A request for a picture within a mask, as the door understands it.
fn masked(worker: &crate::worker::DiffusionWorker) -> Drawing {
    let picture = image::RgbImage::from_pixel(64, 64, image::Rgb([200, 100, 0]));
    let file = picture::encoded(&picture, sconce_core::PictureFormat::Png).unwrap();
    let asked = Draw {
        image: Some(file.clone()),
        mask: Some(file),
        ..ask(2, 1)
    };
    door::admit(&worker.description, &worker.plan, 8, asked).unwrap()
}

#[test]
fn a_panic_is_told_with_its_reason() {
    let mut worker = worker(settings("sd1"));
    let mut drawing = masked(&worker);
    drawing
        .begun
        .as_mut()
        .unwrap()
        .mask
        .as_mut()
        .unwrap()
        .truncate(100);
    let (sender, events) = channel();
    let client = || Client {
        reply: Box::new(Told(sender.clone())),
        deadline: Instant::now() + Duration::from_secs(600),
        permit: Arc::new(Gauges::default()).enter(1).unwrap(),
    };
    worker.waiting.push_back(Waiting {
        drawing,
        client: client(),
    });
    worker.join();
    let cause = failure(events.recv().ok());
    assert!(cause.contains("panic") && cause.contains("100"), "{cause}");
    // The next one is served.
    worker.waiting.push_back(Waiting {
        drawing: masked(&worker),
        client: client(),
    });
    worker.join();
    while !worker.running[0].is_done() {
        worker.step();
    }
    // The autoencoder is given what is no number.
    worker.running[0].latents()[7] = f32::NAN;
    worker.finish();
    let cause = failure(events.recv().ok());
    assert!(cause.contains("pixels that are no numbers"), "{cause}");
}

//! Every scheduler against diffusers, step by step: `models/diffusion/schedulers`.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use sconce_models::HfConfig;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Moment, Scheduler};
use crate::random::Generator;

#[derive(Deserialize)]
struct Goldens {
    trajectories: Vec<Trajectory>,
}

#[derive(Deserialize)]
struct Trajectory {
    name: String,
    class: String,
    config: serde_json::Map<String, Value>,
    steps: usize,
    timesteps: Vec<f32>,
    init_noise_sigma: f32,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/diffusion/schedulers")
}

fn config(class: &str, keys: &serde_json::Map<String, Value>) -> HfConfig {
    let text = serde_json::to_vec(keys).unwrap();
    let config = HfConfig::parse(PathBuf::from("scheduler_config.json"), &text).unwrap();
    config.with("_class_name", json!(class))
}

fn numbers(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let data = file.tensor(name).unwrap().data().to_vec();
    let words = data.as_chunks::<4>().0.iter();
    words.map(|word| f32::from_le_bytes(*word)).collect()
}

/// The worst difference relative to the largest number.
fn apart(got: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(got.len(), wanted.len());
    let largest = wanted.iter().fold(1f32, |most, x| most.max(x.abs()));
    let worst = got
        .iter()
        .zip(wanted)
        .map(|(got, wanted)| (got - wanted).abs());
    worst.fold(0.0, f32::max) / largest
}

#[test]
fn every_class_and_option_makes_the_steps_of_diffusers() {
    let goldens = std::fs::read(folder().join("golden.json")).unwrap();
    let goldens: Goldens = serde_json::from_slice(&goldens).unwrap();
    let file = std::fs::read(folder().join("golden.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let mut wrong = Vec::new();
    for case in &goldens.trajectories {
        if let Err(problem) = follow(case, &file) {
            wrong.push(format!(
                "{} {} {:?}: {problem}",
                case.name, case.class, case.config
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn follow(case: &Trajectory, file: &SafeTensors<'_>) -> Result<(), String> {
    let get = |part: &str| numbers(file, &format!("{}.{part}", case.name));
    let config = config(&case.class, &case.config);
    let mut scheduler = Scheduler::new(&config, case.steps, 0.0).map_err(|e| e.to_string())?;
    let close = |what: &str, got: &[f32], wanted: &[f32]| match apart(got, wanted) {
        apart if apart < 5e-5 => Ok(()),
        apart => Err(format!("{what} differ by {apart}: {got:?}, not {wanted:?}")),
    };
    close("time steps", scheduler.timesteps(), &case.timesteps)?;
    let sigma = [scheduler.noise_sigma()];
    close("noises at the beginning", &sigma, &[case.init_noise_sigma])?;
    let noised = get("noised");
    let (image, rest) = noised.split_at(noised.len() / 3);
    let (noise, wanted) = rest.split_at(image.len());
    let begin = scheduler.begin(case.steps, 0.5);
    close(
        "noised images",
        &scheduler.noised(begin, image, noise),
        wanted,
    )?;
    let mut generator = Generator::new(3);
    let (outputs, scaled, samples) = (get("outputs"), get("scaled"), get("samples"));
    let mut sample = get("first");
    let len = sample.len();
    sample.iter_mut().for_each(|x| *x *= sigma[0]);
    for at in 0..scheduler.timesteps().len() {
        let of = |all: &[f32]| all[at * len..][..len].to_vec();
        let input: Vec<f32> = sample.iter().map(|x| x * scheduler.scale(at)).collect();
        close(&format!("inputs of step {at}"), &input, &of(&scaled))?;
        let moment = Moment {
            output: &of(&outputs),
            sample: &sample,
            images: 1,
            noise: &mut || generator.normal(len),
        };
        sample = scheduler.step(at, moment);
        close(&format!("latents of step {at}"), &sample, &of(&samples))?;
        // Each step by itself: errors do not add up.
        sample = of(&samples);
    }
    Ok(())
}

#[test]
fn what_is_not_there_is_refused_by_its_key() {
    let refused = |class: &str, keys: Value, steps: usize| {
        let keys = keys.as_object().unwrap().clone();
        let made = Scheduler::new(&config(class, &keys), steps, 0.0);
        made.map(|_| ()).unwrap_err().to_string()
    };
    for (class, keys, steps, parts) in [
        (
            "KDPM2DiscreteScheduler",
            json!({}),
            5,
            ["_class_name", "EulerDiscreteScheduler"],
        ),
        (
            "EulerDiscreteScheduler",
            json!({"use_beta_sigmas": true, "use_karras_sigmas": true}),
            5,
            ["use_beta_sigmas", "false beside use_karras_sigmas"],
        ),
        (
            "DDIMScheduler",
            json!({}),
            1001,
            ["num_inference_steps", "1 to 1000"],
        ),
        (
            "DDIMScheduler",
            json!({}),
            0,
            ["num_inference_steps", "1 to 1000"],
        ),
        (
            "LCMScheduler",
            json!({}),
            51,
            ["num_inference_steps", "1 to 50"],
        ),
        (
            "PNDMScheduler",
            json!({}),
            3,
            ["num_inference_steps", "more than 4"],
        ),
        (
            "DDPMScheduler",
            json!({"variance_type": "learned"}),
            5,
            ["learned", "fixed_small"],
        ),
        (
            "PNDMScheduler",
            json!({"prediction_type": "flow"}),
            5,
            ["flow", "v_prediction"],
        ),
    ] {
        let text = refused(class, keys, steps);
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
}

//! Pipelines that do not start, what `sconce check` says of them and of those that do.

use std::fs;
use std::path::Path;
use std::process::Command;

use sconce_testkit::server::Launch;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::copy;
use crate::support::PROGRAM;

fn checked(dir: &Path) -> (Value, i32) {
    let output = Command::new(PROGRAM)
        .arg("check")
        .arg(dir)
        .arg("--json")
        .output()
        .unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap();
    (report, output.status.code().unwrap())
}

fn edit(file: &Path, key: &str, value: Value) {
    let mut keys: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    keys[key] = value;
    fs::write(file, keys.to_string()).unwrap();
}

#[test]
fn check_tells_of_every_pipeline() {
    for (name, class, checker) in [
        ("sd1", "StableDiffusionPipeline", false),
        ("sd2", "StableDiffusionPipeline", false),
        ("sdxl", "StableDiffusionXLPipeline", false),
        ("sdxl-refiner", "StableDiffusionXLImg2ImgPipeline", false),
        ("inpaint", "StableDiffusionInpaintPipeline", false),
        ("lcm", "StableDiffusionPipeline", true),
    ] {
        let dir = TempDir::new().unwrap();
        let (report, exit) = checked(&copy(name, dir.path()));
        assert_eq!(exit, 0, "{name}: {report}");
        assert_eq!(report["model"]["task"], "text-to-image");
        assert_eq!(report["model"]["architecture"], class);
        let part = &report["pictures"];
        assert_eq!(
            (&part["height"], &part["safety_checker"]),
            (&json!(64), &json!(checker))
        );
        assert!(
            part["images"].as_u64().unwrap() > 0
                && part["weights_bytes"].as_u64().unwrap() > 10_000
        );
    }
}

type Damage = fn(&Path);

/// A pipeline, what becomes of it, the verdict's name, and parts of its text.
type Case = (&'static str, Damage, &'static str, &'static [&'static str]);

fn cases() -> [Case; 9] {
    [
        (
            "sd1",
            |dir| fs::remove_dir_all(dir.join("vae")).unwrap(),
            "part-missing",
            &["`vae`", "no folder"],
        ),
        (
            "sd1",
            |dir| edit(&dir.join("model_index.json"), "unet", json!([null, null])),
            "part-missing",
            &["`unet`", "does not name"],
        ),
        (
            "sd1",
            |dir| fs::remove_file(dir.join("unet/diffusion_pytorch_model.safetensors")).unwrap(),
            "weights-missing",
            &["no weights in", "diffusion_pytorch_model.safetensors"],
        ),
        (
            "sd1",
            |dir| edit(&dir.join("unet/config.json"), "norm_eps", json!("small")),
            "bad-model-config",
            &["norm_eps", "a number above 0"],
        ),
        (
            "sd1",
            |dir| {
                edit(
                    &dir.join("unet/config.json"),
                    "block_out_channels",
                    json!([16, 48]),
                )
            },
            "shape-mismatch",
            &["unet", "where config.json asks for"],
        ),
        (
            "sd1",
            |dir| {
                edit(
                    &dir.join("unet/config.json"),
                    "cross_attention_dim",
                    json!(24),
                )
            },
            "parts-disagree",
            &["cross_attention_dim", "vectors of 16"],
        ),
        (
            "sd1",
            |dir| {
                edit(
                    &dir.join("scheduler/scheduler_config.json"),
                    "_class_name",
                    json!("DPMSolverSDEScheduler"),
                )
            },
            "unsupported-feature",
            &["DPMSolverSDEScheduler", "EulerDiscreteScheduler"],
        ),
        (
            "sd1",
            |dir| {
                edit(
                    &dir.join("unet/config.json"),
                    "class_embed_type",
                    json!("timestep"),
                )
            },
            "unsupported-feature",
            &["class_embed_type", "null"],
        ),
        (
            "sd1",
            |dir| {
                edit(
                    &dir.join("model_index.json"),
                    "_class_name",
                    json!("StableDiffusionControlNetPipeline"),
                )
            },
            "unsupported-feature",
            &[
                "StableDiffusionControlNetPipeline",
                "StableDiffusionXLPipeline",
            ],
        ),
    ]
}

#[test]
fn what_is_wrong_with_a_folder_is_named() {
    for (name, damage, code, parts) in cases() {
        let dir = TempDir::new().unwrap();
        let copied = copy(name, dir.path());
        damage(&copied);
        let (report, exit) = checked(&copied);
        let reason = &report["reasons"][0];
        assert_eq!((exit, &reason["code"]), (1, &json!(code)), "{report}");
        let text = reason["message"].as_str().unwrap();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        let (status, log) = Launch::serve(PROGRAM, &copied).run().unwrap();
        assert!(!status.success() && log.contains(parts[0]), "{log}");
    }
}

#[test]
fn a_checkpoint_in_one_file_is_refused_with_a_hint() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("v1-5-pruned-emaonly.safetensors"), "x").unwrap();
    let (report, exit) = checked(dir.path());
    let text = report["reasons"][0]["message"].as_str().unwrap();
    assert_eq!(exit, 64);
    assert!(text.contains("save_pretrained"), "{text}");
}

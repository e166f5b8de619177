//! Where a model computes by its configuration, asked before anything is fetched. What devices there are is known to the
//! engine.

use sconce_config::{Device, ModelSettings, Speculator};
use sconce_core::Task;
use sconce_engine::{DeviceError, DeviceWish, GpuInfo, GpuShare, Gpus};
use tracing::warn;

use crate::build::quantisation;

/// Fails unless the model's device can be used. Where a user's own code answers, devices are its own concern.
pub fn require_device(settings: &ModelSettings) -> Result<(), DeviceError> {
    gpus(settings).map(drop)
}

/// A GPU for each rank of a model; none: it computes on the processor.
pub(crate) fn gpus(settings: &ModelSettings) -> Result<Vec<GpuShare>, DeviceError> {
    if settings.python.is_some() {
        return Ok(Vec::new());
    }
    let wish = match settings.device {
        Device::Auto => DeviceWish::Auto,
        Device::Cpu => DeviceWish::Cpu,
        Device::Cuda => DeviceWish::Cuda,
    };
    let ranks = (!settings.all_gpus).then_some(settings.ranks);
    let gpus = sconce_engine::choose_gpus(wish, ranks, &Gpus::of_this_machine())?;
    let share = |gpu: &GpuInfo| GpuShare {
        ordinal: gpu.ordinal,
        bytes: gpu.bytes / 1000 * u64::from(settings.gpu_memory_thousandths),
    };
    match of_the_processor(settings).filter(|_| !gpus.is_empty()) {
        Some(what) => Err(DeviceError::ProcessorOnly { what }),
        None => Ok(gpus.iter().map(share).collect()),
    }
}

/// What is asked for that only the processor does, as an option with its value.
fn of_the_processor(settings: &ModelSettings) -> Option<String> {
    if let Some(format) = quantisation(settings.quantize) {
        return Some(format!("option.quantize={}", format.name()));
    }
    if settings.lora.enabled {
        return Some("option.enable_lora=true".into());
    }
    if let Some(folder) = &settings.lora.own {
        return Some(format!("the adapter {}", folder.display()));
    }
    match &settings.speculation.by {
        Speculator::Model(folder) => Some(format!(
            "option.speculative_draft_model={}",
            folder.display()
        )),
        _ => None,
    }
}

/// Fails where GPUs are asked for by name and the task is computed on the processor; says so where there are some.
pub(crate) fn require_processor(settings: &ModelSettings, task: Task) -> Result<(), DeviceError> {
    if settings.device == Device::Cuda {
        let what = format!("the task {task}");
        return Err(DeviceError::ProcessorOnly { what });
    }
    if !gpus(settings)?.is_empty() {
        warn!(
            "{task} is computed on the processor, whatever GPUs there are; set option.device=cpu if that is meant"
        );
    }
    Ok(())
}

//! Where a model computes by its configuration, asked before anything is fetched. What devices there are is known to the
//! engine.

use sconce_config::{Device, ModelSettings};
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
    match quantisation(settings.quantize) {
        Some(format) if !gpus.is_empty() => Err(DeviceError::ProcessorOnly {
            what: format!("option.quantize={}", format.name()),
        }),
        _ => Ok(gpus.iter().map(share).collect()),
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

//! Where a model computes by its configuration, asked before anything is fetched. What devices there are is known to the
//! engine.

use sconce_config::{Device, LoadOn, ModelSettings, Speculator};
use sconce_core::Task;
use sconce_engine::{DeviceError, DeviceWish, GpuInfo, GpuShare, Gpus, Spread};
use tracing::warn;

use crate::build::quantisation;

/// Fails unless the model's device can be used. Where a user's own code answers, devices are its own concern.
pub fn require_device(settings: &ModelSettings) -> Result<(), DeviceError> {
    at_hand(settings).map(drop)
}

/// A GPU for each rank of each replica of a model; none: it computes on the processor, once.
pub(crate) fn gpus(settings: &ModelSettings) -> Result<Vec<Vec<GpuShare>>, DeviceError> {
    let share = |gpu: &GpuInfo| GpuShare {
        ordinal: gpu.ordinal,
        bytes: GpuShare::of(gpu.bytes, settings.gpu_memory_thousandths),
    };
    let groups = at_hand(settings)?;
    Ok(groups
        .iter()
        .map(|group| group.iter().map(share).collect())
        .collect())
}

/// The GPUs of this machine that a model would compute on, those of each replica together; none: its processor.
pub fn at_hand(settings: &ModelSettings) -> Result<Vec<Vec<GpuInfo>>, DeviceError> {
    if settings.python.is_some() {
        return Ok(Vec::new());
    }
    let (wish, numbers) = match (settings.device, &settings.load_on) {
        (Device::Cpu, _) | (Device::Auto, LoadOn::Cpu) => return Ok(Vec::new()),
        (Device::Auto, LoadOn::Gpus(numbers)) => (DeviceWish::Auto, Some(&**numbers)),
        (Device::Cuda, LoadOn::Gpus(numbers)) => (DeviceWish::Cuda, Some(&**numbers)),
        (Device::Auto, LoadOn::All) => (DeviceWish::Auto, None),
        (Device::Cuda, LoadOn::All | LoadOn::Cpu) => (DeviceWish::Cuda, None),
    };
    let spread = Spread {
        ranks: (!settings.all_gpus).then_some(settings.ranks),
        numbers,
    };
    let groups = sconce_engine::choose_gpus(wish, spread, &Gpus::of_this_machine())?;
    match of_the_processor(settings).filter(|_| !groups.is_empty()) {
        Some(error) => Err(error),
        None => Ok(groups),
    }
}

/// Why a model cannot compute on GPUs, if something is asked for that only the processor does.
pub fn of_the_processor(settings: &ModelSettings) -> Option<DeviceError> {
    processor_only(settings).map(|what| DeviceError::ProcessorOnly { what })
}

/// That as an option with its value.
fn processor_only(settings: &ModelSettings) -> Option<String> {
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

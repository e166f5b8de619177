//! Whether this build can compute where the configuration wants it, asked before anything is fetched.
//! What devices there are is known to the engine.

use sconce_config::{Device, ModelSettings};
use sconce_engine::{DeviceError, DeviceWish, Gpus};

/// Fails unless the model's device can be used. Where a user's own code answers, devices are its own concern.
pub fn require_device(settings: &ModelSettings) -> Result<(), DeviceError> {
    if settings.python.is_some() {
        return Ok(());
    }
    let wish = match settings.device {
        Device::Auto => DeviceWish::Auto,
        Device::Cpu => DeviceWish::Cpu,
        Device::Cuda => DeviceWish::Cuda,
    };
    sconce_engine::require_device(wish, &Gpus::of_this_machine())
}

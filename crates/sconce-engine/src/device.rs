//! Where a model may compute, decided before anything is fetched or read. This build computes on the
//! processor only: whoever asks for more is told so, and what else there is, instead of being
//! served by something slower than was meant.

use std::fs;
use std::path::Path;

use thiserror::Error;
use tracing::warn;

/// Where a model is asked to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceWish {
    /// On the fastest device that this build can use.
    Auto,
    /// On the processor.
    Cpu,
    /// On GPUs.
    Cuda,
}

/// The device that is asked for cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// There is no code for GPUs in this build.
    #[error(
        "option.device=cuda: this build of sconce computes on the processor only ({found}); set \
         option.device=cpu to be served by the processor"
    )]
    NoCuda {
        /// What this machine has.
        found: Gpus,
    },
}

impl DeviceError {
    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCuda { .. } => "no-cuda-in-this-build",
        }
    }
}

/// The GPUs of this machine as far as files tell, without a library of theirs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gpus {
    /// NVIDIA's GPUs that this process may open.
    count: usize,
    /// The version of the kernel's driver.
    driver: Option<String>,
}

impl Gpus {
    /// Those of this machine, or of the container around this process.
    pub fn of_this_machine() -> Self {
        Self::below(Path::new("/"))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    fn below(root: &Path) -> Self {
        let number = |name: &str| {
            let digits = name.strip_prefix("nvidia")?;
            digits.parse::<u16>().ok()
        };
        let devices = fs::read_dir(root.join("dev")).into_iter().flatten();
        let devices =
            devices.filter_map(|entry| number(&entry.ok()?.file_name().to_string_lossy()));
        let text = fs::read_to_string(root.join("proc/driver/nvidia/version"));
        Self {
            count: devices.count(),
            driver: text.ok().and_then(|text| driver_version(&text)),
        }
    }
}

/// The word after `Kernel Module`, perhaps behind the name of an architecture.
fn driver_version(text: &str) -> Option<String> {
    let (_, after) = text.lines().next()?.split_once("Kernel Module")?;
    let is_version =
        |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    after.split_whitespace().find(is_version).map(str::to_owned)
}

impl std::fmt::Display for Gpus {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.count {
            0 => out.write_str("and this machine has no NVIDIA GPU that it may use")?,
            1 => out.write_str("this machine has 1 NVIDIA GPU")?,
            count => write!(out, "this machine has {count} NVIDIA GPUs")?,
        }
        match &self.driver {
            Some(version) => write!(out, ", driver {version}"),
            None => Ok(()),
        }
    }
}

/// Fails unless this build can compute where it is asked to; says in the log what it leaves alone.
pub fn require_device(wish: DeviceWish, gpus: &Gpus) -> Result<(), DeviceError> {
    match wish {
        DeviceWish::Cpu => Ok(()),
        DeviceWish::Cuda => Err(DeviceError::NoCuda {
            found: gpus.clone(),
        }),
        DeviceWish::Auto => {
            if let Some(left) = left_alone(gpus) {
                warn!("{left}");
            }
            Ok(())
        }
    }
}

/// What to say of GPUs that nobody asked for and nothing uses.
fn left_alone(gpus: &Gpus) -> Option<String> {
    (gpus.count > 0).then(|| {
        format!(
            "{gpus}, which this build leaves alone: it computes on the processor; set option.device=cpu if that \
             is meant"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(devices: &[&str], driver: Option<&str>) -> Gpus {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("dev")).unwrap();
        for device in devices {
            fs::write(root.path().join("dev").join(device), "").unwrap();
        }
        if let Some(line) = driver {
            let dir = root.path().join("proc/driver/nvidia");
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("version"), line).unwrap();
        }
        Gpus::below(root.path())
    }

    const OPEN: &str = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  \
        Release Build  (dvs-builder@U22-I3-AM02-24-3)\nGCC version:  gcc version 12.3.0\n";
    const CLOSED: &str =
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57.02  Tue Jul 13 16:14:05 UTC 2021\n";

    #[test]
    fn gpus_are_counted_by_their_files_and_the_driver_is_read() {
        let devices = ["nvidia0", "nvidia7", "nvidiactl", "nvidia-uvm", "null"];
        for (line, version) in [(OPEN, "580.65.06"), (CLOSED, "470.57.02")] {
            let gpus = machine(&devices, Some(line));
            assert_eq!((gpus.count, gpus.driver.as_deref()), (2, Some(version)));
        }
        assert_eq!(machine(&["nvidiactl"], Some("nonsense")), Gpus::default());
        assert_eq!(Gpus::below(Path::new("/nowhere")), Gpus::default());
    }

    #[test]
    fn asking_for_gpus_fails_with_what_there_is_and_the_cure() {
        for (devices, found) in [
            (
                &[][..],
                "and this machine has no NVIDIA GPU that it may use, driver 580.65.06",
            ),
            (
                &["nvidia0"],
                "this machine has 1 NVIDIA GPU, driver 580.65.06",
            ),
            (
                &["nvidia0", "nvidia1"],
                "this machine has 2 NVIDIA GPUs, driver 580.65.06",
            ),
        ] {
            let gpus = machine(devices, Some(OPEN));
            let text = require_device(DeviceWish::Cuda, &gpus)
                .unwrap_err()
                .to_string();
            assert!(text.contains(found), "{text}");
            assert!(text.contains("set option.device=cpu"), "{text}");
        }
    }

    #[test]
    fn gpus_that_are_left_alone_are_told_and_never_in_the_way() {
        let gpus = machine(&["nvidia0"], None);
        for wish in [DeviceWish::Auto, DeviceWish::Cpu] {
            assert_eq!(require_device(wish, &gpus), Ok(()));
        }
        assert!(
            left_alone(&gpus)
                .unwrap()
                .starts_with("this machine has 1 NVIDIA GPU")
        );
        assert_eq!(left_alone(&Gpus::default()), None);
    }
}

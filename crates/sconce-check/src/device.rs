//! Where the model would compute: this machine, or GPUs of the table.

use std::time::Duration;

use sconce_engine::Room;
use thiserror::Error;

use crate::gpus::{self, Gpu};
use crate::report::Device;

/// So long the bandwidth of this machine is measured.
const MEASURING: Duration = Duration::from_millis(120);

/// Most GPUs that are planned for.
const MOST: usize = 64;

/// Where the model would compute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// This machine's processor.
    Machine {
        /// Bytes per second of its memory; `None`: measured.
        bandwidth: Option<f64>,
    },
    /// So many GPUs.
    Gpus {
        /// Their kind.
        gpu: &'static Gpu,
        /// Their number.
        count: usize,
    },
}

/// A name that no GPU has.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// The name is not in the table.
    #[error(
        "--gpu {name}: no GPU or instance has this name; known are {}",
        gpus::names()
    )]
    Unknown {
        /// As written.
        name: String,
    },
    /// The number makes no sense.
    #[error("--gpu {text}: the number of GPUs must be from 1 to {MOST}, as in a10g:4")]
    Count {
        /// As written.
        text: String,
    },
}

impl Target {
    /// GPUs by `NAME`, `NAME:COUNT` or the name of an instance.
    pub fn gpus(text: &str) -> Result<Self, TargetError> {
        let lower = text.to_lowercase();
        if let Some((gpu, count)) = gpus::of_instance(&lower) {
            return Ok(Self::Gpus { gpu, count });
        }
        let (name, count) = lower.split_once(':').unwrap_or((&lower, "1"));
        let gpu = gpus::find(name).ok_or_else(|| TargetError::Unknown { name: name.into() })?;
        let count = count
            .parse()
            .ok()
            .filter(|count| (1..=MOST).contains(count));
        let count = count.ok_or_else(|| TargetError::Count { text: text.into() })?;
        Ok(Self::Gpus { gpu, count })
    }

    /// Number of devices that ranks can have for themselves.
    pub(crate) fn count(&self) -> Option<usize> {
        match self {
            Self::Machine { .. } => None,
            Self::Gpus { count, .. } => Some(*count),
        }
    }

    /// The memory of each of `ranks` ranks; `number`: bytes of a key's or value's number.
    pub(crate) fn room(&self, ranks: usize, threads: usize, number: u64) -> Room {
        match self {
            Self::Machine { .. } => Room::of_this_machine(ranks, threads),
            Self::Gpus { gpu, .. } => Room::of_gpu(gpu.mib << 20, ranks, number),
        }
    }

    /// For the report; measures this machine unless its bandwidth is given.
    pub(crate) fn describe(&self, threads: usize) -> Device {
        match self {
            Self::Machine { bandwidth } => Device {
                kind: "cpu",
                name: "this machine".into(),
                count: 1,
                threads: Some(threads),
                memory_bytes: Room::of_this_machine(1, threads).bytes,
                bytes_per_second: bandwidth
                    .unwrap_or_else(|| sconce_engine::read_bandwidth(MEASURING)),
                measured: bandwidth.is_none(),
            },
            Self::Gpus { gpu, count } => Device {
                kind: "gpu",
                name: gpu.name.into(),
                count: *count,
                threads: None,
                memory_bytes: Some(gpu.mib << 20),
                bytes_per_second: gpu.gb_per_second * 1e9,
                measured: false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_named_with_a_number_or_by_an_instance() {
        let named = |text| match Target::gpus(text) {
            Ok(Target::Gpus { gpu, count }) => Ok((gpu.name, count)),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(named("a10g"), Ok(("a10g", 1)));
        assert_eq!(named("A10G:4"), Ok(("a10g", 4)));
        assert_eq!(named("ml.p4d.24xlarge"), Ok(("a100-40gb", 8)));
        let unknown = named("rtx3090").unwrap_err();
        assert!(
            unknown.contains("a10g") && unknown.contains("ml.g5."),
            "{unknown}"
        );
        for wrong in ["a10g:0", "a10g:many", "a10g:65"] {
            assert!(
                named(wrong).unwrap_err().contains("from 1 to 64"),
                "{wrong}"
            );
        }
    }
}

//! Where the model would compute: this machine, or GPUs of the table.

use std::time::Duration;

use sconce_engine::{GpuInfo, GpuShare, Room};
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

    /// The GPUs of this machine that a model would compute on, as the driver describes them; `None`: it names one that the
    /// table has not.
    pub(crate) fn of_groups(groups: &[Vec<GpuInfo>]) -> Option<Self> {
        let first = groups.first()?.first()?;
        let known = gpus::of_driver(&first.name)?;
        let gpu = Gpu {
            mib: first.bytes >> 20,
            ..*known
        };
        Some(Self::Gpus {
            // One for each report, of which a process makes one.
            gpu: Box::leak(Box::new(gpu)),
            count: groups.iter().map(Vec::len).sum(),
        })
    }

    /// Number of devices that ranks can have for themselves.
    pub(crate) fn count(&self) -> Option<usize> {
        match self {
            Self::Machine { .. } => None,
            Self::Gpus { count, .. } => Some(*count),
        }
    }

    /// The memory of each of `ranks` ranks, of a GPU so many thousandths; `number`: bytes of a key's or value's number.
    pub(crate) fn room(&self, ranks: usize, threads: usize, number: u64, thousandths: u32) -> Room {
        match self {
            Self::Machine { .. } => Room::of_this_machine(ranks, threads),
            Self::Gpus { gpu, .. } => {
                let bytes = GpuShare::of(gpu.mib << 20, thousandths);
                Room::of_gpu(bytes, ranks, number)
            }
        }
    }

    /// A GPU for each of `ranks` ranks, where there are any.
    pub(crate) fn shares(&self, ranks: usize, thousandths: u32) -> Vec<GpuShare> {
        let Self::Gpus { gpu, .. } = self else {
            return Vec::new();
        };
        let bytes = GpuShare::of(gpu.mib << 20, thousandths);
        let share = |ordinal| GpuShare { ordinal, bytes };
        (0..ranks).map(share).collect()
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

//! Where a model may compute, decided before anything is fetched or read. Who asks for more than there is gets told so,
//! and what else there is, instead of being served by something slower than was meant.

use std::fs;
use std::path::Path;

use sconce_nn::{GpuError, GpuInfo};
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
    /// There are GPUs, or they are asked for, and they cannot be used.
    #[error(
        "GPUs cannot be used: {cause} ({found}); set option.device=cpu to be served by the processor"
    )]
    Unusable {
        /// What this machine has.
        found: Gpus,
        /// Why not.
        cause: GpuError,
    },
    /// There are no GPUs.
    #[error(
        "option.device=cuda: the driver shows no GPU to this process; run the container with --gpus all, look at \
         CUDA_VISIBLE_DEVICES, or set option.device=cpu to be served by the processor"
    )]
    NoGpu,
    /// There are fewer GPUs than ranks.
    #[error(
        "option.tensor_parallel_degree={ranks}: this process sees {found}; set at most that, or \
         option.device=cpu to be served by the processor"
    )]
    TooFew {
        /// Ranks of the model.
        ranks: usize,
        /// The number of GPUs.
        found: usize,
    },
    /// Ranks would compute on GPUs of different kinds.
    #[error(
        "option.tensor_parallel_degree={ranks}: {first} and {other} are different kinds of GPU, of which the slowest and \
         smallest would decide; choose equal ones with CUDA_VISIBLE_DEVICES"
    )]
    Mixed {
        /// Ranks of the model.
        ranks: usize,
        /// The first GPU.
        first: String,
        /// One that differs.
        other: String,
    },
    /// A GPU is named that is not there.
    #[error(
        "load_on_devices names GPU {number}: this process sees {found}, whose numbers begin at 0; name others, or `*` for all"
    )]
    NotThere {
        /// The number.
        number: usize,
        /// The number of GPUs.
        found: usize,
    },
    /// Nothing joins GPUs to a group.
    #[error("option.tensor_parallel_degree={ranks}: {cause}")]
    NoNccl {
        /// Ranks of the model.
        ranks: usize,
        /// What is missing, and the cure.
        cause: String,
    },
    /// GPUs that cannot reach each other have too little memory to meet in.
    #[error(
        "option.tensor_parallel_degree={ranks}: GPUs {} and {} cannot reach each other's memory, so that ranks exchange \
         numbers in /dev/shm, which has {} MiB free and needs {} MiB: start the container with --shm-size=1g (or --ipc=host), \
         or serve from one GPU with option.tensor_parallel_degree=1",
        .apart[0], .apart[1], free >> 20, needed >> 20
    )]
    SharedMemory {
        /// Ranks of the model.
        ranks: usize,
        /// Two that are apart.
        apart: [usize; 2],
        /// Bytes that are free.
        free: u64,
        /// Bytes that are needed.
        needed: u64,
    },
    /// Something is asked for that only the processor does.
    #[error("{what} is computed on the processor only; leave it out, or set option.device=cpu")]
    ProcessorOnly {
        /// The option with its value, or the task.
        what: String,
    },
}

impl DeviceError {
    /// The stable name of the problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCuda { .. } => "no-cuda-in-this-build",
            Self::Unusable { .. } => "gpu-unusable",
            Self::NoGpu => "no-gpu",
            Self::TooFew { .. } => "too-few-gpus",
            Self::Mixed { .. } => "mixed-gpus",
            Self::NotThere { .. } => "no-such-gpu",
            Self::NoNccl { .. } => "no-nccl",
            Self::SharedMemory { .. } => "shared-memory-too-small",
            Self::ProcessorOnly { .. } => "processor-only",
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

/// How a model's ranks are spread over GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread<'a> {
    /// Ranks of each replica, each on a GPU of its own; `None`: one replica has all GPUs.
    pub ranks: Option<usize>,
    /// The numbers of the GPUs that may be used; `None`: all.
    pub numbers: Option<&'a [usize]>,
}

/// The GPUs of each replica of a model, one for each of its ranks; none: it computes on the processor, once. Fails where
/// what is asked for cannot be had; says in the log what is left alone.
pub fn choose_gpus(
    wish: DeviceWish,
    spread: Spread,
    machine: &Gpus,
) -> Result<Vec<Vec<GpuInfo>>, DeviceError> {
    if wish == DeviceWish::Cpu {
        return Ok(Vec::new());
    }
    let groups = choose(wish, spread, machine, sconce_nn::gpus())?;
    for group in groups.iter().filter(|group| group.len() > 1) {
        let ordinals: Vec<_> = group.iter().map(|gpu| gpu.ordinal).collect();
        let ranks = ordinals.len();
        sconce_nn::require_nccl().map_err(|error| DeviceError::NoNccl {
            ranks,
            cause: error.to_string(),
        })?;
        if let Some(apart) = sconce_nn::apart(&ordinals) {
            meet(ranks, apart, sconce_nn::shared_memory())?;
        }
    }
    Ok(groups)
}

/// What a pair of ranks takes of `/dev/shm` in each direction: NCCL's buffers of a channel, with room to spare.
const MEETING: u64 = 10 << 20;

/// Ranks that cannot reach each other meet in the host's memory; fails where it is too small.
fn meet(ranks: usize, apart: [usize; 2], free: Option<u64>) -> Result<(), DeviceError> {
    let needed = MEETING * ranks as u64 * (ranks as u64 - 1);
    match free {
        Some(free) if free < needed => Err(DeviceError::SharedMemory {
            ranks,
            apart,
            free,
            needed,
        }),
        _ => {
            warn!(
                "GPUs {} and {} cannot reach each other's memory: sums of ranks go through the host's, which is slower",
                apart[0], apart[1]
            );
            Ok(())
        }
    }
}

fn choose(
    wish: DeviceWish,
    spread: Spread,
    machine: &Gpus,
    seen: Result<Vec<GpuInfo>, GpuError>,
) -> Result<Vec<Vec<GpuInfo>>, DeviceError> {
    let asked = wish == DeviceWish::Cuda;
    let found = machine.clone();
    match seen {
        Err(GpuError::NotBuilt) if asked => Err(DeviceError::NoCuda { found }),
        Err(GpuError::NotBuilt) => {
            if let Some(left) = left_alone(machine) {
                warn!("{left}");
            }
            Ok(Vec::new())
        }
        Err(cause) if asked || machine.count > 0 => Err(DeviceError::Unusable { found, cause }),
        Ok(gpus) if asked && gpus.is_empty() => Err(DeviceError::NoGpu),
        Ok(gpus) if gpus.is_empty() => Ok(Vec::new()),
        Err(_) => Ok(Vec::new()),
        Ok(gpus) => {
            let gpus = named(gpus, spread.numbers)?;
            let ranks = spread.ranks.unwrap_or(gpus.len()).max(1);
            groups(&gpus, ranks)
        }
    }
}

/// Those that have the numbers, in their order.
fn named(gpus: Vec<GpuInfo>, numbers: Option<&[usize]>) -> Result<Vec<GpuInfo>, DeviceError> {
    let Some(numbers) = numbers else {
        return Ok(gpus);
    };
    let found = gpus.len();
    let of = |&number: &usize| {
        let gpu = gpus.get(number).cloned();
        gpu.ok_or(DeviceError::NotThere { number, found })
    };
    numbers.iter().map(of).collect()
}

/// As many groups of `ranks` GPUs of one kind as there are. The first must be one; what is left of others is said.
fn groups(gpus: &[GpuInfo], ranks: usize) -> Result<Vec<Vec<GpuInfo>>, DeviceError> {
    let found = gpus.len();
    if ranks > found {
        return Err(DeviceError::TooFew { ranks, found });
    }
    let kind = |gpu: &GpuInfo| (gpu.name.clone(), gpu.capability);
    let mut groups = Vec::new();
    for group in gpus.chunks_exact(ranks) {
        match group.iter().find(|gpu| kind(gpu) != kind(&group[0])) {
            None => groups.push(group.to_vec()),
            Some(other) if groups.is_empty() => {
                return Err(DeviceError::Mixed {
                    ranks,
                    first: group[0].name.clone(),
                    other: other.name.clone(),
                });
            }
            Some(_) => {}
        }
    }
    let idle = found - groups.len() * ranks;
    if idle > 0 {
        warn!(
            "{idle} of {found} GPUs do nothing: option.tensor_parallel_degree={ranks} makes {} of {ranks} GPUs of one kind",
            replicas(groups.len())
        );
    }
    Ok(groups)
}

fn replicas(count: usize) -> String {
    match count {
        1 => "one replica".into(),
        count => format!("{count} replicas"),
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
            let chosen = choose(DeviceWish::Cuda, ONE, &gpus, Err(GpuError::NotBuilt));
            let text = chosen.unwrap_err().to_string();
            assert!(text.contains(found), "{text}");
            assert!(text.contains("set option.device=cpu"), "{text}");
        }
    }

    #[test]
    fn gpus_that_are_left_alone_are_told_and_never_in_the_way() {
        let gpus = machine(&["nvidia0"], None);
        let chosen = choose(DeviceWish::Auto, ONE, &gpus, Err(GpuError::NotBuilt));
        assert_eq!(chosen, Ok(Vec::new()));
        assert_eq!(choose_gpus(DeviceWish::Cpu, ONE, &gpus), Ok(Vec::new()));
        assert!(
            left_alone(&gpus)
                .unwrap()
                .starts_with("this machine has 1 NVIDIA GPU")
        );
        assert_eq!(left_alone(&Gpus::default()), None);
    }

    fn gpu(ordinal: usize, name: &str) -> GpuInfo {
        GpuInfo {
            ordinal,
            name: name.to_owned(),
            bytes: 1 << 34,
            capability: (8, 6),
        }
    }

    const ONE: Spread = Spread {
        ranks: Some(1),
        numbers: None,
    };

    /// The numbers of the GPUs of each replica, on a machine with three of a kind and one of another.
    fn spread(ranks: Option<usize>, numbers: Option<&[usize]>) -> Result<Vec<Vec<usize>>, String> {
        let machine = machine(&["nvidia0", "nvidia1", "nvidia2", "nvidia3"], None);
        let names = ["A10G", "A10G", "A10G", "T4"];
        let seen = names
            .into_iter()
            .enumerate()
            .map(|(ordinal, name)| gpu(ordinal, name));
        let spread = Spread { ranks, numbers };
        let chosen = choose(DeviceWish::Auto, spread, &machine, Ok(seen.collect()));
        let ordinals = |group: Vec<GpuInfo>| group.iter().map(|gpu| gpu.ordinal).collect();
        let groups = chosen.map(|groups| groups.into_iter().map(ordinals).collect());
        groups.map_err(|error| error.to_string())
    }

    #[test]
    fn replicas_have_as_many_gpus_as_ranks_each_and_all_of_one_kind() {
        let all = |groups: &[&[usize]]| Ok(groups.iter().map(|group| group.to_vec()).collect());
        assert_eq!(spread(Some(1), None), all(&[&[0], &[1], &[2], &[3]]));
        // The second would be mixed.
        assert_eq!(spread(Some(2), None), all(&[&[0, 1]]));
        assert_eq!(spread(Some(3), None), all(&[&[0, 1, 2]]));
        let mixed = spread(Some(4), None).unwrap_err();
        assert!(mixed.contains("A10G and T4"), "{mixed}");
        assert_eq!(spread(None, None), Err(mixed));
        let few = spread(Some(5), None).unwrap_err();
        assert!(few.contains("this process sees 4"), "{few}");
    }

    #[test]
    fn gpus_that_are_apart_need_room_to_meet() {
        assert_eq!(meet(4, [0, 1], Some(1 << 30)), Ok(()));
        assert_eq!(meet(4, [0, 1], None), Ok(()));
        // What docker gives.
        let text = meet(4, [1, 2], Some(64 << 20)).unwrap_err().to_string();
        let parts = [
            "GPUs 1 and 2",
            "64 MiB free",
            "needs 120 MiB",
            "--shm-size=1g",
        ];
        for part in parts {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn only_the_gpus_that_are_named_are_used() {
        let all = |groups: &[&[usize]]| Ok(groups.iter().map(|group| group.to_vec()).collect());
        assert_eq!(spread(Some(1), Some(&[2, 0])), all(&[&[2], &[0]]));
        assert_eq!(spread(Some(2), Some(&[2, 0])), all(&[&[2, 0]]));
        assert_eq!(spread(None, Some(&[1, 2])), all(&[&[1, 2]]));
        let none = spread(Some(1), Some(&[4])).unwrap_err();
        assert!(none.contains("GPU 4") && none.contains("sees 4"), "{none}");
    }

    #[test]
    fn gpus_that_are_there_and_unusable_are_an_error_with_the_cause() {
        let none = Gpus::default();
        let cause = || GpuError::Missing {
            what: "libcublas.so",
        };
        let choose = |wish, machine: &Gpus, seen| choose(wish, ONE, machine, seen);
        // Without a GPU nobody misses its libraries.
        assert_eq!(choose(DeviceWish::Auto, &none, Err(cause())), Ok(vec![]));
        assert_eq!(choose(DeviceWish::Auto, &none, Ok(vec![])), Ok(vec![]));
        assert_eq!(
            choose(DeviceWish::Cuda, &none, Ok(vec![])),
            Err(DeviceError::NoGpu)
        );
        let there = machine(&["nvidia0"], None);
        for (wish, machine) in [(DeviceWish::Auto, &there), (DeviceWish::Cuda, &none)] {
            let text = choose(wish, machine, Err(cause())).unwrap_err().to_string();
            assert!(
                text.contains("libcublas.so") && text.contains("--gpus all"),
                "{text}"
            );
        }
    }
}

//! GPUs that a plan can be made for, by their own names and by those of SageMaker's instances.
//!
//! Memory is what the driver reports as total (`nvidia-smi`), which is less than the name says;
//! bandwidth is that of NVIDIA's data sheets: T4, V100 (SXM2), A10G (the A10's sheet), L4, L40S,
//! A100 40GB and 80GB (SXM), H100 (SXM), H200, B200. bf16 needs compute capability 8.0. The
//! instances are those of the AWS pages of the families g4dn, g5, g6, g6e, p3, p4, p5 and p6.

/// A GPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gpu {
    /// Its name on the command line.
    pub name: &'static str,
    /// Memory in MiB.
    pub mib: u64,
    /// What its memory delivers, in GB (10⁹ bytes) per second.
    pub gb_per_second: f64,
    /// Whether it computes in bfloat16.
    pub bf16: bool,
}

/// All GPUs of the table.
pub const GPUS: &[Gpu] = &[
    gpu("t4", 15_360, 320.0, false),
    gpu("v100", 16_160, 900.0, false),
    gpu("v100-32gb", 32_510, 900.0, false),
    gpu("a10g", 23_028, 600.0, true),
    gpu("l4", 23_034, 300.0, true),
    gpu("l40s", 46_068, 864.0, true),
    gpu("a100-40gb", 40_960, 1_555.0, true),
    gpu("a100-80gb", 81_920, 2_039.0, true),
    gpu("h100", 81_559, 3_350.0, true),
    gpu("h200", 143_771, 4_800.0, true),
    gpu("b200", 183_359, 8_000.0, true),
];

const fn gpu(name: &'static str, mib: u64, gb_per_second: f64, bf16: bool) -> Gpu {
    Gpu {
        name,
        mib,
        gb_per_second,
        bf16,
    }
}

/// Sizes of a family of instances, and how many GPUs each has.
type Sizes = &'static [(&'static str, usize)];

/// Families of instances: their GPU, and how many each size has.
const INSTANCES: &[(&str, &str, Sizes)] = &[
    (
        "g4dn",
        "t4",
        &[
            ("xlarge", 1),
            ("2xlarge", 1),
            ("4xlarge", 1),
            ("8xlarge", 1),
            ("16xlarge", 1),
            ("12xlarge", 4),
        ],
    ),
    (
        "g5",
        "a10g",
        &[
            ("xlarge", 1),
            ("2xlarge", 1),
            ("4xlarge", 1),
            ("8xlarge", 1),
            ("16xlarge", 1),
            ("12xlarge", 4),
            ("24xlarge", 4),
            ("48xlarge", 8),
        ],
    ),
    ("g6", "l4", G6),
    ("g6e", "l40s", G6),
    (
        "p3",
        "v100",
        &[("2xlarge", 1), ("8xlarge", 4), ("16xlarge", 8)],
    ),
    ("p3dn", "v100-32gb", &[("24xlarge", 8)]),
    ("p4d", "a100-40gb", &[("24xlarge", 8)]),
    ("p4de", "a100-80gb", &[("24xlarge", 8)]),
    ("p5", "h100", &[("4xlarge", 1), ("48xlarge", 8)]),
    ("p5e", "h200", &[("48xlarge", 8)]),
    ("p5en", "h200", &[("48xlarge", 8)]),
    ("p6-b200", "b200", &[("48xlarge", 8)]),
];

const G6: Sizes = &[
    ("xlarge", 1),
    ("2xlarge", 1),
    ("4xlarge", 1),
    ("8xlarge", 1),
    ("16xlarge", 1),
    ("12xlarge", 4),
    ("24xlarge", 4),
    ("48xlarge", 8),
];

/// The GPU of this name.
pub(crate) fn find(name: &str) -> Option<&'static Gpu> {
    GPUS.iter().find(|gpu| gpu.name == name)
}

/// The GPU that the driver calls so: the one most of whose name is in it, as `NVIDIA A100-SXM4-40GB` has `a100-40gb`.
pub(crate) fn of_driver(name: &str) -> Option<&'static Gpu> {
    let words: Vec<String> = name
        .to_lowercase()
        .split(|c: char| !c.is_ascii_alphanumeric())
        .map(str::to_owned)
        .collect();
    let has_all = |gpu: &&Gpu| {
        gpu.name
            .split('-')
            .all(|part| words.iter().any(|word| word == part))
    };
    let fits = GPUS.iter().filter(has_all);
    fits.max_by_key(|gpu| gpu.name.len())
}

/// The GPUs of an instance, such as `ml.g5.12xlarge`; `ml.` may be left out.
pub(crate) fn of_instance(name: &str) -> Option<(&'static Gpu, usize)> {
    let name = name.strip_prefix("ml.").unwrap_or(name);
    let (family, size) = name.split_once('.')?;
    let (_, gpu, sizes) = INSTANCES.iter().find(|(known, ..)| *known == family)?;
    let (_, count) = sizes.iter().find(|(known, _)| *known == size)?;
    Some((find(gpu)?, *count))
}

/// Every name that is known, for a message.
pub(crate) fn names() -> String {
    let gpus = GPUS.iter().map(|gpu| gpu.name.to_owned());
    let instances = INSTANCES.iter().map(|(family, _, sizes)| {
        let sizes: Vec<_> = sizes.iter().map(|(size, _)| *size).collect();
        format!("ml.{family}.{{{}}}", sizes.join(","))
    });
    gpus.chain(instances).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_names_are_found() {
        for (name, wanted) in [
            ("Tesla T4", Some("t4")),
            ("Tesla V100-SXM2-16GB", Some("v100")),
            ("Tesla V100-SXM3-32GB", Some("v100-32gb")),
            ("NVIDIA A10G", Some("a10g")),
            ("NVIDIA L4", Some("l4")),
            ("NVIDIA L40S", Some("l40s")),
            ("NVIDIA A100-SXM4-40GB", Some("a100-40gb")),
            ("NVIDIA A100-SXM4-80GB", Some("a100-80gb")),
            ("NVIDIA H100 80GB HBM3", Some("h100")),
            ("NVIDIA H200", Some("h200")),
            ("NVIDIA GeForce RTX 3090", None),
        ] {
            assert_eq!(of_driver(name).map(|gpu| gpu.name), wanted, "{name}");
        }
    }

    #[test]
    fn every_instance_has_a_gpu_of_the_table() {
        for (family, gpu, sizes) in INSTANCES {
            for (size, count) in *sizes {
                let found = of_instance(&format!("ml.{family}.{size}"));
                assert_eq!(found, find(gpu).map(|gpu| (gpu, *count)), "{family}.{size}");
                assert!(found.is_some(), "{family}.{size}");
            }
        }
        assert_eq!(of_instance("g5.12xlarge").map(|(_, count)| count), Some(4));
        assert!(of_instance("ml.m5.xlarge").is_none());
    }
}

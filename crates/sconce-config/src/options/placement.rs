//! One model: precision, devices, ranks, threads, loading.

use super::quantize::FLOATS_OF_8_BITS;
use super::reason::NO_CUDA;
use super::{OPTION, own_code, refused};
use crate::draft::Draft;
use crate::entry::{Entry, Status, Variable::Fills};
use crate::kind::Kind;
use crate::python;
use crate::settings::Device;
use crate::settings::{Dtype, Quantize};
use crate::value::{Rejection, Value, auto_or, count, flag, put, seconds, word};

pub(super) const PLACEMENT: &[Entry] = &[
    Entry {
        key: "option.dtype",
        aliases: &["option.data_type"],
        kind: Kind::OneOf(&[
            "auto", "fp32", "float32", "f32", "float", "fp16", "float16", "f16", "half", "bf16",
            "bfloat16", "int8", "int4", "fp8",
        ]),
        default: "auto",
        doc: "Precision of the weights; auto: as stored. bf16: products take their input in bf16 \
              too, where the processor has AVX-512 BF16 and no AMX; else all is computed in f32. int8 and \
              int4 are those of option.quantize; what the checkpoint has in blocks stays so.",
        status: Status::Honoured(|d, v| {
            match v {
                "int8" => d.model.quantize = Quantize::Q8Row,
                "int4" => d.model.quantize = Quantize::Int4,
                _ => {}
            }
            put(&mut d.model.dtype, dtype(v))
        }),
        ..OPTION
    },
    Entry {
        key: "option.device",
        default: "auto",
        doc: "Where the model computes: auto (the fastest device that this build can use), cpu, or cuda, \
              which ends a start with exit code 69 where no GPU can be used; there is no silent \
              fallback. A build without `make cuda` computes on the CPU.",
        status: Status::Honoured(|d, v| put(&mut d.model.device, device(v))),
        ..OPTION
    },
    Entry {
        key: "option.device_map",
        doc: "Which layers go to which GPU.",
        status: Status::NoOp("all ranks share all layers"),
        ..OPTION
    },
    Entry {
        key: "option.device_id",
        doc: "The GPU to use.",
        status: Status::NoOp(NO_CUDA),
        ..OPTION
    },
    Entry {
        key: "option.tensor_parallel_degree",
        aliases: &["option.number_of_partitions", "option.tensor_parallel_size"],
        variables: &[Fills("TENSOR_PARALLEL_DEGREE")],
        default: "1",
        doc: "Ranks that share the weights, from 1 to 256; on a CPU each is a thread. max: \
              as many as there are GPUs, 1 on a CPU.",
        status: Status::Honoured(degree),
        ..OPTION
    },
    Entry {
        key: "option.collective_timeout",
        kind: Kind::Seconds,
        default: "8",
        since: "sconce",
        doc: "Seconds without a sign of life from any rank, while some wait for others, after which \
              the model has failed; nothing waits longer.",
        status: Status::Honoured(|d, v| put(&mut d.model.collective_timeout, seconds(v))),
        ..OPTION
    },
    Entry {
        key: "option.pipeline_parallel_degree",
        aliases: &["option.pipeline_parallel_size"],
        variables: &[Fills("PIPELINE_PARALLEL_DEGREE")],
        kind: Kind::Number,
        since: "0.21",
        doc: "Groups of layers on different devices.",
        status: refused(
            "layers are not spread over devices; remove it or set it to 1",
            &["1"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.cluster_size",
        kind: Kind::Number,
        since: "0.29",
        doc: "Machines that serve one model together.",
        status: refused(
            "one machine serves a model; remove it or set it to 1",
            &["1"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.threads",
        default: "auto",
        since: "sconce",
        doc: "Threads that compute, 1 to 1024; auto: one for each core that the process may use, \
              by its affinity and the quota of its control group.",
        status: Status::Honoured(|d, v| {
            put(&mut d.model.threads, auto_or(v, |v| count(v, 1..=1024)))
        }),
        ..OPTION
    },
    Entry {
        key: "option.mpi_mode",
        kind: Kind::Flag,
        since: "0.24",
        doc: "Whether the ranks of a handler are processes of their own, which option.mpi_launcher starts.",
        status: own_code("ranks are threads of one process", |d, v| {
            put(&mut d.python.mpi_mode, flag(v))
        }),
        ..OPTION
    },
    Entry {
        key: "option.mpi_launcher",
        default: "auto",
        since: "sconce",
        doc: "What starts ranks: auto is Open MPI's mpirun where the search path has one and else variables \
              alone, which mpirun would set; environment is the latter always; anything else is the path of an \
              mpirun.",
        status: own_code("ranks are threads of one process", |d, v| {
            put(&mut d.python.launcher, python::launcher(v))
        }),
        ..OPTION
    },
    Entry {
        key: "option.use_passive_workers",
        kind: Kind::Flag,
        since: "0.30",
        doc: "Whether only the first rank gets requests.",
        status: own_code("all ranks get the same plan", |d, v| {
            put(&mut d.python.passive_ranks, flag(v))
        }),
        ..OPTION
    },
    Entry {
        key: "option.parallel_loading",
        kind: Kind::Flag,
        doc: "Whether the first workers load the model at the same time.",
        status: own_code("all ranks load at the same time", |d, v| {
            put(&mut d.python.parallel_loading, flag(v))
        }),
        ..OPTION
    },
    Entry {
        key: "option.low_cpu_mem_usage",
        kind: Kind::Flag,
        doc: "Whether loading avoids copies in memory.",
        status: Status::NoOp("weights are mapped, never copied as a whole"),
        ..OPTION
    },
    Entry {
        key: "option.multi_gpu",
        since: "0.24",
        until: "0.32",
        doc: "How several GPUs are used.",
        status: Status::NoOp(NO_CUDA),
        ..OPTION
    },
    Entry {
        key: "option.gpu_memory_utilization",
        aliases: &[
            "option.kv_cache_free_gpu_mem_fraction",
            "option.free_gpu_memory_fraction",
        ],
        variables: &[Fills("CUDA_MEMORY_FRACTION")],
        kind: Kind::Number,
        since: "0.25",
        default: "0.9",
        doc: "The part of each GPU's memory that weights, keys and values and their workspace take, from \
              0.001 to 1.",
        status: Status::Honoured(|d, v| put(&mut d.model.gpu_memory_thousandths, thousandths(v))),
        ..OPTION
    },
    Entry {
        key: "option.cpu_offload_gb_per_gpu",
        aliases: &["option.cpu_offload_gb"],
        kind: Kind::Number,
        since: "0.29",
        doc: "Memory of the host that a GPU may use for weights, in GiB.",
        status: Status::NoOp(NO_CUDA),
        ..OPTION
    },
    Entry {
        key: "option.enforce_eager",
        kind: Kind::Flag,
        default: "false",
        since: "0.27",
        doc: "Whether steps on a GPU are launched kernel by kernel, rather than recorded as graphs, which spares the \
              time of launches while answers are generated.",
        status: Status::Honoured(|d, v| {
            let eager = flag(v)?;
            d.model.eager |= eager;
            Ok(())
        }),
        ..OPTION
    },
];

pub(super) fn dtype(value: &str) -> Value<Dtype> {
    const DTYPES: &[(&str, Dtype)] = &[
        ("auto", Dtype::Auto),
        ("fp32", Dtype::F32),
        ("float32", Dtype::F32),
        ("f32", Dtype::F32),
        ("float", Dtype::F32),
        ("fp16", Dtype::F16),
        ("float16", Dtype::F16),
        ("f16", Dtype::F16),
        ("half", Dtype::F16),
        ("bf16", Dtype::Bf16),
        ("bfloat16", Dtype::Bf16),
        // What is not quantised then stays as stored.
        ("int8", Dtype::Auto),
        ("int4", Dtype::Auto),
    ];
    match value {
        "fp8" => Err(Rejection::Unsupported(FLOATS_OF_8_BITS.into())),
        value => word(value, DTYPES),
    }
}

fn device(value: &str) -> Value<Device> {
    if value.starts_with("cuda:") || value.starts_with("gpu") {
        let reason = "which GPUs are used is not chosen here; use auto, cpu or cuda";
        return Err(Rejection::Unsupported(reason.into()));
    }
    let devices = [
        ("auto", Device::Auto),
        ("cpu", Device::Cpu),
        ("cuda", Device::Cuda),
    ];
    word(value, &devices)
}

/// The number of ranks, or as many as there are GPUs.
pub(super) fn degree(draft: &mut Draft, value: &str) -> Value<()> {
    draft.model.all_gpus = value == "max";
    put(&mut draft.model.ranks, ranks(value))
}

/// A part of a whole, in thousandths.
fn thousandths(value: &str) -> Value<u32> {
    let part: Option<f64> = value.parse().ok();
    part.map(|part| (part * 1000.0).round())
        .filter(|part| (1.0..=1000.0).contains(part))
        .map(|part| part as u32)
        .ok_or_else(|| Rejection::Invalid("must be a number from 0.001 to 1".into()))
}

fn ranks(value: &str) -> Value<usize> {
    match value {
        // The processor has no use for more.
        "max" => Ok(1),
        value => count(value, 1..=256)
            .map_err(|_| Rejection::Invalid("must be max or a whole number from 1 to 256".into())),
    }
}

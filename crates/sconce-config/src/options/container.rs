//! Variables of the containers of DJL Serving and SageMaker, and of Text Generation Inference, that
//! stand for no key of a file.

use super::placement::degree;
use super::reason::{
    CLUSTERS, KEPT, LONG_PROMPTS, MEMORY_PLAN, NO_JAVA, NO_WORKERS, ONE_BACKEND, ONE_ENGINE,
    PYTHON_ONLY, SECURE,
};
use super::{ENVIRONMENT, own_code, refused};
use crate::draft::Draft;
use crate::entry::{Entry, Status, Variable::Fills, Variable::Overrides};
use crate::kind::Kind;
use crate::value::{Value, count, flag, port, put, text};

pub(super) const CONTAINER: &[Entry] = &[
    Entry {
        key: "SM_NUM_GPUS",
        variables: &[Fills("SM_NUM_GPUS"), Fills("NUM_SHARD")],
        kind: Kind::Whole(0, 256),
        since: "0.27",
        doc: "Ranks, where neither option.tensor_parallel_degree nor TENSOR_PARALLEL_DEGREE \
              says; 0 says nothing.",
        status: Status::Translated {
            to: "option.tensor_parallel_degree",
            apply: ranks_unless_none,
        },
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_BIND_TO_PORT",
        variables: &[Overrides("SAGEMAKER_BIND_TO_PORT")],
        kind: Kind::Whole(0, 65535),
        doc: "Port to listen on; wins over that of inference_address.",
        status: Status::Translated {
            to: "the port of inference_address",
            apply: |d, v| put(&mut d.server.port, port(v)),
        },
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_MAX_PAYLOAD_IN_MB",
        variables: &[Overrides("SAGEMAKER_MAX_PAYLOAD_IN_MB")],
        kind: Kind::Whole(1, 65536),
        since: "0.35",
        doc: "Longest body of a request in MB of 1048576 bytes; SAGEMAKER_MAX_REQUEST_SIZE \
              wins over it.",
        status: Status::Translated {
            to: "max_request_size",
            apply: payload,
        },
        ..ENVIRONMENT
    },
    Entry {
        key: "MAX_TOTAL_TOKENS",
        variables: &[Fills("MAX_TOTAL_TOKENS")],
        kind: Kind::Whole(2, 16777216),
        doc: "Text Generation Inference: longest sequence, prompt and answer.",
        status: Status::Translated {
            to: "option.max_model_len",
            apply: |d, v| put(&mut d.model.max_model_len, count(v, 2..=1 << 24).map(Some)),
        },
        ..ENVIRONMENT
    },
    Entry {
        key: "MAX_INPUT_LENGTH",
        variables: &[Fills("MAX_INPUT_LENGTH"), Fills("MAX_INPUT_TOKENS")],
        kind: Kind::Number,
        doc: "Text Generation Inference: longest prompt.",
        status: Status::NoOp(LONG_PROMPTS),
        ..ENVIRONMENT
    },
    Entry {
        key: "MAX_BATCH_TOTAL_TOKENS",
        variables: &[Fills("MAX_BATCH_TOTAL_TOKENS")],
        kind: Kind::Number,
        doc: "Text Generation Inference: tokens of all sequences together.",
        status: Status::NoOp(MEMORY_PLAN),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_NUM_MODEL_WORKERS",
        variables: &[Overrides("SAGEMAKER_NUM_MODEL_WORKERS")],
        kind: Kind::Whole(1, 1024),
        since: "0.35",
        doc: "minWorkers and maxWorkers.",
        status: own_code(ONE_ENGINE, |d, v| {
            put(&mut d.python.fixed_workers, count(v, 1..=1024).map(Some))
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_SAFE_PORT_RANGE",
        variables: &[Fills("SAGEMAKER_SAFE_PORT_RANGE")],
        doc: "Ports for further listeners.",
        status: Status::NoOp("there is one listener only"),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_PROGRAM",
        variables: &[Fills("SAGEMAKER_PROGRAM")],
        doc: "The user's script, as the SageMaker SDK records it.",
        status: Status::NoOp(
            "DJL Serving does not read it either; option.entryPoint names a script",
        ),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_SUBMIT_DIRECTORY",
        variables: &[Fills("SAGEMAKER_SUBMIT_DIRECTORY")],
        doc: "Where the SageMaker SDK has put the user's script.",
        status: Status::NoOp(
            "DJL Serving does not read it either; ship code inside the model's directory",
        ),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_MULTI_MODEL",
        variables: &[Overrides("SAGEMAKER_MULTI_MODEL")],
        since: "0.22",
        kind: Kind::Flag,
        default: "false",
        doc: "Whether SageMaker loads and unloads models while the server runs: it may start without \
              any, and the routes of that contract are open to it.",
        status: Status::Honoured(|d, v| put(&mut d.server.multi_model, flag(v))),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_SECURE_MODE",
        variables: &[Fills("SAGEMAKER_SECURE_MODE")],
        kind: Kind::Flag,
        since: "0.28",
        doc: "Whether SageMaker's controls of untrusted models hold: Python code of a model is \
              refused then, whatever SAGEMAKER_SECURITY_CONTROLS lists.",
        status: Status::Honoured(|d, v| put(&mut d.python.trusted.secure_mode, flag(v))),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_SECURITY_CONTROLS",
        variables: &[
            Fills("SAGEMAKER_SECURITY_CONTROLS"),
            Fills("SAGEMAKER_UNTRUSTED_CHANNELS"),
        ],
        since: "0.28",
        doc: "Which controls SAGEMAKER_SECURE_MODE means, and for which channels.",
        status: Status::NoOp(SECURE),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_SERVE_SECRET_KEY",
        variables: &[Fills("SAGEMAKER_SERVE_SECRET_KEY")],
        since: "0.25",
        doc: "Key that signs what ModelBuilder pickles.",
        status: Status::NoOp("such pickles are not loaded"),
        secret: true,
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_MODEL_SERVER_VMARGS",
        variables: &[Fills("SAGEMAKER_MODEL_SERVER_VMARGS"), Fills("JAVA_OPTS")],
        since: "0.35",
        doc: "Further options of the Java virtual machine.",
        status: Status::NoOp(NO_JAVA),
        ..ENVIRONMENT
    },
    Entry {
        key: "SM_NEO_EXECUTION_CONTEXT",
        variables: &[Overrides("SM_NEO_EXECUTION_CONTEXT")],
        since: "0.28",
        doc: "Whether the container is to compile a model.",
        status: refused(
            "models are not compiled ahead of time; remove it to serve",
            &[],
        ),
        ..ENVIRONMENT
    },
    Entry {
        key: "ENABLE_CUDA_GRAPHS",
        variables: &[Fills("ENABLE_CUDA_GRAPHS")],
        since: "0.27",
        kind: Kind::Flag,
        doc: "The opposite of option.enforce_eager.",
        status: Status::Honoured(|d, v| {
            let graphs = flag(v)?;
            d.model.eager |= !graphs;
            Ok(())
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "ALLOW_REQUEST_HANDLER_OVERRIDE",
        variables: &[Fills("ALLOW_REQUEST_HANDLER_OVERRIDE")],
        since: "0.24",
        doc: "Whether a request may name another function of the handler.",
        status: Status::NoOp(PYTHON_ONLY),
        ..ENVIRONMENT
    },
    Entry {
        key: "DJL_DEFAULT_ENGINE",
        variables: &[Fills("DJL_DEFAULT_ENGINE")],
        doc: "Engine of DJL for models of which several engines could be meant.",
        status: Status::NoOp(NO_JAVA),
        ..ENVIRONMENT
    },
    Entry {
        key: "DJL_PYTHON_PROFILING",
        variables: &[
            Fills("DJL_PYTHON_PROFILING"),
            Fills("DJL_PYTHON_PROFILING_TOP_OBJ"),
        ],
        doc: "Whether Python's memory is measured.",
        status: Status::NoOp(PYTHON_ONLY),
        ..ENVIRONMENT
    },
    Entry {
        key: "OPT_OUT_TRACKING",
        variables: &[Fills("OPT_OUT_TRACKING")],
        doc: "Whether nothing is reported about the use of the container.",
        status: Status::NoOp("nothing ever is"),
        ..ENVIRONMENT
    },
    Entry {
        key: "DJL_VENV_DIR",
        variables: &[Fills("DJL_VENV_DIR")],
        kind: Kind::Path,
        since: "0.23",
        doc: "Where the packages of requirements.txt are put; unset: below ~/.cache/sconce, else \
              below TMPDIR.",
        status: own_code(PYTHON_ONLY, |d, v| {
            let dir = text(v).map(|dir| vec![dir.into()]);
            put(&mut d.python.environments, dir)
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "DJL_CLUSTER_SIZE",
        variables: &[Overrides("DJL_CLUSTER_SIZE")],
        kind: Kind::Number,
        since: "0.29",
        doc: "Machines that serve one model together.",
        status: refused(
            "one machine serves a model; remove it or set it to 1",
            &["0", "1"],
        ),
        ..ENVIRONMENT
    },
    Entry {
        key: "DJL_LEADER_ADDR",
        variables: &[Fills("DJL_LEADER_ADDR"), Fills("DJL_WORKER_ADDR_FORMAT")],
        since: "0.29",
        doc: "The first machine of a cluster.",
        status: Status::NoOp(CLUSTERS),
        ..ENVIRONMENT
    },
    Entry {
        key: "MAX_NETTY_BUFFER_SIZE",
        variables: &[Fills("MAX_NETTY_BUFFER_SIZE")],
        kind: Kind::Whole(1024, 2_147_483_647),
        default: "268435456",
        since: "0.26",
        doc: "Longest value within an answer of a Python process, in bytes (20971520 in DJL \
              Serving).",
        status: own_code(NO_WORKERS, |d, v| {
            put(&mut d.python.message_limit, count(v, 1024..=2_147_483_647))
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "OMP_NUM_THREADS",
        variables: &[Fills("OMP_NUM_THREADS")],
        kind: Kind::Whole(1, 4096),
        doc: "Threads of each Python process, of which so many fewer are started.",
        status: own_code("option.threads says how many threads compute", |d, v| {
            put(&mut d.python.threads, count(v, 1..=4096))
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "NO_OMP_NUM_THREADS",
        variables: &[Fills("NO_OMP_NUM_THREADS")],
        doc: "Whether DJL Serving's launcher leaves OMP_NUM_THREADS alone.",
        status: Status::NoOp("it always is left alone"),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_FEATURES",
        variables: &[Fills("SERVING_FEATURES")],
        since: "0.25",
        doc: "Backends (vllm, trtllm) among which DJL Serving chooses a handler.",
        status: Status::NoOp(ONE_BACKEND),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_FAIL_FAST",
        variables: &[Fills("SERVING_FAIL_FAST")],
        since: "0.30",
        doc: "Whether the server exits when a model cannot be served.",
        status: Status::NoOp("the program always exits when its model cannot be loaded"),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_HEALTH_CHECK_OVERRIDE",
        variables: &[Overrides("SERVING_HEALTH_CHECK_OVERRIDE")],
        since: "0.33",
        doc: "Whether a model that has failed is still called healthy.",
        status: refused("/ping tells the truth; remove it", &["false"]),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_ROLLING_BATCH_BUFFER",
        variables: &[Fills("SERVING_ROLLING_BATCH_BUFFER")],
        kind: Kind::Number,
        since: "0.25",
        until: "0.26",
        doc: "Answers that may wait for a slow client.",
        status: Status::NoOp(
            "an answer waits for its client as long as option.predict_timeout lets it",
        ),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_CACHE_MULTITENANT",
        variables: &[Fills("SERVING_CACHE_MULTITENANT")],
        since: "0.23",
        doc: "Whether kept answers of several users are merged.",
        status: Status::NoOp(KEPT),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_CACHE_BATCH",
        variables: &[Fills("SERVING_CACHE_BATCH"), Fills("SERVING_DDB_BATCH")],
        since: "0.23",
        doc: "Parts of an answer that are kept together.",
        status: Status::NoOp(KEPT),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_MEMORY_CACHE_CAPACITY",
        variables: &[Fills("SERVING_MEMORY_CACHE_CAPACITY")],
        kind: Kind::Whole(1, 1 << 20),
        default: "1000",
        since: "0.23",
        doc: "Most answers that are kept for clients that fetch them later with x-starting-token.",
        status: Status::Honoured(|d, v| put(&mut d.server.kept_results, count(v, 1..=1 << 20))),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_DDB_CACHE",
        variables: &[Overrides("SERVING_DDB_CACHE")],
        since: "0.22",
        doc: "Whether answers are kept in DynamoDB.",
        status: refused("answers are not kept in DynamoDB; remove it", &["false"]),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_DDB_TABLE_NAME",
        variables: &[Fills("SERVING_DDB_TABLE_NAME")],
        since: "0.23",
        doc: "The table of DynamoDB for kept answers.",
        status: Status::NoOp(KEPT),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_S3_CACHE",
        variables: &[Overrides("SERVING_S3_CACHE")],
        since: "0.23",
        doc: "Whether answers are kept in S3.",
        status: refused("answers are not kept in S3; remove it", &["false"]),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_S3_CACHE_BUCKET",
        variables: &[Fills("SERVING_S3_CACHE_BUCKET")],
        since: "0.23",
        doc: "The bucket for kept answers.",
        status: Status::NoOp(KEPT),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_S3_CACHE_KEY_PREFIX",
        variables: &[Fills("SERVING_S3_CACHE_KEY_PREFIX")],
        since: "0.23",
        doc: "Prefix of kept answers in their bucket.",
        status: Status::NoOp(KEPT),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_S3_CACHE_AUTOCREATE",
        variables: &[Fills("SERVING_S3_CACHE_AUTOCREATE")],
        since: "0.23",
        doc: "Whether the bucket is made.",
        status: Status::NoOp(KEPT),
        ..ENVIRONMENT
    },
];

fn ranks_unless_none(draft: &mut Draft, value: &str) -> Value<()> {
    match value {
        "0" => Ok(()),
        wanted => degree(draft, wanted),
    }
}

fn payload(draft: &mut Draft, value: &str) -> Value<()> {
    let size = count(value, 1..=65_536).map(|megabytes| megabytes << 20);
    put(&mut draft.server.max_request_size, size)
}

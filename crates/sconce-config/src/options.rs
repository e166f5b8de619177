//! The one table of options: data, read top to bottom by whoever adds one.
//!
//! An entry says where an option is written, what else it is called, its default, what it means
//! and what becomes of its value; tests, the reference and "did you mean" follow from the table.
//! Among options that set the same thing, the later one wins at equal strength.

use std::path::PathBuf;

use crate::draft::EntryPoint;
use crate::entry::{Entry, Scope, Status, Variable::Fills, Variable::Overrides};
use crate::settings::{Device, Dtype, OutputFormatter, Task};
use crate::value::{
    Rejection, Value, address, auto_or, bytes, count, flag, header, java_log_level, log_level, put,
    seconds, text, url, word,
};

/// Every option.
pub(crate) const OPTIONS: &[Entry] = &[
    // The command line.
    Entry {
        key: "--host",
        doc: "Address to listen on; wins over inference_address.",
        status: Status::Honoured(|d, v| put(&mut d.server.host, text(v))),
        ..COMMAND_LINE
    },
    Entry {
        key: "--port",
        doc: "Port to listen on, 0 for a free one; wins over all other settings of the port.",
        status: Status::Honoured(|d, v| put(&mut d.server.port, port(v))),
        ..COMMAND_LINE
    },
    // Variables that belong to no file.
    Entry {
        key: "SCONCE_STRICT",
        variables: &[Overrides("SCONCE_STRICT")],
        default: "error",
        doc: "What an unknown key is: error or warn.",
        status: Status::Honoured(|d, v| {
            put(&mut d.lenient, word(v, &[("error", false), ("warn", true)]))
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_OPTS",
        variables: &[Fills("SERVING_OPTS")],
        doc: "Of these options of a Java virtual machine, -Dai.djl.logging.level=LEVEL is read.",
        status: Status::Honoured(|d, v| {
            let level = java_log_level(v)?;
            level.map_or(Ok(()), |level| put(&mut d.server.log, Ok(level)))
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_CONTAINER_LOG_LEVEL",
        variables: &[Overrides("SAGEMAKER_CONTAINER_LOG_LEVEL")],
        doc: "Level of the log, in Python's numbers: 10 debug, 20 info, 30 warn, 40 error.",
        status: Status::Honoured(|d, v| put(&mut d.server.log, log_level(v))),
        ..ENVIRONMENT
    },
    Entry {
        key: "SCONCE_LOG",
        variables: &[Overrides("SCONCE_LOG")],
        default: "info",
        doc: "Level of the log, or a filter such as info,sconce_engine=debug; wins over the others.",
        status: Status::Honoured(|d, v| put(&mut d.server.log, text(v))),
        ..ENVIRONMENT
    },
    Entry {
        key: "MODEL_SERVER_HOME",
        variables: &[Overrides("MODEL_SERVER_HOME")],
        doc: "Directory in which conf/config.properties, else config.properties, is looked for.",
        // The file is found before any option is applied.
        status: Status::Honoured(|_, _| Ok(())),
        ..ENVIRONMENT
    },
    Entry {
        key: "HF_MODEL_ID",
        variables: &[Overrides("HF_MODEL_ID")],
        doc: "The model, without any directory: an id of the Hugging Face hub or a local path.",
        status: Status::Honoured(|d, v| put(&mut d.hub_model, model_id(v).map(Some))),
        ..ENVIRONMENT
    },
    Entry {
        key: "HF_TOKEN",
        variables: &[
            Overrides("HF_TOKEN"),
            Overrides("HUGGING_FACE_HUB_TOKEN"),
            Overrides("HUGGINGFACE_HUB_TOKEN"),
        ],
        doc: "Token for repositories of the Hugging Face hub that are not public.",
        status: Status::Honoured(|d, v| put(&mut d.token, text(v).map(Some))),
        secret: true,
        ..ENVIRONMENT
    },
    Entry {
        key: "HF_ENDPOINT",
        variables: &[Overrides("HF_ENDPOINT")],
        default: "https://huggingface.co",
        doc: "Address of the Hugging Face hub, or of a mirror of it.",
        status: Status::Honoured(|d, v| put(&mut d.hub_endpoint, url(v))),
        ..ENVIRONMENT
    },
    Entry {
        key: "HF_HOME",
        variables: &[Overrides("HF_HOME")],
        doc: "Directory of hub, the cache of fetched models, and of token, the hub's token; \
              ~/.cache/huggingface if unset.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.hub_cache,
                text(v).map(|home| Some(PathBuf::from(home).join("hub"))),
            )
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "HF_HUB_CACHE",
        variables: &[Overrides("HF_HUB_CACHE")],
        doc: "The cache of fetched models itself; wins over HF_HOME.",
        status: Status::Honoured(|d, v| put(&mut d.hub_cache, text(v).map(|v| Some(v.into())))),
        ..ENVIRONMENT
    },
    Entry {
        key: "SM_NUM_GPUS",
        variables: &[Fills("SM_NUM_GPUS")],
        doc: "Ranks, where neither option.tensor_parallel_degree nor TENSOR_PARALLEL_DEGREE says; \
              0 says nothing.",
        status: Status::Honoured(|d, v| match v {
            "0" => Ok(()),
            degree => put(&mut d.model.ranks, ranks(degree)),
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_BIND_TO_PORT",
        variables: &[Overrides("SAGEMAKER_BIND_TO_PORT")],
        doc: "Port to listen on; wins over that of inference_address.",
        status: Status::Honoured(|d, v| put(&mut d.server.port, port(v))),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_MAX_PAYLOAD_IN_MB",
        variables: &[Overrides("SAGEMAKER_MAX_PAYLOAD_IN_MB")],
        doc: "max_request_size in MB of 1048576 bytes; SAGEMAKER_MAX_REQUEST_SIZE wins over it.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.server.max_request_size,
                count(v, 1..=65_536).map(|size| size << 20),
            )
        }),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_NUM_MODEL_WORKERS",
        variables: &[Fills("SAGEMAKER_NUM_MODEL_WORKERS")],
        doc: "minWorkers and maxWorkers.",
        status: no_op(ONE_ENGINE),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_SAFE_PORT_RANGE",
        variables: &[Fills("SAGEMAKER_SAFE_PORT_RANGE")],
        doc: "Ports for further listeners.",
        status: no_op("there is one listener only"),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_PROGRAM",
        variables: &[Fills("SAGEMAKER_PROGRAM")],
        doc: "The user's script, as the SageMaker SDK records it.",
        status: no_op("DJL Serving does not read it either; option.entryPoint names a script"),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_SUBMIT_DIRECTORY",
        variables: &[Fills("SAGEMAKER_SUBMIT_DIRECTORY")],
        doc: "Where the SageMaker SDK has put the user's script.",
        status: no_op(
            "DJL Serving does not read it either; ship code inside the model's directory",
        ),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_MULTI_MODEL",
        variables: &[Overrides("SAGEMAKER_MULTI_MODEL")],
        doc: "Whether SageMaker loads and unloads models while the server runs.",
        status: refused("one process serves one model for now", &["false"]),
        ..ENVIRONMENT
    },
    Entry {
        key: "ENABLE_CUDA_GRAPHS",
        variables: &[Fills("ENABLE_CUDA_GRAPHS")],
        doc: "The opposite of option.enforce_eager.",
        status: no_op(NO_CUDA),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_FEATURES",
        variables: &[Fills("SERVING_FEATURES")],
        doc: "Backends (vllm, trtllm) among which DJL Serving chooses a handler.",
        status: no_op(ONE_BACKEND),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_DOWNLOAD_DIR",
        variables: &[Fills("SERVING_DOWNLOAD_DIR")],
        doc: "Where DJL Serving puts models that it fetches.",
        status: no_op("models of the hub lie in its own cache; HF_HUB_CACHE moves it"),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_RETRY_THRESHOLD",
        variables: &[Fills("SERVING_RETRY_THRESHOLD")],
        doc: "Failures of workers that are tolerated.",
        status: no_op(NO_WORKERS),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_FAIL_FAST",
        variables: &[Fills("SERVING_FAIL_FAST")],
        doc: "Whether the server exits when a model cannot be served.",
        status: no_op("the program always exits when its model cannot be loaded"),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_HEALTH_CHECK_OVERRIDE",
        variables: &[Overrides("SERVING_HEALTH_CHECK_OVERRIDE")],
        doc: "Whether a model that has failed is still called healthy.",
        status: refused("/ping tells the truth; remove it", &["false"]),
        ..ENVIRONMENT
    },
    Entry {
        key: "SAGEMAKER_HEALTH_CHECK_OVERRIDE",
        variables: &[Fills("SAGEMAKER_HEALTH_CHECK_OVERRIDE")],
        doc: "Whether /ping fails while workers are missing.",
        status: no_op("/ping always fails while the model cannot answer"),
        ..ENVIRONMENT
    },
    Entry {
        key: "SERVING_PROMETHEUS",
        variables: &[Fills("SERVING_PROMETHEUS")],
        doc: "Whether metrics are exported for Prometheus.",
        status: no_op("there are no metrics yet; nothing else changes"),
        ..ENVIRONMENT
    },
    // The server: config.properties, SERVING_*.
    Entry {
        key: "inference_address",
        default: "http://0.0.0.0:8080",
        doc: "Address and port to listen on, as http://host:port.",
        status: Status::Honoured(|d, v| {
            (d.server.host, d.server.port) = address(v)?;
            Ok(())
        }),
        ..SERVER
    },
    Entry {
        key: "management_address",
        doc: "Address for the management of models.",
        status: no_op("there are no management routes yet"),
        ..SERVER
    },
    Entry {
        key: "cluster_address",
        doc: "Address for the other machines of a cluster.",
        status: no_op("there are no clusters"),
        ..SERVER
    },
    Entry {
        key: "load_models",
        default: "ALL",
        doc: "The model to serve: ALL (that of model_store, else HF_MODEL_ID), a path, or \
              name=path.",
        status: Status::Honoured(|d, v| put(&mut d.load_models, load_models(v))),
        ..SERVER
    },
    Entry {
        key: "model_store",
        default: "/opt/ml/model",
        doc: "The model's directory, or a directory that holds only the model's.",
        status: Status::Honoured(|d, v| put(&mut d.model_store, text(v).map(PathBuf::from))),
        ..SERVER
    },
    Entry {
        key: "max_request_size",
        variables: &[Overrides("SAGEMAKER_MAX_REQUEST_SIZE")],
        default: "67108864",
        doc: "Longest body of a request, in bytes.",
        status: Status::Honoured(|d, v| put(&mut d.server.max_request_size, count(v, 1..=1 << 40))),
        ..SERVER
    },
    Entry {
        key: "request_id_header_key",
        default: "x-request-id",
        doc: "Header that carries the client's name of a request.",
        status: Status::Honoured(|d, v| put(&mut d.server.request_id_header_key, header(v))),
        ..SERVER
    },
    Entry {
        key: "chunked_read_timeout",
        doc: "Longest wait for the next part of an answer, in seconds.",
        status: no_op_if(
            |v| seconds(v).map(drop),
            "option.predict_timeout limits the whole answer, however many parts it has",
        ),
        ..SERVER
    },
    Entry {
        key: "wait_model_loading",
        doc: "Whether /ping fails while the model is being loaded.",
        status: refused(
            "/ping says 503 until the model can answer; remove it or set it to true",
            &["true"],
        ),
        ..SERVER
    },
    Entry {
        key: "allow_multi_status",
        doc: "Whether /ping answers 207 while the model is being loaded.",
        status: refused(
            "/ping says 503 until the model can answer; remove it",
            &["false"],
        ),
        ..SERVER
    },
    Entry {
        key: "bad_request_http_code",
        doc: "Status of an answer to a wrong request.",
        status: refused(
            "statuses cannot be changed yet; remove it or set it to 400",
            &["400"],
        ),
        ..SERVER
    },
    Entry {
        key: "wlm_error_http_code",
        doc: "Status of an answer when no worker can take a request.",
        status: refused(
            "statuses cannot be changed yet; remove it or set it to 503",
            &["503"],
        ),
        ..SERVER
    },
    Entry {
        key: "throttle_error_http_code",
        doc: "Status of an answer when the queue is full.",
        status: refused(
            "statuses cannot be changed yet; remove it or set it to 503",
            &["503"],
        ),
        ..SERVER
    },
    Entry {
        key: "server_error_http_code",
        doc: "Status of an answer when the server fails.",
        status: refused(
            "statuses cannot be changed yet; remove it or set it to 500",
            &["500"],
        ),
        ..SERVER
    },
    Entry {
        key: "timeout_http_code",
        doc: "Status of an answer that came too late.",
        status: no_op("DJL Serving does not use it either"),
        ..SERVER
    },
    Entry {
        key: "error_rate_wlm",
        doc: "Share of refusals that ends health.",
        ..ERROR_RATE
    },
    Entry {
        key: "error_rate_server",
        doc: "Share of errors that ends health.",
        ..ERROR_RATE
    },
    Entry {
        key: "error_rate_model",
        doc: "Share of model errors that ends health.",
        ..ERROR_RATE
    },
    Entry {
        key: "error_rate_any",
        doc: "Share of any errors that ends health.",
        ..ERROR_RATE
    },
    Entry {
        key: "cors_allowed_origin",
        doc: "Value of a CORS header.",
        ..CORS
    },
    Entry {
        key: "cors_allowed_methods",
        doc: "Value of a CORS header.",
        ..CORS
    },
    Entry {
        key: "cors_allowed_headers",
        doc: "Value of a CORS header.",
        ..CORS
    },
    Entry {
        key: "keystore",
        doc: "Keys for TLS.",
        ..TLS
    },
    Entry {
        key: "keystore_pass",
        doc: "Password of the keystore.",
        secret: true,
        ..TLS
    },
    Entry {
        key: "keystore_type",
        doc: "Format of the keystore.",
        ..TLS
    },
    Entry {
        key: "certificate_file",
        doc: "Certificate for TLS.",
        ..TLS
    },
    Entry {
        key: "private_key_file",
        doc: "Private key for TLS.",
        ..TLS
    },
    Entry {
        key: "model_url_pattern",
        doc: "Which models may be loaded by a request.",
        status: no_op("no model is ever loaded by a request"),
        ..SERVER
    },
    Entry {
        key: "number_of_netty_threads",
        doc: "Threads of Java's network library.",
        status: no_op(NO_JAVA),
        ..SERVER
    },
    Entry {
        key: "use_native_io",
        doc: "Whether Java uses epoll.",
        status: no_op(NO_JAVA),
        ..SERVER
    },
    Entry {
        key: "io_ratio",
        doc: "Share of Java's time for the network.",
        status: no_op(NO_JAVA),
        ..SERVER
    },
    Entry {
        key: "plugin_folder",
        doc: "Directory of Java plugins.",
        status: no_op(NO_JAVA),
        ..SERVER
    },
    // The server for all models, serving.properties for one.
    Entry {
        key: "job_queue_size",
        variables: &[Fills("MAX_CONCURRENT_REQUESTS")],
        default: "1000",
        doc: "Requests that may wait; more are refused.",
        status: Status::Honoured(|d, v| put(&mut d.model.job_queue_size, count(v, 1..=1 << 20))),
        ..SERVER_OR_MODEL
    },
    Entry {
        key: "batch_size",
        aliases: &["max_dynamic_batch_size"],
        doc: "Requests that a Python handler gets at once.",
        status: no_op_if(|v| count(v, 1..=1 << 20).map(drop), ALWAYS_ROLLING),
        ..SERVER_OR_MODEL
    },
    Entry {
        key: "max_batch_delay",
        doc: "Longest wait for a batch to fill, in milliseconds.",
        status: no_op(ALWAYS_ROLLING),
        ..SERVER_OR_MODEL
    },
    Entry {
        key: "max_idle_time",
        doc: "Seconds after which an idle worker ends.",
        status: no_op(NO_WORKERS),
        ..SERVER_OR_MODEL
    },
    Entry {
        key: "load_on_devices",
        doc: "Devices that get a copy of the model.",
        status: no_op("the CPU is the only device"),
        ..SERVER_OR_MODEL
    },
    Entry {
        key: "reserved_memory_mb",
        aliases: &["gpu.reserved_memory_mb"],
        doc: "Memory to leave free.",
        status: no_op(MEMORY_PLAN),
        ..SERVER_OR_MODEL
    },
    // One model: serving.properties without prefix.
    Entry {
        key: "engine",
        variables: &[Fills("OPTION_ENGINE")],
        default: "Python",
        doc: "Python, MPI, DeepSpeed, FasterTransformer, Rust and LMI: all mean the native engine.",
        status: no_op_if(engine, "the native engine serves what this engine served"),
        ..MODEL
    },
    Entry {
        key: "minWorkers",
        aliases: &["gpu.minWorkers", "cpu.minWorkers"],
        variables: &[Fills("SERVING_MIN_WORKERS")],
        doc: "Least number of workers.",
        status: no_op(ONE_ENGINE),
        ..MODEL
    },
    Entry {
        key: "maxWorkers",
        aliases: &["gpu.maxWorkers", "cpu.maxWorkers"],
        variables: &[Fills("SERVING_MAX_WORKERS")],
        doc: "Greatest number of workers.",
        status: no_op(ONE_ENGINE),
        ..MODEL
    },
    Entry {
        key: "required_memory_mb",
        aliases: &["gpu.required_memory_mb"],
        doc: "Memory without which the model is not loaded.",
        status: no_op(MEMORY_PLAN),
        ..MODEL
    },
    Entry {
        key: "retry_threshold",
        doc: "Failures of workers that are tolerated.",
        status: no_op(NO_WORKERS),
        ..MODEL
    },
    Entry {
        key: "log_request_metric",
        doc: "Whether each request's times are logged.",
        status: no_op("there are no metrics yet; nothing else changes"),
        ..MODEL
    },
    Entry {
        key: "metrics_aggregation",
        doc: "Number of requests over which metrics are summed up.",
        status: no_op("there are no metrics yet; nothing else changes"),
        ..MODEL
    },
    // One model: where it is and what it does.
    Entry {
        key: "option.model_id",
        aliases: &["option.s3url"],
        doc: "The checkpoint: an id of the Hugging Face hub, or a directory (absolute, or within \
              the model's). Unset: the model's directory itself.",
        status: Status::Honoured(|d, v| put(&mut d.model_id, model_id(v).map(Some))),
        ..OPTION
    },
    Entry {
        key: "option.revision",
        variables: &[Fills("HF_REVISION")],
        doc: "Branch, tag or commit of the hub's repository.",
        status: Status::Honoured(|d, v| put(&mut d.revision, text(v).map(Some))),
        ..OPTION
    },
    Entry {
        key: "option.task",
        variables: &[Fills("HF_TASK")],
        default: "text-generation",
        doc: "What the model does: text-generation (also called generate, or auto).",
        status: Status::Honoured(|d, v| put(&mut d.model.task, task(v))),
        ..OPTION
    },
    Entry {
        key: "option.entryPoint",
        variables: &[Fills("DJL_ENTRY_POINT")],
        doc: "Handler: djl_python.huggingface, djl_python.deepspeed and the others for text \
              generation mean the native engine.",
        status: Status::Honoured(|d, v| {
            d.entry_point = entry_point(v);
            refuse_own_code(d.entry_point, v)
        }),
        ..OPTION
    },
    Entry {
        key: "option.handler",
        doc: "Function of the entry point that answers requests.",
        status: no_op("it belongs to Python code, and none runs"),
        ..OPTION
    },
    Entry {
        key: "option.modelName",
        doc: "Name of the model's own Python file, without .py.",
        status: no_op("it belongs to Python code, and none runs"),
        ..OPTION
    },
    Entry {
        key: "option.pythonExecutable",
        doc: "Python interpreter.",
        status: no_op("it belongs to Python code, and none runs"),
        ..OPTION
    },
    Entry {
        key: "option.enable_venv",
        doc: "Whether Python runs in an environment of its own.",
        status: no_op("it belongs to Python code, and none runs"),
        ..OPTION
    },
    Entry {
        key: "option.env",
        doc: "Environment of Python processes.",
        status: no_op("it belongs to Python code, and none runs"),
        ..OPTION
    },
    Entry {
        key: "option.trust_remote_code",
        variables: &[Fills("HF_MODEL_TRUST_REMOTE_CODE")],
        doc: "Whether Python code of the checkpoint may run.",
        status: no_op_if(
            is_flag,
            "code of a checkpoint never runs: architectures are built in",
        ),
        ..OPTION
    },
    // One model: precision, device, ranks.
    Entry {
        key: "option.dtype",
        aliases: &["option.data_type"],
        default: "auto",
        doc: "Precision of the weights: auto (as stored), fp32 or float32, fp16 or float16, bf16 \
              or bfloat16.",
        status: Status::Honoured(|d, v| put(&mut d.model.dtype, dtype(v))),
        ..OPTION
    },
    Entry {
        key: "option.device",
        default: "auto",
        doc: "Where the model computes: auto or cpu.",
        status: Status::Honoured(|d, v| put(&mut d.model.device, device(v))),
        ..OPTION
    },
    Entry {
        key: "option.device_map",
        doc: "Which layers go to which GPU.",
        status: no_op("all ranks share all layers"),
        ..OPTION
    },
    Entry {
        key: "option.device_id",
        doc: "The GPU to use.",
        status: no_op(NO_CUDA),
        ..OPTION
    },
    Entry {
        key: "option.tensor_parallel_degree",
        aliases: &["option.number_of_partitions"],
        variables: &[Fills("TENSOR_PARALLEL_DEGREE")],
        default: "1",
        doc: "Ranks that share the weights, from 1; on a CPU each is a thread. max: as many as \
              there are GPUs, 1 on a CPU.",
        status: Status::Honoured(|d, v| put(&mut d.model.ranks, ranks(v))),
        ..OPTION
    },
    Entry {
        key: "option.pipeline_parallel_degree",
        variables: &[Fills("PIPELINE_PARALLEL_DEGREE")],
        doc: "Groups of layers on different devices.",
        status: refused(
            "layers are not spread over devices; remove it or set it to 1",
            &["1"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.threads",
        default: "auto",
        doc: "Threads that compute, from 1; auto: one per core.",
        status: Status::Honoured(|d, v| {
            put(&mut d.model.threads, auto_or(v, |v| count(v, 1..=1024)))
        }),
        ..OPTION
    },
    Entry {
        key: "option.mpi_mode",
        doc: "Whether ranks are processes under mpirun.",
        status: no_op_if(is_flag, "ranks are threads of one process"),
        ..OPTION
    },
    Entry {
        key: "option.use_passive_workers",
        doc: "Whether only the first rank gets requests.",
        status: no_op("all ranks get the same plan"),
        ..OPTION
    },
    Entry {
        key: "option.parallel_loading",
        doc: "Whether workers start at the same time.",
        status: no_op_if(is_flag, "all ranks load at the same time"),
        ..OPTION
    },
    Entry {
        key: "option.low_cpu_mem_usage",
        doc: "Whether loading avoids copies in memory.",
        status: no_op_if(is_flag, "weights are mapped, never copied as a whole"),
        ..OPTION
    },
    Entry {
        key: "option.multi_gpu",
        doc: "How several GPUs are used.",
        status: no_op(NO_CUDA),
        ..OPTION
    },
    // One model: batching, lengths, cache.
    Entry {
        key: "option.rolling_batch",
        default: "auto",
        doc: "Batching and backend: auto, scheduler, lmi-dist, vllm, trtllm or disable.",
        status: no_op_if(
            rolling_batch,
            "requests always join and leave the batch at every step",
        ),
        ..OPTION
    },
    Entry {
        key: "option.async_mode",
        doc: "Whether a worker gets requests one by one.",
        status: no_op_if(
            is_flag,
            "requests always join and leave the batch at every step",
        ),
        ..OPTION
    },
    Entry {
        key: "option.max_rolling_batch_size",
        variables: &[Fills("MAX_BATCH_SIZE")],
        default: "32",
        doc: "Sequences computed at the same time.",
        status: Status::Honoured(|d, v| {
            put(&mut d.model.max_rolling_batch_size, count(v, 1..=4096))
        }),
        ..OPTION
    },
    Entry {
        key: "option.max_rolling_batch_prefill_tokens",
        aliases: &["option.max_num_batched_tokens"],
        variables: &[Fills("MAX_BATCH_PREFILL_TOKENS")],
        default: "512",
        doc: "Tokens computed in one step; longer prompts are computed in chunks.",
        status: Status::Honoured(|d, v| {
            put(&mut d.model.max_batched_tokens, count(v, 1..=1 << 20))
        }),
        ..OPTION
    },
    Entry {
        key: "option.max_model_len",
        default: "auto",
        doc: "Longest sequence, prompt and answer, in tokens; auto: the model's context.",
        status: Status::Honoured(|d, v| {
            put(
                &mut d.model.max_model_len,
                auto_or(v, |v| count(v, 2..=1 << 24)),
            )
        }),
        ..OPTION
    },
    Entry {
        key: "option.max_num_seqs",
        doc: "vLLM's name of option.max_rolling_batch_size.",
        status: refused(
            "DJL Serving refuses it too; use option.max_rolling_batch_size",
            &[],
        ),
        ..OPTION
    },
    Entry {
        key: "option.max_tokens",
        doc: "DeepSpeed: tokens for which memory is reserved.",
        status: no_op("the cache is planned from option.max_model_len and the memory at hand"),
        ..OPTION
    },
    Entry {
        key: "option.enable_prefix_caching",
        default: "true",
        doc: "Whether equal beginnings of prompts share their part of the cache.",
        status: Status::Honoured(|d, v| put(&mut d.model.prefix_caching, flag(v))),
        ..OPTION
    },
    Entry {
        key: "option.generation_config",
        default: "vllm",
        doc: "Where what a request leaves open of sampling comes from. vllm: no sampling and no \
              penalties, as the rolling batch of LMI has it; auto: do_sample, temperature, top_k, \
              top_p, min_p, typical_p and repetition_penalty as the checkpoint's \
              generation_config.json says. End-of-text tokens are read from it either way.",
        status: Status::Honoured(|d, v| put(&mut d.model.model_sampling, generation_config(v))),
        ..OPTION
    },
    Entry {
        key: "option.kv_cache_memory",
        default: "auto",
        doc: "Size of the key/value cache, as 512MiB or 2GB; auto: from the memory at hand.",
        status: Status::Honoured(|d, v| put(&mut d.model.kv_cache_bytes, auto_or(v, bytes))),
        ..OPTION
    },
    Entry {
        key: "option.enable_chunked_prefill",
        doc: "Whether long prompts are computed in chunks.",
        status: no_op_if(
            is_flag,
            "long prompts always are; the answer does not depend on it",
        ),
        ..OPTION
    },
    Entry {
        key: "option.gpu_memory_utilization",
        variables: &[Fills("CUDA_MEMORY_FRACTION")],
        doc: "Share of a GPU's memory to use.",
        status: no_op(NO_CUDA),
        ..OPTION
    },
    Entry {
        key: "option.paged_attention",
        doc: "LMI-dist: whether the cache is paged.",
        status: no_op_if(is_flag, "the cache is always paged"),
        ..OPTION
    },
    Entry {
        key: "option.disable_flash_attn",
        doc: "Whether attention avoids flash kernels.",
        status: no_op_if(is_flag, "the attention kernel is built in"),
        ..OPTION
    },
    Entry {
        key: "option.waiting_steps",
        doc: "Steps before waiting requests are admitted.",
        status: no_op("requests are admitted as soon as there is room"),
        ..OPTION
    },
    Entry {
        key: "option.max_sparsity",
        doc: "Scheduler: share of padding that is tolerated.",
        status: no_op("there is no padding"),
        ..OPTION
    },
    Entry {
        key: "option.max_splits",
        doc: "Scheduler: parts into which a padded batch is split.",
        status: no_op("there is no padding"),
        ..OPTION
    },
    Entry {
        key: "option.decoding_strategy",
        doc: "Scheduler: greedy, sample or contrastive.",
        status: refused(
            "each request says so in its parameter do_sample; remove it",
            &[],
        ),
        ..OPTION
    },
    Entry {
        key: "option.stop_sequence",
        doc: "Texts that end every answer.",
        status: refused("each request says so in its parameter stop; remove it", &[]),
        ..OPTION
    },
    // One model: times and form of answers.
    Entry {
        key: "option.predict_timeout",
        aliases: &["option.prediction_timeout"],
        variables: &[
            Overrides("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS"),
            Fills("PREDICT_TIMEOUT"),
        ],
        default: "240",
        doc: "Seconds after which a request that is not finished fails.",
        status: Status::Honoured(|d, v| put(&mut d.model.predict_timeout, seconds(v))),
        ..OPTION
    },
    Entry {
        key: "option.model_loading_timeout",
        variables: &[
            Overrides("SAGEMAKER_STARTUP_TIMEOUT"),
            Fills("MODEL_LOADING_TIMEOUT"),
        ],
        default: "1200",
        doc: "Seconds after which a model that is not ready has failed.",
        status: Status::Honoured(|d, v| put(&mut d.model.model_loading_timeout, seconds(v))),
        ..OPTION
    },
    Entry {
        key: "option.output_formatter",
        doc: "Form of answers: json, jsonlines or sse. Unset: whole answers as json, streams as \
              jsonlines.",
        status: Status::Honoured(|d, v| {
            put(&mut d.model.output_formatter, output_formatter(v).map(Some))
        }),
        ..OPTION
    },
    Entry {
        key: "option.input_formatter",
        doc: "The user's own parser of requests.",
        status: refused("it names Python code, and none runs yet; remove it", &[]),
        ..OPTION
    },
    Entry {
        key: "option.enable_streaming",
        doc: "Dynamic batching: whether answers are streamed.",
        status: no_op_if(
            |v| {
                word(v, &[("true", ()), ("false", ()), ("huggingface", ())])
                    .or_else(|rejection| is_flag(v).map_err(|_| rejection))
            },
            "each request says so in its field stream, as with rolling batches",
        ),
        ..OPTION
    },
    Entry {
        key: "option.tgi_compat",
        doc: "Whether answers have TGI's form.",
        status: refused(
            "answers have LMI's form only for now; remove it",
            &["false"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.bedrock_compat",
        doc: "Whether answers have Bedrock's form.",
        status: refused(
            "answers have LMI's form only for now; remove it",
            &["false"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.served_model_name",
        doc: "Name of the model in OpenAI's answers.",
        status: no_op("answers have LMI's form only for now, which names no model"),
        ..OPTION
    },
    Entry {
        key: "option.chat_template",
        doc: "Template that makes a prompt of a chat.",
        status: refused("chats are not served yet; remove it", &[]),
        ..OPTION
    },
    // One model: weights in other forms.
    Entry {
        key: "option.quantize",
        aliases: &["option.quantization"],
        variables: &[Fills("HF_MODEL_QUANTIZE")],
        doc: "Weights in fewer bits.",
        status: refused(QUANTIZED, &["none"]),
        ..OPTION
    },
    Entry {
        key: "option.load_in_8bit",
        doc: "Old name of option.quantize=bitsandbytes8.",
        status: refused(QUANTIZED, &["false"]),
        ..OPTION
    },
    Entry {
        key: "option.load_in_4bit",
        doc: "Old name of option.quantize=bitsandbytes4.",
        status: refused(QUANTIZED, &["false"]),
        ..OPTION
    },
    Entry {
        key: "option.smoothquant_alpha",
        doc: "Strength of DeepSpeed's SmoothQuant.",
        status: refused(QUANTIZED, &[]),
        ..OPTION
    },
    Entry {
        key: "option.load_format",
        doc: "Format of the weights.",
        status: no_op("the files of the checkpoint tell their format"),
        ..OPTION
    },
    Entry {
        key: "option.is_peft_model",
        doc: "Whether the checkpoint is a LoRA adapter.",
        status: refused(
            "adapters are not served yet; merge it into its base model",
            &["false"],
        ),
        ..OPTION
    },
    Entry {
        key: "option.enable_lora",
        doc: "Whether requests may name LoRA adapters.",
        status: refused("adapters are not served yet; remove it", &["false"]),
        ..OPTION
    },
    Entry {
        key: "option.speculative_draft_model",
        aliases: &["option.draft_model_id"],
        doc: "Small model that proposes tokens.",
        status: no_op(NO_SPECULATION),
        ..OPTION
    },
    Entry {
        key: "option.speculative_length",
        aliases: &["option.spec_length"],
        doc: "Number of proposed tokens.",
        status: no_op(NO_SPECULATION),
        ..OPTION
    },
    Entry {
        key: "option.speculative_config",
        doc: "vLLM: all about speculation, as JSON.",
        status: no_op(NO_SPECULATION),
        ..OPTION
    },
    // DeepSpeed.
    Entry {
        key: "option.enable_cuda_graph",
        doc: "DeepSpeed: whether launches are recorded.",
        status: no_op_if(is_flag, NO_CUDA),
        ..OPTION
    },
    Entry {
        key: "option.enforce_eager",
        doc: "vLLM: whether launches are not recorded.",
        status: no_op_if(is_flag, NO_CUDA),
        ..OPTION
    },
    Entry {
        key: "option.triangular_masking",
        doc: "DeepSpeed: whether attention is causal.",
        status: no_op_if(is_flag, "the architecture says whether attention is causal"),
        ..OPTION
    },
    Entry {
        key: "option.return_tuple",
        doc: "DeepSpeed: what a layer returns.",
        status: no_op_if(is_flag, "layers are built in"),
        ..OPTION
    },
    Entry {
        key: "option.training_mp_size",
        doc: "DeepSpeed: ranks that trained the checkpoint.",
        status: no_op("checkpoints of the Hugging Face form are whole"),
        ..OPTION
    },
    Entry {
        key: "option.deepspeed_config_path",
        doc: "DeepSpeed: its own configuration.",
        status: refused("DeepSpeed's own settings are not read; remove it", &[]),
        ..OPTION
    },
    Entry {
        key: "option.checkpoint",
        doc: "DeepSpeed: index of a partitioned checkpoint.",
        status: refused(PARTITIONED, &[]),
        ..OPTION
    },
    Entry {
        key: "option.save_mp_checkpoint_path",
        doc: "DeepSpeed: where a partitioned checkpoint is written.",
        status: refused(PARTITIONED, &[]),
        ..OPTION
    },
];

const OPTION: Entry = Entry {
    key: "",
    scope: Scope::Option,
    aliases: &[],
    variables: &[],
    default: "",
    doc: "",
    status: no_op(""),
    secret: false,
};
const MODEL: Entry = Entry {
    scope: Scope::Model,
    ..OPTION
};
const SERVER: Entry = Entry {
    scope: Scope::Server,
    ..OPTION
};
const SERVER_OR_MODEL: Entry = Entry {
    scope: Scope::ServerOrModel,
    ..OPTION
};
const ENVIRONMENT: Entry = Entry {
    scope: Scope::Environment,
    ..OPTION
};
const COMMAND_LINE: Entry = Entry {
    scope: Scope::CommandLine,
    ..OPTION
};
const ERROR_RATE: Entry = Entry {
    status: refused("errors do not end health yet; remove it", &[]),
    ..SERVER
};
const CORS: Entry = Entry {
    status: refused("CORS headers are not sent yet; remove it", &[]),
    ..SERVER
};
const TLS: Entry = Entry {
    status: refused(
        "only plain HTTP is served; end TLS before it and remove this",
        &[],
    ),
    ..SERVER
};

const ALWAYS_ROLLING: &str = "requests join and leave the running batch at every step; \
                              option.max_rolling_batch_size limits it";
const MEMORY_PLAN: &str = "memory is planned before the model is loaded; option.kv_cache_memory";
const NO_CUDA: &str = "this build computes on the CPU";
const NO_JAVA: &str = "there is no Java";
const NO_SPECULATION: &str = "tokens are computed one by one; answers are the same";
const NO_WORKERS: &str = "there are no worker processes";
const ONE_BACKEND: &str = "there is one backend, the native engine";
const ONE_ENGINE: &str = "one engine computes all requests of the model together";
const PARTITIONED: &str = "checkpoints partitioned by DeepSpeed are neither read nor written; \
                           serve the original one";
const QUANTIZED: &str = "quantised weights are not served yet; remove it and use option.dtype \
                         fp32, fp16 or bf16";

const fn no_op(reason: &'static str) -> Status {
    Status::NoOp {
        reason,
        check: |_| Ok(()),
    }
}

const fn no_op_if(check: fn(&str) -> Value<()>, reason: &'static str) -> Status {
    Status::NoOp { reason, check }
}

const fn refused(reason: &'static str, harmless: &'static [&'static str]) -> Status {
    Status::Refused { reason, harmless }
}

/// Handlers of DJL Serving, all releases, that generate text.
const HANDLERS: &[&str] = &[
    "djl_python.huggingface",
    "djl_python.deepspeed",
    "djl_python.fastertransformer",
    "djl_python.lmi",
    "djl_python.lmi_dist",
    "djl_python.lmi_vllm.vllm_async_service",
    "djl_python.lmi_trtllm.trtllm_async_service",
    "djl_python.tensorrt_llm",
    "djl_python.transformers_neuronx",
    "djl_python.transformers-neuronx",
];

fn engine(value: &str) -> Value<()> {
    const ENGINES: [&str; 6] = [
        "Python",
        "MPI",
        "DeepSpeed",
        "FasterTransformer",
        "Rust",
        "LMI",
    ];
    if ENGINES.contains(&value) {
        return Ok(());
    }
    let list = ENGINES.join(", ");
    Err(Rejection::Unsupported(format!(
        "engines are {list}, all served by the native engine"
    )))
}

fn entry_point(value: &str) -> EntryPoint {
    match value {
        value if value.starts_with("djl_python.") => EntryPoint::Native,
        _ => EntryPoint::OwnCode,
    }
}

fn refuse_own_code(entry_point: EntryPoint, value: &str) -> Value<()> {
    if HANDLERS.contains(&value) {
        return Ok(());
    }
    let reason = match entry_point {
        EntryPoint::OwnCode => "Python code is not run yet; remove it to use the native engine",
        _ => {
            "this handler's work is not served yet, only text generation \
              (djl_python.huggingface)"
        }
    };
    Err(Rejection::Unsupported(reason.into()))
}

/// Whether the model's own word counts.
fn generation_config(value: &str) -> Value<bool> {
    match value {
        "auto" => Ok(true),
        "vllm" => Ok(false),
        _ => Err(Rejection::Unsupported(
            "it is auto (as generation_config.json says) or vllm (greedy, no penalties)".into(),
        )),
    }
}

fn task(value: &str) -> Value<Task> {
    match value {
        "text-generation" | "generate" | "auto" => Ok(Task::TextGeneration),
        _ => Err(Rejection::Unsupported(
            "the only task for now is text-generation".into(),
        )),
    }
}

/// Checks only the scheme: whether a directory exists is seen when the model is located.
fn model_id(value: &str) -> Value<String> {
    let reason = match value.split_once("://").map(|(scheme, _)| scheme) {
        None | Some("file") => return text(value),
        Some("s3") => {
            "models are not fetched from S3 yet; copy the objects into a directory (aws s3 sync) \
             and name that, or let SageMaker put them into /opt/ml/model (ModelDataSource)"
        }
        Some("djl") => "DJL's model zoo is not read; name a hub id or a directory",
        Some(_) => "models come from the Hugging Face hub or a directory; name one of these",
    };
    Err(Rejection::Unsupported(reason.into()))
}

fn load_models(value: &str) -> Value<String> {
    if value == "NONE" {
        let reason = "models cannot be loaded later, so none would ever be served; name one, or \
                      remove it for ALL";
        return Err(Rejection::Unsupported(reason.into()));
    }
    text(value)
}

fn dtype(value: &str) -> Value<Dtype> {
    const DTYPES: &[(&str, Dtype)] = &[
        ("auto", Dtype::Auto),
        ("fp32", Dtype::F32),
        ("float32", Dtype::F32),
        ("fp16", Dtype::F16),
        ("float16", Dtype::F16),
        ("bf16", Dtype::Bf16),
        ("bfloat16", Dtype::Bf16),
    ];
    match value {
        "int8" | "int4" | "fp8" => Err(Rejection::Unsupported(QUANTIZED.into())),
        value => word(value, DTYPES),
    }
}

fn device(value: &str) -> Value<Device> {
    if value.starts_with("cuda") || value.starts_with("gpu") {
        let reason = "this build has no CUDA; use auto or cpu";
        return Err(Rejection::Unsupported(reason.into()));
    }
    word(value, &[("auto", Device::Auto), ("cpu", Device::Cpu)])
}

fn ranks(value: &str) -> Value<usize> {
    match value {
        // As many as there are GPUs, and there are none.
        "max" => Ok(1),
        value => count(value, 1..=256)
            .map_err(|_| Rejection::Invalid("must be max or a whole number from 1 to 256".into())),
    }
}

fn rolling_batch(value: &str) -> Value<()> {
    let words = ["auto", "scheduler", "lmi-dist", "vllm", "trtllm", "disable"];
    word(value, &words.map(|word| (word, ())))
}

fn output_formatter(value: &str) -> Value<OutputFormatter> {
    const FORMATTERS: &[(&str, OutputFormatter)] = &[
        ("json", OutputFormatter::Json),
        ("jsonlines", OutputFormatter::JsonLines),
        ("sse", OutputFormatter::ServerSentEvents),
    ];
    word(value, FORMATTERS)
}

fn port(value: &str) -> Value<u16> {
    let must = || Rejection::Invalid("must be a port from 0 to 65535".into());
    value.parse().map_err(|_| must())
}

fn is_flag(value: &str) -> Value<()> {
    flag(value).map(drop)
}

//! Python mode: which code answers, what it is told, and when it must not run.

use std::time::Duration;

use super::{Start, says};
use crate::{LoadOn, PythonSettings};

const HANDLER: &str = "def handle(inputs):\n    return None\n";

fn with_code(properties: &str) -> Start {
    Start::with_model()
        .properties(properties)
        .file("model/model.py", HANDLER)
}

fn python(start: &Start) -> PythonSettings {
    start.resolved().model.python.expect("its code answers")
}

#[test]
fn a_script_answers_with_the_defaults_of_djl() {
    let start = with_code("");
    let python = python(&start);
    assert_eq!(
        (python.entry_point.as_str(), python.handler.as_str()),
        ("model.py", "handle")
    );
    assert_eq!(python.dir, start.path("model"));
    assert_eq!(python.executable, "python3");
    assert_eq!((python.min_workers, python.max_workers), (1, None));
    assert_eq!((python.batch_size, python.retry_threshold), (1, None));
    assert_eq!(python.max_batch_delay, Duration::from_millis(100));
    assert_eq!(python.max_idle_time, Duration::from_secs(60));
    assert_eq!(python.properties, []);
    // It needs no checkpoint.
    let alone = Start::without_model().file("model/model.py", HANDLER);
    assert!(alone.resolved().model.python.is_some());
}

#[test]
fn its_own_options_are_honoured() {
    let start = with_code(
        "option.handler=answer\noption.pythonExecutable=/opt/python\noption.env=A=1, B=x=y\n\
         minWorkers=2\nmaxWorkers=3\nbatch_size=8\nmax_batch_delay=7\nmax_idle_time=9\n\
         retry_threshold=0\noption.worker_memory_limit=2GiB\nrequired_memory_mb=1024\noption.parallel_loading=true\n",
    )
    .variable("PYTHONPATH", "/lib")
    .variable("MAX_NETTY_BUFFER_SIZE", "4096");
    let python = python(&start);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(python.handler, "answer");
    assert_eq!(python.executable, "/opt/python");
    assert_eq!(python.environment, [pair("A", "1"), pair("B", "x=y")]);
    assert_eq!(python.python_path.as_deref(), Some("/lib"));
    assert_eq!((python.min_workers, python.max_workers), (2, Some(3)));
    assert_eq!((python.batch_size, python.retry_threshold), (8, Some(0)));
    assert_eq!(python.max_batch_delay, Duration::from_millis(7));
    assert_eq!(python.max_idle_time, Duration::from_secs(9));
    assert_eq!(python.memory_limit, Some(2 << 30));
    assert_eq!(python.required_memory, Some(1 << 30));
    assert_eq!(python.reserved_memory, 500 << 20);
    assert_eq!(python.message_limit, 4096);
    assert!(python.parallel_loading);
    let sagemaker = with_code("minWorkers=2\n").variable("SAGEMAKER_NUM_MODEL_WORKERS", "4");
    let python = self::python(&sagemaker);
    assert_eq!((python.min_workers, python.max_workers), (4, Some(4)));
}

#[test]
fn the_handler_is_told_every_key_of_the_model() {
    let start = with_code("engine=Python\noption.model_id=x/y\noption.mine=1\nplain=2\n")
        .variable("OPTION_MINE", "weaker")
        .variable("OPTION_OTHER_KEY", "3")
        .variable("OPTION_modelName", "kept")
        .variable("ARGS_EXTRA", "4")
        .variable("SERVING_LOAD_MODELS", "ALL");
    let mut properties = python(&start).properties;
    properties.sort();
    let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let wanted = [
        ("engine", "Python"),
        ("extra", "4"),
        ("mine", "1"),
        ("modelName", "kept"),
        ("model_id", "x/y"),
        ("other_key", "3"),
        ("plain", "2"),
    ];
    assert_eq!(properties, wanted.map(pair));
}

#[test]
fn what_the_native_engine_refuses_is_the_handler_s() {
    let properties = "option.quantize=smoothquant\noption.pipeline_parallel_degree=4\n\
                      option.task=anything\noption.dtype=fp64\noption.input_formatter=f\n";
    let told = python(&with_code(properties)).properties;
    assert_eq!(told.len(), 5, "{told:?}");
    // What Python mode reads itself must make sense.
    let wrong = with_code("maxWorkers=none\noption.env=A\nminWorkers=0\n").refused();
    says(
        &wrong,
        &[
            "maxWorkers=none",
            "A=1,B=2, and `A` has no =",
            "minWorkers=0",
        ],
    );
    says(
        &with_code("minWorkers=3\nmaxWorkers=2\n").refused(),
        &["contradicts"],
    );
}

#[test]
fn code_that_is_not_trusted_is_refused_whoever_says_so() {
    says(
        &with_code("option.trust_python=false\n").refused(),
        &["model.py is Python code", "option.trust_python=false"],
    );
    // The file of the model cannot overrule who serves it.
    let overruled =
        with_code("option.trust_python=true\n").variable("OPTION_TRUST_PYTHON", "false");
    says(
        &overruled.refused(),
        &["option.trust_python=false forbids it"],
    );
    let secure = with_code("").variable("SAGEMAKER_SECURE_MODE", "true");
    says(&secure.refused(), &["SAGEMAKER_SECURE_MODE forbids it"]);
    with_code("")
        .variable("SAGEMAKER_SECURE_MODE", "false")
        .resolved();
}

#[test]
fn code_that_cannot_be_run_from_where_it_is_is_refused() {
    let address = with_code("option.entryPoint=https://example.com/model.py\n");
    says(&address.refused(), &["code is not fetched from addresses"]);
    let formats = "from djl_python.output_formatter import output_formatter\n\
                   @output_formatter\ndef mine(output):\n    return ''\n";
    let both = Start::with_model().file("model/model.py", &format!("{formats}\n{HANDLER}"));
    assert!(both.resolved().model.python.is_some());
}

const FORMATS: &str = "from djl_python.output_formatter import output_formatter\n\
                       @output_formatter\ndef mine(output):\n    return ''\n";

#[test]
fn functions_for_requests_and_answers_stand_beside_the_native_engine() {
    let formatters = |start: &Start| {
        let model = start.resolved().model;
        assert_eq!(model.python, None);
        model
            .formatters
            .map(|python| (python.dir, python.properties))
    };
    let beside = |properties: &str, code: &str| {
        let start = Start::with_model().properties(properties);
        start.file("model/model.py", code)
    };
    let alone = beside("option.mine=1\noption.rolling_batch=vllm\n", FORMATS);
    // An option that nobody knows is no handler's here.
    says(&alone.refused(), &["option.mine"]);
    let alone = beside("option.rolling_batch=vllm\n", FORMATS);
    let (dir, properties) = formatters(&alone).unwrap();
    assert_eq!(dir, alone.path("model"));
    assert_eq!(properties, [("rolling_batch".into(), "vllm".into())]);
    // DJL Serving's own handlers call them too, whatever else the script has.
    let named = "option.entryPoint=djl_python.lmi_vllm.vllm_async_service\n";
    assert!(formatters(&beside(named, &format!("{FORMATS}\n{HANDLER}"))).is_some());
    let by_name = beside(
        "option.output_formatter=mine\n",
        "def mine(a, b):\n    return ''\n",
    );
    assert!(formatters(&by_name).is_some());
    let misnamed = beside(
        "option.output_formatter=other\n",
        "def mine(a, b):\n    return ''\n",
    );
    says(&misnamed.refused(), &["option.output_formatter=other"]);
    let trust = beside("option.trust_python=false\n", FORMATS);
    says(&trust.refused(), &["option.trust_python=false forbids it"]);
    let secure = beside("", FORMATS).variable("SAGEMAKER_SECURE_MODE", "true");
    says(&secure.refused(), &["SAGEMAKER_SECURE_MODE forbids it"]);
    // Without a checkpoint there is nothing to stand beside.
    let nothing = Start::without_model().file("model/model.py", FORMATS);
    assert!(nothing.resolve().is_err());
}

#[test]
fn a_script_without_any_function_is_not_run_beside_a_checkpoint() {
    let start = Start::with_model().file("model/model.py", "x = 1\n");
    let resolved = start.resolved();
    assert!(resolved.model.python.is_none() && resolved.model.formatters.is_none());
    let warning = resolved.warnings.iter().find(|w| w.contains("model.py"));
    says(warning.unwrap(), &["is not run", "@input_formatter"]);
    let alone = Start::without_model().file("model/model.py", "x = 1\n");
    assert!(alone.resolved().model.python.is_some());
}

#[test]
fn devices_are_those_that_are_named_and_visible() {
    let start = with_code("load_on_devices=gpu1;0\noption.tensor_parallel_degree=2\n")
        .variable("CUDA_VISIBLE_DEVICES", "4, 6,-1,7");
    let python = python(&start);
    assert_eq!(python.load_on, LoadOn::Gpus(vec![1, 0]));
    assert_eq!(python.visible, Some(vec!["4".into(), "6".into()]));
    assert_eq!(python.gpus, Some(2));
    let plain = self::python(&with_code(""));
    assert_eq!(
        (plain.load_on, plain.visible, plain.gpus),
        (LoadOn::All, None, None)
    );
    let cpu = self::python(&with_code("load_on_devices=cpu\n"));
    assert_eq!(cpu.load_on, LoadOn::Cpu);
    for (value, wanted) in [
        ("tpu0", "`tpu0` is none"),
        ("nc0", "no Neuron"),
        (";", "name a device"),
    ] {
        let wrong = with_code(&format!("load_on_devices={value}\n"));
        says(&wrong.refused(), &[wanted]);
    }
}

#[test]
fn ranks_are_started_by_the_mpirun_of_the_search_path() {
    let start = with_code("option.mpi_mode=true\n").file("bin/mpirun", "");
    let path = format!("/nowhere:{}", start.path("bin").display());
    let start = start.variable("PATH", &path);
    let mpirun = |start: &Start| python(start).ranks.unwrap().mpirun;
    assert_eq!(mpirun(&start), Some(start.path("bin/mpirun")));
    assert_eq!(mpirun(&with_code("option.mpi_mode=true\n")), None);
    let alone = start.properties("option.mpi_mode=true\noption.mpi_launcher=environment\n");
    assert_eq!(mpirun(&alone), None);
    let named = alone.path("bin/mpirun");
    let text = format!(
        "option.mpi_mode=true\noption.mpi_launcher={}\n",
        named.display()
    );
    assert_eq!(mpirun(&alone.properties(&text)), Some(named));
    let wrong = with_code("option.mpi_mode=true\noption.mpi_launcher=/no/mpirun\n");
    says(
        &wrong.refused(),
        &["option.mpi_launcher=/no/mpirun", "no such file"],
    );
}

#[test]
fn modules_and_files_elsewhere_are_named_as_python_finds_them() {
    let module = Start::with_model().properties("option.entryPoint=my_package.handlers\n");
    assert_eq!(python(&module).entry_point, "my_package.handlers");
    let inner = Start::with_model()
        .properties("option.entryPoint=code/serve.py\n")
        .file("model/code/serve.py", HANDLER);
    assert_eq!(python(&inner).entry_point, "code/serve.py");
    let place = inner.path("elsewhere.py");
    let outside = inner.file("elsewhere.py", HANDLER);
    let outside = outside.properties(&format!("option.entryPoint={}\n", place.display()));
    assert_eq!(python(&outside).entry_point, place.display().to_string());
}

#[test]
fn ranks_are_those_that_mpi_would_start() {
    let ranks = |properties: &str| {
        let ranks = python(&with_code(properties)).ranks;
        ranks.map(|ranks| (ranks.tensor, ranks.pipeline, ranks.all_answer))
    };
    assert_eq!(ranks("option.tensor_parallel_degree=2\n"), None);
    let mpi = "option.mpi_mode=true\noption.tensor_parallel_degree=2\n";
    assert_eq!(ranks(mpi), Some((2, 1, false)));
    let all = format!("{mpi}option.pipeline_parallel_degree=3\noption.use_passive_workers=false\n");
    assert_eq!(ranks(&all), Some((2, 3, true)));
    assert_eq!(ranks("engine=DeepSpeed\n"), Some((1, 1, false)));
    let wrong = with_code(&format!("{mpi}option.pipeline_parallel_degree=none\n"));
    says(
        &wrong.refused(),
        &["pipeline_parallel_degree=none", "from 1 to 256"],
    );
}

#[test]
fn ways_of_serving_that_own_code_does_not_have_are_refused() {
    let asynchronous = with_code("option.async_mode=true\n");
    assert!(python(&asynchronous).asynchronous);
    let rolling = with_code("option.rolling_batch=auto\noption.max_rolling_batch_size=7\n");
    assert_eq!(python(&rolling).rolling, Some(7));
    let both = with_code("option.async_mode=true\noption.rolling_batch=auto\n");
    says(&both.refused(), &["call a handler in different ways"]);
    assert_eq!(python(&with_code("")).rolling, None);
    with_code("option.async_mode=false\noption.rolling_batch=disable\n").resolved();
}

#[test]
fn a_handler_of_djl_stays_native() {
    let start = with_code("option.entryPoint=djl_python.huggingface\n");
    assert_eq!(start.resolved().model.python, None);
}

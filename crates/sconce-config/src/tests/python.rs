//! Python mode: which code answers, what it is told, and when it must not run.

use std::time::Duration;

use super::{Start, says};
use crate::PythonSettings;

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
         retry_threshold=0\noption.worker_memory_limit=2GiB\noption.parallel_loading=true\n",
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
    let only = Start::with_model().file("model/model.py", formats);
    says(
        &only.refused(),
        &["it has no function handle", "djl_python.huggingface"],
    );
    let both = Start::with_model().file("model/model.py", &format!("{formats}\n{HANDLER}"));
    assert!(both.resolved().model.python.is_some());
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
    let rolling = with_code("option.rolling_batch=auto\n");
    says(
        &rolling.refused(),
        &["option.rolling_batch is served by the native engine"],
    );
    with_code("option.async_mode=false\noption.rolling_batch=disable\n").resolved();
}

#[test]
fn a_handler_of_djl_stays_native() {
    let start = with_code("option.entryPoint=djl_python.huggingface\n");
    assert_eq!(start.resolved().model.python, None);
}

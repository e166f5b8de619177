//! Workers whose ranks an `mpirun` starts: a script that stands for Open MPI's, and Open MPI itself
//! where it is installed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sconce_core::ServeError;
use sconce_python::Ranks;

use crate::support::{Model, ask, python, recovers, says, text};

/// Starts as many ranks as it is told to, with Open MPI's variables, marks their lines as it does,
/// and ends with all of them when one ends.
const LAUNCHER: &str = r#"#!/usr/bin/env python3
import os, subprocess, sys, threading

arguments = sys.argv[1:]
with open("launched", "w") as f:
    f.write("\n".join(arguments))
count, command = 1, []
while arguments:
    option = arguments.pop(0)
    if option == "-np":
        count = int(arguments.pop(0))
    elif option in ("-x", "--bind-to"):
        arguments.pop(0)
    elif option == "--mca":
        del arguments[:2]
    elif not option.startswith("-"):
        command = [option, *arguments]
        break

def relay(rank, process):
    for line in process.stdout:
        sys.stdout.write(f"[1,{rank}]<stdout>:{line}")
        sys.stdout.flush()

ranks = []
for rank in range(count):
    of_rank = {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_LOCAL_RANK": str(rank),
               "OMPI_COMM_WORLD_SIZE": str(count), "OMPI_COMM_WORLD_LOCAL_SIZE": str(count)}
    ranks.append(subprocess.Popen(command, env={**os.environ, **of_rank}, text=True,
                                  stdin=None if rank == 0 else subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
for rank, process in enumerate(ranks):
    threading.Thread(target=relay, args=(rank, process), daemon=True).start()
pid, status = os.wait()
for process in ranks:
    process.kill()
os._exit(os.waitstatus_to_exitcode(status) & 255)
"#;

const CODE: &str = r#"
import os
from djl_python import Output

def handle(inputs):
    rank = os.environ["RANK"]
    with open(f"calls-{rank}", "a") as f:
        f.write("init\n" if inputs.is_empty() else inputs.get_as_string() + "\n")
    if inputs.is_empty():
        return None
    if inputs.get_as_string() == "rank 1 dies" and rank == "1":
        os._exit(6)
    names = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "OMPI_COMM_WORLD_SIZE"]
    return Output().add({name: os.environ.get(name) for name in names})
"#;

fn launched_by(mpirun: &Path, world: usize) -> Model {
    let mut model = Model::new(CODE);
    model.settings.ranks = Some(Ranks {
        tensor: world,
        pipeline: 1,
        all_answer: true,
        mpirun: Some(mpirun.into()),
    });
    model
}

fn stand_in(dir: &Path) -> PathBuf {
    let path = dir.join("mpirun");
    std::fs::write(&path, LAUNCHER).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn calls(model: &Model, rank: usize) -> String {
    std::fs::read_to_string(model.path(&format!("calls-{rank}"))).unwrap()
}

/// What ranks are told, and that they end and come back together.
fn ranks_answer(mpirun: &Path, world: usize) -> Model {
    let model = launched_by(mpirun, world);
    let pool = model.pool();
    let answer: serde_json::Value = serde_json::from_str(&text(ask(&pool, "x"))).unwrap();
    let count = world.to_string();
    let wanted = serde_json::json!({
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1",
        "OMPI_COMM_WORLD_SIZE": count,
    });
    assert_eq!(answer, wanted);
    // All are asked, and all have answered before the next request.
    text(ask(&pool, "y"));
    text(ask(&pool, "z"));
    for rank in 0..world {
        assert!(
            calls(&model, rank).starts_with("init\nx\ny\n"),
            "rank {rank}"
        );
    }
    // The first rank may have answered before the other one's death is noticed.
    if let Err(error) = ask(&pool, "rank 1 dies") {
        let ServeError::WorkerLost { cause, .. } = &error else {
            panic!("{error}")
        };
        says(cause, &["ended with exit code"]);
    }
    let again = recovers(&pool, "again");
    assert!(again < Duration::from_secs(30), "{again:?}");
    assert_eq!(calls(&model, 1).matches("init").count(), 2);
    drop(pool);
    model
}

#[test]
fn an_mpirun_starts_the_ranks_with_djl_serving_s_arguments() {
    if !python() {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let model = ranks_answer(&stand_in(dir.path()), 3);
    let launched = std::fs::read_to_string(model.path("launched")).unwrap();
    let arguments: Vec<_> = launched.lines().collect();
    assert_eq!(arguments[..2], ["-np", "3"]);
    for pair in [
        ["--bind-to", "none"],
        ["btl_vader_single_copy_mechanism", "none"],
        ["-x", "PYTHONPATH"],
        ["-x", "MASTER_PORT"],
        ["--tensor-parallel-degree", "3"],
        ["--pipeline-parallel-degree", "1"],
    ] {
        let found = arguments.windows(2).any(|window| window == pair);
        assert!(found, "{pair:?} is not in {arguments:?}");
    }
    assert!(!arguments.contains(&"--device-id"), "{arguments:?}");
}

#[test]
fn open_mpi_starts_the_ranks_where_it_is_installed() {
    if !python() {
        return;
    }
    let version = Command::new("mpirun").arg("--version").output();
    let is_open_mpi =
        version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("Open MPI"));
    if !is_open_mpi {
        println!("skipped: Open MPI is not installed");
        return;
    }
    ranks_answer(Path::new("mpirun"), 2);
}

#[test]
fn an_mpirun_that_does_not_start_is_named() {
    if !python() {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("mpirun");
    std::fs::write(
        &path,
        "#!/bin/sh\necho 'there are not enough slots' >&2\nexit 1\n",
    )
    .unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let refused = launched_by(&path, 2).refused().to_string();
    says(
        &refused,
        &["ended with exit code 1", "there are not enough slots"],
    );
}

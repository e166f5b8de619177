//! How a worker's processes are started: Python with DJL Serving's arguments, by itself, as a rank
//! with the variables that Open MPI sets, or by Open MPI.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::process::Start;
use crate::settings::Ranks;

/// What is to be started, and the socket that its processes listen on; ranks add their number.
pub(crate) struct Launch<'a> {
    pub(crate) start: &'a Start<'a>,
    pub(crate) socket: &'a Path,
}

impl Launch<'_> {
    /// The only process of a worker.
    pub(crate) fn alone(&self) -> Command {
        let settings = self.start.settings;
        let assigned = settings.devices.of(self.start.index);
        let mut command = Command::new(&settings.interpreter.executable);
        self.python(&mut command);
        command
            .args(["--device-id", &assigned.id, "--cluster-size", "1"])
            .env("SCONCE_WATCH_STDIN", "1");
        self.environment(&mut command);
        command
    }

    /// A rank, told its place as Open MPI would.
    pub(crate) fn rank(&self, rank: usize, port: u16) -> Command {
        let settings = self.start.settings;
        let world = settings.ranks.as_ref().map_or(1, Ranks::world).to_string();
        let rank = rank.to_string();
        let mut command = Command::new(&settings.interpreter.executable);
        self.python(&mut command);
        self.degrees(&mut command);
        command
            .env("OMPI_COMM_WORLD_RANK", &rank)
            .env("OMPI_COMM_WORLD_LOCAL_RANK", &rank)
            .env("OMPI_COMM_WORLD_SIZE", &world)
            .env("OMPI_COMM_WORLD_LOCAL_SIZE", &world)
            .env("SCONCE_WATCH_STDIN", "1");
        self.ranks_environment(&mut command, port);
        command
    }

    /// The `mpirun` that starts all ranks, with the arguments that DJL Serving gives it. Only the
    /// first rank has its standard input, and so notices the end of the server; mpirun ends the
    /// others then.
    pub(crate) fn all(&self, port: u16) -> Command {
        let settings = self.start.settings;
        let ranks = settings.ranks.as_ref();
        let mpirun = ranks.and_then(|ranks| ranks.mpirun.as_deref());
        let mut command = Command::new(mpirun.unwrap_or(Path::new("mpirun")));
        command
            .args(["-np", &ranks.map_or(1, Ranks::world).to_string()])
            .args(["--allow-run-as-root", "--bind-to", "none"])
            .args(["--mca", "btl_vader_single_copy_mechanism", "none"])
            .arg("--tag-output")
            // There may be more ranks than cores; each spelling is for its own releases.
            .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
            .env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe")
            .env("RDMAV_FORK_SAFE", "1")
            .env("SCONCE_WATCH_STDIN", "first");
        self.ranks_environment(&mut command, port);
        let variables: Vec<_> = command
            .get_envs()
            .map(|(name, _)| name.to_owned())
            .collect();
        for name in variables.iter().filter(|name| is_for_ranks(name)) {
            command.arg("-x").arg(name);
        }
        command.arg(&settings.interpreter.executable);
        self.python(&mut command);
        self.degrees(&mut command);
        command
    }

    /// DJL Serving's arguments that do not depend on ranks.
    fn python(&self, command: &mut Command) {
        let settings = self.start.settings;
        let package = self.start.package;
        command
            .arg(package.script())
            .args(["--sock-type", "unix", "--sock-name"])
            .arg(self.socket)
            .arg("--model-dir")
            .arg(&settings.dir)
            .arg("--entry-point")
            .arg(package.entry_point(&settings.entry_point))
            .args([
                "--recommended-entry-point",
                &settings.recommended_entry_point,
            ])
            .args(["--log-level", settings.interpreter.log_level])
            .arg(match settings.asynchronous {
                true => "--async-mode",
                false => "--no-async-mode",
            });
    }

    fn degrees(&self, command: &mut Command) {
        if let Some(ranks) = &self.start.settings.ranks {
            command
                .args(["--tensor-parallel-degree", &ranks.tensor.to_string()])
                .args(["--pipeline-parallel-degree", &ranks.pipeline.to_string()]);
        }
    }

    fn ranks_environment(&self, command: &mut Command, port: u16) {
        command
            .env("MASTER_ADDR", "127.0.0.1")
            .env("MASTER_PORT", port.to_string())
            .env("MKL_DYNAMIC", "FALSE");
        self.environment(command);
    }

    /// Directory and variables; those of `option.env` win.
    fn environment(&self, command: &mut Command) {
        let settings = self.start.settings;
        let interpreter = &settings.interpreter;
        let mut path = interpreter.python_path.clone().unwrap_or_default();
        if !path.is_empty() {
            path.push(':');
        }
        path.push_str(&settings.dir.to_string_lossy());
        if let Some(visible) = settings.devices.of(self.start.index).visible {
            command.env("CUDA_VISIBLE_DEVICES", visible);
        }
        command
            .current_dir(&settings.dir)
            .env("PYTHONPATH", path)
            // Lines reach the log as they are printed, and a crash tells its traceback.
            .env("PYTHONUNBUFFERED", "1")
            .env("PYTHONFAULTHANDLER", "1")
            .envs(
                interpreter
                    .environment
                    .iter()
                    .map(|(key, value)| (key, value)),
            );
    }
}

/// Whether a variable is the ranks', not the launcher's own.
fn is_for_ranks(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    !name.starts_with("OMPI_MCA_") && !name.starts_with("PRTE_MCA_")
}

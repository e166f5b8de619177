//! What the operating system says of this process, by the names that Prometheus's clients have in common.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The name of this machine.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".into(),
        name => name.into(),
    }
}

/// Adds the process's metrics, as far as the system tells.
pub(crate) fn register(registry: &mut Registry) {
    let Some(process) = read() else {
        return;
    };
    let gauge = |registry: &mut Registry, name: &str, help: &str, value: f64| {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let time = Counter::<f64, AtomicU64>::default();
    time.inc_by(process.cpu_seconds);
    registry.register(
        "process_cpu_seconds",
        "Time of all threads on processors",
        time,
    );
    gauge(
        registry,
        "process_resident_memory_bytes",
        "Memory of the process that is in use",
        process.resident,
    );
    gauge(
        registry,
        "process_open_fds",
        "Open files and connections",
        process.files,
    );
    gauge(
        registry,
        "process_start_time_seconds",
        "When the process began, in seconds since 1970",
        process.began,
    );
}

struct Process {
    cpu_seconds: f64,
    resident: f64,
    files: f64,
    began: f64,
}

#[cfg(target_os = "linux")]
fn read() -> Option<Process> {
    use procfs::CurrentSI;

    let own = procfs::process::Process::myself().ok()?;
    let stat = own.stat().ok()?;
    let ticks = procfs::ticks_per_second() as f64;
    let boot = procfs::KernelStats::current().ok()?.btime;
    Some(Process {
        cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
        resident: (stat.rss * procfs::page_size()) as f64,
        files: own.fd_count().ok()? as f64,
        began: boot as f64 + stat.starttime as f64 / ticks,
    })
}

#[cfg(not(target_os = "linux"))]
fn read() -> Option<Process> {
    None
}

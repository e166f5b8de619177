//! Which GPUs the workers of a model in Python mode get. They are counted, not asked: the native
//! engine's own devices are not concerned.

use std::path::Path;

use sconce_config::{LoadOn, PythonSettings};
use sconce_python::Devices;

use crate::error::ManagerError;

/// Where the driver makes a file for each GPU.
pub(crate) const FILES: &str = "/dev";

/// The GPUs of each group of workers. `files` is the directory of the driver's files.
pub(crate) fn of(python: &PythonSettings, files: &Path) -> Result<Devices, ManagerError> {
    let visible = match &python.visible {
        Some(names) => names.clone(),
        None => (0..count(files)).map(|number| number.to_string()).collect(),
    };
    let numbers: Vec<usize> = match &python.load_on {
        LoadOn::Cpu => vec![],
        LoadOn::All => (0..visible.len()).collect(),
        LoadOn::Gpus(numbers) => numbers.clone(),
    };
    if let Some(&number) = numbers.iter().find(|&&number| number >= visible.len()) {
        return Err(ManagerError::NoSuchGpu {
            number,
            visible: visible.len(),
        });
    }
    let size = python.gpus.unwrap_or(1);
    if !numbers.is_empty() && numbers.len() < size {
        return Err(ManagerError::TooFewGpus {
            wanted: size,
            usable: numbers.len(),
        });
    }
    let groups = numbers.chunks_exact(size);
    let names = |group: &[usize]| {
        group
            .iter()
            .map(|&number| visible[number].clone())
            .collect()
    };
    Ok(Devices {
        groups: groups.clone().map(names).collect(),
        alone: python.gpus.is_some(),
        numbers: groups.map(|group| group[0]).collect(),
    })
}

/// `nvidia0`, `nvidia1` and so on.
fn count(files: &Path) -> usize {
    let is_gpu = |name: &str| {
        let number = name.strip_prefix("nvidia");
        number
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let entries = std::fs::read_dir(files).into_iter().flatten().flatten();
    entries
        .filter(|entry| is_gpu(&entry.file_name().to_string_lossy()))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(gpus: usize) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..gpus {
            std::fs::write(dir.path().join(format!("nvidia{number}")), "").unwrap();
        }
        for other in ["nvidiactl", "nvidia-uvm", "null"] {
            std::fs::write(dir.path().join(other), "").unwrap();
        }
        dir
    }

    fn groups(python: &PythonSettings, gpus: usize) -> Vec<Vec<String>> {
        of(python, machine(gpus).path()).unwrap().groups
    }

    #[test]
    fn each_gpu_is_a_group_unless_models_are_split() {
        let mut python = PythonSettings::default();
        assert_eq!(groups(&python, 0), [[""; 0]; 0]);
        assert_eq!(groups(&python, 2), [["0"], ["1"]]);
        python.gpus = Some(2);
        assert_eq!(groups(&python, 5), [["0", "1"], ["2", "3"]]);
        let error = of(&python, machine(1).path()).unwrap_err();
        assert!(error.to_string().contains("2 GPUs"), "{error}");
        // Ranks on the CPU need none.
        assert!(groups(&python, 0).is_empty());
    }

    #[test]
    fn only_gpus_that_are_visible_and_named_count() {
        let mut python = PythonSettings::default();
        python.visible = Some(["2", "5", "7"].map(String::from).into());
        python.load_on = LoadOn::Gpus(vec![2, 0]);
        let devices = of(&python, machine(8).path()).unwrap();
        assert_eq!(devices.groups, [["7"], ["2"]]);
        assert_eq!(devices.numbers, [2, 0]);
        python.load_on = LoadOn::Gpus(vec![3]);
        let error = of(&python, machine(8).path()).unwrap_err().to_string();
        assert!(
            error.contains("GPU 3") && error.contains("3 are"),
            "{error}"
        );
        python.load_on = LoadOn::Cpu;
        assert!(groups(&python, 8).is_empty());
        python.load_on = LoadOn::All;
        python.visible = Some(vec![]);
        assert!(groups(&python, 8).is_empty());
    }
}

//! Which GPUs the workers of a model in Python mode get: the code's own device, whatever the native
//! engine can use.

use sconce_config::{LoadOn, PythonSettings};
use sconce_python::Devices;

use crate::error::ManagerError;

/// The GPUs of each group of workers, on a machine with so many.
pub(crate) fn of(python: &PythonSettings, count: usize) -> Result<Devices, ManagerError> {
    let visible = match &python.visible {
        Some(names) => names.clone(),
        None => (0..count).map(|number| number.to_string()).collect(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(python: &PythonSettings, gpus: usize) -> Vec<Vec<String>> {
        of(python, gpus).unwrap().groups
    }

    #[test]
    fn each_gpu_is_a_group_unless_models_are_split() {
        let mut python = PythonSettings::default();
        assert_eq!(groups(&python, 0), [[""; 0]; 0]);
        assert_eq!(groups(&python, 2), [["0"], ["1"]]);
        python.gpus = Some(2);
        assert_eq!(groups(&python, 5), [["0", "1"], ["2", "3"]]);
        let error = of(&python, 1).unwrap_err();
        assert!(error.to_string().contains("2 GPUs"), "{error}");
        // Ranks on the CPU need none.
        assert!(groups(&python, 0).is_empty());
    }

    #[test]
    fn only_gpus_that_are_visible_and_named_count() {
        let mut python = PythonSettings::default();
        python.visible = Some(["2", "5", "7"].map(String::from).into());
        python.load_on = LoadOn::Gpus(vec![2, 0]);
        let devices = of(&python, 8).unwrap();
        assert_eq!(devices.groups, [["7"], ["2"]]);
        assert_eq!(devices.numbers, [2, 0]);
        python.load_on = LoadOn::Gpus(vec![3]);
        let error = of(&python, 8).unwrap_err().to_string();
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

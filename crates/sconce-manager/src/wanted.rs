//! Which files of a repository serving needs.

/// The files of the top folder that serving needs: safetensors if there are any, else
/// `pytorch_model*.bin`, and all JSON and vocabulary files. `None`: no weights.
pub(crate) fn wanted_files<'a>(files: &[&'a str]) -> Option<Vec<&'a str>> {
    let top = || files.iter().copied().filter(|file| !file.contains('/'));
    let is_safetensors = |file: &&str| {
        let stem = file.trim_end_matches(".index.json");
        stem.starts_with("model") && stem.ends_with(".safetensors")
    };
    let is_torch = |file: &&str| {
        let stem = file.trim_end_matches(".index.json");
        stem.starts_with("pytorch_model") && stem.ends_with(".bin")
    };
    let mut weights: Vec<&str> = top().filter(is_safetensors).collect();
    if weights.is_empty() {
        weights = top().filter(is_torch).collect();
    }
    if weights.is_empty() {
        return None;
    }
    let text = top().filter(|file| {
        let is_index = file.ends_with(".index.json");
        // SentencePiece: tokenizer.model, spiece.model and the like.
        (file.ends_with(".json") && !is_index)
            || file.ends_with(".model")
            || matches!(*file, "merges.txt" | "vocab.txt")
    });
    Some(text.chain(weights).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safetensors_are_preferred_and_folders_left_alone() {
        let files = [
            "README.md",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "tokenizer.json",
        ];
        let wanted = wanted_files(&files).unwrap();
        assert_eq!(
            wanted,
            [
                "config.json",
                "tokenizer.json",
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ]
        );
    }

    #[test]
    fn torch_files_serve_where_there_are_no_safetensors() {
        let files = [
            "config.json",
            "pytorch_model.bin",
            "adapter_model.safetensors",
            "tokenizer.model",
        ];
        assert_eq!(
            wanted_files(&files).unwrap(),
            ["config.json", "tokenizer.model", "pytorch_model.bin"]
        );
    }

    #[test]
    fn a_repository_without_weights_is_refused() {
        assert_eq!(wanted_files(&["config.json", "model.gguf"]), None);
    }
}

//! The dialects of text generation, which rolling batches and TGI's routes have for these models too: a text token by
//! token is the greedy text of `generate`, and told to the byte as decoders tell theirs.

use sconce_testkit::client::Client;
use serde_json::{Value, json};

use super::FOLDERS;

/// The greedy text of a folder's first text, as the pipeline gives it.
fn greedy(name: &str) -> (Value, String) {
    let golden = FOLDERS.golden::<Value>(name);
    let request = golden
        .requests
        .iter()
        .find(|request| request.parameters["num_beams"] == 1);
    let request = request.expect("a greedy request");
    let text = request.answer[0]["generated_text"].as_str().unwrap();
    (request.inputs.clone(), text.to_owned())
}

#[test]
fn a_rolling_batch_tells_the_greedy_text_whole_and_in_pieces() {
    for name in ["t5-text2text-generation", "bart-text2text-generation"] {
        let (inputs, want) = greedy(name);
        let serving = FOLDERS.serve(name, "option.rolling_batch=auto");
        let client = Client::new(serving.address());
        // As long as the pipeline's: 9 tokens, or as generation_config.json says.
        let new = if name.starts_with("t5") { 9 } else { 18 };
        let parameters =
            json!({"max_new_tokens": new, "details": true, "decoder_input_details": true});
        let whole = json!({"inputs": inputs, "parameters": parameters});
        let answer = client.post("/invocations", &whole).unwrap();
        let body = answer.json().unwrap();
        assert_eq!(answer.status, 200, "{name}: {body}");
        assert_eq!(body["generated_text"], want, "{name}: {body}");
        let details = &body["details"];
        let tokens = details["tokens"].as_array().unwrap();
        assert_eq!(details["generated_tokens"], tokens.len(), "{name}: {body}");
        assert!(
            !details["prefill"].as_array().unwrap().is_empty(),
            "{name}: {body}"
        );
        let streamed =
            json!({"inputs": inputs, "parameters": {"max_new_tokens": new}, "stream": true});
        let stream = client.post("/invocations", &streamed).unwrap();
        let lines = String::from_utf8(stream.body).unwrap();
        let lines: Vec<Value> = lines
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let pieces = lines
            .iter()
            .map(|line| line["token"]["text"].as_str().unwrap());
        assert_eq!(pieces.collect::<String>(), want, "{name}");
        assert_eq!(lines.len(), tokens.len(), "{name}");
        assert_eq!(lines.last().unwrap()["generated_text"], want, "{name}");
    }
}

#[test]
fn tgi_s_routes_and_lines_of_pieces_tell_it_too() {
    let name = "t5-text2text-generation";
    let (inputs, want) = greedy(name);
    let serving = FOLDERS.serve(name, "");
    let client = Client::new(serving.address());
    let body = json!({"inputs": inputs, "parameters": {"max_new_tokens": 9, "seed": 1}});
    let answer = client.post("/generate", &body).unwrap().json().unwrap();
    assert_eq!(answer["generated_text"], want, "{answer}");
    let stream = client.post("/generate_stream", &body).unwrap();
    let text = String::from_utf8(stream.body).unwrap();
    assert!(
        text.starts_with("data:") && text.contains("generated_text"),
        "{text}"
    );
    // Without a rolling batch the native routes have the pipelines' form.
    let native = client.post("/invocations", &body).unwrap().json().unwrap();
    assert!(native[0]["generated_text"].is_string(), "{native}");
    let wrong = client.post("/embed", &json!({"inputs": "a"})).unwrap();
    assert_eq!(wrong.status, 404);
    let message = wrong.json().unwrap().to_string();
    assert!(
        message.contains("embed or classify texts") && message.contains("text2text-generation"),
        "{message}"
    );
    let properties = "option.rolling_batch=disable\noption.enable_streaming=true";
    let serving = FOLDERS.serve(name, properties);
    let body = json!({"inputs": [inputs, inputs], "parameters": {"max_new_tokens": 9}});
    let stream = Client::new(serving.address())
        .post("/invocations", &body)
        .unwrap();
    let text = String::from_utf8(stream.body).unwrap();
    let pieces: String = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["outputs"][1].clone())
        .map(|piece| piece.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(pieces, want, "{text}");
}

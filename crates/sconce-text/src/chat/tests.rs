//! Which templates a folder has, and what they may do.

use super::*;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    dir
}

fn read(config: &str) -> Result<Option<ChatTemplate>, TextError> {
    ChatTemplate::read(folder(&[("tokenizer_config.json", config)]).path())
}

fn template(text: &str) -> ChatTemplate {
    let config = json!({ "chat_template": text, "bos_token": "<s>" });
    read(&config.to_string())
        .expect("readable")
        .expect("a template")
}

fn said(messages: &[(&str, &str)]) -> Dialogue {
    let messages = messages
        .iter()
        .map(|(role, content)| json!({ "role": role, "content": content }));
    Dialogue {
        messages: messages.collect(),
        add_generation_prompt: true,
        ..Dialogue::default()
    }
}

/// What transformers 4.41 makes of them.
#[test]
fn templates_are_written_out_with_the_tokens_of_the_checkpoint() {
    let dialogue = said(&[("user", "Hi."), ("assistant", "Hello!"), ("user", "Who?")]);
    let own =
        read(r#"{"tokenizer_class": "BlenderbotTokenizer", "eos_token": {"content": "</s>"}}"#);
    let own = own.expect("readable").expect("a template");
    assert_eq!(
        own.render(&dialogue).as_deref(),
        Ok(" Hi.  Hello!   Who?</s>")
    );
    let named = r#"{"chat_template": [{"name": "tools", "template": "x"}, {"name": "default", "template":
        "{% for m in messages %}\n  {% if m.role == 'user' %}\n{{ m.content.strip() | upper }}{{ sep_token }}{% endif %}\n{% endfor %}"}],
        "sep_token": "|"}"#;
    let named = read(named).expect("readable").expect("a template");
    assert_eq!(named.render(&dialogue).as_deref(), Ok("HI.|WHO?|"));
}

#[test]
fn files_of_their_own_count_before_the_configuration() {
    let config = r#"{"chat_template": "old", "eos_token": "</s>"}"#;
    let files = [
        ("tokenizer_config.json", config),
        ("chat_template.json", r#"{"chat_template": "older"}"#),
        ("chat_template.jinja", "new{{ eos_token }}\r\n"),
        ("additional_chat_templates/tool_use.jinja", "tools"),
        ("additional_chat_templates/rag.jinja", "rag"),
    ];
    let text = |files: &[(&str, &str)], dialogue: &Dialogue| {
        let found = ChatTemplate::read(folder(files).path());
        found
            .expect("readable")
            .expect("a template")
            .render(dialogue)
    };
    let plain = said(&[]);
    assert_eq!(text(&files, &plain).as_deref(), Ok("new</s>"));
    assert_eq!(text(&files[..2], &plain).as_deref(), Ok("old"));
    assert_eq!(text(&files[1..2], &plain).as_deref(), Ok("older"));
    let tools = Dialogue {
        tools: Some(vec![]),
        ..plain.clone()
    };
    assert_eq!(text(&files, &tools).as_deref(), Ok("tools"));
    let named = |name: &str| Dialogue {
        template: Some(name.into()),
        ..tools.clone()
    };
    assert_eq!(text(&files, &named("rag")).as_deref(), Ok("rag"));
    let unknown = text(&files, &named("x")).expect_err("unknown");
    assert!(unknown.contains("default, rag, tool_use"), "{unknown}");
}

#[test]
fn no_template_and_wrong_ones_are_told_apart() {
    assert!(
        read(r#"{"tokenizer_class": "T5Tokenizer"}"#)
            .expect("readable")
            .is_none()
    );
    let broken = read(r#"{"chat_template": "{% for"}"#)
        .expect_err("broken")
        .to_string();
    assert!(broken.contains("chat_template"), "{broken}");
    for wrong in ["5", "[{\"name\": \"default\"}]", "{}"] {
        assert!(read(&format!(r#"{{"chat_template": {wrong}}}"#)).is_err());
    }
    let strict = template("{{ raise_exception('users first') }}");
    assert_eq!(strict.render(&said(&[])), Err("users first".into()));
}

#[test]
fn a_last_message_is_gone_on_with() {
    let keeps = template(
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}[/]{% endfor %}",
    );
    let trims = template("{% for m in messages %}{{ m.content | trim }}[/]{% endfor %}");
    let mut dialogue = said(&[("user", "Hi"), ("assistant", "So ")]);
    let both = keeps.render(&Dialogue {
        continue_final_message: true,
        ..dialogue.clone()
    });
    assert!(both.is_err_and(|cause| cause.contains("exclude each other")));
    dialogue.add_generation_prompt = false;
    dialogue.continue_final_message = true;
    assert_eq!(
        keeps.render(&dialogue).as_deref(),
        Ok("<s>[user]Hi[/][assistant]So ")
    );
    assert_eq!(trims.render(&dialogue).as_deref(), Ok("Hi[/]So"));
    let leaves_out = template("{{ messages[0].content }}");
    assert!(
        leaves_out
            .render(&dialogue)
            .is_err_and(|cause| cause.contains("leaves out"))
    );
    let parts = json!([{"type": "text", "text": "One"}, {"type": "image"}]);
    dialogue.messages[1]["content"] = parts;
    let lists = template("{{ messages[1].content[0].text }}!");
    assert_eq!(lists.render(&dialogue).as_deref(), Ok("One"));
    dialogue.messages[1]["content"] = Value::Null;
    assert!(
        lists
            .render(&dialogue)
            .is_err_and(|cause| cause.contains("no text to go on with"))
    );
}

#[test]
fn what_is_set_within_a_generation_stays_there() {
    let marked = template(
        "{% set x = 1 %}{%- generation -%} {% set x = 2 %}{{ x }} {%- endgeneration %}\n{{ x }}",
    );
    assert_eq!(marked.render(&said(&[])).as_deref(), Ok("21"));
    let word = "{% set generations = 3 %}{{ generations }}{% if not generation %}!{% endif %}";
    assert_eq!(template(word).render(&said(&[])).as_deref(), Ok("3!"));
}

#[test]
fn templates_that_never_end_or_write_too_much_are_stopped() {
    let for_ever = template(
        "{% for a in range(90000) %}{% for b in range(90000) %}{% set c = a + b %}{% endfor %}{% endfor %}",
    );
    let cause = for_ever
        .render(&said(&[]))
        .expect_err("more than its steps");
    assert!(cause.contains("loop for ever"), "{cause}");
    let deep = template("{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}");
    assert!(deep.render(&said(&[])).is_err());
    let long = template("{% for a in range(90000) %}{{ 'a' * 9000 }}{% endfor %}");
    let cause = long.render(&said(&[])).expect_err("too long");
    assert!(cause.contains("more than a prompt may have"), "{cause}");
}

/// Each would take gigabytes, or a stack without end, within a hundred steps or so.
#[test]
fn templates_that_make_much_of_little_are_stopped_before_they_have() {
    let forty = |body: &str| {
        let state = "{% set n = namespace(x='ab', l=[1], d={}) %}";
        format!("{state}{{% for i in range(40) %}}{body}{{% endfor %}}{{{{ n.x | length }}}}")
    };
    let cases = [
        forty("{% set n.x = n.x ~ n.x %}"),
        forty("{% set n.x = n.x + n.x %}"),
        forty("{% set n.x = n.x * 2 %}"),
        forty("{% set c %}{{ n.x }}{{ n.x }}{% endset %}{% set n.x = c %}"),
        forty("{% set n.x = [n.x, n.x] | join('-') %}"),
        forty("{% set n.x = n.x | replace('b', n.x) %}"),
        forty("{% set n.x = n.x.replace('b', n.x) %}"),
        forty("{% set n.x = '{}{}'.format(n.x, n.x) %}"),
        forty("{% set n.x = '%s%s' | format(n.x, n.x) %}"),
        forty("{% set n.l = n.l + n.l %}{% set n.x = n.l | list %}"),
        forty("{% set n.l = n.l * 9 %}{% set n.x = n.l | list %}"),
        forty("{% set n.l = [n.l, n.l] %}{% set n.x = n.l | string %}"),
        forty("{% set n.d = {'a': n.d, 'b': n.d} %}{% set n.x = n.d | tojson %}"),
        "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{% set n = namespace(x='ab') %}\
         {% for i in range(40) %}{% set n.x = twice(n.x) %}{% endfor %}"
            .into(),
        "{% set n = namespace(l=[]) %}{% for i in range(90000) %}{% set n.l = [n.l] %}{% endfor %}".into(),
        "{% set n = namespace(l=[]) %}{% for i in range(9000) %}{% set n.l = n.l + ['a' * 900000] %}{% endfor %}"
            .into(),
        "{% set x = ('\n' * 9000000).splitlines() %}".into(),
        "{{ 'a\n' | indent(99999999) }}".into(),
        "{{ '%99999999d' | format(1) }}".into(),
        "{{ '{:>99999999}'.format(1) }}".into(),
        "{{ [1] | slice(99999999) | list | length }}".into(),
        "{{ range(90000) | join('a' * 90000) | length }}".into(),
        "{{ ('{0}' * 1000).format('a' * 6000000) | length }}".into(),
        "{{ ('%(a)s' * 1000) | format(a='a' * 6000000) | length }}".into(),
        "{{ ('a' * 1000000) | replace('a', ['b' * 1000000]) | length }}".into(),
        "{{ [1] | chain(range(90000)) | join('a' * 90000) | length }}".into(),
        "{{ range(90000) | list | tojson(separators=['a' * 90000, ':']) | length }}".into(),
        "{{ range(90000) | list | tojson(indent='a' * 90000) | length }}".into(),
        "{% set b = range(90000) | list %}{% for i in range(90000) %}{% set x = [b] %}{% endfor %}".into(),
    ];
    for text in cases {
        let cause = template(&text).render(&said(&[])).expect_err(&text);
        // The last is minijinja's own, of a text that is repeated.
        let named = [
            "more than a prompt may have",
            "into each other",
            "repeated string is too large",
            "64 bytes at most",
        ]
        .iter()
        .any(|part| cause.contains(part));
        assert!(named, "{text}: {cause}");
    }
}

#[test]
fn templates_include_no_others() {
    for text in [
        "{% if d is defined %}{{ d ~ d }}{% else %}{% set d = 1 %}{% include 'default' %}{% endif %}",
        "{% import 'default' as d %}{{ d.x }}",
        "{% from 'default' import x %}{{ x }}",
        "{% extends 'default' %}",
    ] {
        let cause = template(text).render(&said(&[])).expect_err(text);
        assert!(cause.contains("stands alone"), "{text}: {cause}");
    }
}

#[test]
fn forms_may_have_numbers_of_many_digits() {
    let shown = template(
        "{{ 'Until 20231201 {}, {x}'.format(1, x='y') }} {{ '100%% of 20231201, %5d' | format(7) }}",
    );
    let text = shown.render(&said(&[]));
    assert_eq!(
        text.as_deref(),
        Ok("Until 20231201 1, y 100% of 20231201,     7")
    );
}

#[test]
fn long_dialogues_stay_within_bounds() {
    let gathered = template(
        "{% set n = namespace(l=[], x='') %}{% for m in messages %}{% set n.l = n.l + [m] %}\
         {% set n.x = n.x ~ m.role[0] %}{% endfor %}{{ n.l | length }} {{ n.x | length }} {{ messages[1:] | length }}",
    );
    let long = "word ".repeat(40);
    let dialogue = said(&vec![("user", long.as_str()); 3000]);
    assert_eq!(gathered.render(&dialogue).as_deref(), Ok("3000 3000 2999"));
}

#[test]
fn arguments_count_before_tokens_and_never_before_the_dialogue() {
    let shown = template("{{ bos_token }}{{ enable_thinking }}{{ messages | length }}");
    let mut dialogue = said(&[("user", "Hi")]);
    let arguments = json!({"bos_token": "<b>", "enable_thinking": false, "messages": []});
    dialogue.arguments = arguments.as_object().cloned().expect("an object");
    assert_eq!(shown.render(&dialogue).as_deref(), Ok("<b>False1"));
}

#[test]
fn values_become_text_as_python_has_it() {
    let shown = template(
        "{{ messages[0] }}|{{ [1, none, true, 'x'] }}|{{ messages[0].n ~ '' }}|{{ {'a': 1.0} | string }}|\
         {{ messages[0] | tojson(indent=2) }}|{{ {'b': [], 'a': 'é'} | tojson(ensure_ascii=true, sort_keys=true) }}|\
         {{ [1, 2] | tojson(separators=(',', ':')) }}",
    );
    let dialogue = Dialogue {
        messages: vec![json!({"q": "it's", "d": "a\"b'\n", "n": [null, 1e-5]})],
        ..Dialogue::default()
    };
    // CPython 3.12.
    let want = "{'q': \"it's\", 'd': 'a\"b\\'\\n', 'n': [None, 1e-05]}|[1, None, True, 'x']|[None, 1e-05]|{'a': 1.0}|\
                {\n  \"q\": \"it's\",\n  \"d\": \"a\\\"b'\\n\",\n  \"n\": [\n    null,\n    1e-05\n  ]\n}|\
                {\"a\": \"\\u00e9\", \"b\": []}|[1,2]";
    assert_eq!(shown.render(&dialogue).as_deref(), Ok(want));
}

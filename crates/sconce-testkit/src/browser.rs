//! Drives a headless Chromium by its DevTools protocol, over two pipes: nothing but the browser itself is needed.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than anything takes, shorter than the patience of a person.
const LIMIT: Duration = Duration::from_secs(120);

/// Names under which it is installed.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser with one page; it ends when dropped.
pub struct Browser {
    child: Child,
    commands: File,
    messages: Receiver<Value>,
    session: Value,
    next: u64,
    _profile: TempDir,
}

impl Browser {
    /// Starts one with an empty page of this size; `None` where there is none.
    pub fn start(width: u32, height: u32) -> Result<Option<Self>> {
        let runs = |name: &&str| {
            let version = Command::new(name).arg("--version").output();
            version.is_ok_and(|output| output.status.success())
        };
        let Some(name) = NAMES.into_iter().find(runs) else {
            return Ok(None);
        };
        let profile = TempDir::new()?;
        let path = |name: &str| profile.path().join(name);
        let (commands, messages) = (path("commands"), path("messages"));
        let made = Command::new("mkfifo")
            .args([&commands, &messages])
            .status()?;
        if !made.success() {
            bail!("mkfifo gave {made}");
        }
        // The protocol's pipes are the descriptors 3 and 4, which a shell can give it.
        let child = Command::new("sh")
            .args(["-c", r#"exec "$@" 3<"$COMMANDS" 4>"$MESSAGES""#, "sh", name])
            .args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox"])
            .args(["--no-first-run", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--disable-background-networking", "--disable-extensions"])
            .arg(format!("--window-size={width},{height}"))
            .arg(format!("--user-data-dir={}", path("profile").display()))
            .envs([("COMMANDS", &commands), ("MESSAGES", &messages)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let commands = OpenOptions::new().write(true).open(&commands)?;
        let reader = BufReader::new(File::open(&messages)?);
        let (tell, messages) = channel();
        std::thread::spawn(move || {
            for message in reader.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else {
                    return;
                };
                if tell.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            commands,
            messages,
            session: Value::Null,
            next: 0,
            _profile: profile,
        };
        let target = browser.ask("Target.createTarget", json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        browser.session = browser.ask("Target.attachToTarget", attach)?["sessionId"].clone();
        Ok(Some(browser))
    }

    /// Goes to an address.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let opened = self.ask("Page.navigate", json!({"url": url}))?;
        match opened["errorText"].as_str() {
            Some(problem) => bail!("{url}: {problem}"),
            None => Ok(()),
        }
    }

    /// The value of an expression of JavaScript on the page.
    pub fn value(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let told = self.ask("Runtime.evaluate", asked)?;
        match told.get("exceptionDetails") {
            Some(problem) => bail!("{expression}: {problem}"),
            None => Ok(told["result"]["value"].clone()),
        }
    }

    /// Waits until an expression is true.
    pub fn wait_for(&mut self, expression: &str) -> Result<()> {
        let end = Instant::now() + LIMIT;
        while self.value(&format!("Boolean({expression})"))? != true {
            if Instant::now() > end {
                let page = self.value("document.body.innerText")?;
                bail!("never true: {expression}; the page says:\n{page}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn ask(&mut self, method: &str, parameters: Value) -> Result<Value> {
        self.next += 1;
        let mut message = json!({"id": self.next, "method": method, "params": parameters});
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.commands.write_all(message.to_string().as_bytes())?;
        self.commands.write_all(&[0])?;
        loop {
            let told = self.messages.recv_timeout(LIMIT);
            let told = told.with_context(|| format!("the browser does not answer {method}"))?;
            if told["id"] == self.next {
                return match told.get("error") {
                    Some(problem) => bail!("{method}: {problem}"),
                    None => Ok(told["result"].clone()),
                };
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.ask("Browser.close", json!({}));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

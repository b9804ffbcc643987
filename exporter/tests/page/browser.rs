//! A headless Chromium, driven over its debugging pipe.
//!
//! The pipe speaks JSON messages that end with a zero byte, on file descriptors 3 and 4. A shell moves our
//! two ends there, so that no websocket, no driver program and no unsafe code is needed.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

/// How long an answer may take before the browser counts as hung. Never what a test measures.
const PATIENCE: Duration = Duration::from_secs(90);

const PROGRAMS: [&str; 4] = [
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
    "/usr/bin/google-chrome-stable",
];

/// A browser with one tab.
pub(crate) struct Browser {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<Value>,
    session: String,
    next_id: u64,
    events: VecDeque<Value>,
    _home: tempfile::TempDir,
}

/// Which colours the page is asked for.
#[derive(Clone, Copy)]
pub(crate) enum Theme {
    Light,
    Dark,
}

impl Browser {
    /// Starts the browser. None, with the reason on stderr, where there is none to start: then the test that
    /// is named proves nothing, which is an error in CI.
    pub(crate) fn start(test: &str) -> Option<Browser> {
        let Some(program) = PROGRAMS.iter().map(PathBuf::from).find(|path| path.exists()) else {
            eprintln!("NOT RUN: {test} needs Chromium (package `chromium`) and found none of {PROGRAMS:?}");
            assert!(std::env::var_os("CI").is_none(), "{test} could not run, and CI must run it");
            return None;
        };
        let home = tempfile::tempdir().expect("a temporary directory");
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null", "sh"])
            .arg(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg("--disable-dev-shm-usage")
            .arg(format!("--user-data-dir={}", home.path().display()))
            .args(["--remote-debugging-pipe", "about:blank"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the browser starts");
        let requests = child.stdin.take().expect("the pipe to the browser");
        let stdout = child.stdout.take().expect("the pipe from the browser");
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut message = Vec::new();
            while reader.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { break };
                if sender.send(value).is_err() {
                    break;
                }
                message.clear();
            }
        });
        let mut browser = Browser {
            child,
            requests,
            answers,
            session: String::new(),
            next_id: 0,
            events: VecDeque::new(),
            _home: home,
        };
        browser.attach();
        Some(browser)
    }

    fn attach(&mut self) {
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached =
            self.call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        self.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
    }

    /// Asks the browser for something and waits for its answer; events that come meanwhile are kept.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id;
        let mut request = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            request["sessionId"] = json!(self.session);
        }
        let mut bytes = request.to_string().into_bytes();
        bytes.push(0);
        self.requests.write_all(&bytes).expect("the browser reads");
        loop {
            let message = self.answers.recv_timeout(PATIENCE).expect("the browser answers");
            if message["id"] == json!(id) {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            if message.get("method").is_some() {
                self.events.push_back(message);
            }
        }
    }

    /// Sets the window's size in pixels and the theme that the page is asked for.
    pub(crate) fn dress(&mut self, width: u32, height: u32, theme: Theme) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let value = match theme {
            Theme::Light => "light",
            Theme::Dark => "dark",
        };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// Opens a page on disk, with what follows `#` in its address, and waits until it is drawn.
    pub(crate) fn open(&mut self, file: &Path, fragment: &str) {
        self.open_url(&format!("file://{}#{fragment}", file.display()));
        self.evaluate(
            "new Promise((done) => { const look = () => document.body.dataset.ready ? done(1) : setTimeout(look, 5); look(); })",
        );
        self.settle();
    }

    /// Opens an address, and waits until it is loaded.
    pub(crate) fn open_url(&mut self, url: &str) {
        // Through a blank page, because a change of the fragment alone does not load a page again.
        for url in ["about:blank", url] {
            self.events.retain(|event| event["method"] != "Page.loadEventFired");
            self.call("Page.navigate", json!({ "url": url }));
            while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
                let event = self.answers.recv_timeout(PATIENCE).expect("the page loads");
                self.events.push_back(event);
            }
        }
        self.settle();
    }

    /// Waits until what was changed is on the screen.
    pub(crate) fn settle(&mut self) {
        self.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))",
        );
    }

    /// The value of an expression in the page; a promise is awaited.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// The text that a person sees in an element.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let expression = format!("document.querySelector({}).innerText", json!(selector));
        self.evaluate(&expression).as_str().unwrap_or_default().to_owned()
    }

    /// Presses and releases the mouse in the middle of an element.
    pub(crate) fn click(&mut self, selector: &str) {
        let expression = format!(
            "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{ block: 'center' }}); \
             const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()",
            json!(selector)
        );
        let place = self.evaluate(&expression);
        self.click_at(place[0].as_f64().expect("an x"), place[1].as_f64().expect("a y"));
    }

    /// Presses and releases the mouse at a point of the window.
    pub(crate) fn click_at(&mut self, x: f64, y: f64) {
        self.move_to(x, y);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
        self.settle();
    }

    /// Moves the mouse to a point of the window.
    pub(crate) fn move_to(&mut self, x: f64, y: f64) {
        self.call("Input.dispatchMouseEvent", json!({ "type": "mouseMoved", "x": x, "y": y }));
        self.settle();
    }

    /// Presses and releases a key by the name that the page sees, such as `Enter` or `/`.
    pub(crate) fn press(&mut self, key: &str) {
        let text = if key.chars().count() == 1 { key } else { "" };
        let down = json!({ "type": "keyDown", "key": key, "text": text });
        self.call("Input.dispatchKeyEvent", down);
        self.call("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key }));
        self.settle();
    }

    /// Types a text where the focus is.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
        self.settle();
    }

    /// Everything that went wrong so far: exceptions, errors and warnings of the console and of the policy.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        self.evaluate("0");
        let wrong = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] != "log",
            _ => false,
        };
        self.events.iter().filter(wrong).map(|event| event["params"].to_string()).collect()
    }

    /// The addresses of everything that was asked for, but for `data:`.
    pub(crate) fn requested(&mut self) -> Vec<String> {
        let requests = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        let addresses = requests.filter_map(|event| event["params"]["request"]["url"].as_str());
        addresses.filter(|address| !address.starts_with("data:")).map(str::to_owned).collect()
    }

    /// Writes what the window shows into the directory that `SPANPROF_SCREENSHOTS` names, for people to look
    /// at; does nothing without it.
    pub(crate) fn screenshot(&mut self, name: &str) {
        let Some(directory) = std::env::var_os("SPANPROF_SCREENSHOTS") else { return };
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let encoded = picture["data"].as_str().expect("a picture");
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64");
        std::fs::create_dir_all(&directory).expect("the directory for screenshots");
        std::fs::write(Path::new(&directory).join(name), bytes).expect("the screenshot is written");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The shell replaced itself by the browser, which ends its own children with itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

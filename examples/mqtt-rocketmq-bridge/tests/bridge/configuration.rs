//! A configuration that is wrong is one sentence, and exit code 2.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A file for a test, which is deleted at its end.
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn file(name: &str, text: &str) -> File {
    let path = std::env::temp_dir().join(format!("bridge-{}-{name}.toml", std::process::id()));
    fs::write(&path, text).expect("there is a directory for such files");
    File(path)
}

fn check(path: &PathBuf) -> Output {
    let program = env!("CARGO_BIN_EXE_mqtt-rocketmq-bridge");
    Command::new(program).arg(path).arg("--check").output().expect("it starts")
}

const RIGHT: &str = "\
[mqtt]
address = \"127.0.0.1:1883\"
client_id = \"bridge-1\"

[rocketmq]
proxy = \"127.0.0.1:8081\"

[[rule]]
filter = \"sensors/+/celsius\"
topic = \"readings\"
";

#[test]
fn one_that_is_right_is_said_to_be() {
    let right = file("right", RIGHT);
    let output = check(&right.0);
    assert!(output.status.success(), "{output:?}");
    let expected = format!("sensors/+/celsius -> readings\n{} can be used\n", right.0.display());
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn the_examples_configuration_can_be_used() {
    let output = check(&PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/bridge.toml")));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn whatever_is_wrong_is_one_sentence() {
    let with = |from: &str, to: &str| RIGHT.replace(from, to);
    let cases = [
        (
            with("+/celsius", "cel+sius"),
            ": `sensors/cel+sius` is no MQTT topic filter: `+` has to be alone in its level;",
        ),
        (with("+/celsius", "#/celsius"), "`#` has to be the last level, and alone in it;"),
        (with("\"readings\"", "\"my readings\""), ": `my readings` is no topic of RocketMQ; write"),
        (with(":1883", ""), ": `mqtt.address = \"127.0.0.1\"` is no address; write host and port"),
        (with("8081", "99999"), ": `rocketmq.proxy = \"127.0.0.1:99999\"` is no address;"),
        (with("bridge-1", ""), ": `mqtt.client_id` has to be"),
        (
            with("client_id", "in_flight = 0\nclient_id"),
            ": `mqtt.in_flight = 0` is out of range; write 1 to 4096",
        ),
        (
            with("client_id", "username = \"u\"\nclient_id"),
            ": `mqtt.username` and `mqtt.password_file` belong together;",
        ),
        (with("client_id", "clientid"), ", line 3: unknown field `clientid`"),
        (with("topic", "topics"), ", line 10: unknown field `topics`"),
        (with("[[rule]]", "[[rule"), ", line 8: "),
        (RIGHT[..RIGHT.find("[[rule]]").unwrap()].to_owned(), ": there is no rule; add `[[rule]]`"),
        (
            format!("{RIGHT}{}", &RIGHT[RIGHT.find("[[rule]]").unwrap()..]),
            ": two rules have the filter `sensors/+/celsius`;",
        ),
    ];
    for (text, expected) in cases {
        let wrong = file("wrong", &text);
        let output = check(&wrong.0);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}\n{said}");
        assert!(said.starts_with(&format!("bridge: {}", wrong.0.display())), "{said}");
        assert!(said.contains(expected), "{expected}\n{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn files_that_are_not_there_are_named() {
    let missing = std::env::temp_dir().join("no-such-folder").join("bridge.toml");
    let output = check(&missing);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("bridge.toml cannot be read: No such file"), "{said}");
    let text = RIGHT.replace("client_id", "username = \"u\"\npassword_file = \"no-such-file\"\nclient_id");
    let with_password = file("password", &text);
    let output = check(&with_password.0);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no-such-file cannot be read: No such file"), "{said}");
}

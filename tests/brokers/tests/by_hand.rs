//! The program that people use by hand.

use std::fs::Permissions;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use spanprof_brokers::{Kafka, Mosquitto, require};

#[test]
fn a_broker_is_started_found_and_stopped() {
    let Some(_) = require("a_broker_is_started_found_and_stopped", Mosquitto::fetch()) else { return };
    let place = Place::new("started");
    assert_eq!(told(&place.broker(&["status"])), "no broker runs\n");
    let started = told(&place.broker(&["start", "mosquitto"]));
    let (address, directory) = (word_after(&started, "address"), word_after(&started, "directory"));
    TcpStream::connect(&address).expect("it listens");
    // A second start finds it; others ask it.
    assert_eq!(word_after(&told(&place.broker(&["start", "mosquitto"])), "address"), address);
    assert_eq!(word_after(&told(&place.broker(&["status"])), "directory"), directory);
    assert_eq!(told(&place.broker(&["stop"])), "mosquitto stopped\n");
    assert!(!Path::new(&directory).exists());
    TcpStream::connect(&address).expect_err("nobody listens any more");
    assert_eq!(place.broker(&["stop", "mosquitto"]).status.code(), Some(3));
}

#[test]
fn a_wrong_word_is_named() {
    let place = Place::new("wrong");
    for (words, named) in [
        (&["start", "rabbit"][..], "there is no broker `rabbit`"),
        (&["begin"], "`begin` is no command"),
        (&["topic", "mosquitto", "a"], "mosquitto makes no topic beforehand"),
        (&["topic", "rocketmq", "a", "sorted"], "not a topic of rocketmq: a sorted"),
        (&["group", "kafka", "a"], "kafka makes no group beforehand"),
    ] {
        let output = place.broker(words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(named), "{error}");
    }
    assert!(told(&place.broker(&["--help"])).contains("Examples:"));
    assert_eq!(place.broker(&["topic", "kafka", "a"]).status.code(), Some(3));
}

#[test]
fn what_is_missing_is_said_with_the_command_that_gets_it() {
    let place = Place::new("missing");
    let output = place.command(&["start", "kafka"]).env("PATH", &place.0).env_remove("JAVA_HOME").output();
    let output = output.expect("the program runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{error}");
    assert!(error.contains("no development kit of Java 17") && error.contains("apt-get install"), "{error}");
}

#[test]
fn jars_that_maven_cannot_get_are_said_to_be_missing() {
    let test = "jars_that_maven_cannot_get_are_said_to_be_missing";
    let Some(_) = require(test, Kafka::fetch()) else { return };
    let place = Place::new("offline");
    place.program("mvn", "echo '[ERROR] nobody answers'; exit 1");
    let path = std::env::var("PATH").expect("there is a path");
    for (word, jars) in [("kafka", "kafka 4.3.1"), ("java", "opentelemetry-javaagent 2.33.1")] {
        let output =
            place.command(&["fetch", word]).env("PATH", format!("{}:{path}", place.0.display())).output();
        let output = output.expect("the program runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{error}");
        assert!(
            error.contains(&format!("the jars of {jars} can't be had: [ERROR] nobody answers")),
            "{error}"
        );
    }
}

/// A cache of its own, so that these tests neither see nor stop what a person runs.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("spanprof-by-hand-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory can be made");
        Self(path)
    }

    /// A shell script under a program's name.
    fn program(&self, name: &str, script: &str) {
        let path = self.0.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file can be written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("it is ours");
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
        command.args(words).env("SPANPROF_BROKERS", &self.0);
        command
    }

    fn broker(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the program runs")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.broker(&["stop"]);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("it speaks UTF-8")
}

fn word_after(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}
